package policy

import (
	"strings"
	"sync"
	"sync/atomic"
)

// mostRemembered bounds the decisions that a set remembers.
const mostRemembered = 4096

// memory holds decisions that depend on nothing but what [asked] says: no policy
// about the action looks at the context, which is where the time is, and nothing
// is known of the resource but its name. A set never changes, so that what it
// has decided once it would decide again.
type memory struct {
	decisions sync.Map // asked to *Decision
	held      atomic.Int64
}

// asked is all that decides such a request.
type asked struct {
	name, trust, method, groups, action string
	resource                            Ref
}

// key returns what to remember a request by; false for one whose decision may
// depend on more.
func (s *Set) key(req *Request) (asked, bool) {
	x := s.actions[req.Action]
	if x == nil || x.contextual || req.Context != nil || req.Resource.Attributes != nil || req.Resource.In != nil {
		return asked{}, false
	}
	p := &req.Principal
	var groups string
	if len(p.Groups) > 0 {
		for _, g := range p.Groups {
			if strings.ContainsRune(g, 0) {
				return asked{}, false
			}
		}
		groups = strings.Join(p.Groups, "\x00") + "\x00"
	}
	return asked{p.Name, p.Trust, p.Method, groups, req.Action, req.Resource.Ref}, true
}

func (m *memory) recall(k asked) (Decision, bool) {
	d, ok := m.decisions.Load(k)
	if !ok {
		return Decision{}, false
	}
	known, ok := d.(*Decision)
	return *known, ok
}

// keep remembers a decision while there is room: callers and what they ask for
// are few, and whoever asks for ever more gains nothing.
func (m *memory) keep(k asked, d *Decision) {
	if len(d.Errors) > 0 || m.held.Load() >= mostRemembered {
		return
	}
	kept := *d
	if _, there := m.decisions.LoadOrStore(k, &kept); !there {
		m.held.Add(1)
	}
}

// isContextual says that a policy may look at the context: that its text has the
// word anywhere.
func (p *Policy) isContextual() bool { return strings.Contains(p.Text, "context") }
