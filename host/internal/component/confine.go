package component

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/sandbox/cgroup"
	"github.com/sop-host/sop/sdk"
)

// defaultPIDs bounds a component's processes and threads where nothing else is
// asked for: far above what a service needs, far below what stops a machine.
const defaultPIDs = 4096

// confinement is the cgroup of one instance.
type confinement struct {
	group   *cgroup.Group // nil when there is none
	version string
	limits  cgroup.Limits // in force
	refused string        // why there is no cgroup, or which default is not in force
}

// confine makes the cgroup of an instance. A limit that was asked for is in force
// or an error; for want of anything else it runs without.
func (s *Supervisor) confine(spec *Spec, number int) (confinement, error) {
	c := confinement{version: string(s.cgroups.Version()), limits: spec.Limits}
	if !spec.Limits.Has(cgroup.PIDs) {
		if why := s.cgroups.Missing(cgroup.PIDs); why == nil {
			c.limits.PIDs = defaultPIDs
		} else {
			c.refused = "no limit of pids: " + why.Error()
		}
	}
	group, err := s.cgroups.New(fmt.Sprintf("%s-%d", spec.Name, number), c.limits)
	switch {
	case err == nil:
		c.group = group
		return c, nil
	case spec.Limits != cgroup.Limits{}:
		return confinement{}, limitsRefused(spec, err)
	}
	return confinement{refused: err.Error()}, nil
}

// limitsRefused says that what the operator asked for cannot be had.
func limitsRefused(spec *Spec, err error) *sdk.Error {
	var asked []string
	for _, r := range cgroup.Resources() {
		if spec.Limits.Has(r) {
			asked = append(asked, "limits."+string(r))
		}
	}
	return sdk.Errorf(codes.FailedPrecondition, ReasonLimits, "component %s asks for %s, which cannot be put in force here: %w",
		spec.Name, strings.Join(asked, " and "), err).
		WithRemedy("let sop write to cgroups (docs/operations.md, Limits), or remove the limits from the component's block")
}

// kill ends what is left in the cgroup.
func (c confinement) kill() error {
	if c.group == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), killWait)
	defer cancel()
	return c.group.Kill(ctx)
}

// remove removes the cgroup, ending what is still in it.
func (c confinement) remove() error {
	if c.group == nil || c.group.Remove() == nil {
		return nil
	}
	return errors.Join(c.kill(), c.group.Remove())
}

func (c confinement) oomKills() int64 {
	if c.group == nil {
		return 0
	}
	return c.group.OOMKills()
}

// usage is zero where there is no cgroup, or no longer.
func (c confinement) usage() cgroup.Usage {
	if c.group == nil {
		return cgroup.Usage{}
	}
	u, err := c.group.Usage()
	if err != nil {
		return cgroup.Usage{} // it is being removed
	}
	return u
}

func (c confinement) name() string {
	if c.group == nil {
		return ""
	}
	return c.group.Name()
}
