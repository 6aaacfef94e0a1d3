package policy

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// mostRemembered bounds the decisions that a set remembers.
const mostRemembered = 4096

// memory holds decisions that depend on nothing but what [asked] says: no policy
// about the action looks at the time, and nothing is known of the resource but its
// name. A set never changes, so that what it has decided once it would decide again.
type memory struct {
	decisions sync.Map // asked to *Decision
	held      atomic.Int64
}

// asked is all that decides such a request.
type asked struct {
	name, trust, method, groups, action, facts string
	resource                                   Ref
}

// key returns what to remember a request by; false for one whose decision may
// depend on more.
func (s *Set) key(req *Request) (asked, bool) {
	x := s.actions[req.Action]
	if x == nil || x.timed || req.Resource.Attributes != nil || req.Resource.In != nil {
		return asked{}, false
	}
	facts, plain := factsText(req.Context)
	if !plain {
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
	return asked{p.Name, p.Trust, p.Method, groups, req.Action, facts, req.Resource.Ref}, true
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

// mostFacts bounds the context of a request that is remembered.
const mostFacts = 8

// factsText writes out a context, the same for the same facts; false for one of
// other things than a few short texts, numbers and truths.
func factsText(facts map[string]any) (string, bool) {
	if len(facts) == 0 {
		return "", true
	}
	if len(facts) > mostFacts {
		return "", false
	}
	var room [mostFacts]string
	names := room[:0]
	for name := range facts {
		names = append(names, name)
	}
	slices.Sort(names)
	text := make([]byte, 0, 128)
	for _, name := range names {
		text = append(strconv.AppendQuote(text, name), ':')
		switch v := facts[name].(type) {
		case string:
			text = strconv.AppendQuote(text, v)
		case bool:
			text = strconv.AppendBool(text, v)
		case int:
			text = strconv.AppendInt(text, int64(v), 10)
		default:
			return "", false
		}
	}
	return string(text), len(text) <= maxFactsText
}

// maxFactsText is in bytes.
const maxFactsText = 512

// contextUse is the word, and what is asked of it where that is one attribute.
var contextUse = regexp.MustCompile(`context(\s*\.\s*(\w+)|\s+has\s+(\w+))?`)

// isTimed says that a policy may look at the time: that its text asks the context,
// anywhere, for that or for more than one attribute by its name.
func (p *Policy) isTimed() bool {
	for _, use := range contextUse.FindAllStringSubmatch(p.Text, -1) {
		if attribute := use[2] + use[3]; attribute == "" || attribute == "time" {
			return true
		}
	}
	return false
}
