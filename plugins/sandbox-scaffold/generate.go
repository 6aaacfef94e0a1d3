package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync/atomic"

	"google.golang.org/grpc/codes"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
	"github.com/sop-host/sop/sdk/scaffold"
)

// schema of the plugin's `config { }` block.
var schema = sdk.Schema{Attributes: []sdk.Attribute{{
	Name: "scaffolds", Type: sdk.String,
	Description: "Absolute path of a directory with scaffolds of your own, one directory each; where names are equal, yours is taken.",
}}}

// generator is the sandbox.
type generator struct{ set atomic.Pointer[scaffold.Set] }

func newGenerator() *generator { return &generator{} }

// configure implements [sdk.ConfigureFunc].
func (g *generator) configure(_ context.Context, c *sdk.Config) error {
	var settings struct {
		Scaffolds string `json:"scaffolds"`
	}
	if err := c.Decode(&settings); err != nil {
		return &sdk.ConfigError{Summary: err.Error()}
	}
	if settings.Scaffolds != "" && !filepath.IsAbs(settings.Scaffolds) {
		return &sdk.ConfigError{Attribute: "scaffolds", Summary: "scaffolds must be an absolute path"}
	}
	set, err := scaffold.Load(settings.Scaffolds)
	if err != nil {
		return &sdk.ConfigError{Attribute: "scaffolds", Summary: "the scaffolds cannot be loaded", Detail: err.Error()}
	}
	g.set.Store(set)
	return nil
}

// scaffolds are those that were configured, or the bundled ones.
func (g *generator) scaffolds() (*scaffold.Set, error) {
	if set := g.set.Load(); set != nil {
		return set, nil
	}
	return scaffold.Bundled()
}

// Generate implements [sandbox.Sandbox]: it applies the scaffold that the task
// names, or the first that closes the gap, to the files in the work directory.
func (g *generator) Generate(ctx context.Context, req *pluginv1.GenerateRequest, send func(*pluginv1.GenerateResponse) error) (result *pluginv1.GenerateResult, err error) {
	t, err := readTask(req.GetTaskJson())
	if err != nil {
		return nil, err
	}
	if !filepath.IsAbs(req.GetWorkDir()) {
		return nil, sdk.Errorf(codes.InvalidArgument, "BAD_WORK_DIR", "the work directory %q is no absolute path", req.GetWorkDir())
	}
	if d := req.GetLimits().GetWallClock(); d.AsDuration() > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d.AsDuration())
		defer cancel()
	}
	set, err := g.scaffolds()
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(req.GetWorkDir())
	if err != nil {
		return nil, sdk.Errorf(codes.FailedPrecondition, "BAD_WORK_DIR", "open the work directory: %w", err)
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	r := &run{task: t, root: root, send: send, limit: req.GetLimits().GetDiskBytes()}
	return r.generate(ctx, set)
}

// run is one Generate.
type run struct {
	task  *task
	root  *os.Root
	send  func(*pluginv1.GenerateResponse) error
	limit int64 // bytes to write; 0 is none
	wrote int64
}

func (r *run) progress(phase, format string, args ...any) error {
	return r.send(&pluginv1.GenerateResponse{Event: &pluginv1.GenerateResponse_Progress{
		Progress: &pluginv1.GenerateProgress{Phase: phase, Message: fmt.Sprintf(format, args...)},
	}})
}

// generate closes the gaps of the task, one after the other. What some of them are
// refused for does not keep the others open.
func (r *run) generate(ctx context.Context, set *scaffold.Set) (*pluginv1.GenerateResult, error) {
	gaps := r.task.gaps()
	if len(gaps) == 1 {
		return r.close(ctx, set, gaps[0])
	}
	var said []string
	best := gaveUp("")
	closed := 0
	for _, g := range gaps {
		result, err := r.close(ctx, set, g)
		if err != nil {
			return nil, err
		}
		switch result.GetOutcome() {
		case pluginv1.GenerateResult_OUTCOME_CHANGED:
			closed++
			best = result
		case pluginv1.GenerateResult_OUTCOME_UNCHANGED:
			if closed == 0 {
				best = result
			}
		}
		said = append(said, fmt.Sprintf("%s:%d: %s", g.Path, g.Line, result.GetExplanation()))
	}
	best.Explanation = fmt.Sprintf("%d of %d gaps.\n%s", closed, len(gaps), strings.Join(said, "\n"))
	return best, nil
}

// close closes one gap.
func (r *run) close(ctx context.Context, set *scaffold.Set, gap scaffold.Gap) (*pluginv1.GenerateResult, error) {
	candidates, reason := r.candidates(set, gap)
	if len(candidates) == 0 {
		return gaveUp(reason), nil
	}
	if err := r.progress("reading", "listing the workspace"); err != nil {
		return nil, err
	}
	tree, err := scaffold.NewDirTree(r.root)
	if err != nil {
		return nil, err
	}
	var refusals []string
	for _, s := range candidates {
		if err := r.progress("applying", "scaffold %s %s to %s", s.Name, s.Version, gap.Path); err != nil {
			return nil, err
		}
		changes, err := s.Apply(ctx, &scaffold.Input{
			Tree: tree, Gap: gap, Parameters: r.task.Scaffold.Parameters, Previous: r.task.Previous,
		})
		var refusal *scaffold.RefusedError
		switch {
		case err == nil:
			return r.write(s, changes)
		case errors.Is(err, scaffold.ErrNothing):
			return unchanged(s, err), nil
		case errors.As(err, &refusal):
			refusals = append(refusals, s.Name+": "+refusal.Reason)
		case errors.Is(err, fs.ErrNotExist):
			refusals = append(refusals, s.Name+": "+err.Error())
		case ctx.Err() != nil:
			return nil, ctx.Err()
		default:
			return nil, sdk.Errorf(codes.FailedPrecondition, "SCAFFOLD_FAILED", "%w", err)
		}
	}
	return gaveUp(strings.Join(refusals, "; ")), nil
}

// candidates are the scaffolds to try; where there are none, it says why.
func (r *run) candidates(set *scaffold.Set, gap scaffold.Gap) (all []*scaffold.Scaffold, reason string) {
	name := r.task.Scaffold.Name
	if name == "" {
		return set.For(gap), fmt.Sprintf("no scaffold is for gaps of the rule %q and the type %s in %s", gap.Rule, gap.Type, gap.Path)
	}
	if s := set.Get(name); s != nil {
		return []*scaffold.Scaffold{s}, ""
	}
	return nil, fmt.Sprintf("there is no scaffold %q", name)
}

// write makes the changes in the work directory, all of which must be permitted.
func (r *run) write(s *scaffold.Scaffold, changes []scaffold.Change) (*pluginv1.GenerateResult, error) {
	var size int64
	var names []string
	for _, c := range changes {
		if !r.task.permits(c.Path) {
			return gaveUp(fmt.Sprintf("%s: %s is protected or out of the scope of the task", s.Name, c.Path)), nil
		}
		size += int64(len(c.Content))
		names = append(names, c.Path)
	}
	if r.limit > 0 && r.wrote+size > r.limit {
		return gaveUp(fmt.Sprintf("%s: the change has %d bytes, over the limit of %d", s.Name, r.wrote+size, r.limit)), nil
	}
	r.wrote += size
	for _, c := range changes {
		if err := r.progress("writing", "%s", c.Path); err != nil {
			return nil, err
		}
		if err := writeFile(r.root, c); err != nil {
			return nil, fmt.Errorf("write %s: %w", c.Path, err)
		}
	}
	return &pluginv1.GenerateResult{
		Outcome:     pluginv1.GenerateResult_OUTCOME_CHANGED,
		Explanation: fmt.Sprintf("%s Changed: %s.", s.Summary, strings.Join(names, ", ")),
		Properties:  properties(s),
	}, nil
}

const (
	newFileMode = 0o644 // a source file, which others may read
	newDirMode  = 0o755
)

// writeFile puts a change in place. A file that changed since it was read is
// left alone.
func writeFile(root *os.Root, c scaffold.Change) (err error) {
	flags := os.O_WRONLY | os.O_CREATE | os.O_EXCL
	if c.Before != nil {
		now, err := root.ReadFile(c.Path)
		if err != nil {
			return err
		}
		if !bytes.Equal(now, c.Before) {
			return errors.New("it has changed since it was read")
		}
		flags = os.O_WRONLY | os.O_TRUNC
	} else if dir := path.Dir(c.Path); dir != "." {
		if err := root.MkdirAll(dir, newDirMode); err != nil {
			return err
		}
	}
	f, err := root.OpenFile(c.Path, flags, newFileMode)
	if err != nil {
		return err
	}
	_, err = f.Write(c.Content)
	return errors.Join(err, f.Close())
}

// Exit codes of the generator contract.
const (
	exitNothing = 10
	exitPerson  = 11
)

func unchanged(s *scaffold.Scaffold, why error) *pluginv1.GenerateResult {
	return &pluginv1.GenerateResult{
		Outcome: pluginv1.GenerateResult_OUTCOME_UNCHANGED, Explanation: why.Error(), ExitCode: exitNothing, Properties: properties(s),
	}
}

func gaveUp(reason string) *pluginv1.GenerateResult {
	return &pluginv1.GenerateResult{Outcome: pluginv1.GenerateResult_OUTCOME_GAVE_UP, Explanation: reason, ExitCode: exitPerson}
}

func properties(s *scaffold.Scaffold) map[string]string {
	return map[string]string{"scaffold": s.Name, "scaffold_version": s.Version, "scaffold_sha256": scaffold.Hash(s.Source)}
}
