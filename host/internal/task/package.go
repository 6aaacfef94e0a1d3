package task

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"unicode/utf8"

	"github.com/sop-host/sop/sdk/scaffold"
)

// Contract is the version of the generator contract that packages are of.
const Contract = "sop.generator/v1"

// Package is everything that a generator is told of a task. As JSON it conforms to
// docs/generator-task.schema.json.
type Package struct {
	Contract     string          `json:"contract"`
	ID           string          `json:"id"`
	Kind         Kind            `json:"kind"`
	Title        string          `json:"title"`
	Workspace    string          `json:"workspace"`
	Priority     int             `json:"priority"`
	Gap          PackagedGap     `json:"gap"`
	Gaps         []PackagedGap   `json:"gaps,omitempty"` // all, the first one too, where there are several
	Goal         string          `json:"goal"`
	Criteria     []string        `json:"success_criteria"`
	Requirements []string        `json:"requirements,omitempty"`
	Target       Target          `json:"target"`
	Scope        []string        `json:"scope,omitempty"`
	Protected    []string        `json:"protected,omitempty"`
	Verify       []VerifyStep    `json:"verify,omitempty"`
	Approval     Approval        `json:"approval"`
	Budget       *PackagedBudget `json:"budget,omitempty"`
	Seed         int64           `json:"seed"`
	Scaffold     *Scaffold       `json:"scaffold,omitempty"`
	Dependencies *Dependencies   `json:"dependencies,omitempty"`
	Attempt      Attempt         `json:"attempt"`
}

// PackagedGap is a gap as a generator sees it.
type PackagedGap struct {
	ID         string            `json:"id,omitempty"`
	Rule       string            `json:"rule,omitempty"`
	Type       string            `json:"type"`
	Severity   string            `json:"severity,omitempty"`
	Path       string            `json:"path,omitempty"`
	Line       int               `json:"line,omitempty"`
	Symbol     string            `json:"symbol,omitempty"`
	Message    string            `json:"message,omitempty"`
	Remedy     string            `json:"remedy,omitempty"`
	Evidence   string            `json:"evidence,omitempty"`
	Properties map[string]string `json:"properties,omitempty"`
}

// VerifyStep is a step by which a patch for the task will be verified. Without a
// Runner, no more is known than its name.
type VerifyStep struct {
	Name string `json:"name"`
	// Runner is "command", "go-test", "protected" or "gap".
	Runner         string   `json:"runner,omitempty"`
	Command        []string `json:"command,omitempty"`  // of "command"
	Packages       []string `json:"packages,omitempty"` // of "go-test"
	Dir            string   `json:"dir,omitempty"`
	TimeoutSeconds float64  `json:"timeout_seconds,omitempty"`
}

// PackagedBudget bounds an attempt.
type PackagedBudget struct {
	WallSeconds float64 `json:"wall_seconds,omitempty"`
	Money       float64 `json:"money,omitempty"`
	ModelTokens int64   `json:"model_tokens,omitempty"`
}

// Scaffold says which scaffold is to be applied; without a Name, the first of the
// candidates that does not refuse.
type Scaffold struct {
	Name       string         `json:"name,omitempty"`
	Parameters map[string]any `json:"parameters,omitempty"`
	// Candidates are the one that is named, or those that apply to the gaps, in the
	// order in which they are tried.
	Candidates []ScaffoldVersion `json:"candidates,omitempty"`
}

// ScaffoldVersion is a scaffold as it is now.
type ScaffoldVersion struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	SHA256  string `json:"sha256"` // of its whole file
}

// Dependencies are what had to be there before.
type Dependencies struct {
	Tasks     []string `json:"tasks,omitempty"`
	Protocols []string `json:"protocols,omitempty"`
}

// Attempt says which attempt it is, and what became of the last.
type Attempt struct {
	Number   int    `json:"number"`
	Most     int    `json:"most"`
	Feedback string `json:"feedback,omitempty"`
}

// Target is what is to change, as it is.
type Target struct {
	Path string `json:"path"`
	// Kind is "file", "directory" or "missing"; empty: it was not looked at.
	Kind   string `json:"kind,omitempty"`
	Size   int64  `json:"size,omitempty"`
	SHA256 string `json:"sha256,omitempty"`
	// Content of a file that is text and not larger than 256 KiB.
	Content string `json:"content,omitempty"`
}

// Trees opens workspaces.
type Trees interface {
	// Root opens a workspace; whoever asked closes it.
	Root(workspace string) (*os.Root, error)
}

// Package gathers what a generator is told of a task, as things stand now.
func (s *Service) Package(ctx context.Context, t *Task) (*Package, error) {
	gaps, err := s.store.Gaps(ctx, t.Gaps)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(gaps, compareGaps)
	route := s.Route(t)
	p := &Package{
		Contract: Contract, ID: t.ID, Kind: t.Kind, Title: t.Title, Workspace: t.Workspace, Priority: t.Priority(s.now()),
		Goal: goalOf(t, gaps), Criteria: criteriaOf(t, gaps), Requirements: requirementsOf(t, gaps),
		Scope: t.Spec.Scope, Protected: t.Spec.Protected, Approval: route.Approval, Seed: seedOf(t), Target: Target{Path: t.Target},
		Attempt: Attempt{Number: max(t.Attempts, 1), Most: t.MaxAttempts, Feedback: t.Feedback},
	}
	p.describe(t, gaps)
	p.follow(t, &route)
	p.scaffold(s.scaffolds(cmp.Or(t.Sandbox, route.Sandbox)), &route)
	if p.Verify, err = s.steps(t, &route); err != nil {
		return nil, err
	}
	if s.opt.Trees == nil || t.Workspace == "" {
		return p, nil
	}
	p.Target, err = s.look(t)
	return p, err
}

// describe takes over the gaps.
func (p *Package) describe(t *Task, gaps []Gap) {
	for i := range gaps {
		g := &gaps[i]
		p.Gaps = append(p.Gaps, PackagedGap{
			ID: g.ID, Rule: g.Rule, Type: g.Type, Severity: g.Severity, Path: g.Path, Line: g.Line, Symbol: g.Symbol,
			Message: g.Message, Remedy: g.Remedy, Evidence: g.Evidence,
		})
	}
	switch len(p.Gaps) {
	case 0:
		p.Gap = PackagedGap{Type: gapType(t.Type), Severity: t.Severity, Path: t.Target, Message: t.Title}
	case 1:
		p.Gap, p.Gaps = p.Gaps[0], nil
	default:
		p.Gap = p.Gaps[0]
	}
	p.Gap.Properties = t.Spec.Properties
}

// gapType is the type of gap that a task without gaps is for: the schema knows no
// others.
func gapType(of string) string {
	if of == TypeMaintenance {
		return "infrastructure"
	}
	if _, known := criteria[of]; known {
		return of
	}
	return "functionality_missing"
}

// follow takes over what the rule says.
func (p *Package) follow(t *Task, route *Route) {
	if b := route.Budget; b.Wall > 0 || b.Money > 0 || b.ModelTokens > 0 {
		p.Budget = &PackagedBudget{WallSeconds: b.Wall.Seconds(), Money: b.Money, ModelTokens: b.ModelTokens}
	}
	if len(t.DependsOn) > 0 || len(t.Needs) > 0 {
		p.Dependencies = &Dependencies{Tasks: t.DependsOn, Protocols: t.Needs}
	}
}

// steps are those by which a patch will be verified.
func (s *Service) steps(t *Task, route *Route) ([]VerifyStep, error) {
	if s.opt.Steps != nil && t.Workspace != "" {
		steps, err := s.opt.Steps(t.Workspace, route.Verify, len(t.Gaps) > 0)
		if err != nil {
			return nil, fmt.Errorf("find the verify steps for task %s: %w", t.ID, err)
		}
		return steps, nil
	}
	var named []VerifyStep
	for _, name := range route.Verify {
		named = append(named, VerifyStep{Name: name})
	}
	return named, nil
}

// scaffolds are those of a sandbox plugin.
func (s *Service) scaffolds(sandbox string) *scaffold.Set {
	if s.opt.Scaffolds == nil {
		return nil
	}
	return s.opt.Scaffolds(sandbox)
}

// scaffold says what applies of a set, which may be nil.
func (p *Package) scaffold(set *scaffold.Set, route *Route) {
	var apply []*scaffold.Scaffold
	switch {
	case set == nil:
	case route.Scaffold != "":
		if one := set.Get(route.Scaffold); one != nil {
			apply = append(apply, one)
		}
	case len(p.Gaps) > 0:
		for i := range p.Gaps {
			apply = append(apply, set.For(p.Gaps[i].forScaffolds())...)
		}
	default:
		apply = set.For(p.Gap.forScaffolds())
	}
	if route.Scaffold == "" && len(apply) == 0 {
		return
	}
	p.Scaffold = &Scaffold{Name: route.Scaffold, Parameters: route.Parameters}
	for _, a := range apply {
		v := ScaffoldVersion{Name: a.Name, Version: a.Version, SHA256: scaffold.Hash(a.Source)}
		if !slices.Contains(p.Scaffold.Candidates, v) {
			p.Scaffold.Candidates = append(p.Scaffold.Candidates, v)
		}
	}
}

func (g *PackagedGap) forScaffolds() scaffold.Gap {
	return scaffold.Gap{
		ID: g.ID, Rule: g.Rule, Type: g.Type, Path: g.Path, Line: g.Line, Symbol: g.Symbol, Message: g.Message, Properties: g.Properties,
	}
}

// criteria are what makes a task done, by the type of its gaps.
var criteria = map[string][]string{
	"functionality_missing":    {"The missing behaviour is there, and a test shows it."},
	"performance_degradation":  {"The measurement that showed it is back within its bound.", "No test fails that passed before."},
	"security_vulnerability":   {"What made it exploitable is gone, and not merely hidden from the detector.", "No new way around it is opened."},
	"code_quality":             {"The behaviour is the same as before.", "No test fails that passed before."},
	"documentation_incomplete": {"What is said is true of the code as it is.", "No code changes its behaviour."},
	"test_coverage":            {"The tests that are added pass, and fail when the code that they cover is broken."},
	"infrastructure":           {"The file is valid for the tool that reads it.", "Nothing that works today stops working."},
}

func criteriaOf(t *Task, gaps []Gap) []string {
	out := slices.Clone(t.Spec.Criteria)
	seen := make(map[string]bool)
	for i := range gaps {
		g := &gaps[i]
		if key := g.Rule + "\x00" + g.Path; !seen[key] {
			seen[key] = true
			out = append(out, fmt.Sprintf("The detector no longer reports %s in %s.", g.Rule, g.Path))
		}
	}
	out = append(out, criteria[t.Type]...)
	if len(out) == 0 {
		out = append(out, "What the goal says is so.")
	}
	return out
}

// goalOf says in a sentence or a few what is to be achieved.
func goalOf(t *Task, gaps []Gap) string {
	switch {
	case t.Spec.Goal != "":
		return t.Spec.Goal
	case len(gaps) == 0:
		return t.Title
	case len(gaps) == 1:
		return sentence(gaps[0].Message, gaps[0].Remedy)
	}
	return fmt.Sprintf("Close %d gaps of the rule %s in %s. %s", len(gaps), t.Rule, t.Target, sentence(gaps[0].Message, gaps[0].Remedy))
}

func sentence(message, remedy string) string {
	if remedy == "" || remedy == message {
		return message
	}
	return message + ": " + remedy
}

// requirementsOf is what the change must keep to.
func requirementsOf(t *Task, gaps []Gap) []string {
	out := slices.Clone(t.Spec.Requirements)
	var seen []string
	for i := range gaps {
		if r := gaps[i].Remedy; r != "" && !slices.Contains(seen, r) {
			seen = append(seen, r)
		}
	}
	return append(out, seen...)
}

// seedOf is a number for generators that want one: the same for every attempt at a
// task, so that a run can be repeated.
func seedOf(t *Task) int64 {
	sum := sha256.Sum256([]byte(t.ID))
	return int64(sum[0])<<16 | int64(sum[1])<<8 | int64(sum[2])
}

// mostContent is how many bytes of the target a package holds.
const mostContent = 256 << 10

// look reads the target. A link that leads out of the workspace is not followed.
func (s *Service) look(t *Task) (target Target, err error) {
	target = Target{Path: t.Target}
	root, err := s.opt.Trees.Root(t.Workspace)
	if err != nil {
		return target, fmt.Errorf("open the workspace of task %s: %w", t.ID, err)
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	info, err := root.Stat(t.Target)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		target.Kind = "missing"
		return target, nil
	case err != nil:
		return target, fmt.Errorf("look at the target of task %s: %w", t.ID, err)
	case info.IsDir():
		target.Kind = "directory"
		return target, nil
	case !info.Mode().IsRegular():
		return target, nil
	}
	return readTarget(root, target)
}

func readTarget(root *os.Root, target Target) (_ Target, err error) {
	f, err := root.Open(target.Path)
	if err != nil {
		return target, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	hash := sha256.New()
	kept := &keeper{most: mostContent}
	target.Kind = "file"
	if target.Size, err = io.Copy(io.MultiWriter(hash, kept), f); err != nil {
		return target, err
	}
	target.SHA256 = hex.EncodeToString(hash.Sum(nil))
	if target.Size <= mostContent && utf8.Valid(kept.bytes) {
		target.Content = string(kept.bytes)
	}
	return target, nil
}

// keeper keeps the beginning of what is written to it.
type keeper struct {
	bytes []byte
	most  int
}

// Write implements [io.Writer].
func (k *keeper) Write(p []byte) (int, error) {
	k.bytes = append(k.bytes, p[:min(len(p), k.most-len(k.bytes))]...)
	return len(p), nil
}
