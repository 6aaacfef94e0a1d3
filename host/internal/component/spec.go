package component

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"syscall"
	"time"

	"github.com/sop-host/sop/host/internal/process"
	"github.com/sop-host/sop/host/internal/sandbox/cgroup"
	"github.com/sop-host/sop/host/internal/sandbox/launch"
)

// Spec says how to run one component. It is a value: to change anything, hand
// the supervisor a new one.
type Spec struct {
	Name string
	// Command is absolute, or a bare name that PATH finds.
	Command string
	Args    []string
	Dir     string
	// Env holds KEY=VALUE; nothing of the host's environment is added but PATH.
	Env []string
	// Readiness says when it is ready.
	Readiness Readiness
	// Limits that must be in force, or the component is not started.
	Limits cgroup.Limits
	// Sandbox that must be in force, or the component is not started; nil for none.
	Sandbox *Sandbox
	// Survives says that it lives on when the host is killed, and is taken back by
	// the next one.
	Survives bool

	Treatment
}

// Treatment is what may change while a process runs.
type Treatment struct {
	// DependsOn names components, and plugins with PluginPrefix.
	DependsOn     []string
	RequiresReady bool
	StartTimeout  time.Duration
	RestartPolicy RestartPolicy
	Backoff       process.Backoff
	StopSignal    syscall.Signal
	StopGrace     time.Duration
	Required      bool
	OnDemand      bool
	IdleStop      time.Duration
}

// PluginPrefix begins a dependency on a plugin: "plugin.detector.docs".
const PluginPrefix = "plugin."

// RestartPolicy says whether a component that has ended is started again.
type RestartPolicy string

// The policies.
const (
	RestartNever     RestartPolicy = "never"
	RestartOnFailure RestartPolicy = "on-failure"
	RestartAlways    RestartPolicy = "always"
)

// Sandbox says how a component is isolated.
type Sandbox struct {
	Profile string
	// Plan is without arguments, environment and what the component may write to.
	Plan launch.Plan
	// Enforce says that the component is refused where the plan cannot be put in force.
	Enforce bool
}

// identity digests everything that takes a new process to change.
func (s *Spec) identity() string {
	c := *s
	c.Treatment = Treatment{}
	data, err := json.Marshal(c)
	if err != nil { // strings, bytes and numbers always marshal
		panic(fmt.Sprintf("marshal component spec: %v", err))
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// sameTreatment says whether both are treated alike.
func (s *Spec) sameTreatment(other *Spec) bool {
	return reflect.DeepEqual(s.Treatment, other.Treatment)
}

// Clone returns a copy that shares no slice with s.
func (s *Spec) Clone() *Spec {
	c := *s
	c.Args, c.Env, c.DependsOn = slices.Clone(s.Args), slices.Clone(s.Env), slices.Clone(s.DependsOn)
	return &c
}
