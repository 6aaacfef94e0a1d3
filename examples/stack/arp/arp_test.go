package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

func TestServe(t *testing.T) {
	var out bytes.Buffer
	in := `{"id":"1","operation":"analyze","payload":{"gaps":[{"id":"b","severity":"low","path":"x","rule":"r"},{"id":"a","severity":"low","path":"x","rule":"r"},{"id":"c","severity":"critical","path":"y","rule":"r"}]}}
{"id":"2","operation":"dream","payload":null}
{"id":"3","operation":"analyze","payload":[]}
`
	if err := serve(strings.NewReader(in), &out); err != nil {
		t.Fatal(err)
	}
	answers := make(map[string]map[string]any)
	for decoder := json.NewDecoder(&out); decoder.More(); {
		var a map[string]any
		if err := decoder.Decode(&a); err != nil {
			t.Fatal(err)
		}
		answers[a["id"].(string)] = a
	}
	text, err := json.Marshal(answers["1"]["result"])
	if err != nil || !strings.Contains(string(text), `"total":3`) || !strings.Contains(string(text), `"gaps":["a","b"]`) || strings.Index(string(text), `"path":"y"`) > strings.Index(string(text), `"path":"x"`) {
		t.Errorf("%s, %v", text, err)
	}
	if answers["2"]["error"] == nil || answers["3"]["error"] == nil {
		t.Errorf("%v", answers)
	}
}
