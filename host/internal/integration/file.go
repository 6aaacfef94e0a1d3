package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/sop-host/sop/host/internal/patchfile"
	"github.com/sop-host/sop/host/internal/sandbox"
)

// toFile writes the changes as a file that `git am` and `git apply` take. The
// workspace must be as they were worked out against, and is not touched.
func (i *Integrator) toFile(ctx context.Context, req *Request, p *plan) (*Result, error) {
	if !filepath.IsAbs(req.Dir) {
		return nil, refused("the directory %q for patch files is not absolute", req.Dir)
	}
	release, err := i.turn(ctx, req.Root)
	if err != nil {
		return nil, err
	}
	defer release()
	root, err := openTree(req.Root)
	if err != nil {
		return nil, away(err)
	}
	defer root.close() //nolint:errcheck // only read from
	if err := checkOld(root, p); err != nil {
		return nil, err
	}
	text, err := i.patchText(req, root)
	if err != nil {
		return nil, err
	}
	note, err := i.applies(ctx, root, p, text)
	if err != nil {
		return nil, err
	}
	if req.Check != nil {
		if err := req.Check(ctx, ""); err != nil {
			return nil, err
		}
	}
	if err := os.MkdirAll(req.Dir, 0o700); err != nil {
		return nil, err
	}
	dir, err := openTree(req.Dir)
	if err != nil {
		return nil, err
	}
	result := &Result{ID: req.ID, Mode: PatchFile, Paths: p.paths(), File: filepath.Join(req.Dir, req.ID+".patch")}
	if note != "" {
		result.Notes = append(result.Notes, note)
	}
	return result, errors.Join(writeDurably(req.Dir, req.ID+".patch", text), dir.sync(), dir.close())
}

func writeDurably(dir, name string, text []byte) error {
	file, err := os.CreateTemp(dir, ".sop-*")
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	if err = errors.Join(err, file.Sync(), file.Close()); err == nil {
		err = os.Rename(file.Name(), filepath.Join(dir, name))
	}
	if err != nil {
		return errors.Join(err, os.Remove(file.Name()))
	}
	return nil
}

// patchText is a message as git mails it.
func (i *Integrator) patchText(req *Request, root tree) ([]byte, error) {
	author := req.Author
	if author == "" {
		author = DefaultAuthor
	}
	if _, err := authorEnv(author); err != nil {
		return nil, err
	}
	subject, body, _ := strings.Cut(req.message(), "\n")
	var b bytes.Buffer
	fmt.Fprintf(&b, "From %s Mon Sep 17 00:00:00 2001\nFrom: %s\nDate: %s\nSubject: [PATCH] %s\n\n%s---\n\n",
		strings.Repeat("0", 40), author, i.opt.Now().Format("Mon, 2 Jan 2006 15:04:05 -0700"), subject, strings.TrimPrefix(body, "\n"))
	err := patchfile.Write(&b, req.Set, root.old, req.checked, patchfile.Options{})
	b.WriteString("-- \nSOP\n")
	return b.Bytes(), err
}

// old opens what a change replaces.
func (t tree) old(c sandbox.Change) (io.ReadCloser, error) {
	at, err := t.place(c.Path)
	if err != nil {
		return nil, err
	}
	defer at.close() //nolint:errcheck // only read from
	now, err := at.look()
	if err != nil {
		return nil, err
	}
	if now.kind == link {
		target, err := at.readlink()
		return io.NopCloser(strings.NewReader(target)), err
	}
	return at.open(at.name, os.O_RDONLY)
}

// checked opens new content that is what was approved.
func (r *Request) checked(c sandbox.Change) (io.ReadCloser, error) {
	from, err := r.Content(c)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(from, c.Size+1))
	if err = errors.Join(err, from.Close()); err != nil {
		return nil, err
	}
	if hashOf(string(text)) != c.SHA256 {
		return nil, refused("%s: the new content is not the one that was approved", c.Path)
	}
	return io.NopCloser(bytes.NewReader(text)), nil
}
