package config

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/sop-host/sop/host/internal/event"
)

// A Hook runs something for what happens: an operation of a protocol, or a plugin.
type Hook struct {
	Name string
	// On are kinds of events: "task.failed", or "task." for all that begin so.
	On                  []string
	Protocol, Operation string        // empty where a plugin is run
	Plugin              string        // id, such as "detector.docs"; empty where a protocol is called
	Timeout             time.Duration // of one run
	Source              Range
}

// Kinds of plugins that hooks run. Protocols are called by their operations.
const (
	kindBackup   = "backup"
	kindDetector = "detector"
	kindSandbox  = "sandbox"
	kindProtocol = "protocol"
)

var (
	hookAttributes = []string{"on", "run", "timeout"}
	// hookNouns are what hooks may be told of. A call of a protocol makes events of
	// tokens and protocols, which would make further calls without end.
	hookNouns   = []string{"backup", "component", "gap", "maintenance", "patch", "plugin", "task", "workspace"}
	kindPattern = newPattern(`^[a-z]+\.([a-z_]+(\.[a-z_]+)*\.?)?$`)
	// runNouns are what plugins are run for, by their kind: what is about a workspace,
	// and of sandbox plugins, about a task.
	runNouns = map[string][]string{
		kindBackup:   {"backup", "gap", "patch", "task", "workspace"},
		kindDetector: {"backup", "gap", "patch", "task", "workspace"},
		kindSandbox:  {"gap", "patch", "task"},
	}
	hookBounds = bounds{low: 10 * time.Millisecond, high: 24 * time.Hour}
)

// How long runs may take by default.
const (
	callTime = 30 * time.Second
	runTime  = 15 * time.Minute // of a scan or a backup
)

// same says whether two hooks do the same, wherever they stand.
func (h Hook) same(other Hook) bool {
	return h.Name == other.Name && slices.Equal(h.On, other.On) && h.Protocol == other.Protocol && h.Operation == other.Operation &&
		h.Plugin == other.Plugin && h.Timeout == other.Timeout
}

// readHooks reads the hook blocks.
func (l *loader) readHooks(c *Config, blocks []*hclsyntax.Block, s *scope) []Hook {
	out := make(map[string]Hook)
	for _, b := range blocks {
		evaluated := l.evaluateBlock(b, s)
		l.allow(evaluated, hookAttributes, nil)
		if !l.wantLabels(evaluated, "name") {
			continue
		}
		l.nameLabel(evaluated, 0)
		h := l.readHook(c, evaluated)
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

func (l *loader) readHook(c *Config, b *block) Hook {
	s := section{reporter: &l.reporter}.within(b)
	h := Hook{Name: b.labels[0], Source: publicRange(b.header)}
	s.require("on")
	l.readRun(c, s, &h)
	h.On = s.texts("on", func(kind string) error { return l.checkKind(kind, &h) })
	otherwise := callTime
	if strings.HasPrefix(h.Plugin, kindBackup+".") || strings.HasPrefix(h.Plugin, kindDetector+".") {
		otherwise = runTime
	}
	h.Timeout = s.duration("timeout", otherwise, hookBounds)
	return h
}

// readRun reads what a hook runs.
func (l *loader) readRun(c *Config, s section, h *Hook) {
	run := s.body.attributes["run"]
	if run == nil {
		s.errorf(s.header, "Missing attribute", "A hook block needs the attribute %q: an operation of a protocol, such as \"arp.learn\", or a plugin, such as \"detector.docs\".", "run")
		return
	}
	what := s.text("run", "", checkArgument)
	kind, name, _ := strings.Cut(what, ".")
	switch {
	case what == "":
	case slices.Contains(c.protocolNames(), kind):
		l.readHookCall(c, what, run.expr.Range(), h)
	case runNouns[kind] != nil:
		l.readHookPlugin(c, s, kind, name, h)
	case kind == kindProtocol:
		l.errorf(run.expr.Range(), "Not an operation", "A protocol is called by one of its operations: write \"%s.OPERATION\".", name)
	default:
		l.readHookCall(c, what, run.expr.Range(), h)
	}
}

// readHookCall takes over the operation of a protocol.
func (l *loader) readHookCall(c *Config, what string, at hcl.Range, h *Hook) {
	if err := checkProtocolCall(what); err != nil {
		l.errorf(at, "Invalid value", "%s", capital(fmt.Sprintf("%q names neither an operation of a protocol, such as \"arp.learn\", nor a plugin, such as \"detector.docs\"", what)))
		return
	}
	h.Protocol, h.Operation, _ = strings.Cut(what, ".")
	if names := c.protocolNames(); !slices.Contains(names, h.Protocol) {
		l.errorf(at, "Unknown protocol", "There is no protocol %q.%s", h.Protocol, l.didYouMean(h.Protocol, names))
	}
}

// readHookPlugin takes over a plugin that is run.
func (l *loader) readHookPlugin(c *Config, s section, kind, name string, h *Hook) {
	var names []string
	for i := range c.Plugins {
		if p := &c.Plugins[i]; p.Kind == kind && p.Enabled {
			names = append(names, p.Name)
		}
	}
	h.Plugin = kind + "." + name
	if slices.Contains(names, name) {
		return
	}
	why := "There is no plugin"
	if c.Plugin(h.Plugin) != nil {
		why = "There is no enabled plugin"
	}
	l.errorf(s.body.attributes["run"].expr.Range(), "Unknown plugin", "%s %q %q.%s", why, kind, name, l.didYouMean(name, names))
}

// checkKind refuses kinds of events that there are none of, and those that what the
// hook runs can do nothing about.
func (l *loader) checkKind(kind string, h *Hook) error {
	noun, verb, _ := strings.Cut(kind, ".")
	if !kindPattern.MatchString(kind) {
		return fmt.Errorf("%q is no kind of events: write it as \"task.failed\", or \"task.\" for all of tasks", kind)
	}
	if !slices.Contains(hookNouns, noun) {
		return fmt.Errorf("hooks are told of no events of %q.%s They are told of those of %s", noun, l.didYouMean(noun, hookNouns), strings.Join(hookNouns, ", "))
	}
	if of, _, _ := strings.Cut(h.Plugin, "."); of != "" && !slices.Contains(runNouns[of], noun) {
		return fmt.Errorf("a %s plugin is run for events of %s: one of %q is about nothing that it could work on", of, strings.Join(runNouns[of], ", "), noun)
	}
	if verb == "" || event.MadeByPlugins(kind) {
		return nil
	}
	var same []string
	for _, known := range event.Kinds() {
		if known == kind || strings.HasSuffix(kind, ".") && strings.HasPrefix(known, kind) {
			return nil
		}
		if strings.HasPrefix(known, noun+".") {
			same = append(same, known)
		}
	}
	return fmt.Errorf("there are no events %q.%s Of %s there are %s", kind, l.didYouMean(kind, same), noun, strings.Join(same, ", "))
}
