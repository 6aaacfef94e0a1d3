package config

import (
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// A VerifyStep is one thing that has to succeed before a patch of a workspace
// is believed.
type VerifyStep struct {
	Name           string
	Runner         string            // command or go-test
	Command        []string          `json:",omitempty"` // of runner command
	Packages       []string          `json:",omitempty"` // of runner go-test; none is all
	Dir            string            `json:",omitempty"` // relative to the workspace
	Env            map[string]string `json:",omitempty"`
	Timeout        time.Duration
	NoCoverage     bool   `json:",omitempty"` // of runner go-test: coverage is not measured
	SandboxProfile string `json:",omitempty"` // "" for the one that verification has
	Source         Range

	profileRange hcl.Range
}

// Runners of verify steps.
const (
	VerifyCommand = "command"
	VerifyGoTest  = "go-test"
)

var (
	verifyAttributes = []string{"runner", "command", "packages", "dir", "env", "timeout", "coverage", "sandbox_profile"}
	verifyRunners    = []string{VerifyCommand, VerifyGoTest}
	verifyBounds     = bounds{low: time.Second, high: 24 * time.Hour}
)

const (
	defaultVerifyTimeout = 10 * time.Minute
	maxVerifySteps       = 32
)

// verifyNames are not for steps of one's own.
var verifyNames = []string{"gap", "protected"}

// readVerifySteps reads the verify blocks of a workspace, in order.
func (s section) readVerifySteps(b *block) []VerifyStep {
	var out []VerifyStep
	seen := make(map[string]Range)
	for _, nested := range b.body.ofKind("verify") {
		if !s.wantLabels(nested, "name") {
			continue
		}
		s.nameLabel(nested, 0)
		s.allow(nested, verifyAttributes, nil)
		step := s.within(nested).verifyStep(nested)
		if slices.Contains(verifyNames, step.Name) {
			s.errorf(nested.labelRanges[0], "Invalid name", "The step %q is there by itself.", step.Name)
			continue
		}
		if first, taken := seen[step.Name]; taken {
			s.errorf(nested.header, "Duplicate block", "There is a verify step %q already, at %s.", step.Name, first)
			continue
		}
		seen[step.Name] = step.Source
		if out = append(out, step); len(out) == maxVerifySteps+1 {
			s.errorf(nested.header, "Too many blocks", "A workspace has at most %d verify steps.", maxVerifySteps)
		}
	}
	return out
}

func (s section) verifyStep(b *block) VerifyStep {
	step := VerifyStep{
		Name: b.labels[0], Runner: s.choice("runner", VerifyCommand, verifyRunners), Command: s.texts("command", nil), Packages: s.texts("packages", checkPackage),
		Dir: s.checked("dir", checkInside), Timeout: s.duration("timeout", defaultVerifyTimeout, verifyBounds),
		NoCoverage:     !s.boolean("coverage", true),
		SandboxProfile: s.checked("sandbox_profile", checkArgument), Source: publicRange(b.header),
	}
	if attr := b.body.attributes["sandbox_profile"]; attr != nil {
		step.profileRange = attr.expr.Range()
	}
	if env := s.environment("env"); len(env) > 0 {
		step.Env = env
	}
	if attr := b.body.attributes["coverage"]; attr != nil && step.Runner != VerifyGoTest {
		s.errorf(attr.nameRange, "Unexpected attribute", "Coverage is measured by the runner %q only.", VerifyGoTest)
	}
	_, commanded := b.body.attributes["command"]
	switch {
	case step.Runner == VerifyCommand && !commanded:
		s.errorf(b.header, "Missing attribute", "A verify block needs a \"command\", or runner = \"go-test\".")
	case step.Runner == VerifyCommand && len(step.Command) == 0:
		s.errorf(b.body.attributes["command"].expr.Range(), "Missing value", "\"command\" must name a program.")
	case step.Runner != VerifyCommand && commanded:
		s.errorf(b.body.attributes["command"].nameRange, "Unexpected attribute", "The runner %q has a command of its own.", step.Runner)
	}
	return step
}

// sameSteps says whether two lists of steps come to the same.
func sameSteps(a, b []VerifyStep) bool {
	return slices.EqualFunc(a, b, func(a, b VerifyStep) bool {
		a.Source, a.profileRange = b.Source, b.profileRange
		return reflect.DeepEqual(a, b)
	})
}

func checkPackage(pattern string) error {
	if pattern == "" || strings.HasPrefix(pattern, "-") {
		return fmt.Errorf("%q is not a pattern of packages", pattern)
	}
	return nil
}

func checkInside(dir string) error {
	if !filepath.IsLocal(dir) {
		return fmt.Errorf("%q must be a directory of the workspace, relative to it", dir)
	}
	return nil
}

// checkProtect refuses a pattern of protected files that can match nothing.
func checkProtect(pattern string) error {
	if strings.HasPrefix(pattern, "/") || strings.HasSuffix(pattern, "/") || strings.HasPrefix(pattern, "!") {
		return fmt.Errorf("%q is not a pattern of files: it is relative to the workspace and names files; dir/** is all beneath dir", pattern)
	}
	return checkPattern(pattern)
}

// checkVerifyProfiles refuses steps that name a profile which is not there, or
// one in which nothing can be verified.
func (l *loader) checkVerifyProfiles(c *Config, blocks []*hclsyntax.Block) {
	names := []string{DefaultSandboxProfile}
	for _, b := range blocks {
		names = append(names, b.Labels...)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	for i := range c.Workspaces {
		for _, step := range c.Workspaces[i].Verify {
			if step.SandboxProfile == "" {
				continue
			}
			at := step.profileRange
			p := c.SandboxProfile(step.SandboxProfile)
			switch {
			case !slices.Contains(names, step.SandboxProfile):
				l.errorf(at, "Unknown sandbox profile", "There is no sandbox_profile %q.%s Add the block, or name one of %s.",
					step.SandboxProfile, l.didYouMean(step.SandboxProfile, names), strings.Join(names, ", "))
			case p != nil && p.Level != "strict" && p.Level != "ns-noproc":
				l.errorf(at, "Unfit sandbox profile", "Verification takes level strict or ns-noproc; %q has %s.", p.Name, p.Level)
			}
		}
	}
}
