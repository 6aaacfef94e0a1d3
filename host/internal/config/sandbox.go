package config

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// A SandboxProfile says how a kind of command is isolated and bounded.
type SandboxProfile struct {
	Name  string
	Level string // the least isolation that will do
	// Enforce says that a component that cannot have it is not started; otherwise it
	// is started without. Plugins and runs are refused in any case.
	Enforce  bool
	Limits   SandboxLimits
	ReadOnly []string       // absolute paths that are shown as well
	Caches   []SandboxCache `json:",omitempty"` // in the order of the file
	Network  SandboxNetwork `json:",omitzero"`
	Source   Range
}

// SandboxLimits bound one run; zero leaves the default of the sandbox.
type SandboxLimits struct {
	Wall, CPU               time.Duration
	Memory, Output, Disk    int64 // bytes
	Pids, OpenFiles, Inodes int
}

var (
	sandboxAttributes      = []string{"level", "read_only", "enforce"}
	sandboxBlocks          = []string{"limits", "cache", "network"}
	sandboxLevels          = []string{"strict", "ns-noproc", "landlock", "none"}
	sandboxLimitAttributes = []string{"wall", "cpu", "memory", "output", "disk", "pids", "open_files", "inodes"}

	sandboxTimeBounds = bounds{low: time.Second, high: 7 * 24 * time.Hour}
)

const (
	greatestSandboxSize  = 1 << 40
	greatestSandboxCount = 1 << 24
	greatestOutput       = 1 << 30
)

// SandboxProfile returns the profile with the given name, or nil.
func (c *Config) SandboxProfile(name string) *SandboxProfile {
	i, found := slices.BinarySearchFunc(c.SandboxProfiles, name, func(p SandboxProfile, name string) int {
		return strings.Compare(p.Name, name)
	})
	if !found {
		return nil
	}
	return &c.SandboxProfiles[i]
}

func (l *loader) readSandboxProfiles(blocks []*hclsyntax.Block, s *scope) []SandboxProfile {
	var out []SandboxProfile
	seen := make(map[string]Range)
	for _, b := range blocks {
		evaluated := l.evaluateBlock(b, s)
		if !l.wantLabels(evaluated, "name") {
			l.allow(evaluated, sandboxAttributes, sandboxBlocks)
			continue
		}
		p := readSandboxProfile(&l.reporter, evaluated, l.dir)
		if first, taken := seen[p.Name]; taken {
			l.duplicate(b, fmt.Sprintf("sandbox_profile %q", p.Name), first)
			continue
		}
		seen[p.Name] = p.Source
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b SandboxProfile) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// readSandboxProfile reads a sandbox_profile block that has its one label.
func readSandboxProfile(r *reporter, b *block, dir string) SandboxProfile {
	s := section{reporter: r, dir: dir}.within(b)
	r.nameLabel(b, 0)
	r.allow(b, sandboxAttributes, sandboxBlocks)
	limits := r.single(b, "limits")
	if limits != nil {
		r.allow(limits, sandboxLimitAttributes, nil)
	}
	return SandboxProfile{
		Name: b.labels[0], Level: s.choice("level", "strict", sandboxLevels),
		ReadOnly: s.texts("read_only", checkReadOnly), Enforce: s.boolean("enforce", true),
		Limits: readSandboxLimits(s.within(limits)), Caches: s.readCaches(b), Network: s.readNetwork(b), Source: publicRange(b.header),
	}
}

func readSandboxLimits(s section) SandboxLimits {
	return SandboxLimits{
		Wall: s.duration("wall", 0, sandboxTimeBounds), CPU: s.duration("cpu", 0, sandboxTimeBounds),
		Memory: s.size("memory", 0, greatestSandboxSize), Disk: s.size("disk", 0, greatestSandboxSize),
		Output:    s.size("output", 0, greatestOutput),
		Pids:      s.integer("pids", 0, 1, greatestSandboxCount),
		OpenFiles: s.integer("open_files", 0, 16, greatestSandboxCount),
		Inodes:    s.integer("inodes", 0, 64, greatestSandboxCount),
	}
}

// DefaultSandboxProfile is there without a block; a block of its name replaces
// it.
const DefaultSandboxProfile = "default"

// A pluginView is what a plugin with a profile is isolated by. Zero without one.
type pluginView struct {
	profile    SandboxProfile // without Name and Source
	workspaces []string
}

// viewUnder returns what isolates a plugin that names a profile.
func (c *Config) viewUnder(name string) pluginView {
	var v pluginView
	if p := c.SandboxProfile(name); p != nil {
		v.profile = *p
		v.profile.Name, v.profile.Source = "", Range{}
	}
	for i := range c.Workspaces {
		v.workspaces = append(v.workspaces, c.Workspaces[i].Path)
	}
	return v
}

// checkPluginProfiles refuses plugins that name a profile that is not written
// down anywhere, wrongly or well.
func (l *loader) checkPluginProfiles(c *Config, blocks []*hclsyntax.Block) {
	for i := range c.Plugins {
		if p := &c.Plugins[i]; p.SandboxProfile != "" {
			p.view = l.profileView(c, p.SandboxProfile, p.block.body.attributes["sandbox_profile"].expr.Range(), blocks)
		}
	}
}

// profileView returns what isolates who names a profile, and reports a name that
// there is not.
func (l *loader) profileView(c *Config, name string, at hcl.Range, blocks []*hclsyntax.Block) pluginView {
	names := []string{DefaultSandboxProfile}
	for _, b := range blocks {
		names = append(names, b.Labels...)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	if slices.Contains(names, name) {
		return c.viewUnder(name)
	}
	l.errorf(at, "Unknown sandbox profile", "There is no sandbox_profile %q.%s Add the block, or name one of %s.",
		name, l.didYouMean(name, names), strings.Join(names, ", "))
	return pluginView{}
}

// checkReadOnly refuses paths that can mean something else elsewhere.
func checkReadOnly(path string) error {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path {
		return errors.New("it must be an absolute path without .. or a slash at its end")
	}
	return nil
}
