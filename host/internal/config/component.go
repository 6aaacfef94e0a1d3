package config

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// A Component is a command that the host brings online and supervises.
type Component struct {
	Name string
	// Command is absolute, or a bare name to be looked up in PATH.
	Command string
	Args    []string
	Dir     string            // absolute; where it works
	Env     map[string]string // explicit values, which may be secret
	EnvPass []string          // names passed through from the host's environment, sorted
	Enabled bool
	// DependsOn names components, and plugins as "plugin.detector.docs", which are
	// ready before it is started.
	DependsOn []string
	// RequiresReady says that it also waits for them when it is started again, and
	// counts as ready only while they are.
	RequiresReady bool
	Readiness     Readiness
	StartTimeout  time.Duration
	RestartPolicy string // "never", "on-failure" or "always"
	Restart       Restart
	StopSignal    string // "SIGTERM"
	StopGrace     time.Duration
	// SandboxProfile names the profile under which it runs; empty for none.
	SandboxProfile string
	Limits         Limits
	Required       bool // the host has failed when it has
	OnDemand       bool
	IdleStop       time.Duration // how long without a request an on-demand one stays
	Survive        string        // "adopt" or "restart": what becomes of it when the host is killed
	Source         Range         // the component block

	view      pluginView
	dependsAt []hcl.Range // of each in DependsOn
	profileAt hcl.Range
}

// Readiness says how it is found out that a component is ready.
type Readiness struct {
	// Kind is "none" (ready once it is started), "exec", "http", "tcp", "grpc",
	// "log", "file" or "notify".
	Kind string
	// Exec is the command of an exec probe.
	Exec []string
	// Target is the URL, the address, the pattern or the path.
	Target   string
	Socket   string        // of http: the unix socket that is asked, absolute; empty: the URL's host
	Service  string        // of grpc; empty for the server as a whole
	Interval time.Duration // between two probes
	Timeout  time.Duration // of one
	Recheck  time.Duration // between two probes of what is ready; zero: none
}

// What becomes of a component whose host is killed.
const (
	SurviveAdopt   = "adopt"
	SurviveRestart = "restart"
)

// PluginDependency begins the name of a plugin in depends_on.
const PluginDependency = "plugin."

var (
	componentAttributes = []string{
		"command", "args", "dir", "env", "env_pass", "enabled", "depends_on", "requires_ready", "start_timeout",
		"sandbox_profile", "required", "activation", "idle_stop", "survive",
	}
	componentBlocks     = []string{"readiness", "restart", "stop", "limits"}
	readinessKinds      = []string{"exec", "http", "tcp", "grpc", "log", "file", "notify"}
	readinessAttributes = append(slices.Clone(readinessKinds), "service", "socket", "interval", "timeout", "recheck")
	stopAttributes      = []string{"signal", "grace"}
	restartPolicies     = []string{"never", "on-failure", "always"}
	stopSignals         = []string{"SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGKILL"}

	probeIntervalBounds = bounds{low: 5 * time.Millisecond, high: time.Hour}
	probeTimeoutBounds  = bounds{low: time.Millisecond, high: time.Hour}
	recheckBounds       = bounds{low: 100 * time.Millisecond, high: 24 * time.Hour, orZero: true}
	idleBounds          = bounds{low: 10 * time.Millisecond, high: 7 * 24 * time.Hour}
)

// Component returns the component with the given name, or nil.
func (c *Config) Component(name string) *Component {
	i, found := slices.BinarySearchFunc(c.Components, name, func(c Component, name string) int { return strings.Compare(c.Name, name) })
	if !found {
		return nil
	}
	return &c.Components[i]
}

func (l *loader) readComponents(blocks []*hclsyntax.Block, s *scope) []Component {
	var out []Component
	seen := make(map[string]Range)
	for _, b := range blocks {
		evaluated := l.evaluateBlock(b, s)
		if !l.wantLabels(evaluated, "name") {
			l.allow(evaluated, componentAttributes, componentBlocks)
			continue
		}
		c := readComponent(&l.reporter, evaluated, l.dir)
		if first, taken := seen[c.Name]; taken {
			l.duplicate(b, fmt.Sprintf("component %q", c.Name), first)
			continue
		}
		seen[c.Name] = c.Source
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b Component) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// readComponent reads a component block that has its one label.
func readComponent(r *reporter, b *block, dir string) Component {
	s := section{reporter: r, dir: dir}.within(b)
	r.nameLabel(b, 0)
	r.allow(b, componentAttributes, componentBlocks)
	s.require("command")
	s.hint("command", commandHint)
	c := Component{
		Name:           b.labels[0],
		Command:        s.program("command"),
		Args:           s.texts("args", nil),
		Dir:            s.path("dir", dir),
		Env:            s.environment("env"),
		EnvPass:        s.texts("env_pass", checkEnvironmentName),
		Enabled:        s.boolean("enabled", true),
		RequiresReady:  s.boolean("requires_ready", false),
		StartTimeout:   s.duration("start_timeout", 30*time.Second, startBounds),
		SandboxProfile: s.text("sandbox_profile", "", checkArgument),
		Required:       s.boolean("required", false),
		OnDemand:       s.choice("activation", "always", []string{"always", "on_demand"}) == "on_demand",
		IdleStop:       s.duration("idle_stop", 5*time.Minute, idleBounds),
		Survive:        s.choice("survive", SurviveRestart, []string{SurviveAdopt, SurviveRestart}),
		Source:         publicRange(b.header),
	}
	c.Readiness = readReadiness(s.within(r.single(b, "readiness")))
	restart := s.within(r.single(b, "restart"))
	c.RestartPolicy = restart.choice("policy", "on-failure", restartPolicies)
	c.Restart = readRestart(restart, "policy")
	stop := s.within(r.single(b, "stop"))
	if stop.kind != "" {
		r.allow(stop.block, stopAttributes, nil)
	}
	c.StopSignal = stop.signal("signal", "SIGTERM")
	c.StopGrace = stop.duration("grace", 10*time.Second, graceBounds)
	c.Limits = readLimits(s.within(r.single(b, "limits")))
	checkEnvPass(s, c.Env, c.EnvPass)
	c.readDependencies(s)
	if attr := s.body.attributes["sandbox_profile"]; attr != nil {
		c.profileAt = attr.expr.Range()
	}
	return c
}

// program reads a path, or a bare name that stands for what PATH finds.
func (s section) program(name string) string {
	if attr := s.body.attributes[name]; attr != nil && attr.value.IsKnown() && attr.value.Type() == cty.String && !attr.value.IsNull() {
		if text := attr.value.AsString(); text != "" && !strings.ContainsAny(text, "/\x00") {
			return text
		}
	}
	return s.path(name, "")
}

// signal reads the name of a signal, with SIG or without.
func (s section) signal(name, otherwise string) string {
	attr, value, ok := s.get(name, cty.String)
	if !ok {
		return otherwise
	}
	text := strings.ToUpper(value.AsString())
	if !strings.HasPrefix(text, "SIG") {
		text = "SIG" + text
	}
	if !slices.Contains(stopSignals, text) {
		s.errorf(attr.expr.Range(), "Invalid value", "%q is not a signal to stop by.%s It is one of %s.",
			value.AsString(), s.didYouMean(text, stopSignals), strings.Join(stopSignals, ", "))
		return otherwise
	}
	return text
}

// readDependencies reads depends_on, with the place of each.
func (c *Component) readDependencies(s section) {
	for at, text := range s.elements("depends_on", cty.List(cty.String)) {
		rng := partRange(s.body.attributes["depends_on"].expr, at)
		if slices.Contains(c.DependsOn, text) {
			s.errorf(rng, "Duplicate dependency", "%q is in depends_on more than once.", text)
			continue
		}
		c.DependsOn, c.dependsAt = append(c.DependsOn, text), append(c.dependsAt, rng)
	}
}

// readReadiness reads the block in which exactly one kind of probe is set.
func readReadiness(s section) Readiness {
	out := Readiness{
		Kind:     "none",
		Interval: s.duration("interval", 100*time.Millisecond, probeIntervalBounds),
		Timeout:  s.duration("timeout", time.Second, probeTimeoutBounds),
		Recheck:  s.duration("recheck", 10*time.Second, recheckBounds),
		Service:  s.text("service", "", checkArgument),
	}
	if s.kind == "" {
		return out
	}
	s.allow(s.block, readinessAttributes, nil)
	var set []string
	for _, kind := range readinessKinds {
		if _, ok := s.body.attributes[kind]; ok {
			set = append(set, kind)
		}
	}
	if len(set) != 1 {
		s.errorf(s.header, "Invalid readiness", "A readiness block has exactly one of %s; this one has %d.", strings.Join(readinessKinds, ", "), len(set))
		return out
	}
	out.Kind = set[0]
	switch out.Kind {
	case "exec":
		out.Exec = s.texts("exec", nil)
		if len(out.Exec) == 0 {
			s.errorf(s.body.attributes["exec"].expr.Range(), "Invalid value", "\"exec\" needs a command: a list of program and arguments.")
		}
	case "notify":
		if !s.boolean("notify", true) {
			s.errorf(s.body.attributes["notify"].expr.Range(), "Invalid value", "\"notify\" can only be true: leave the readiness block out for none.")
		}
	case "file":
		out.Target = s.path("file", "")
	default:
		out.Target = s.text(out.Kind, "", readinessChecks[out.Kind])
	}
	out.Socket = s.path("socket", "")
	for name, kind := range map[string]string{"service": "grpc", "socket": "http"} {
		if attr := s.body.attributes[name]; attr != nil && out.Kind != kind {
			s.errorf(attr.nameRange, "Unexpected attribute", "%q is for %s probes.", name, kind)
		}
	}
	return out
}

var readinessChecks = map[string]func(string) error{
	"http": checkProbeURL,
	"tcp":  checkProbeAddress,
	"grpc": checkProbeAddress,
	"log": func(pattern string) error {
		if pattern == "" {
			return errors.New("it needs a regular expression")
		}
		_, err := regexp.Compile(pattern)
		return err
	},
}

func checkProbeURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return errors.New("it must be a URL such as \"http://127.0.0.1:8080/healthz\"")
	}
	return nil
}

func checkProbeAddress(text string) error {
	if host, port, err := net.SplitHostPort(text); err != nil || host == "" || port == "" {
		return errors.New("it must be an address such as \"127.0.0.1:8080\"")
	}
	return nil
}

// checkComponents refuses dependencies that are not there, or that lead back.
func (l *loader) checkComponents(c *Config, components, plugins []*hclsyntax.Block) {
	var names []string
	for _, b := range components {
		names = append(names, b.Labels...)
	}
	for _, b := range plugins {
		if len(b.Labels) == 2 {
			names = append(names, PluginDependency+b.Labels[0]+"."+b.Labels[1])
		}
	}
	slices.Sort(names)
	for i := range c.Components {
		component := &c.Components[i]
		for j, name := range component.DependsOn {
			l.checkDependency(c, component, name, component.dependsAt[j], names)
		}
	}
	l.checkCycles(c)
}

func (l *loader) checkDependency(c *Config, of *Component, name string, at hcl.Range, names []string) {
	if !slices.Contains(names, name) {
		l.errorf(at, "Unknown dependency", "The component %q depends on %q, which there is not.%s A dependency is the name of a component, or \"plugin.KIND.NAME\".",
			of.Name, name, l.didYouMean(name, names))
		return
	}
	if !of.Enabled {
		return
	}
	other, plugin := c.Component(name), c.Plugin(strings.TrimPrefix(name, PluginDependency))
	if other != nil && !other.Enabled || other == nil && plugin != nil && !plugin.Enabled {
		l.errorf(at, "Disabled dependency", "The component %q depends on %q, which is disabled: enable it, or disable this one too.", of.Name, name)
	}
}

// checkCycles reports each cycle once, where its first component by name closes
// it.
func (l *loader) checkCycles(c *Config) {
	done := make(map[string]bool) // leads into no cycle that is not reported
	for i := range c.Components {
		var path []string
		l.walk(c, c.Components[i].Name, path, done)
	}
}

// walk follows the dependencies of name in depth; path is how it was come by.
func (l *loader) walk(c *Config, name string, path []string, done map[string]bool) {
	component := c.Component(name)
	if component == nil || done[name] {
		return
	}
	path = append(path, name)
	for j, next := range component.DependsOn {
		from := slices.Index(path, next)
		if from < 0 {
			l.walk(c, next, path, done)
			continue
		}
		var steps []string
		for _, step := range path[from:] {
			steps = append(steps, fmt.Sprintf("%s (%s)", step, c.Component(step).Source))
		}
		l.errorf(component.dependsAt[j], "Dependency cycle", "Each of these waits for the next, so that none could start: %s → %s.",
			strings.Join(steps, " → "), next)
	}
	done[name] = true
}

// checkComponentProfiles refuses components that name a profile that there is not.
func (l *loader) checkComponentProfiles(c *Config, blocks []*hclsyntax.Block) {
	for i := range c.Components {
		if p := &c.Components[i]; p.SandboxProfile != "" {
			p.view = l.profileView(c, p.SandboxProfile, p.profileAt, blocks)
		}
	}
}
