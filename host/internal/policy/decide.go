package policy

import (
	"iter"
	"strings"

	cedar "github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"
)

// A Decision says whether, and by which policies.
type Decision struct {
	Allow bool
	// Policies decided: all that forbid it or, when none does, all that permit
	// it; in the order of the set. It is not to be written to.
	Policies []*Policy
	// Errors are policies that could not be evaluated, or what is wrong with
	// the request.
	Errors []Fault
	// Default says that it is denied since no policy matched.
	Default bool
}

// A Fault is a policy that could not be evaluated; without a Policy, a request
// that no policy can be asked about.
type Fault struct {
	Policy  *Policy
	Message string
}

// String returns it as one sentence.
func (f Fault) String() string {
	if f.Policy == nil {
		return f.Message
	}
	return f.Policy.String() + ": " + f.Message
}

// mostNamed is how many policies a decision names in words.
const mostNamed = 8

// Names returns the ids of the policies that decided, with their places.
func (d *Decision) Names() string {
	var names []string
	for i, p := range d.Policies {
		if i == mostNamed {
			names = append(names, "…")
			break
		}
		names = append(names, p.String())
	}
	return strings.Join(names, ", ")
}

// Decide decides. A request that does not fit the schema is denied, and so is
// one that a forbidding policy cannot be evaluated for: nobody could say that it
// would not have forbidden it.
func (s *Set) Decide(req *Request) Decision {
	key, lasting := s.key(req)
	if lasting {
		if d, known := s.memory.recall(key); known {
			return d
		}
	}
	d := s.decide(req)
	if lasting {
		s.memory.keep(key, &d)
	}
	return d
}

func (s *Set) decide(req *Request) Decision {
	converted, a, err := s.model.convert(req)
	if err != nil {
		return Decision{Errors: []Fault{{Message: err.Error()}}}
	}
	x := s.actions[string(a.entity.UID.ID)]
	chosen := chosen{set: s, numbers: x.candidates(&converted.principal, &converted.resource)}
	verdict, diagnostic := cedar.Authorize(chosen, &converted.entities, converted.Request)
	return s.decision(verdict, &diagnostic)
}

func (s *Set) decision(verdict types.Decision, diagnostic *types.Diagnostic) Decision {
	d := Decision{Allow: verdict == types.Allow}
	for _, r := range diagnostic.Reasons {
		d.Policies = append(d.Policies, s.byID[r.PolicyID])
	}
	for _, e := range diagnostic.Errors {
		p := s.byID[e.PolicyID]
		d.Errors = append(d.Errors, Fault{Policy: p, Message: e.Message})
		if d.Allow && p.compiled.Effect() == cedar.Forbid {
			d.Allow, d.Policies = false, nil
		}
	}
	d.Default = !d.Allow && len(d.Policies) == 0 && len(d.Errors) == 0
	return d
}

// chosen are some of a set's policies.
type chosen struct {
	set     *Set
	numbers []int32
}

// All implements [cedar.PolicyIterator].
func (c chosen) All() iter.Seq2[types.PolicyID, *cedar.Policy] {
	return func(yield func(types.PolicyID, *cedar.Policy) bool) {
		for _, n := range c.numbers {
			p := c.set.policies[n]
			if !yield(types.PolicyID(p.ID), p.compiled) {
				return
			}
		}
	}
}
