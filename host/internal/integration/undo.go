package integration

import (
	"errors"
	"fmt"
	"path"

	"golang.org/x/sys/unix"
)

// A status is what has become of a step, judged by what is there.
type status int

const (
	waiting status = iota // not made, or undone
	made
	unclear
)

// A judge goes through a plan backwards, as undoing does, and keeps in mind what
// will be there when its turn comes.
type judge struct {
	w         *work
	freed     map[string]bool // by what is undone before
	restored  map[string]bool // directories
	conflicts []Conflict
	edited    []Conflict // by somebody, which is no reason not to undo the rest
	notes     []string
}

// judge says for every step whether it is made. Nothing is touched. Where the
// tree is neither old nor new, there are conflicts.
func (w *work) judge(p *plan) (*judge, []status, error) {
	j := &judge{w: w, freed: make(map[string]bool), restored: make(map[string]bool)}
	all := make([]status, len(p.Steps))
	for i := len(p.Steps) - 1; i >= 0; i-- {
		var err error
		if all[i], err = j.step(&p.Steps[i]); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", p.Steps[i].Path, err)
		}
	}
	return j, all, nil
}

func (j *judge) step(s *step) (status, error) {
	now, err := j.w.root.lookPast(s.Path)
	if err != nil {
		return unclear, err
	}
	if s.move() == modes {
		return j.modes(s, now), nil
	}
	slot, err := j.w.slot(s).look()
	if err != nil {
		return unclear, err
	}
	switch s.move() {
	case swap:
		return j.swap(s, now, slot), nil
	case create:
		return j.create(s, now, slot)
	}
	return j.take(s, now, slot), nil
}

func (j *judge) conflict(s *step, now entry) status {
	j.conflicts = append(j.conflicts, Conflict{s.Path, fmt.Sprintf("it is %s, which is neither what was there nor what was put there", now)})
	return unclear
}

func (j *judge) modes(s *step, now entry) status {
	switch {
	case j.freed[s.Path] || now.kind == missing || now.mode == s.OldMode:
		return waiting
	case now.mode == s.Mode:
		return made
	}
	j.edited = append(j.edited, Conflict{s.Path, fmt.Sprintf("its mode is %04o now", now.mode)})
	return waiting
}

// swap: the slot holds the new entry until they are exchanged, and then whatever
// came out.
func (j *judge) swap(s *step, now, slot entry) status {
	switch {
	case slot.isAfter(&s.Change):
		return waiting // and what is in the place, if it is not the old, is an edit
	case now.isBefore(&s.Change):
		return waiting // or somebody has put it back
	case slot.kind != missing && now.isAfter(&s.Change):
		return made
	}
	return j.conflict(s, now)
}

func (j *judge) create(s *step, now, slot entry) (status, error) {
	switch {
	case slot.kind != missing:
		return waiting, nil
	case now.kind == missing:
		return waiting, nil // somebody has deleted it
	case !now.isAfter(&s.Change):
		return j.conflict(s, now), nil
	case now.kind == directory:
		others, err := j.others(s.Path)
		if err != nil {
			return unclear, err
		}
		if others != "" {
			j.notes = append(j.notes, fmt.Sprintf("%s stays: %s is in it", s.Path, others))
			return waiting, nil
		}
	}
	j.freed[s.Path] = true
	return made, nil
}

// others names something in a directory that will not have gone.
func (j *judge) others(name string) (string, error) {
	dir, err := j.w.root.sub(name)
	if err != nil {
		return "", err
	}
	names, err := dir.file.Readdirnames(-1)
	if err = errors.Join(err, dir.close()); err != nil {
		return "", err
	}
	for _, entry := range names {
		if !j.freed[path.Join(name, entry)] {
			return path.Join(name, entry), nil
		}
	}
	return "", nil
}

func (j *judge) take(s *step, now, slot entry) status {
	if slot.kind == missing {
		return waiting
	}
	if now.kind != missing && !j.freed[s.Path] {
		if now.isBefore(&s.Change) {
			return waiting // somebody has put it back
		}
		return j.conflict(s, now)
	}
	above := path.Dir(s.Path)
	if !j.restored[above] {
		dir, err := j.w.root.sub(above)
		if err != nil {
			j.conflicts = append(j.conflicts, Conflict{s.Path, "its directory is not there any more"})
			return unclear
		}
		_ = dir.close() // only looked at
	}
	if slot.kind == directory {
		j.restored[s.Path] = true
	}
	return made
}

// undo takes back what is made of a plan. When the tree is neither old nor new it
// touches nothing, or nothing more, and returns an error with ReasonConflict. What
// it returns says what people should know.
func (w *work) undo(p *plan) ([]string, error) {
	j, all, err := w.judge(p)
	if err != nil {
		return nil, err
	}
	if len(j.conflicts) > 0 {
		return nil, conflictf(p.ID, j.conflicts, "it cannot be undone")
	}
	for i := len(p.Steps) - 1; i >= 0; i-- {
		if all[i] != made {
			continue
		}
		if err := w.unmake(&p.Steps[i]); err != nil {
			return nil, fmt.Errorf("undo %s: %w", p.Steps[i].Path, err)
		}
		crash("undone")
	}
	for _, edit := range j.edited {
		j.notes = append(j.notes, edit.String())
	}
	return j.notes, w.sync(p)
}

func (w *work) unmake(s *step) error {
	at, err := w.root.place(s.Path)
	if err != nil {
		return err
	}
	switch s.move() {
	case swap:
		err = w.unswap(s, at)
	case create:
		err = w.uncreate(s, at)
	case take:
		err = w.untake(s, at)
	default:
		err = w.setMode(at, s.OldMode)
	}
	return errors.Join(err, at.close())
}

// unswap puts what came out back. If somebody has edited the new entry just now,
// that goes back too.
func (w *work) unswap(s *step, at place) error {
	slot := w.slot(s)
	if err := slot.exchange(at); err != nil {
		return err
	}
	crash("exchanged back")
	return w.mine(s, slot, func() error { return slot.exchange(at) })
}

func (w *work) uncreate(s *step, at place) error {
	slot := w.slot(s)
	if err := at.move(slot); err != nil {
		return err
	}
	crash("moved back")
	return w.mine(s, slot, func() error { return slot.move(at) })
}

func (w *work) untake(s *step, at place) error {
	if err := w.slot(s).move(at); errors.Is(err, unix.EEXIST) {
		now, err := at.look()
		return errors.Join(conflictf(w.record.id, []Conflict{{s.Path, "somebody has put " + now.String() + " there"}}, "it cannot be undone"), err)
	} else if err != nil {
		return err
	}
	crash("put back")
	return nil
}

// mine makes sure that what was taken out of the tree is what had been put in,
// and otherwise gives it back.
func (w *work) mine(s *step, slot place, back func() error) error {
	got, err := slot.look()
	empty := true
	if err == nil && got.kind == directory {
		empty, err = slot.isEmpty()
	}
	if err == nil && got.isAfter(&s.Change) && empty {
		return nil
	}
	return errors.Join(conflictf(w.record.id, []Conflict{{s.Path, "somebody has just changed it to " + got.String()}}, "it cannot be undone"), err, back())
}
