package config

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2/hclsyntax"
	ctyjson "github.com/zclconf/go-cty/cty/json"
)

// A Protocol says how the host deals with a peer that a protocol plugin of the
// same name reaches. Every such plugin has one, with or without a block.
type Protocol struct {
	Name       string
	Activation string // "always", "on_demand" or "manual"
	Mode       string // "active" or "passive"
	IdleStop   time.Duration
	DependsOn  []string // protocols
	Components []string
	Timeout    time.Duration
	InFlight   int
	Queue      int
	MaxPayload int64
	MaxResult  int64
	Sandboxed  []string // operations
	Calls      []string // "scp.recall"
	SelfTest   *SelfTest
	Payloads   *Payloads
	Source     Range
}

// A SelfTest is a call that shows whether a protocol works.
type SelfTest struct {
	Operation    string
	Payload      []byte // JSON
	Expect       []byte // JSON; empty: any answer will do
	Timeout      time.Duration
	ExpectSource Range
}

// Payloads says which payloads of a protocol are kept.
type Payloads struct {
	Operations []string // none: of all
	Keep       time.Duration
	MaxTotal   int64
}

var (
	protocolAttributes = []string{
		"activation", "mode", "idle_stop", "depends_on", "components", "timeout", "max_in_flight", "max_queue",
		"max_payload", "max_result", "sandboxed", "calls",
	}
	protocolBlocks     = []string{"self_test", "payloads"}
	selfTestAttributes = []string{"operation", "payload", "expect", "timeout"}
	payloadAttributes  = []string{"operations", "keep", "max_total"}

	operationPattern   = newPattern(`^[A-Za-z0-9._/-]{1,128}$`)
	keptBounds         = bounds{low: time.Minute, high: 10 * 366 * 24 * time.Hour}
	protocolIdleBounds = bounds{low: time.Second, high: 7 * 24 * time.Hour, orZero: true}
)

const (
	greatestInFlight = 4096
	greatestQueue    = 1 << 20
	greatestPayload  = 960 << 10 // what fits a request of the API
	greatestResult   = 15 << 20  // what fits a message of a plugin
	greatestKept     = 1 << 40
)

// readProtocols reads the protocol blocks, and adds what holds for plugins without
// one.
func (l *loader) readProtocols(blocks []*hclsyntax.Block, plugins []Plugin, s *scope) []Protocol {
	out := make(map[string]Protocol)
	reached := make(map[string]bool)
	for i := range plugins {
		if plugins[i].Kind == "protocol" && plugins[i].Enabled {
			reached[plugins[i].Name] = true
			out[plugins[i].Name] = readProtocol(&l.reporter, &block{kind: "protocol", labels: []string{plugins[i].Name}, body: &body{}})
		}
	}
	read := make(map[string]*block)
	for _, b := range blocks {
		evaluated := l.evaluateBlock(b, s)
		if !l.wantLabels(evaluated, "name") {
			l.allow(evaluated, protocolAttributes, protocolBlocks)
			continue
		}
		l.nameLabel(evaluated, 0)
		p := readProtocol(&l.reporter, evaluated)
		if first := read[p.Name]; first != nil {
			l.duplicate(b, fmt.Sprintf("protocol %q", p.Name), publicRange(first.header))
			continue
		}
		read[p.Name] = evaluated
		if !reached[p.Name] && !l.disabled(plugins, p.Name) {
			l.errorf(evaluated.header, "Protocol without a plugin", "There is no plugin %q %q, by which the protocol would be reached.%s",
				"protocol", p.Name, l.didYouMean(p.Name, sortedKeys(reached)))
		} else if reached[p.Name] {
			out[p.Name] = p
		}
	}
	all := make([]Protocol, 0, len(out))
	for _, name := range sortedKeys(out) {
		all = append(all, out[name])
	}
	l.checkProtocols(all, read)
	return all
}

// protocolNames are the names of the protocols that can be in service.
func (c *Config) protocolNames() []string {
	names := make([]string, len(c.Protocols))
	for i := range c.Protocols {
		names[i] = c.Protocols[i].Name
	}
	return names
}

// disabled says whether there is a plugin for a protocol that is not enabled.
func (l *loader) disabled(plugins []Plugin, name string) bool {
	return slices.ContainsFunc(plugins, func(p Plugin) bool { return p.Kind == "protocol" && p.Name == name })
}

func readProtocol(r *reporter, b *block) Protocol {
	s := section{reporter: r}.within(b)
	r.allow(b, protocolAttributes, protocolBlocks)
	p := Protocol{
		Name:       b.labels[0],
		Activation: s.choice("activation", "always", []string{"always", "on_demand", "manual"}),
		Mode:       s.choice("mode", "active", []string{"active", "passive"}),
		IdleStop:   s.duration("idle_stop", 0, protocolIdleBounds),
		DependsOn:  s.texts("depends_on", nil),
		Components: s.texts("components", nil),
		Timeout:    s.duration("timeout", 30*time.Second, bounds{low: 10 * time.Millisecond, high: time.Hour}),
		InFlight:   s.integer("max_in_flight", 64, 1, greatestInFlight),
		Queue:      s.integer("max_queue", 1024, 0, greatestQueue),
		MaxPayload: s.size("max_payload", 512<<10, greatestPayload),
		MaxResult:  s.size("max_result", 4<<20, greatestResult),
		Sandboxed:  s.texts("sandboxed", checkOperation),
		Calls:      s.texts("calls", checkProtocolCall),
		Source:     publicRange(b.header),
	}
	if attr := b.body.attributes["idle_stop"]; attr != nil && p.IdleStop > 0 && p.Activation != "on_demand" {
		s.errorf(attr.nameRange, "Unexpected attribute", "Only a protocol whose activation is \"on_demand\" is stopped when it is idle.")
	}
	if t := r.single(b, "self_test"); t != nil {
		p.SelfTest = readSelfTest(s.within(t))
	}
	if k := r.single(b, "payloads"); k != nil {
		r.allow(k, payloadAttributes, nil)
		kept := s.within(k)
		p.Payloads = &Payloads{
			Operations: kept.texts("operations", checkOperation), Keep: kept.duration("keep", 7*24*time.Hour, keptBounds),
			MaxTotal: kept.size("max_total", 256<<20, greatestKept),
		}
	}
	return p
}

func readSelfTest(s section) *SelfTest {
	s.allow(s.block, selfTestAttributes, nil)
	s.require("operation")
	t := &SelfTest{
		Operation: s.text("operation", "", checkOperation), Payload: s.json("payload"), Expect: s.json("expect"),
		Timeout: s.duration("timeout", 10*time.Second, callBounds), ExpectSource: s.attributeRange("expect"),
	}
	if t.Payload == nil {
		t.Payload = []byte("null")
	}
	return t
}

// json reads a value of any type as JSON; nil where there is none.
func (s section) json(name string) []byte {
	attr, exists := s.body.attributes[name]
	if !exists || !attr.value.IsWhollyKnown() {
		return nil
	}
	text, err := ctyjson.Marshal(attr.value, attr.value.Type())
	if err != nil {
		s.errorf(attr.expr.Range(), "Invalid value", "%q cannot be written as JSON: %s.", name, err)
		return nil
	}
	return text
}

func checkOperation(name string) error {
	if !operationPattern.MatchString(name) {
		return fmt.Errorf("%q cannot be the name of an operation: letters, digits and . _ - / only, 128 at most", name)
	}
	return nil
}

func checkProtocolCall(call string) error {
	protocol, operation, found := strings.Cut(call, ".")
	if !found || !labelPattern.MatchString(protocol) || !operationPattern.MatchString(operation) {
		return fmt.Errorf("%q names no operation of a protocol: write it as \"scp.recall\"", call)
	}
	return nil
}

// checkProtocols finds references that lead nowhere, and circles.
func (l *loader) checkProtocols(all []Protocol, blocks map[string]*block) {
	byName := make(map[string]*Protocol, len(all))
	for i := range all {
		byName[all[i].Name] = &all[i]
	}
	for i := range all {
		p := &all[i]
		for _, name := range p.DependsOn {
			if byName[name] == nil {
				l.reference(blocks[p.Name], "depends_on", name, "There is no protocol %q.%s", name, l.didYouMean(name, sortedKeys(byName)))
			}
		}
		for _, call := range p.Calls {
			name, _, _ := strings.Cut(call, ".")
			switch {
			case name == p.Name:
				l.reference(blocks[p.Name], "calls", call, "The protocol %q cannot call itself.", name)
			case byName[name] == nil:
				l.reference(blocks[p.Name], "calls", call, "There is no protocol %q.%s", name, l.didYouMean(name, sortedKeys(byName)))
			}
		}
	}
	l.protocolCycles(all, byName, blocks)
}

// reference reports an element of a list that refers to what is not there.
func (l *loader) reference(b *block, attribute, element, format string, args ...any) {
	if b == nil || b.body.attributes[attribute] == nil {
		return
	}
	l.errorf(occurrence(b.body.attributes[attribute], element, 1), "Unknown protocol", format, args...)
}

// protocolCycles reports each protocol that depends on itself by way of others,
// once for each circle.
func (l *loader) protocolCycles(all []Protocol, byName map[string]*Protocol, blocks map[string]*block) {
	done := make(map[string]bool)
	var walk func(p *Protocol, path []string)
	walk = func(p *Protocol, path []string) {
		if i := slices.Index(path, p.Name); i >= 0 {
			circle := append(slices.Clone(path[i:]), p.Name)
			last := blocks[circle[len(circle)-2]]
			if last != nil {
				l.errorf(occurrence(last.body.attributes["depends_on"], p.Name, 1), "Dependency cycle", "The protocols depend on each other in a circle: %s.", strings.Join(circle, " → "))
			}
			return
		}
		if done[p.Name] {
			return
		}
		for _, name := range p.DependsOn {
			if next := byName[name]; next != nil {
				walk(next, append(slices.Clone(path), p.Name))
			}
		}
		done[p.Name] = true
	}
	for i := range all {
		walk(&all[i], nil)
	}
}

// ObjectProtocol is what a change of a protocol's settings is about.
const ObjectProtocol Object = "protocol"

// diffProtocols compares the settings of protocols; that their plugins come and go
// is a change of the plugin.
func diffProtocols(old, next *Config) []Change {
	before, after := protocolsByName(old), protocolsByName(next)
	var out []Change
	for _, name := range keysOfBoth(before, after) {
		was, is := before[name], after[name]
		change := Change{Object: ObjectProtocol, ID: name, Action: ActionUnchanged}
		switch {
		case was == nil:
			change.Action, change.Reasons = ActionStart, []string{"added"}
		case is == nil:
			change.Action, change.Reasons = ActionStop, []string{"removed"}
		default:
			if change.Reasons = protocolReasons(was, is); len(change.Reasons) > 0 {
				change.Action = ActionUpdate
			}
		}
		out = append(out, change)
	}
	return out
}

func protocolReasons(was, is *Protocol) reasons {
	var why reasons
	why.changed("activation", was.Activation != is.Activation)
	why.changed("mode", was.Mode != is.Mode)
	why.changed("idle_stop", was.IdleStop != is.IdleStop)
	why.changed("depends_on", !slices.Equal(was.DependsOn, is.DependsOn))
	why.changed("components", !slices.Equal(was.Components, is.Components))
	why.changed("timeout", was.Timeout != is.Timeout)
	why.changed("max_in_flight", was.InFlight != is.InFlight)
	why.changed("max_queue", was.Queue != is.Queue)
	why.changed("max_payload", was.MaxPayload != is.MaxPayload)
	why.changed("max_result", was.MaxResult != is.MaxResult)
	why.changed("sandboxed", !slices.Equal(was.Sandboxed, is.Sandboxed))
	why.changed("calls", !slices.Equal(was.Calls, is.Calls))
	why.changed("self_test", !was.SelfTest.same(is.SelfTest))
	why.changed("payloads", !was.Payloads.same(is.Payloads))
	return why
}

func (t *SelfTest) same(u *SelfTest) bool {
	if t == nil || u == nil {
		return t == u
	}
	return t.Operation == u.Operation && t.Timeout == u.Timeout && slices.Equal(t.Payload, u.Payload) && slices.Equal(t.Expect, u.Expect)
}

func (p *Payloads) same(q *Payloads) bool {
	if p == nil || q == nil {
		return p == q
	}
	return p.Keep == q.Keep && p.MaxTotal == q.MaxTotal && slices.Equal(p.Operations, q.Operations)
}

func protocolsByName(c *Config) map[string]*Protocol {
	out := make(map[string]*Protocol)
	if c != nil {
		for i := range c.Protocols {
			out[c.Protocols[i].Name] = &c.Protocols[i]
		}
	}
	return out
}
