package task

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/sdk"
)

// checkNeeds refuses protocols that are not there: a task would wait for them for
// ever.
func (s *Service) checkNeeds(protocols []string) error {
	if s.opt.Protocols == nil || len(protocols) == 0 {
		return nil
	}
	known := s.opt.Protocols()
	for _, p := range protocols {
		if slices.Contains(known, p) {
			continue
		}
		remedy := "none is configured: a task that needs none is made without it"
		if len(known) > 0 {
			remedy = "the configured protocols are: " + strings.Join(known, ", ")
		}
		return invalid("needs", "there is no protocol %q", clip(p, maxRef)).WithRemedy("%s", remedy)
	}
	return nil
}

// blockedBy says what keeps a task from being worked on; empty: nothing.
func (w *work) blockedBy(ctx context.Context, t *Task) (string, error) {
	undone, err := w.Undone(ctx, t.DependsOn)
	if err != nil {
		return "", err
	}
	var waits []string
	if len(undone) > 0 {
		waits = append(waits, fmt.Sprintf("waits for %s to be done", strings.Join(undone, ", ")))
	}
	return strings.Join(append(waits, w.needed(t)...), "; "), nil
}

// needed says which protocols a task waits for.
func (w *work) needed(t *Task) (waits []string) {
	for _, p := range t.Needs {
		if w.service.opt.Unavailable(p) != "" {
			waits = append(waits, "waits for the protocol "+p)
		}
	}
	return waits
}

// WaitsFor says what a task waits for that is blocked, or will be when its turn
// comes, as things stand now: one sentence for each task and protocol.
func (s *Service) WaitsFor(ctx context.Context, t *Task) ([]string, error) {
	if t.State != StateBlocked && t.State != StateBacklog {
		return nil, nil
	}
	var out []string
	for _, id := range t.DependsOn {
		on, err := s.store.Get(ctx, id)
		switch {
		case err != nil && sdk.FromError(err).Code == codes.NotFound:
			continue // it is waited for no more
		case err != nil:
			return nil, fmt.Errorf("look what task %s waits for: %w", t.ID, err)
		case on.State != StateDone:
			out = append(out, fmt.Sprintf("task %s to be done, which is %s: %s", on.ID, on.State, on.Title))
		}
	}
	for _, p := range t.Needs {
		if why := s.opt.Unavailable(p); why != "" {
			out = append(out, fmt.Sprintf("protocol %s: %s", p, why))
		}
	}
	return out, nil
}
