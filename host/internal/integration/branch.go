package integration

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/sandbox"
	"github.com/sop-host/sop/host/internal/scratch"
	"github.com/sop-host/sop/sdk"
)

// DefaultAuthor is who commits are by, unless it is said.
const DefaultAuthor = "SOP <sop@localhost>"

// trailerPatch is the trailer by which a commit is found again.
const trailerPatch = "Sop-Patch"

// toBranch makes a commit on a branch. Neither work tree nor index is looked at
// or touched: what counts is what the commit before it holds. The commit is looked
// at before the branch has it; the branch moves at once and last, so that a crash,
// and a check that fails, leave nothing but objects that nobody refers to.
func (i *Integrator) toBranch(ctx context.Context, req *Request, p *plan) (*Result, error) {
	release, err := i.turn(ctx, req.Root)
	if err != nil {
		return nil, err
	}
	defer release()
	repo, err := i.repositoryOf(req.Root)
	if err != nil {
		return nil, err
	}
	if repo == nil {
		return nil, refused("there is no git repository to commit to")
	}
	result := &Result{ID: req.ID, Mode: Branch, Branch: req.Branch, Paths: p.paths()}
	ref := "refs/heads/" + req.Branch
	if _, err := repo.line(ctx, "check-ref-format", ref); err != nil {
		return nil, refused("%q cannot name a branch", req.Branch)
	}
	tip, err := repo.commit(ctx, ref)
	if err != nil {
		return nil, gitFailed(err)
	}
	parent := tip
	if tip != "" {
		if result.Commit, err = repo.find(ctx, tip, req.ID); err != nil || result.Commit != "" {
			result.Again = true
			return result, err
		}
	} else if parent, err = repo.commit(ctx, "HEAD"); err != nil || parent == "" {
		return nil, gitFailed(errors.Join(err, errors.New("there is no commit yet")))
	}
	if result.Commit, err = repo.build(ctx, req, p, parent); err != nil {
		return nil, err
	}
	if req.Check != nil {
		if err := repo.unpacked(ctx, result.Commit, func(tree string) error { return req.Check(ctx, tree) }); err != nil {
			return nil, err
		}
	}
	if _, err := repo.line(ctx, "update-ref", "-m", "sop: patch "+req.ID, ref, result.Commit, orNone(tip)); err != nil {
		return nil, gitFailed(err)
	}
	return result, nil
}

// orNone is git's word for a ref that must not be there.
func orNone(commit string) string {
	if commit == "" {
		return strings.Repeat("0", 40)
	}
	return commit
}

// commit returns what a ref names; "" where there is none.
func (r *repository) commit(ctx context.Context, ref string) (string, error) {
	hash, err := r.line(ctx, "rev-parse", "--verify", "--quiet", "--end-of-options", ref+"^{commit}")
	if exited(err) {
		return "", nil
	}
	return hash, err
}

// find looks for the commit of a patch on a branch.
func (r *repository) find(ctx context.Context, tip, id string) (string, error) {
	out, err := r.line(ctx, "log", "-1", "--format=%H", "--fixed-strings", "--grep="+trailerPatch+": "+id, tip)
	if err != nil {
		return "", gitFailed(err)
	}
	return out, nil
}

// build makes the commit.
func (r *repository) build(ctx context.Context, req *Request, p *plan, parent string) (commit string, err error) {
	place, err := scratch.New("index")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, place.Close()) }()
	dir := place.Path()
	if err := r.chown(dir); err != nil {
		return "", err
	}
	index := []string{"GIT_INDEX_FILE=" + filepath.Join(dir, "index")}
	var lines bytes.Buffer
	for n := range p.Steps {
		if err := r.stage(ctx, &lines, req, &p.Steps[n], parent); err != nil {
			return "", err
		}
	}
	if _, err := r.run(ctx, nil, index, "read-tree", parent); err != nil {
		return "", gitFailed(err)
	}
	if _, err := r.run(ctx, &lines, index, "update-index", "-z", "--index-info"); err != nil {
		return "", gitFailed(err)
	}
	tree, err := r.run(ctx, nil, index, "write-tree")
	if err != nil {
		return "", gitFailed(err)
	}
	author, err := authorEnv(req.Author)
	if err != nil {
		return "", err
	}
	out, err := r.run(ctx, strings.NewReader(req.message()), author, "commit-tree", "-p", parent, "-F", "-", strings.TrimSpace(string(tree)))
	if err != nil {
		return "", gitFailed(err)
	}
	return strings.TrimSpace(string(out)), nil
}

// stage checks one step against the commit before it and writes the line for the
// index. git knows no directories, and of permissions one bit.
func (r *repository) stage(ctx context.Context, lines *bytes.Buffer, req *Request, s *step, parent string) error {
	if s.OldDir || s.Op == sandbox.OpMkdir {
		return nil
	}
	name := r.prefix + s.Path
	was, err := r.hash(ctx, parent, name)
	if err != nil {
		return err
	}
	if was != s.OldSHA256 {
		return baseMoved(s.Path, entry{kind: regular, hash: was + ", in the last commit"})
	}
	mode, object := "0", strings.Repeat("0", 40)
	switch s.Op {
	case sandbox.OpDelete:
	case sandbox.OpSymlink:
		mode = "120000"
		object, err = r.write(ctx, strings.NewReader(s.Target), "--no-filters")
	case sandbox.OpChmod:
		mode = fileMode(s.Mode)
		object, err = r.line(ctx, "rev-parse", "--verify", "--end-of-options", parent+":"+name)
	default:
		mode = fileMode(s.Mode)
		object, err = r.writeContent(ctx, req, s, name)
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(lines, "%s %s\t%s\x00", mode, object, name)
	return nil
}

func fileMode(mode uint32) string {
	if mode&0o100 != 0 {
		return "100755"
	}
	return "100644"
}

// hash returns the hash of a file as it would be in a work tree, or "" where the
// commit has none.
func (r *repository) hash(ctx context.Context, commit, name string) (string, error) {
	listed, err := r.line(ctx, "ls-tree", "-z", commit, "--", name)
	if err != nil {
		return "", gitFailed(err)
	}
	if listed == "" {
		return "", nil
	}
	args := []string{"cat-file", "--filters", commit + ":" + name}
	if strings.HasPrefix(listed, "120000 ") {
		args = []string{"cat-file", "blob", commit + ":" + name}
	}
	content, err := r.run(ctx, nil, nil, args...)
	if err != nil {
		return "", gitFailed(err)
	}
	return hashOf(string(content)), nil
}

func (r *repository) writeContent(ctx context.Context, req *Request, s *step, name string) (string, error) {
	from, err := req.Content(s.Change)
	if err != nil {
		return "", fmt.Errorf("%s: the new content: %w", s.Path, err)
	}
	sum := sha256.New()
	object, err := r.write(ctx, io.TeeReader(from, sum), "--path="+name)
	if err = errors.Join(err, from.Close()); err != nil {
		return "", err
	}
	if hex.EncodeToString(sum.Sum(nil)) != s.SHA256 {
		return "", refused("%s: the new content is not the one that was approved", s.Path)
	}
	return object, nil
}

func (r *repository) write(ctx context.Context, from io.Reader, how string) (string, error) {
	out, err := r.run(ctx, from, nil, "hash-object", "-w", "--stdin", how)
	if err != nil {
		return "", gitFailed(err)
	}
	return strings.TrimSpace(string(out)), nil
}

func authorEnv(author string) ([]string, error) {
	if author == "" {
		author = DefaultAuthor
	}
	name, mail, ok := strings.Cut(author, " <")
	mail, closed := strings.CutSuffix(mail, ">")
	if !ok || !closed || name == "" || mail == "" || strings.ContainsAny(author, "\n\x00") {
		return nil, refused("%q is no author: write `Name <mail>`", author)
	}
	return []string{"GIT_AUTHOR_NAME=" + name, "GIT_AUTHOR_EMAIL=" + mail, "GIT_COMMITTER_NAME=" + name, "GIT_COMMITTER_EMAIL=" + mail}, nil
}

// message is the text of a commit, with its trailers.
func (r *Request) message() string {
	var b strings.Builder
	text := strings.TrimSpace(r.Message)
	if text == "" {
		text = "SOP patch " + r.ID
	}
	b.WriteString(text + "\n\n")
	named := false
	for _, t := range r.Trailers {
		named = named || t.Key == trailerPatch
		fmt.Fprintf(&b, "%s: %s\n", oneLine(t.Key), oneLine(t.Value))
	}
	if !named {
		fmt.Fprintf(&b, "%s: %s\n", trailerPatch, r.ID)
	}
	return b.String()
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// offBranch takes a commit back from its branch, if nothing has come after it.
func (i *Integrator) offBranch(ctx context.Context, req *RollbackRequest) (*Result, error) {
	release, err := i.turn(ctx, req.Root)
	if err != nil {
		return nil, err
	}
	defer release()
	repo, err := i.repositoryOf(req.Root)
	if err != nil {
		return nil, err
	}
	if repo == nil {
		return nil, refused("there is no git repository")
	}
	result := &Result{ID: req.ID, Mode: Branch, Branch: req.Branch}
	ref := "refs/heads/" + req.Branch
	tip, err := repo.commit(ctx, ref)
	if err != nil {
		return nil, gitFailed(err)
	}
	if tip == "" {
		result.Again = true
		return result, nil
	}
	if result.Commit, err = repo.find(ctx, tip, req.ID); err != nil {
		return nil, err
	}
	switch result.Commit {
	case "":
		result.Again = true
		return result, nil
	case tip:
		if req.CheckOnly {
			return result, nil
		}
		return result, repo.step(ctx, ref, tip)
	}
	return nil, sdk.Errorf(codes.FailedPrecondition, ReasonFilesChanged, "branch %s has gone on since commit %.12s", req.Branch, result.Commit).
		WithRemedy("take it back with: git revert %.12s", result.Commit)
}

// step takes a branch back by one commit; where HEAD has that too, there is
// nothing left that the branch would tell, and it goes.
func (r *repository) step(ctx context.Context, ref, tip string) error {
	parent, err := r.commit(ctx, tip+"^")
	if err != nil {
		return gitFailed(err)
	}
	args := []string{"update-ref", "-m", "sop: rollback", ref, parent, tip}
	if _, err := r.line(ctx, "merge-base", "--is-ancestor", parent, "HEAD"); err == nil && !r.isHead(ctx, ref) {
		args = []string{"update-ref", "-d", ref, tip}
	}
	if _, err := r.line(ctx, args...); err != nil {
		return gitFailed(err)
	}
	return nil
}

func (r *repository) isHead(ctx context.Context, ref string) bool {
	head, err := r.line(ctx, "symbolic-ref", "--quiet", "HEAD")
	return err == nil && head == ref
}
