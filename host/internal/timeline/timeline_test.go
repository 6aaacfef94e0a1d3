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

// A start that ends in a stop has ended then, and what leaves service does not begin
// one.
func TestStopped(t *testing.T) {
	var got []string
	all := read(t, `{"elapsed_ms":1,"component":"protocol uip","phase":"activating"}
{"elapsed_ms":2,"component":"protocol uip","phase":"ready"}
{"elapsed_ms":3,"component":"protocol uip","phase":"deactivating"}
{"elapsed_ms":4,"component":"protocol uip","phase":"stopped"}
{"elapsed_ms":5,"component":"component db","phase":"starting","instance":1}
{"elapsed_ms":6,"component":"component db","phase":"waiting for readiness","instance":1}
{"elapsed_ms":7,"component":"component db","phase":"stopped","instance":1}
{"elapsed_ms":8,"component":"component db","phase":"starting","instance":2}
{"elapsed_ms":9,"component":"component db","phase":"exited","instance":1}
{"elapsed_ms":10,"component":"component db","phase":"ready","instance":2}
`)
	for _, a := range all {
		got = append(got, fmt.Sprintf("%s %v-%v %s", a.Component, a.Begin, a.End, a.Outcome))
	}
	want := "[protocol uip 1ms-2ms ready component db 5ms-7ms stopped component db 8ms-10ms ready]"
	if fmt.Sprint(got) != want {
		t.Errorf("got %v", got)
	}
	if first := First(all); len(first) != 2 || first[1].Outcome != Ready {
		t.Errorf("what was stopped has not come to something: %+v", first)
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
