package gap

import (
	"context"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/sdk"
)

// Service is what operators and other features do with gaps. It decides nothing
// about permission: nexus has done so.
type Service struct {
	store     Store
	publisher Publisher
}

// NewService returns a Service. A nil publisher drops events.
func NewService(store Store, publisher Publisher) *Service {
	if publisher == nil {
		publisher = nobody{}
	}
	return &Service{store: store, publisher: publisher}
}

// List returns one page of the gaps that pass the filter.
func (s *Service) List(ctx context.Context, filter Filter) (Page, error) {
	return s.store.List(ctx, filter)
}

// Get returns the gap that ref names, with its history: by its id, by its
// fingerprint, or by a beginning of either that no other gap shares.
func (s *Service) Get(ctx context.Context, ref string) (*Gap, error) { return s.store.Get(ctx, ref) }

// Counts returns how many gaps there are by severity and state; an empty
// workspace stands for all.
func (s *Service) Counts(ctx context.Context, workspace string) ([]Count, error) {
	return s.store.Counts(ctx, workspace)
}

// Scans returns the latest scans of a workspace, latest first.
func (s *Service) Scans(ctx context.Context, workspace string, limit int) ([]*ScanResult, error) {
	return s.store.Scans(ctx, workspace, limit)
}

// Suppress tolerates a gap as it stands: for a reason, by somebody, and until a
// time unless that is nil. It reopens when its content changes.
func (s *Service) Suppress(ctx context.Context, ref, by, reason string, until *time.Time) (*Gap, error) {
	now := time.Now().UTC()
	suppression, err := newSuppression(by, reason, until, now)
	if err != nil {
		return nil, err
	}
	return s.act(ctx, ref, by, func(g *Gap) (Change, error) { return g.suppress(suppression, now) })
}

// newSuppression checks what Suppress is asked for.
func newSuppression(by, reason string, until *time.Time, now time.Time) (Suppression, error) {
	reason = strings.TrimSpace(oneLine(reason, maxText))
	switch {
	case reason == "":
		return Suppression{}, sdk.Errorf(codes.InvalidArgument, "GAP_REASON_MISSING", "a gap is suppressed for a reason").
			WithRemedy("say why it is tolerated").WithField("reason", "")
	case until != nil && !until.After(now):
		return Suppression{}, sdk.Errorf(codes.InvalidArgument, "GAP_UNTIL_PAST", "a suppression cannot end at %s, which is past", until.UTC().Format(time.RFC3339)).
			WithRemedy("name a later time, or none").WithField("until", "")
	}
	if until != nil {
		utc := until.UTC()
		until = &utc
	}
	return Suppression{Reason: reason, Until: until, By: by}, nil
}

// Reopen opens a gap that was suppressed, acknowledged, resolved or on its way.
func (s *Service) Reopen(ctx context.Context, ref, by, why string) (*Gap, error) {
	return s.Move(ctx, ref, StateOpen, by, why)
}

// Acknowledge says that somebody has seen an open gap; the note may be empty.
func (s *Service) Acknowledge(ctx context.Context, ref, by, note string) (*Gap, error) {
	return s.Move(ctx, ref, StateAcknowledged, by, note)
}

// Move takes a gap to another state. Only a scan resolves, and only Suppress
// suppresses.
func (s *Service) Move(ctx context.Context, ref string, to State, by, why string) (*Gap, error) {
	if to == StateResolved || to == StateSuppressed {
		return nil, sdk.Errorf(codes.InvalidArgument, "GAP_TRANSITION", "a gap is not moved to %s by hand", to).
			WithRemedy("a scan resolves what it no longer sees; suppress what is to be tolerated")
	}
	return s.act(ctx, ref, by, func(g *Gap) (Change, error) {
		return g.move(to, by, oneLine(why, maxText), time.Now())
	})
}

// act runs one transition in one transaction and returns the gap with its
// history.
func (s *Service) act(ctx context.Context, ref, by string, transition func(*Gap) (Change, error)) (*Gap, error) {
	var changed Changed
	var id string
	err := s.store.Update(ctx, func(tx Tx) error {
		g, err := tx.Get(ctx, ref)
		if err != nil {
			return err
		}
		change, err := transition(g)
		if err != nil {
			return err
		}
		id, changed = g.ID, Changed{Workspace: g.Workspace, By: by}
		changed.add(g, change)
		return tx.Put(ctx, []*Gap{g}, []Change{change})
	})
	if err != nil {
		return nil, err
	}
	s.publisher.Publish(changed)
	return s.store.Get(ctx, id)
}

// Lapse reopens the gaps of a workspace whose suppression has ended by now. A
// scan does so as well.
func (s *Service) Lapse(ctx context.Context, workspace string) error {
	var changed Changed
	err := s.store.Update(ctx, func(tx Tx) error {
		var err error
		changed, err = lapse(ctx, tx, workspace, "clock", time.Now().UTC())
		return err
	})
	if err != nil {
		return err
	}
	if !changed.empty() {
		s.publisher.Publish(changed)
	}
	return nil
}

// lapse reopens what is suppressed until a time that has come.
func lapse(ctx context.Context, tx Tx, workspace, by string, now time.Time) (Changed, error) {
	changed := Changed{Workspace: workspace, By: by}
	due, err := tx.Gaps(ctx, Selection{Workspace: workspace, Lapsed: now})
	if err != nil || len(due) == 0 {
		return changed, err
	}
	var history []Change
	for _, g := range due {
		change, err := g.move(StateOpen, by, g.lapse(g.contentHash(), now), now)
		if err != nil {
			return changed, err
		}
		history = append(history, change)
		changed.add(g, change)
	}
	return changed, tx.Put(ctx, due, history)
}
