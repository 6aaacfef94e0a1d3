package api

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"

	"connectrpc.com/connect"
	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/event"
	"github.com/sop-host/sop/host/internal/filter"
	"github.com/sop-host/sop/host/internal/nexus"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
	"github.com/sop-host/sop/sdk"
)

// eventService serves sop.api.v1.Event.
type eventService struct{ *nexus.Nexus }

const (
	eventPage = 500 // events that are read at a time
	// bookmarkAfter events or so that are not for the caller, it is told the
	// revision, so that it need not pass them again.
	bookmarkAfter = 5000
	// maxLag is by how many events a watcher that had caught up may fall behind.
	maxLag   = 50_000
	maxKinds = 64
)

var eventFields = filter.Schema{
	{Name: "revision", Kind: filter.Number},
	{Name: "at", Kind: filter.Time},
	{Name: "kind", Kind: filter.Text},
	{Name: "subject", Kind: filter.Text},
	{Name: "actor", Kind: filter.Text},
	{Name: "outcome", Kind: filter.Word, Words: []string{"success", "failure", "denied"}},
	{Name: "reason", Kind: filter.Text},
	{Name: "workspace", Kind: filter.Text},
	{Name: "rule", Kind: filter.Text},
	{Name: "severity", Kind: filter.Ranked, Words: []string{"info", "low", "medium", "high", "critical"}, Absent: true},
	{Name: "path", Kind: filter.Path},
}

func eventValue(e *event.Record, field string) filter.Value {
	switch field {
	case "revision":
		return filter.Value{Number: e.Revision}
	case "at":
		return filter.Value{Number: e.At.UnixNano()}
	case "severity":
		for i, word := range []string{"info", "low", "medium", "high", "critical"} {
			if word == e.Attributes["severity"] {
				return filter.Value{Number: int64(i) + 1}
			}
		}
		return filter.Value{Absent: true}
	case "rule", "path":
		return filter.Value{Text: e.Attributes[field]}
	}
	return filter.Value{Text: map[string]string{
		"kind": e.Kind, "subject": e.Subject, "actor": e.Actor, "outcome": e.Outcome, "reason": e.Reason, "workspace": e.Workspace,
	}[field]}
}

// Watch implements the rpc.
func (s *eventService) Watch(ctx context.Context, req *connect.Request[apiv1.WatchRequest], stream *connect.ServerStream[apiv1.WatchResponse]) error {
	w := &watcher{events: s.Events, send: stream.Send, kinds: req.Msg.GetKinds()}
	var err error
	if w.where, err = parseFilter(req.Msg.GetFilter(), eventFields); err != nil {
		return err
	}
	if len(w.kinds) > maxKinds {
		return sdk.Errorf(codes.InvalidArgument, "EVENT_KINDS", "more than %d kinds", maxKinds).WithField("kinds", "")
	}
	for _, kind := range w.kinds {
		if !isKind(kind) {
			return sdk.Errorf(codes.InvalidArgument, "EVENT_KINDS", "there are no events of kind %q", kind).
				WithRemedy("the kinds begin with %s", strings.Join(event.Nouns(), ", ")).WithField("kinds", "")
		}
	}
	if err := w.begin(ctx, req.Msg.FromRevision); err != nil {
		return err
	}
	return w.run(ctx)
}

// isKind says whether there can be events of a kind, which may be its beginning.
func isKind(kind string) bool {
	return event.MadeByPlugins(kind) || slices.Contains(event.Nouns(), kind) || slices.Contains(event.Kinds(), kind)
}

// watcher sends events to one caller, at the pace at which it reads them: it
// holds one page and nobody waits for it.
type watcher struct {
	events nexus.Events
	send   func(*apiv1.WatchResponse) error
	kinds  []string
	where  *filter.Node

	at     int64 // revision up to which all is sent or passed over
	told   int64 // the last revision that was sent
	caught bool  // it had caught up
}

// begin finds the revision to begin after and tells it.
func (w *watcher) begin(ctx context.Context, from *int64) error {
	first, last, err := w.events.Bounds(ctx)
	if err != nil {
		return err
	}
	w.at = last
	if from != nil {
		w.at = *from
	}
	switch {
	case w.at < 0 || w.at > last:
		return sdk.Errorf(codes.InvalidArgument, "EVENT_REVISION", "there is no revision %d; the latest is %d", w.at, last).
			WithRemedy("go on from a revision that this host sent").WithField("from_revision", "")
	case w.at < first-1:
		return compacted(w.at, first)
	}
	return w.bookmark()
}

// compacted says that events after a revision are not kept any more.
func compacted(from, first int64) error {
	e := sdk.Errorf(codes.OutOfRange, "EVENTS_COMPACTED", "the events between revision %d and %d are not kept any more", from, first).
		WithRemedy("read the state anew, and watch from revision %d", first-1).WithField("from_revision", "")
	e.Metadata = map[string]string{"earliest_revision": strconv.FormatInt(first-1, 10)}
	return e
}

// lagged says that the caller reads too slowly.
func lagged(at int64) error {
	e := sdk.Errorf(codes.ResourceExhausted, "EVENTS_LAGGED", "events come faster than they are read").
		WithRemedy("watch again from revision %d, and read faster or ask for fewer kinds", at)
	e.Metadata = map[string]string{"resume_revision": strconv.FormatInt(at, 10)}
	return e.RetryIn(0)
}

func (w *watcher) run(ctx context.Context) error {
	for {
		changed := w.events.Changed() // before the page, so that no event is missed
		page, err := w.events.After(ctx, w.at, eventPage)
		if err == nil {
			err = w.pass(page)
		}
		if err != nil {
			return ended(ctx, err)
		}
		if len(page) == eventPage {
			if err := w.keepsUp(ctx); err != nil {
				return ended(ctx, err)
			}
			continue
		}
		w.caught = true
		select {
		case <-changed:
		case <-ctx.Done():
			return ended(ctx, ctx.Err())
		}
	}
}

// ended is what a stream ends with: nothing, when the caller has gone or the
// host stops.
func ended(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return nil
	}
	return err
}

// keepsUp says why a caller is cut off that had caught up and fell far behind.
func (w *watcher) keepsUp(ctx context.Context) error {
	if !w.caught {
		return nil
	}
	_, last, err := w.events.Bounds(ctx)
	if err == nil && last-w.at > maxLag {
		return lagged(w.at)
	}
	return err
}

// pass sends what is for the caller of a page.
func (w *watcher) pass(page []*event.Record) error {
	for _, e := range page {
		if e.Revision != w.at+1 {
			if w.caught {
				return lagged(w.at)
			}
			return compacted(w.at, e.Revision)
		}
		w.at = e.Revision
		if !w.wants(e) {
			continue
		}
		w.told = w.at
		if err := w.send(&apiv1.WatchResponse{Revision: e.Revision, Event: eventRecord(e)}); err != nil {
			return err
		}
	}
	if w.at-w.told >= bookmarkAfter {
		return w.bookmark()
	}
	return nil
}

func (w *watcher) bookmark() error {
	w.told = w.at
	return w.send(&apiv1.WatchResponse{Revision: w.at})
}

func (w *watcher) wants(e *event.Record) bool {
	wanted := len(w.kinds) == 0
	for _, kind := range w.kinds {
		wanted = wanted || e.Kind == kind || strings.HasPrefix(e.Kind, kind+".")
	}
	return wanted && w.where.Match(func(field string) filter.Value { return eventValue(e, field) })
}

func eventRecord(e *event.Record) *apiv1.EventRecord {
	return &apiv1.EventRecord{
		Revision: e.Revision, At: stamp(e.At), Kind: e.Kind, Subject: e.Subject, Actor: e.Actor, Outcome: e.Outcome,
		Reason: e.Reason, Workspace: e.Workspace, Attributes: e.Attributes,
	}
}
