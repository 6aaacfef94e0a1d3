package timeline

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

const boot = `{"elapsed_ms":1,"component":"config","phase":"ready"}
{"elapsed_ms":10,"component":"component a","phase":"queued"}
{"elapsed_ms":10,"component":"component b","phase":"queued","after":["component a","component x"]}
{"elapsed_ms":10,"component":"component x","phase":"queued"}
{"elapsed_ms":11,"component":"component a","phase":"starting"}
{"elapsed_ms":11,"component":"component x","phase":"starting"}
{"elapsed_ms":20,"component":"component x","phase":"ready"}
{"elapsed_ms":61,"component":"component a","phase":"ready"}
{"elapsed_ms":61,"component":"component b","phase":"starting"}
{"elapsed_ms":71,"component":"component b","phase":"waiting for readiness"}
{"elapsed_ms":81,"component":"component b","phase":"ready"}
{"elapsed_ms":85,"component":"component <x>","phase":"starting"}
{"elapsed_ms":90,"component":"component x","phase":"exited"}
{"elapsed_ms":91,"component":"component x","phase":"starting"}
{"elapsed_ms":99,"component":"component x","phase":"ready"}
{"elapsed_ms":100,"comp`

func read(t *testing.T, text string) []Activation {
	t.Helper()
	steps, err := Read(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return Activations(steps)
}

func TestActivations(t *testing.T) {
	all := read(t, boot)
	var got []string
	for _, a := range all {
		got = append(got, fmt.Sprintf("%s %v-%v %s %v", a.Component, a.Begin, a.End, a.Outcome, a.Active()))
	}
	want := []string{
		"config 1ms-1ms ready 0s", "component a 10ms-61ms ready 50ms", "component b 10ms-81ms ready 20ms", "component x 10ms-20ms ready 9ms",
		"component <x> 85ms-99ms pending 14ms", "component x 91ms-99ms ready 8ms",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s", strings.Join(got, "\n"))
	}
	if b := Blame(all); b[0].Component != "component a" || b[1].Component != "component b" {
		t.Errorf("%+v", b)
	}
	var chain []string
	for _, a := range CriticalChain(all) {
		chain = append(chain, a.Component)
	}
	if fmt.Sprint(chain) != "[component a component b]" {
		t.Errorf("%v", chain)
	}
	slow := strings.ReplaceAll(boot, `"elapsed_ms":81`, `"elapsed_ms":181`)
	if d := Compare(all, read(t, slow)); d[0].Component != "component b" || d[0].Slower() != 100*time.Millisecond {
		t.Errorf("%+v", d)
	}
	if _, err := Read(strings.NewReader("no json\n{}\n")); err == nil {
		t.Error("a broken line in the middle was read over")
	}
}

func TestSVG(t *testing.T) {
	var b bytes.Buffer
	if err := SVG(&b, read(t, boot)); err != nil {
		t.Fatal(err)
	}
	for d := xml.NewDecoder(&b); ; {
		_, err := d.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
