package config

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// A Hook calls an operation of a protocol for what happens.
type Hook struct {
	Name string
	// On are kinds of events: "task.failed", or "task." for all that begin so.
	On                  []string
	Protocol, Operation string
	Timeout             time.Duration // of one call
	Source              Range
}

var (
	hookAttributes = []string{"on", "call", "timeout"}
	// hookNouns are what hooks may be told of. A call of a protocol makes events of
	// tokens and protocols, which would make further calls without end.
	hookNouns   = []string{"backup", "component", "gap", "maintenance", "patch", "plugin", "task", "workspace"}
	kindPattern = newPattern(`^[a-z]+\.([a-z_.]+)?$`)
)

// same says whether two hooks do the same, wherever they stand.
func (h Hook) same(other Hook) bool {
	return h.Name == other.Name && slices.Equal(h.On, other.On) && h.Protocol == other.Protocol && h.Operation == other.Operation && h.Timeout == other.Timeout
}

// readHooks reads the hook blocks.
func (l *loader) readHooks(blocks []*hclsyntax.Block, protocols []Protocol, s *scope) []Hook {
	out := make(map[string]Hook)
	for _, b := range blocks {
		evaluated := l.evaluateBlock(b, s)
		l.allow(evaluated, hookAttributes, nil)
		if !l.wantLabels(evaluated, "name") {
			continue
		}
		l.nameLabel(evaluated, 0)
		h := l.readHook(evaluated, protocols)
		if first, ok := out[h.Name]; ok {
			l.duplicate(b, fmt.Sprintf("hook %q", h.Name), first.Source)
			continue
		}
		out[h.Name] = h
	}
	var all []Hook
	for _, name := range sortedKeys(out) {
		all = append(all, out[name])
	}
	return all
}

func (l *loader) readHook(b *block, protocols []Protocol) Hook {
	s := section{reporter: &l.reporter}.within(b)
	h := Hook{
		Name: b.labels[0], On: s.texts("on", checkKind), Source: publicRange(b.header),
		Timeout: s.duration("timeout", 30*time.Second, bounds{low: 10 * time.Millisecond, high: time.Hour}),
	}
	s.require("on")
	s.require("call")
	call := s.text("call", "", checkProtocolCall)
	if call == "" {
		return h
	}
	h.Protocol, h.Operation, _ = strings.Cut(call, ".")
	names := make([]string, len(protocols))
	for i := range protocols {
		names[i] = protocols[i].Name
	}
	if !slices.Contains(names, h.Protocol) {
		l.errorf(b.body.attributes["call"].expr.Range(), "Unknown protocol", "There is no protocol %q.%s", h.Protocol, l.didYouMean(h.Protocol, names))
	}
	return h
}

func checkKind(kind string) error {
	noun, _, _ := strings.Cut(kind, ".")
	if !kindPattern.MatchString(kind) {
		return fmt.Errorf("%q is no kind of events: write it as \"task.failed\", or \"task.\" for all of tasks", kind)
	}
	if !slices.Contains(hookNouns, noun) {
		return fmt.Errorf("hooks are told of %s, and not of %q", strings.Join(hookNouns, ", "), noun)
	}
	return nil
}
