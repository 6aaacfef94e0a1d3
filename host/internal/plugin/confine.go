package plugin

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/sandbox/cgroup"
	"github.com/sop-host/sop/sdk"
)

// Limits bound what a plugin and all that it starts may use; zero means that
// nothing is asked for.
type Limits = cgroup.Limits

// Usage is what a plugin and all that it started use and have used.
type Usage = cgroup.Usage

// DefaultPIDs bounds a plugin's processes and threads where nothing else is
// asked for: far above what a plugin needs, far below what stops a machine.
const DefaultPIDs = 1024

// groupWait bounds the end of what is left in a generation's cgroup.
const groupWait = time.Second

// confinement is the cgroup of one generation.
type confinement struct {
	group   *cgroup.Group // nil when there is none
	version cgroup.Version
	limits  Limits // in force
	// refused says why there is no cgroup, or which default is not in force.
	refused string
}

// confine makes the cgroup of a generation. A limit that was asked for is in
// force or an error; for want of anything else the plugin runs without.
func (s *starter) confine(spec *Spec, number int) (confinement, error) {
	c := confinement{version: s.cgroups.Version(), limits: spec.Limits}
	if !spec.Limits.Has(cgroup.PIDs) {
		if why := s.cgroups.Missing(cgroup.PIDs); why == nil {
			c.limits.PIDs = DefaultPIDs
		} else {
			c.refused = "no limit of pids: " + why.Error()
		}
	}
	name := fmt.Sprintf("%s-%d", spec.ID(), number)
	group, err := s.cgroups.New(name, c.limits)
	var limit *cgroup.LimitError
	if errors.As(err, &limit) && !spec.Limits.Has(limit.Resource) {
		c.limits, c.refused = spec.Limits, "no "+limit.Error()
		group, err = s.cgroups.New(name+"-b", c.limits)
	}
	switch {
	case err == nil:
		c.group = group
		return c, nil
	case spec.Limits != Limits{}:
		return confinement{}, limitsRefused(spec, err)
	}
	return confinement{refused: err.Error()}, nil
}

// limitsRefused says that what the operator asked for cannot be had.
func limitsRefused(spec *Spec, err error) *sdk.Error {
	var asked []string
	for _, r := range cgroup.Resources() {
		if spec.Limits.Has(r) {
			asked = append(asked, limitNames[r])
		}
	}
	var limit *cgroup.LimitError
	if errors.As(err, &limit) {
		asked, err = []string{limitNames[limit.Resource]}, limit.Err
	}
	names := strings.Join(asked, " and ")
	return failf(ReasonLimits, "plugin %s asks for %s, which cannot be put in force here: %w", spec.ID(), names, err).
		WithRemedy("let sop write to cgroups (docs/operations.md, Limits), or remove %s from the plugin's block", names)
}

var limitNames = map[cgroup.Resource]string{
	cgroup.Memory: "limits.memory", cgroup.PIDs: "limits.pids", cgroup.CPU: "limits.cpus",
}

// kill ends what is left in the cgroup.
func (c confinement) kill() error {
	if c.group == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), groupWait)
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

// usage is zero where there is no cgroup, or no longer.
func (c confinement) usage() Usage {
	if c.group == nil {
		return Usage{}
	}
	u, err := c.group.Usage()
	if err != nil {
		return Usage{} // it is being removed
	}
	return u
}

// outOfMemory says that the kernel killed the plugin for want of memory.
func (c confinement) outOfMemory(id string) *sdk.Error {
	e := &sdk.Error{Code: codes.Unavailable, Reason: ReasonOutOfMemory, Retryable: true}
	if c.limits.Memory > 0 {
		e.Message = fmt.Sprintf("plugin %s was killed by the kernel: it needed more than limits.memory, %d bytes", id, c.limits.Memory)
		e.Remedy = "raise limits.memory in the plugin's block, or give the plugin less to do"
		return e
	}
	e.Message = "plugin " + id + " was killed by the kernel: the machine, or the cgroup that sop runs in, was out of memory"
	e.Remedy = "give sop more memory, or bound what the plugin may take with limits.memory"
	return e
}
