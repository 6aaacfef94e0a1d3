package startup

import (
	"testing"

	"github.com/sop-host/sop/host/internal/event"
	"github.com/sop-host/sop/host/internal/gap"
	"github.com/sop-host/sop/host/internal/hook"
	"github.com/sop-host/sop/host/internal/task"
)

// What hooks have done sets off no plugin, what scans for hooks find no scan, and what
// protocols do tells no protocol; all else does, whoever did it.
func TestOwnDoing(t *testing.T) {
	scan := &gap.ScanResult{ID: "1"}
	forHook := &gap.ScanResult{ID: "2", For: "sop:hook.look"}
	sandbox := &hook.Hook{Name: "close", Plugin: "sandbox.agent"}
	plugin, protocol := &hook.Hook{Name: "look", Plugin: "detector.docs"}, &hook.Hook{Name: "tell", Protocol: "arp", Operation: "learn"}
	for _, test := range []struct {
		hook  *hook.Hook
		actor string
		own   bool
	}{
		{plugin, "sop:hook.look", true},
		{plugin, "sop:hook.other", true},
		{plugin, forHook.By(), true},
		{plugin, scan.By(), false},
		{sandbox, forHook.By(), false},
		{sandbox, "sop:hook.look", true},
		{plugin, "uid:1000", false},
		{plugin, "host", false},
		{plugin, "plugin:sandbox.agent", false},
		{plugin, "plugin:protocol.arp", false},
		{protocol, "plugin:protocol.arp", true},
		{protocol, "plugin:protocol.uip", true},
		{protocol, "plugin:detector.infra", false},
		{protocol, "sop:hook.look", false},
		{protocol, forHook.By(), false},
	} {
		if got := ownDoing(test.hook, &event.Record{Actor: test.actor}); got != test.own {
			t.Errorf("%s, of %s: %v", test.hook.Name, test.actor, got)
		}
	}
}

func TestTouched(t *testing.T) {
	for _, test := range []struct {
		task *task.Task
		want bool
	}{
		{&task.Task{CreatedBy: "planner"}, false},
		{&task.Task{CreatedBy: "sop:hook.a"}, true},
		{&task.Task{CreatedBy: "planner", History: []task.Change{{By: "host"}, {By: "sop:hook.a"}}}, true},
		{&task.Task{CreatedBy: "planner", History: []task.Change{{By: "sop:hook.b"}}}, false},
	} {
		if got := touched(test.task, "sop:hook.a"); got != test.want {
			t.Errorf("%+v: %v", test.task, got)
		}
	}
}
