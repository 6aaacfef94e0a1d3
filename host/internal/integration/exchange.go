package integration

import (
	"context"
	"errors"
	"sync"

	"golang.org/x/sys/unix"
)

// work is one record at work on one tree.
type work struct {
	root   tree
	record record
	out    map[string]unix.Stat_t // what came out, by slot, when it was checked
}

func (w *work) slot(s *step) place { return place{w.record.tree, s.Slot} }

// in makes all steps. On error those before it are made; the one that failed is
// not.
func (w *work) in(ctx context.Context, p *plan) error {
	w.out = make(map[string]unix.Stat_t)
	for i := range p.Steps {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := w.make(&p.Steps[i]); err != nil {
			return err
		}
		crash("exchanged and checked")
	}
	return nil
}

func (w *work) make(s *step) error {
	at, err := w.root.place(s.Path)
	if isGone(err) {
		return baseMoved(s.Path, entry{})
	}
	if err != nil {
		return named(s.Path, err)
	}
	switch s.move() {
	case swap:
		err = w.swap(s, at)
	case create:
		if err = w.slot(s).move(at); errors.Is(err, unix.EEXIST) {
			err = w.moved(s)
		}
	case take:
		err = w.take(s, at)
	default:
		err = w.chmod(s, at, s.OldMode, s.Mode)
	}
	if err = errors.Join(err, at.close()); err != nil {
		return named(s.Path, err)
	}
	return nil
}

// moved says what is at the place of a step instead of what it replaces.
func (w *work) moved(s *step) error {
	now, err := w.root.look(s.Path)
	return errors.Join(error(baseMoved(s.Path, now)), err)
}

func (w *work) swap(s *step, at place) error {
	slot := w.slot(s)
	if err := slot.exchange(at); isGone(err) {
		return baseMoved(s.Path, entry{})
	} else if err != nil {
		return err
	}
	crash("exchanged")
	why := w.checkOut(s, slot)
	if why == nil {
		return nil
	}
	return errors.Join(why, w.unswap(s, at)) // whoever edited it gets it back
}

func (w *work) take(s *step, at place) error {
	slot := w.slot(s)
	if err := at.move(slot); isGone(err) {
		return baseMoved(s.Path, entry{})
	} else if err != nil {
		return err
	}
	crash("taken")
	why := w.checkOut(s, slot)
	if why == nil {
		return nil
	}
	return errors.Join(why, w.untake(s, at))
}

// checkOut says whether what came out is what was to be replaced.
func (w *work) checkOut(s *step, slot place) error {
	out, err := slot.look()
	if err != nil {
		return err
	}
	if !out.isBefore(&s.Change) {
		return baseMoved(s.Path, out)
	}
	if out.kind == directory {
		if empty, err := slot.isEmpty(); err != nil || !empty {
			return errors.Join(err, error(baseMoved(s.Path, entry{kind: directory, hash: "with other files"})))
		}
	}
	w.out[s.Slot] = out.stat
	return nil
}

// late says whether something was written to what had come out, by somebody who
// had it open; then it is an edit, and must not stay in a slot.
func (w *work) late(p *plan) error {
	for i := range p.Steps {
		s := &p.Steps[i]
		was, known := w.out[s.Slot]
		if !known || s.Slot == "" {
			continue
		}
		now, err := w.slot(s).lstat()
		if err != nil {
			return err
		}
		if now.Mtim != was.Mtim || now.Ctim != was.Ctim || now.Size != was.Size {
			return baseMoved(s.Path, entry{kind: regular, hash: "being written"})
		}
	}
	return nil
}

// chmod changes permissions from what they should be; anything else is somebody's
// edit.
func (w *work) chmod(s *step, at place, from, to uint32) error {
	now, err := at.look()
	if err != nil {
		return err
	}
	if now.mode != from || now.kind != after(&s.Change).kind || now.hash != s.SHA256 {
		return baseMoved(s.Path, now)
	}
	return w.setMode(at, to)
}

// setMode sets permissions, and leaves the other bits of a directory.
func (w *work) setMode(at place, mode uint32) error {
	file, err := at.open(at.name, unix.O_RDONLY)
	if err != nil {
		return err
	}
	var stat unix.Stat_t
	if err = unix.Fstat(int(file.Fd()), &stat); err == nil {
		err = unix.Fchmod(int(file.Fd()), stat.Mode&0o7000|mode)
		crash("mode set")
	}
	return errors.Join(err, file.Sync(), file.Close())
}

// sync makes the names in all directories durable that a plan changes names in.
func (w *work) sync(p *plan) error {
	dirs := p.dirs()
	failed := make([]error, len(dirs)+1)
	var wg sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	for i, name := range dirs {
		wg.Go(func() {
			slots <- struct{}{}
			failed[i] = w.syncDir(name)
			<-slots
		})
	}
	failed[len(dirs)] = w.record.sync()
	wg.Wait()
	crash("directories synced")
	return errors.Join(failed...)
}

// syncDir forgives a directory that is not there: its own name is in one that is.
func (w *work) syncDir(name string) error {
	dir, err := w.root.sub(name)
	if isGone(err) || errors.Is(err, unix.ELOOP) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(dir.sync(), dir.close())
}
