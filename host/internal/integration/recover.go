package integration

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/sdk"
)

// RecordState is what the journal says of one integration.
type RecordState string

// The states of a record.
const (
	StateNone       RecordState = ""            // there is none: nothing of it is in the tree
	StateIntegrated RecordState = "integrated"  // all of it is in the tree; the old copies are kept
	StateUndone     RecordState = "undone"      // a crash had left some of it, which was taken back
	StateRolledBack RecordState = "rolled_back" // it was integrated, and was taken back
	StateConflict   RecordState = "conflict"    // a person has to look
)

// Recovered is what was found about one integration.
type Recovered struct {
	ID       string      `json:"id"`
	State    RecordState `json:"state"`
	Conflict string      `json:"conflict,omitempty"`
	Notes    []string    `json:"notes,omitempty"`
}

// Recover takes back what a crash has left half done in a workspace, and finishes
// a rollback that was under way. It is called before anything else looks at the
// workspace, and may be called again. An error says that the workspace could not
// be looked at; a record that cannot be recovered is one of the results.
func (i *Integrator) Recover(ctx context.Context, root string) ([]Recovered, error) {
	var all []Recovered
	err := i.locked(ctx, root, false, func(h *home) error {
		ids, err := h.ids()
		if err != nil {
			return err
		}
		for _, id := range ids {
			if err := ctx.Err(); err != nil {
				return err
			}
			found, err := recoverOne(h, id)
			if err != nil {
				return fmt.Errorf("integration %s: %w", id, err)
			}
			if found.State != StateNone {
				all = append(all, found)
			}
		}
		return nil
	})
	return all, err
}

func recoverOne(h *home, id string) (Recovered, error) {
	found := Recovered{ID: id}
	r, ok, err := h.record(id)
	if err != nil || !ok {
		return found, err
	}
	defer r.close() //nolint:errcheck // only read from
	found.State, found.Notes, err = settle(h, r)
	if isConflict(err) {
		found.State, found.Conflict = StateConflict, err.Error()
		return found, nil
	}
	return found, err
}

// settle brings a record to rest: old or new, as a whole.
func settle(h *home, r record) (RecordState, []string, error) {
	if r.is(done) {
		return StateIntegrated, nil, nil
	}
	p, ph, err := r.read()
	if err != nil {
		return StateNone, nil, err
	}
	switch ph {
	case rolledBack:
		return StateRolledBack, nil, r.keepOnly(rolledBack)
	case prepared:
		notes, err := (&work{root: h.root, record: r}).undo(p)
		if err != nil {
			return StateNone, nil, err
		}
		return StateUndone, notes, h.discard(r)
	case undoing:
		notes, err := (&work{root: h.root, record: r}).finishRollback(p)
		return StateRolledBack, notes, err
	}
	return StateNone, nil, h.discard(r)
}

// finishRollback takes back what is left, and says so in the journal.
func (w *work) finishRollback(p *plan) ([]string, error) {
	notes, err := w.undo(p)
	if err != nil {
		return nil, err
	}
	if err := w.record.turn(undoing, rolledBack); err != nil {
		return nil, err
	}
	return notes, w.record.keepOnly(rolledBack)
}

// keepOnly removes everything from a record but its plan.
func (r record) keepOnly(ph phase) error {
	dir, err := r.sub(".")
	if err != nil {
		return err
	}
	names, err := dir.file.Readdirnames(-1)
	if err = errors.Join(err, dir.close()); err != nil {
		return err
	}
	for _, name := range names {
		if name != string(ph) {
			if err := r.remove(name); err != nil {
				return err
			}
			crash("old slot removed")
		}
	}
	return nil
}

// State says what the journal knows of an integration, after Recover. One that was
// taken back by another, which is all in the tree, is rolled back.
func (i *Integrator) State(ctx context.Context, root, id string) (RecordState, error) {
	back, err := i.stateOf(ctx, root, rollbackID(id))
	if err == nil && back == StateIntegrated {
		return StateRolledBack, nil
	}
	if err != nil {
		return StateNone, err
	}
	return i.stateOf(ctx, root, id)
}

func (i *Integrator) stateOf(ctx context.Context, root, id string) (state RecordState, err error) {
	err = i.with(ctx, root, id, func(_ *home, r record) error {
		_, ph, err := r.read()
		switch ph {
		case done:
			state = StateIntegrated
		case rolledBack:
			state = StateRolledBack
		case prepared, undoing:
			state = StateConflict
		}
		if isConflict(err) {
			state = StateConflict
			return nil
		}
		return err
	})
	if errors.Is(err, errNoRecord) {
		return StateNone, nil
	}
	return state, err
}

func isConflict(err error) bool {
	var e *sdk.Error
	return errors.As(err, &e) && e.Reason == ReasonConflict
}

var errNoRecord = &sdk.Error{Code: codes.NotFound, Reason: ReasonNoRecord, Message: "there is no record of it in the workspace"}

// with calls fn with a record of a workspace, or returns errNoRecord.
func (i *Integrator) with(ctx context.Context, root, id string, fn func(h *home, r record) error) error {
	if !isID(id) {
		return invalidID(id)
	}
	found := false
	err := i.locked(ctx, root, false, func(h *home) error {
		r, ok, err := h.record(id)
		if err != nil || !ok {
			return err
		}
		found = true
		return errors.Join(fn(h, r), r.close())
	})
	if err == nil && !found {
		return errNoRecord
	}
	return err
}

// Forget removes what is kept to take an integration back. One that is not at
// rest is not forgotten.
func (i *Integrator) Forget(ctx context.Context, root, id string) error {
	err := i.with(ctx, root, id, func(h *home, r record) error {
		_, ph, err := r.read()
		if err != nil {
			return err
		}
		if ph == prepared || ph == undoing {
			return conflictf(id, nil, "it is neither integrated nor undone")
		}
		return h.discard(r)
	})
	if errors.Is(err, errNoRecord) {
		return nil
	}
	return explain(err)
}
