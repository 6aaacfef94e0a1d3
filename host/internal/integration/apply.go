package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/sop-host/sop/host/internal/sandbox"
	"github.com/sop-host/sop/host/internal/scratch"
)

// applies has git apply the text of a patch file to copies of the files that it
// changes: what comes out must be what was approved. Without git it says so in a
// note.
func (i *Integrator) applies(ctx context.Context, root tree, p *plan, text []byte) (note string, err error) {
	program := i.opt.Git
	if program == "" {
		if program, err = exec.LookPath("git"); err != nil {
			return "the patch file was not tried out: there is no git", nil
		}
	}
	place, err := scratch.New("apply")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, place.Close()) }()
	dir := place.Join("tree")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", err
	}
	for n := range p.Steps {
		if err := copyOld(root, dir, &p.Steps[n]); err != nil {
			return "", named(p.Steps[n].Path, err)
		}
	}
	if err := apply(ctx, program, dir, text); err != nil {
		return "", err
	}
	return "", sameOutcome(dir, p)
}

// copyOld copies what a step replaces, if that is a file or a link, and makes the
// directory that it is in.
func copyOld(root tree, dir string, s *step) error {
	to := filepath.Join(dir, filepath.FromSlash(s.Path))
	old := before(&s.Change)
	if s.OldDir {
		return os.MkdirAll(to, 0o700)
	}
	if old.kind == missing {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	now, err := root.look(s.Path)
	if err != nil {
		return err
	}
	from, err := root.old(s.Change)
	if err != nil {
		return err
	}
	content, err := io.ReadAll(from)
	if err = errors.Join(err, from.Close()); err != nil {
		return err
	}
	if now.kind == link {
		return os.Symlink(string(content), to)
	}
	return os.WriteFile(to, content, os.FileMode(0o600|s.OldMode&0o100))
}

// apply runs `git apply` in a directory that is in no repository.
func apply(ctx context.Context, program, dir string, text []byte) error {
	ctx, cancel := context.WithTimeout(ctx, gitTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, append(append([]string{}, hardened...), "apply", "--whitespace=nowarn", "-")...)
	cmd.Dir, cmd.Stdin = dir, bytes.NewReader(text)
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=" + os.DevNull, "HOME=/nonexistent",
		"GIT_CEILING_DIRECTORIES=" + filepath.Dir(dir),
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return refused("the patch file does not apply to what it is for: %w: %.300s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	return nil
}

// sameOutcome compares files and links with what the plan leaves. git knows of
// permissions whether a file can be run, and no empty directories.
func sameOutcome(dir string, p *plan) error {
	tree, err := openTree(dir)
	if err != nil {
		return err
	}
	defer tree.close() //nolint:errcheck // only read from
	want := make(map[string]entry)
	for n := range p.Steps {
		s := &p.Steps[n]
		if !s.OldDir && s.Op != sandbox.OpMkdir {
			want[s.Path] = after(&s.Change)
		}
	}
	for name, e := range want {
		now, err := tree.lookPast(name)
		if err != nil {
			return named(name, err)
		}
		if e.kind == missing && now.kind == directory { // another step's
			continue
		}
		if now.kind != e.kind || now.hash != e.hash || e.kind == regular && now.mode&0o100 != e.mode&0o100 {
			return refused("%s: the patch file leaves %s, and not what was approved", name, fmt.Sprint(now))
		}
	}
	return nil
}
