package plugin

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Spec says how to run one configured plugin. It is a value: to change
// anything, hand the pool a new one.
type Spec struct {
	Kind string
	Name string
	// Command is the absolute path of the executable.
	Command string
	Args    []string
	// Env holds KEY=VALUE; nothing of the host's environment is added but PATH.
	Env []string
	// Hash is the locked checksum, "sha256:" and hex; empty means not locked,
	// which is refused.
	Hash string
	// Config is the JSON of the plugin's configuration.
	Config []byte
	// StateDir is the plugin's own lasting directory, absolute.
	StateDir string
	// StartTimeout bounds everything from verify to in service.
	StartTimeout time.Duration
	// CallTimeout bounds each call, streams included.
	CallTimeout time.Duration
	// StopGrace is how long a generation may take to end by itself.
	StopGrace time.Duration
	// DrainTimeout is how long a retired generation may finish its calls.
	DrainTimeout time.Duration
	Restart      RestartPolicy
	// Limits that must be in force, or the plugin is not started. Where none is
	// given for processes, [DefaultPIDs] is in force if it can be.
	Limits Limits
	// Sandbox that must be in force, or the plugin is not started; nil for none.
	Sandbox *SandboxSpec
}

// ID is kind and name: "detector.docs".
func (s *Spec) ID() string { return s.Kind + "." + s.Name }

// goMemoryLimit is how a program in Go is told how much memory it may take, so
// that it collects its garbage before the kernel ends it.
const goMemoryLimit = "GOMEMLIMIT"

// environment is what the configuration names, and what follows from its limits.
func (s *Spec) environment() []string {
	env := slices.Clone(s.Env)
	if s.Limits.Memory > 0 && !slices.ContainsFunc(env, func(kv string) bool { return strings.HasPrefix(kv, goMemoryLimit+"=") }) {
		env = append(env, goMemoryLimit+"="+strconv.FormatInt(s.Limits.Memory/10*9, 10)) // the rest is for stacks and the like
	}
	return env
}

// identity digests everything that takes a new generation to change.
func (s *Spec) identity() string {
	data, err := json.Marshal(s)
	if err != nil { // strings, bytes and numbers always marshal
		panic(fmt.Sprintf("marshal plugin spec: %v", err))
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// Clone returns a copy that shares nothing.
func (s *Spec) Clone() *Spec {
	c := *s
	c.Args, c.Env, c.Config = slices.Clone(s.Args), slices.Clone(s.Env), slices.Clone(s.Config)
	return &c
}
