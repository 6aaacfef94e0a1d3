package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/secret"
	"github.com/sop-host/sop/sdk"
)

// Root is the built-in system agent. Its key lies in a file of the host's user.
const Root = "root"

const regenerate = "make a new one with: sop agent rotate root"

// EnsureRoot makes the agent root and the file with its key, where neither is
// there. It never overwrites the file. The second error is what is wrong with
// the file while the host can go on.
func (s *Service) EnsureRoot(ctx context.Context) (wrong, err error) {
	if s.opt.RootFile == "" {
		return nil, nil
	}
	a, err := s.store.Get(ctx, Root)
	switch {
	case err == nil:
		return s.CheckRoot(ctx, a), nil
	case !errors.Is(err, ErrNotFound):
		return nil, err
	}
	return s.enrollRoot(ctx)
}

// enrollRoot writes the file first: a host that is killed in between finds it
// and enrolls the key that it holds.
func (s *Service) enrollRoot(ctx context.Context) (wrong, err error) {
	k, wrong := readRoot(s.opt.RootFile)
	if errors.Is(wrong, os.ErrNotExist) {
		if k, err = secret.New(Prefix); err == nil {
			err = writeRoot(s.opt.RootFile, k, os.Link)
		}
		if err != nil {
			return nil, fmt.Errorf("write root credential: %w", err)
		}
	} else if wrong != nil {
		return rootProblem(s.opt.RootFile, wrong, "move it away and start the host again"), nil
	}
	_, err = s.update(ctx, func(tx Tx, now time.Time) (*Agent, Change, error) {
		spec := Spec{Name: Root, Trust: System, By: "host", Why: "built in"}
		a, change := spec.enroll(s.kept(k, now), now)
		return a, change, nil
	})
	return nil, err
}

// CheckRoot returns what is wrong with the file of root's key; a may be nil.
func (s *Service) CheckRoot(ctx context.Context, a *Agent) error {
	if s.opt.RootFile == "" {
		return nil
	}
	if a == nil {
		var err error
		if a, err = s.store.Get(ctx, Root); err != nil {
			return rootProblem(s.opt.RootFile, err, "start the host again, or "+regenerate)
		}
	}
	k, err := readRoot(s.opt.RootFile)
	if errors.Is(err, os.ErrNotExist) {
		return rootProblem(s.opt.RootFile, errors.New("the file is gone"), regenerate)
	}
	if err != nil {
		return rootProblem(s.opt.RootFile, err, "give it mode 0600 again; if others could have read it, "+regenerate)
	}
	kept := a.key(k.Accessor())
	if kept == nil || !s.opt.Key.Proves(purpose, k, kept.Hash) || kept.ended(s.opt.Now()) {
		return rootProblem(s.opt.RootFile, errors.New("the database knows another key of root"), "restore the file that belongs to the database, or "+regenerate)
	}
	return nil
}

func rootProblem(path string, why error, remedy string) error {
	return sdk.Errorf(codes.FailedPrecondition, "ROOT_CREDENTIAL", "root credential %s: %w", path, why).WithRemedy("%s", remedy)
}

// rotateRoot replaces the key and its file. The new file is on disk before the
// change is, and in its place after.
func (s *Service) rotateRoot(ctx context.Context, r Rotation) (*Agent, error) {
	if s.opt.RootFile == "" {
		return nil, NotFound(Root)
	}
	if r.TTL != nil {
		return nil, invalid("ttl", "root does not expire").WithRemedy("leave the life out")
	}
	k, kept, err := s.newKey(s.opt.Now().UTC())
	if err != nil {
		return nil, err
	}
	var a *Agent
	err = writeRoot(s.opt.RootFile, k, func(fresh, path string) error {
		if a, err = s.rotate(ctx, r, kept); err != nil {
			return err
		}
		return os.Rename(fresh, path)
	})
	if a != nil && err != nil {
		return nil, rootProblem(s.opt.RootFile, err, "the old key has ended and the new one could not be written; "+regenerate)
	}
	return a, err
}

// writeRoot writes the key to a file of its own, which place puts where it
// belongs.
func writeRoot(path string, k Secret, place func(fresh, path string) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".root-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if rmErr := os.Remove(f.Name()); !errors.Is(rmErr, os.ErrNotExist) {
			err = errors.Join(err, rmErr)
		}
	}()
	_, err = f.WriteString(k.Reveal() + "\n")
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := place(f.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// readRoot reads the key in a file that is of the host's user alone.
func readRoot(path string) (k Secret, err error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return Secret{}, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return Secret{}, err
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o077 != 0 {
		return Secret{}, fmt.Errorf("its mode is %v: it must be a file of the host's user alone", info.Mode())
	}
	text, err := io.ReadAll(io.LimitReader(f, 1024))
	if err != nil {
		return Secret{}, err
	}
	k, ok := secret.Parse(Prefix, strings.TrimSpace(string(text)))
	if !ok {
		return Secret{}, errors.New("it does not hold a key") // and what it holds is not told
	}
	return k, nil
}
