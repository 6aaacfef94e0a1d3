package main

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func ask(t *testing.T, k *knowledge, path, body string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	k.handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, strings.NewReader(body)))
	return w.Code, w.Body.String()
}

func TestKnowledge(t *testing.T) {
	t.Chdir(t.TempDir())
	k, err := open("k.json")
	if err != nil {
		t.Fatal(err)
	}
	if code, text := ask(t, k, "/learn", `{"facts": [{"subject": "backup", "text": "runs at night"}, {"subject": "disk", "text": "holds the backup"}]}`); code != 200 || !strings.Contains(text, `"known":2`) {
		t.Fatalf("%d %s", code, text)
	}
	if k, err = open("k.json"); err != nil { // it is on disk
		t.Fatal(err)
	}
	if code, text := ask(t, k, "/recall", `{"terms": ["Backup at night"]}`); code != 200 || strings.Index(text, "runs at night") > strings.Index(text, "holds the backup") || !strings.Contains(text, `"score":3`) {
		t.Errorf("%d %s", code, text)
	}
	for path, body := range map[string]string{"/learn": `{"facts": [{}]}`, "/recall": `{`} {
		if code, text := ask(t, k, path, body); code/100 != 4 || !strings.Contains(text, "SCP_") {
			t.Errorf("%s: %d %s", path, code, text)
		}
	}
}

// A socket is taken over from who has been killed, and from nobody else.
func TestListen(t *testing.T) {
	t.Chdir(t.TempDir())
	first, err := listen("unix:s")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := listen("unix:s"); err == nil || !strings.Contains(err.Error(), "already") {
		t.Errorf("a second one: %v", err)
	}
	first.(*net.UnixListener).SetUnlinkOnClose(false) // as one that is killed leaves it
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	next, err := listen("unix:s")
	if err != nil {
		t.Fatal(err)
	}
	if err := next.Close(); err != nil {
		t.Error(err)
	}
}
