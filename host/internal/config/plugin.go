package config

import (
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
)

// A Plugin is one process the host is to run. Its config block is read with
// DecodeConfig, once the plugin has described its schema.
type Plugin struct {
	Kind         string // detector, sandbox, backup or protocol
	Name         string
	Command      string // absolute
	Args         []string
	Env          map[string]string // explicit values, which may be secret
	EnvPass      []string          // names passed through from the host's environment, sorted
	Enabled      bool
	StartTimeout time.Duration // from start to in service
	CallTimeout  time.Duration // of one call
	StopGrace    time.Duration // from the request to stop to the kill
	Restart      Restart
	Limits       Limits
	// SandboxProfile names the profile under which it runs; empty for none. There
	// is one, or the default is meant.
	SandboxProfile string
	Source         Range // the plugin block

	view    pluginView
	block   *block
	config  *block            // nil when there is no config block
	sources map[string][]byte // shared by the whole Config
}

// Restart says how a plugin that ends unasked is started again.
type Restart struct {
	BackoffMin      time.Duration // before the first restart
	BackoffMax      time.Duration
	BreakerFailures int           // so many failures
	BreakerWindow   time.Duration // within so long open the breaker
}

// Limits bound what a plugin and all that it starts may use. Zero means that
// the configuration asks for none.
type Limits struct {
	Memory int64   // bytes
	PIDs   int     // processes and threads
	CPUs   float64 // processors' worth of time
}

// ID returns the kind and the name as "detector.docs", which is unique in a
// Config.
func (p *Plugin) ID() string { return p.Kind + "." + p.Name }

var (
	pluginKinds      = []string{"backup", "detector", "protocol", "sandbox"}
	pluginAttributes = []string{
		"command", "args", "env", "env_pass", "enabled",
		"start_timeout", "call_timeout", "stop_grace", "sandbox_profile",
	}
	pluginBlocks      = []string{"restart", "limits", "config"}
	limitsAttributes  = []string{"memory", "pids", "cpus"}
	restartAttributes = []string{"backoff_min", "backoff_max", "breaker_failures", "breaker_window"}

	startBounds   = bounds{low: 10 * time.Millisecond, high: time.Hour}
	callBounds    = bounds{low: 10 * time.Millisecond, high: 7 * 24 * time.Hour}
	graceBounds   = bounds{low: time.Millisecond, high: time.Hour}
	backoffBounds = bounds{low: time.Millisecond, high: 24 * time.Hour}
	windowBounds  = bounds{low: time.Second, high: 7 * 24 * time.Hour}
)

const greatestBreakerFailures = 1000

// What a limit may be. Below the least a plugin cannot even start; pids end
// where the kernel's do.
const (
	leastMemory, greatestMemory = 16 << 20, 16 << 40
	leastPIDs, greatestPIDs     = 16, 4 << 20
	leastCPUs, greatestCPUs     = 0.05, 4096
)

// readPlugin reads a plugin block that has its two labels.
func readPlugin(r *reporter, b *block, dir string) Plugin {
	s := section{reporter: r, dir: dir}.within(b)
	if kind := b.labels[0]; !slices.Contains(pluginKinds, kind) {
		r.errorf(b.labelRanges[0], "Unknown plugin kind", "There is no plugin kind %q.%s A kind is one of %s.",
			kind, r.didYouMean(kind, pluginKinds), strings.Join(pluginKinds, ", "))
	}
	r.nameLabel(b, 1)
	r.allow(b, pluginAttributes, pluginBlocks)
	s.require("command")
	s.hint("command", commandHint)
	p := Plugin{
		Kind: b.labels[0], Name: b.labels[1],
		Command:      s.path("command", ""),
		Args:         s.texts("args", nil),
		Env:          s.environment("env"),
		EnvPass:      s.texts("env_pass", checkEnvironmentName),
		Enabled:      s.boolean("enabled", true),
		StartTimeout: s.duration("start_timeout", 10*time.Second, startBounds),
		CallTimeout:  s.duration("call_timeout", 5*time.Minute, callBounds),
		StopGrace:    s.duration("stop_grace", 5*time.Second, graceBounds),
		Source:       publicRange(b.header),

		SandboxProfile: s.text("sandbox_profile", "", checkArgument),

		block:  b,
		config: r.single(b, "config"),
	}
	p.Restart = readRestart(s.within(r.single(b, "restart")))
	p.Limits = readLimits(s.within(r.single(b, "limits")))
	checkEnvPass(s, p.Env, p.EnvPass)
	return p
}

func readRestart(s section, further ...string) Restart {
	if s.kind != "" {
		s.allow(s.block, append(slices.Clone(restartAttributes), further...), nil)
	}
	restart := Restart{
		BackoffMin:      s.duration("backoff_min", 100*time.Millisecond, backoffBounds),
		BackoffMax:      s.duration("backoff_max", 30*time.Second, backoffBounds),
		BreakerFailures: s.integer("breaker_failures", 5, 1, greatestBreakerFailures),
		BreakerWindow:   s.duration("breaker_window", time.Minute, windowBounds),
	}
	if restart.BackoffMax < restart.BackoffMin {
		name := "backoff_max"
		if _, set := s.body.attributes[name]; !set {
			name = "backoff_min"
		}
		s.errorf(s.body.attributes[name].expr.Range(), "Invalid value", "backoff_max (%s) must not be less than backoff_min (%s).",
			shortDuration(restart.BackoffMax), shortDuration(restart.BackoffMin))
	}
	return restart
}

func readLimits(s section) Limits {
	if s.kind != "" {
		s.allow(s.block, limitsAttributes, nil)
	}
	return Limits{
		Memory: s.sizeWithin("memory", 0, leastMemory, greatestMemory),
		PIDs:   s.integer("pids", 0, leastPIDs, greatestPIDs),
		CPUs:   s.number("cpus", 0, leastCPUs, greatestCPUs),
	}
}

// checkEnvPass refuses names that are passed through twice, or both passed
// through and set, and puts the rest in order.
func checkEnvPass(s section, env map[string]string, pass []string) {
	attr := s.body.attributes["env_pass"]
	count := make(map[string]int)
	for _, name := range pass {
		count[name]++
		_, set := env[name]
		if count[name] > 1 {
			s.errorf(occurrence(attr, name, count[name]), "Duplicate name", "%s is in env_pass more than once.", name)
		} else if set {
			s.errorf(occurrence(attr, name, 1), "Duplicate name", "%s is both in env and in env_pass; only one can give its value.", name)
		}
	}
	slices.Sort(pass)
}

// occurrence returns the range of the nth element of a list that is text.
func occurrence(attr *attribute, text string, n int) hcl.Range {
	for key, element := range elementsOf(attr.value) {
		if element.RawEquals(cty.StringVal(text)) {
			if n--; n == 0 {
				return partRange(attr.expr, cty.Path{cty.IndexStep{Key: key}})
			}
		}
	}
	return attr.expr.Range()
}

// A PathStep is one step into a plugin's configuration: by the name of an
// attribute, block type, block label or map key, or else by index.
type PathStep struct {
	Name  string
	Index int // counts from zero; used when Name is empty
}

// AttributeRange returns the place of a part of the plugin's config block. A
// path that leads nowhere, or further than the source does, answers with the
// nearest enclosing thing: at last the config block or the plugin block.
func (p *Plugin) AttributeRange(path []PathStep) Range {
	return publicRange(p.attributeRange(path))
}

// Diagnostic returns a diagnostic of the plugin's own about a part of its
// config block, with place and source line. The schema, which may be nil, says
// whether the part is sensitive, in which case the line is not shown.
func (p *Plugin) Diagnostic(schema *Schema, severity Severity, summary, detail string, path []PathStep) Diagnostic {
	rng := p.attributeRange(path)
	d := problem(rng, summary, "%s", detail)
	if severity == SeverityWarning {
		d.Severity = hcl.DiagWarning
	}
	if schema.isSensitive(path) {
		d.Extra = sensitive{}
	}
	return finish(hcl.Diagnostics{d}, p.sources)[0]
}

func (p *Plugin) attributeRange(path []PathStep) hcl.Range {
	if p.block == nil {
		return hcl.Range{Filename: p.Source.File}
	}
	if p.config == nil {
		return p.block.header
	}
	return p.config.partRange(path)
}

// partRange follows path into the block as far as it leads.
func (b *block) partRange(path []PathStep) hcl.Range {
	if len(path) == 0 {
		return b.header
	}
	if attr, ok := b.body.attributes[path[0].Name]; ok {
		if len(path) == 1 {
			return attr.expr.Range()
		}
		return partRange(attr.expr, valuePath(path[1:]))
	}
	nested := b.body.ofKind(path[0].Name)
	if len(nested) == 0 {
		return b.header
	}
	rest := path[1:]
	if len(rest) > 0 {
		if found, ok := pickBlock(nested, rest[0]); ok {
			return found.partRange(rest[1:])
		}
	}
	return nested[0].partRange(rest)
}

// pickBlock selects one of several blocks of a kind by label or by index.
func pickBlock(blocks []*block, step PathStep) (*block, bool) {
	if step.Name == "" {
		if step.Index < 0 || step.Index >= len(blocks) {
			return nil, false
		}
		return blocks[step.Index], true
	}
	for _, b := range blocks {
		if len(b.labels) == 1 && b.labels[0] == step.Name {
			return b, true
		}
	}
	return nil, false
}

func valuePath(steps []PathStep) cty.Path {
	var path cty.Path
	for _, step := range steps {
		if step.Name != "" {
			path = path.GetAttr(step.Name)
		} else {
			path = path.IndexInt(step.Index)
		}
	}
	return path
}
