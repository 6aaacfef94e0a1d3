// Package timeline tells from the steps of an activation, as the host keeps them
// for each boot, how long each component took, what held up what, and what became
// slower from one boot to another.
//
// It is a leaf; startup writes what it reads, cli shows what it makes of it.
package timeline

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"
)

// Step is one line of an activation timeline.
type Step struct {
	ElapsedMS float64  `json:"elapsed_ms"` // since the host began to start, by a clock that never goes back
	Component string   `json:"component"`
	Phase     string   `json:"phase"`
	Detail    string   `json:"detail,omitempty"`
	Remedy    string   `json:"remedy,omitempty"`
	Instance  int      `json:"instance,omitempty"` // counts the starts of a component
	After     []string `json:"after,omitempty"`    // what it waits for
}

func (s *Step) at() time.Duration { return time.Duration(s.ElapsedMS * float64(time.Millisecond)) }

// maxStep bounds one line, in bytes.
const maxStep = 1 << 20

// Read reads steps. A last line that was cut off, as by the death of the host, is
// left out.
func Read(r io.Reader) ([]Step, error) {
	var steps []Step
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxStep)
	var bad error
	for n := 1; lines.Scan(); n++ {
		if bad != nil {
			return nil, bad
		}
		var s Step
		if err := json.Unmarshal(lines.Bytes(), &s); err != nil {
			bad = fmt.Errorf("line %d is no step: %w", n, err)
			continue
		}
		steps = append(steps, s)
	}
	return steps, lines.Err()
}

// Outcomes of an activation.
const (
	Ready   = "ready"
	Failed  = "failed"
	Stopped = "stopped" // it was not wanted any more, or ended by itself
	Pending = "pending" // the timeline ends before
)

// Activation is one start of one component.
type Activation struct {
	Component string        `json:"component"`
	Instance  int           `json:"instance,omitempty"`
	Begin     time.Duration `json:"begin_ns"` // since the host began to start
	End       time.Duration `json:"end_ns"`
	Outcome   string        `json:"outcome"`
	Phases    []Span        `json:"phases"`
	After     []string      `json:"after,omitempty"`
}

// Span is one phase.
type Span struct {
	Phase string        `json:"phase"`
	Begin time.Duration `json:"begin_ns"`
	Took  time.Duration `json:"took_ns"`
}

// queued is the phase in which a component waits for others.
const queued = "queued"

// Active is how long it worked itself, without waiting for others.
func (a *Activation) Active() time.Duration {
	total := a.End - a.Begin
	for _, p := range a.Phases {
		if p.Phase == queued {
			total -= p.Took
		}
	}
	return total
}

// Activations returns every start, in the order in which they began.
func Activations(steps []Step) []Activation {
	open := make(map[string]*Activation)
	var done []Activation
	var last time.Duration
	finish := func(a *Activation, at time.Duration, outcome string) {
		a.endPhase(at)
		a.End, a.Outcome = at, outcome
		done = append(done, *a)
		delete(open, a.Component)
	}
	for i := range steps {
		s := &steps[i]
		last = max(last, s.at())
		a := open[s.Component]
		switch s.Phase {
		case "stopping", "deactivating", "unhealthy", "unready":
			continue // no part of a start
		case Stopped, "retired", "exited":
			if a != nil && a.Instance == s.Instance { // and not one before it
				finish(a, s.at(), Stopped)
			}
			continue
		case Ready, Failed:
			if a == nil {
				a = &Activation{Component: s.Component, Begin: s.at()}
			}
			finish(a, s.at(), s.Phase)
			continue
		}
		if a == nil {
			a = &Activation{Component: s.Component, Instance: s.Instance, Begin: s.at(), After: s.After}
			open[s.Component] = a
		}
		a.endPhase(s.at())
		a.Phases = append(a.Phases, Span{Phase: s.Phase, Begin: s.at()})
	}
	for _, a := range open {
		finish(a, last, Pending)
	}
	slices.SortStableFunc(done, func(a, b Activation) int {
		return cmp.Or(cmp.Compare(a.Begin, b.Begin), cmp.Compare(a.Component, b.Component))
	})
	return done
}

func (a *Activation) endPhase(at time.Duration) {
	if n := len(a.Phases); n > 0 && a.Phases[n-1].Took == 0 {
		a.Phases[n-1].Took = at - a.Phases[n-1].Begin
	}
}

// First keeps the first start of each component that came to something.
func First(all []Activation) []Activation {
	seen := make(map[string]bool)
	var out []Activation
	for _, a := range all {
		if !seen[a.Component] && len(a.Phases) > 0 && a.Outcome != Stopped {
			seen[a.Component] = true
			out = append(out, a)
		}
	}
	return out
}

// Blame orders starts by how long each worked itself, the longest first.
func Blame(all []Activation) []Activation {
	out := slices.Clone(First(all))
	slices.SortStableFunc(out, func(a, b Activation) int { return cmp.Compare(b.Active(), a.Active()) })
	return out
}

// CriticalChain returns the starts that made the last one ready when it was, in
// order: each waited for the one before it.
func CriticalChain(all []Activation) []Activation {
	byName := make(map[string]Activation)
	var last Activation
	for _, a := range First(all) {
		byName[a.Component] = a
		if a.Outcome == Ready && a.End >= last.End {
			last = a
		}
	}
	var chain []Activation
	for last.Component != "" && len(chain) <= len(byName) {
		chain = append(chain, last)
		var before Activation
		for _, name := range last.After {
			if a, ok := byName[name]; ok && a.End >= before.End {
				before = a
			}
		}
		last = before
	}
	slices.Reverse(chain)
	return chain
}

// Difference is how a component fared in two boots.
type Difference struct {
	Component string        `json:"component"`
	Before    time.Duration `json:"before_ns"` // working itself; 0 where it was not there
	After     time.Duration `json:"after_ns"`
	// ReadyBefore and ReadyAfter are when it was ready.
	ReadyBefore time.Duration `json:"ready_before_ns"`
	ReadyAfter  time.Duration `json:"ready_after_ns"`
}

// Slower is by how much.
func (d *Difference) Slower() time.Duration { return d.After - d.Before }

// Compare says what became slower from one boot to another, the most first.
func Compare(before, after []Activation) []Difference {
	all := make(map[string]*Difference)
	at := func(name string) *Difference {
		if all[name] == nil {
			all[name] = &Difference{Component: name}
		}
		return all[name]
	}
	for _, a := range First(before) {
		d := at(a.Component)
		d.Before, d.ReadyBefore = a.Active(), a.End
	}
	for _, a := range First(after) {
		d := at(a.Component)
		d.After, d.ReadyAfter = a.Active(), a.End
	}
	out := make([]Difference, 0, len(all))
	for _, d := range all {
		out = append(out, *d)
	}
	slices.SortFunc(out, func(a, b Difference) int {
		return cmp.Or(cmp.Compare(b.Slower(), a.Slower()), cmp.Compare(a.Component, b.Component))
	})
	return out
}
