package startup

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"sync/atomic"
	"time"

	"github.com/sop-host/sop/host/internal/audit"
)

func (d dataDir) verification() string { return d.join("state", "audit-verification.json") }

// verification is what a verification of the audit log found.
type verification struct {
	At      time.Time `json:"at"`
	Outcome string    `json:"outcome"` // ok, fault or error
}

// verified keeps the last verification, in a file, so that the next host knows it.
type verified struct {
	path string
	last atomic.Pointer[verification] // nil: none is known
}

// load takes up what an earlier host found; what cannot be read is as none.
func (v *verified) load(path string) error {
	v.path = path
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	var last verification
	if err == nil {
		err = json.Unmarshal(data, &last)
	}
	if err == nil {
		v.last.Store(&last)
	}
	return err
}

// note keeps what a verification found. An error says that the next host will not
// know it.
func (v *verified) note(last verification) error {
	v.last.Store(&last)
	data, err := json.Marshal(last)
	if err != nil {
		return err
	}
	fresh := v.path + ".new"
	if err := os.WriteFile(fresh, data, 0o600); err != nil {
		return err
	}
	return os.Rename(fresh, v.path)
}

// verifyAudit verifies the log on its schedule until ctx is done, and at once where
// archives speak of a log that the database may not have.
func (h *host) verifyAudit(ctx context.Context) {
	h.verifyStrays(ctx)
	schedule := verifySchedule{
		begin: time.Now(), last: func() time.Time {
			if last := h.verified.last.Load(); last != nil {
				return last.At
			}
			return time.Time{}
		},
		every: func() time.Duration { return h.loaded.Load().config.Audit.Verify }, changed: h.reloaded.Wait,
	}
	schedule.run(ctx, func(ctx context.Context) {
		if _, err := h.door.Audit.Verify(ctx); err != nil && ctx.Err() == nil {
			h.logger.Error("verify the audit log", "error", err)
		}
	})
}

// verifyStrays verifies the log if there are archives that the database does not
// know: it may be older than they are.
func (h *host) verifyStrays(ctx context.Context) {
	strays, err := h.audit.Strays(ctx)
	var report *audit.Report
	if err == nil && len(strays) > 0 {
		report, err = h.door.Audit.Verify(ctx)
	}
	switch {
	case ctx.Err() != nil:
	case err != nil:
		h.logger.Error("look for archives that the database does not know", "error", err)
	case report != nil && report.Fault != nil:
		h.logger.Error("the audit log is not intact; see docs/audit.md", "fault", report.Fault.Detail, "unknown_archives", strays)
	}
}

// verifySchedule says when the log is due to be verified.
type verifySchedule struct {
	begin   time.Time // of this host
	last    func() time.Time
	every   func() time.Duration   // zero: never
	changed func() <-chan struct{} // is closed when every may say something else
}

// verifyAgain is how long it waits at least after a verification: one that could
// not be made is not known of, and would be due again at once.
const verifyAgain = time.Minute

// run verifies when it is due, until ctx is done.
func (s verifySchedule) run(ctx context.Context, verify func(context.Context)) {
	earliest := s.begin
	for {
		changed := s.changed()
		var due <-chan time.Time // never
		if at, ok := s.next(earliest); ok {
			due = time.After(time.Until(at))
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-due:
			verify(ctx)
			earliest = time.Now().Add(verifyAgain)
		}
	}
}

// next is when the log is due, not before earliest; false: never.
func (s verifySchedule) next(earliest time.Time) (time.Time, bool) {
	every, from := s.every(), s.last()
	if every == 0 {
		return time.Time{}, false
	}
	if from.IsZero() || from.After(time.Now()) { // there was none, or a clock was wrong
		from = s.begin
	}
	at := from.Add(every)
	if at.Before(earliest) {
		at = earliest
	}
	return at, true
}
