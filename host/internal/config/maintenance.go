package config

import (
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// Maintenance says who owns which subsystem.
type Maintenance struct {
	Owner string // of what no pattern covers: "operator/ops" or "protocol/arp"; empty: operators
	// Operations are those by which protocols that own subsystems are told of requests
	// about them, by the protocol's name; those without one are not told.
	Operations map[string]string
	Owners     []MaintenanceOwner // in no order that matters; the most exact pattern counts
	// Pressure says when the host asks for maintenance of the machine.
	Pressure Pressure
}

// Pressure is when too little disk or memory is left, in percent that is used.
type Pressure struct {
	Disk, Memory float64 // 0: not watched
	// Margin is by how much it must fall below before that is over.
	Margin   float64
	Interval time.Duration // between two readings
}

// MaintenanceOwner owns the subsystems that a pattern covers.
type MaintenanceOwner struct {
	Pattern string // "component.scp", or with * for any run of characters
	Owner   string // "operator/ops" or "protocol/arp"
}

var (
	maintenanceAttributes = []string{"operator", "protocol", "operation"}
	maintenanceBlocks     = []string{"owner", "pressure"}
	pressureAttributes    = []string{"disk", "memory", "margin", "interval"}
	pressureBounds        = bounds{low: 100 * time.Millisecond, high: 24 * time.Hour}
	subsystemPattern      = newPattern(`^[a-z0-9*][a-z0-9._/*-]{0,127}$`)
)

func (l *loader) readMaintenance(blocks []*hclsyntax.Block, protocols []Protocol, s *scope) Maintenance {
	m := Maintenance{Pressure: readPressure(section{reporter: &l.reporter}.within(nil))}
	for i, b := range blocks {
		evaluated := l.evaluateBlock(b, s)
		if i > 0 {
			l.duplicate(b, "maintenance", publicRange(blocks[0].DefRange()))
			continue
		}
		l.wantLabels(evaluated)
		l.allow(evaluated, maintenanceAttributes, maintenanceBlocks)
		if p := l.single(evaluated, "pressure"); p != nil {
			l.allow(p, pressureAttributes, nil)
			m.Pressure = readPressure(section{reporter: &l.reporter}.within(p))
		}
		m.Operations = make(map[string]string)
		m.Owner = l.readOwner(evaluated, protocols, m.Operations)
		m.Owners = l.readOwners(evaluated, protocols, m.Operations)
	}
	return m
}

const (
	usualPressure = 95
	usualMargin   = 3
	mostMargin    = 50
)

func readPressure(s section) Pressure {
	return Pressure{
		Disk: s.number("disk", usualPressure, 0, 100), Memory: s.number("memory", usualPressure, 0, 100),
		Margin: s.number("margin", usualMargin, 0, mostMargin), Interval: s.duration("interval", 30*time.Second, pressureBounds),
	}
}

func (l *loader) readOwners(b *block, protocols []Protocol, operations map[string]string) []MaintenanceOwner {
	var out []MaintenanceOwner
	for _, o := range b.body.ofKind("owner") {
		if !l.wantLabels(o, "pattern") {
			continue
		}
		pattern := o.labels[0]
		if !subsystemPattern.MatchString(pattern) {
			l.errorf(o.labelRanges[0], "Invalid pattern", "%q covers no subsystem: lower-case letters, digits and . _ - / only, and * for any run of them.", pattern)
			continue
		}
		if slices.ContainsFunc(out, func(p MaintenanceOwner) bool { return p.Pattern == pattern }) {
			l.errorf(o.header, "Duplicate block", "There is an owner of %q already.", pattern)
			continue
		}
		l.allow(o, maintenanceAttributes, nil)
		owner := l.readOwner(o, protocols, operations)
		if owner == "" {
			l.errorf(o.header, "Missing attribute", "An owner block names an operator or a protocol.")
			continue
		}
		out = append(out, MaintenanceOwner{Pattern: pattern, Owner: owner})
	}
	return out
}

// readOwner returns the owner that a block names, or nothing, and notes the operation
// by which a protocol is told.
func (l *loader) readOwner(b *block, protocols []Protocol, operations map[string]string) string {
	s := section{reporter: &l.reporter}.within(b)
	operator, protocol, operation := s.text("operator", "", checkArgument), s.text("protocol", "", checkArgument), s.text("operation", "", checkOperation)
	if known := operations[protocol]; operation != "" && known != "" && known != operation {
		l.errorf(b.body.attributes["operation"].expr.Range(), "Two operations", "Protocol %q is told of maintenance by its operation %q already: name the same here.", protocol, known)
	}
	if operation != "" && protocol != "" {
		operations[protocol] = operation
	}
	if operation != "" && protocol == "" {
		l.errorf(b.body.attributes["operation"].nameRange, "Unexpected attribute", "An operation is one of a protocol: name the protocol that owns it.")
	}
	switch {
	case operator != "" && protocol != "":
		l.errorf(b.body.attributes["protocol"].nameRange, "Unexpected attribute", "One owns a subsystem: name an operator or a protocol.")
	case protocol != "":
		if !slices.ContainsFunc(protocols, func(p Protocol) bool { return p.Name == protocol }) {
			l.errorf(b.body.attributes["protocol"].expr.Range(), "Unknown protocol", "There is no protocol %q.", protocol)
		}
		return "protocol/" + protocol
	case operator != "":
		if strings.ContainsAny(operator, " \t\n/") {
			l.errorf(b.body.attributes["operator"].expr.Range(), "Invalid name", "The name of an operator has no spaces and no slashes.")
		}
		return "operator/" + operator
	}
	return ""
}
