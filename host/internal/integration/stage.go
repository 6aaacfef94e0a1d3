package integration

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/sop-host/sop/host/internal/sandbox"
)

// atOnce bounds how many files are made durable at the same time.
const atOnce = 8

// A stager makes new entries ready in a record, as they will be in the tree:
// with the content that was approved and with the owner, the permissions and the
// attributes of what they replace. A new entry gets the owner that its directory
// gives.
type stager struct {
	root    tree
	record  record
	content sandbox.Content
	notes   []string
	written []*os.File // not yet durable
	made    map[string]*step
}

// stage makes them. After it sync is called, whatever came of it.
func (s *stager) stage(ctx context.Context, p *plan) error {
	s.made = make(map[string]*step)
	for i := range p.Steps {
		if err := ctx.Err(); err != nil {
			return err
		}
		one := &p.Steps[i]
		if err := s.one(one); err != nil {
			return named(one.Path, err)
		}
		if one.Op == sandbox.OpMkdir {
			s.made[one.Path] = one
		}
		crash("staged")
	}
	return nil
}

func (s *stager) one(c *step) error {
	switch {
	case c.move() == modes:
		return nil
	case c.move() == take:
		return s.old(c)
	case c.Op == sandbox.OpMkdir:
		if err := unix.Mkdirat(s.record.fd(), c.Slot, c.Mode); err != nil {
			return err
		}
		return s.directory(c)
	case c.Op == sandbox.OpSymlink:
		if err := unix.Symlinkat(c.Target, s.record.fd(), c.Slot); err != nil {
			return err
		}
		like, err := s.model(c)
		if err != nil {
			return err
		}
		return s.own(like, func(uid, gid int) error {
			return unix.Fchownat(s.record.fd(), c.Slot, uid, gid, unix.AT_SYMLINK_NOFOLLOW)
		})
	}
	return s.regular(c)
}

// old makes an old file durable as it is: nothing else would keep what was
// written to it just now.
func (s *stager) old(c *step) error {
	at, err := s.root.place(c.Path)
	if err != nil {
		return err
	}
	defer at.close() //nolint:errcheck // only read from
	stat, err := at.lstat()
	if err != nil || kind(stat.Mode&unix.S_IFMT) != regular {
		return err
	}
	file, err := at.open(at.name, unix.O_RDONLY)
	if err != nil {
		return err
	}
	s.written = append(s.written, file)
	return nil
}

func (s *stager) regular(c *step) error {
	from, err := s.content(c.Change)
	if err != nil {
		return fmt.Errorf("the new content: %w", err)
	}
	defer from.Close() //nolint:errcheck // only read from
	fd, err := unix.Openat(s.record.fd(), c.Slot, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	to := os.NewFile(uintptr(fd), c.Slot)
	s.written = append(s.written, to)
	crash("slot created")
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(to, sum), io.LimitReader(from, c.Size+1))
	if err != nil {
		return err
	}
	if n != c.Size || hex.EncodeToString(sum.Sum(nil)) != c.SHA256 {
		return refused("the new content is not the one that was approved")
	}
	like, err := s.model(c)
	if err != nil {
		return err
	}
	if err := s.own(like, to.Chown); err != nil {
		return err
	}
	if c.move() == swap {
		if err := s.old(c); err != nil {
			return err
		}
		if err := copyAttributes(s.written[len(s.written)-1], to); err != nil {
			return err
		}
	}
	return to.Chmod(os.FileMode(c.Mode))
}

// directory gives a new directory its owner and permissions.
func (s *stager) directory(c *step) error {
	dir, err := s.record.sub(c.Slot)
	if err != nil {
		return err
	}
	s.written = append(s.written, dir.file)
	like, err := s.model(c)
	if err != nil {
		return err
	}
	if err := s.own(like, dir.file.Chown); err != nil {
		return err
	}
	return unix.Fchmod(dir.fd(), c.Mode|like.mode&unix.S_ISGID)
}

// A model says whose a new entry is to be.
type model struct {
	uid, gid int
	mode     uint32
}

// model is what an entry replaces or else the directory that it comes into,
// which may be staged itself.
func (s *stager) model(c *step) (model, error) {
	if c.move() == swap {
		at, err := s.root.place(c.Path)
		if err != nil {
			return model{}, err
		}
		defer at.close() //nolint:errcheck // only read from
		stat, err := at.lstat()
		if stat.Mode&(unix.S_ISUID|unix.S_ISGID) != 0 {
			return model{}, refused("it has a setuid or setgid bit")
		}
		if stat.Nlink > 1 {
			s.notes = append(s.notes, fmt.Sprintf("%s had %d hard links; the others keep the old content", c.Path, stat.Nlink))
		}
		return model{int(stat.Uid), int(stat.Gid), stat.Mode}, err
	}
	dir := path.Dir(c.Path)
	var stat unix.Stat_t
	if above := s.made[dir]; above != nil {
		err := unix.Fstatat(s.record.fd(), above.Slot, &stat, unix.AT_SYMLINK_NOFOLLOW)
		return inherit(stat), err
	}
	at, err := s.root.sub(dir)
	if err != nil {
		return model{}, err
	}
	defer at.close() //nolint:errcheck // only read from
	err = unix.Fstat(at.fd(), &stat)
	return inherit(stat), err
}

// inherit is what a directory gives to what is made in it: the group where it
// says so; and its owner, if only root could have made it otherwise.
func inherit(dir unix.Stat_t) model {
	m := model{uid: os.Geteuid(), gid: os.Getegid(), mode: dir.Mode}
	if m.uid == 0 {
		m.uid, m.gid = int(dir.Uid), int(dir.Gid)
	}
	if dir.Mode&unix.S_ISGID != 0 {
		m.gid = int(dir.Gid)
	}
	return m
}

// own gives an entry its owner, where it is not that of this process already.
func (s *stager) own(like model, chown func(uid, gid int) error) error {
	if like.uid == os.Geteuid() && like.gid == os.Getegid() {
		return nil
	}
	if err := chown(like.uid, like.gid); err != nil {
		return refused("it belongs to %d:%d, and the user that runs sop cannot keep that: %w", like.uid, like.gid, err)
	}
	return nil
}

// sync makes what was staged durable, several files at once, and closes it.
func (s *stager) sync() error {
	failed := make([]error, len(s.written))
	var wg sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	for i, file := range s.written {
		wg.Go(func() {
			slots <- struct{}{}
			failed[i] = errors.Join(file.Sync(), file.Close())
			<-slots
		})
	}
	wg.Wait()
	s.written = nil
	crash("slots synced")
	return errors.Join(failed...)
}

// room says whether what is to be staged fits, before anything is written.
func room(at tree, p *plan) error {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(at.fd(), &fs); err != nil {
		return err
	}
	const margin = 256 << 10 // for the plan and the directories
	need, inodes := int64(margin), uint64(2)
	block := max(fs.Bsize, 1)
	for i := range p.Steps {
		if s := &p.Steps[i]; s.move() != modes && s.move() != take {
			need += (s.Size + block - 1) / block * block
			inodes++
		}
	}
	if free := int64(fs.Bavail) * block; free < need {
		return explain(fmt.Errorf("%d bytes are free and %d are needed: %w", free, need, unix.ENOSPC))
	}
	if fs.Files > 0 && fs.Ffree < inodes {
		return explain(fmt.Errorf("%d inodes are free and %d are needed: %w", fs.Ffree, inodes, unix.ENOSPC))
	}
	return nil
}
