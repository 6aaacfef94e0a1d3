package cli

import (
	"strings"
	"testing"

	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

// What could not be measured is not shown as none.
func TestResourcesThatAreUnknown(t *testing.T) {
	var b strings.Builder
	new(app).statusResources(&b, &apiv1.ResourceUse{Host: &apiv1.ProcessUse{}, Machine: &apiv1.MachineUse{Cpus: 2, Load1: 0.5}})
	want := "      what it uses could not be measured\n      machine 0% of 2 processors, load 0.50, memory unknown, disk unknown, processes unknown\n"
	if b.String() != want {
		t.Errorf("%q, want %q", b.String(), want)
	}
}
