package api

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/nexus"
	"github.com/sop-host/sop/sdk"
)

// A stream outlives the moment in which its caller was let in. So it is asked again
// whether whoever has it is still who it was, and may still have it: a revoked
// agent, a key that was replaced, a mapping or a group that the configuration no
// longer has, another name, a rule of policy that came later end it.

// standingEvery is how often, and so how long a stream outlives what permitted it.
const standingEvery = time.Second

// bearing is what is needed to judge a caller once more.
type bearing struct {
	authn *authenticator
	conn  connection
	of    judge
}

type bearingKey struct{}

func withBearing(ctx context.Context, b bearing) context.Context {
	return context.WithValue(ctx, bearingKey{}, &b)
}

// untilClosing returns a context that ends when the server stops; and where still is
// not nil, with the first error that it returns, see barred.
func (d *door) untilClosing(ctx context.Context, still func(context.Context) error) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		var due <-chan time.Time
		if still != nil {
			tick := time.NewTicker(standingEvery)
			defer tick.Stop()
			due = tick.C
		}
		for {
			select {
			case <-d.closing:
				cancel(nil)
				return
			case <-ctx.Done():
				return
			case <-due:
				if err := still(ctx); err != nil {
					cancel(err)
					return
				}
			}
		}
	}()
	return ctx, func() { cancel(nil) }
}

// stillAllowed says why the caller may no longer do what it was permitted. Only that
// is recorded. A caller who cannot be judged now stands as it did.
func (d *door) stillAllowed(ctx context.Context, q question) error {
	was, _ := nexus.CallerFrom(ctx)
	if b, ok := ctx.Value(bearingKey{}).(*bearing); ok {
		c, err := b.authn.judged(ctx, b.conn, b.of, false)
		switch {
		case err == nil:
			ctx = nexus.WithCaller(ctx, c)
		case sdk.FromError(err).Code == codes.Unauthenticated:
			return err
		}
	}
	if err := d.nexus.AuthorizeAgain(ctx, q.permission, q.resource, q.facts); err != nil {
		return err
	}
	if now, _ := nexus.CallerFrom(ctx); now.Name != was.Name {
		return sdk.Errorf(codes.Unauthenticated, reasonRenamed, "the caller was %s when this began, and is %s to the configuration now", was.Name, now.Name).
			WithRemedy("call again, as %s", now.Name)
	}
	return nil
}

// barred returns why a caller may not have a context of untilClosing any more, or nil.
func barred(ctx context.Context) error {
	var why *sdk.Error
	if errors.As(context.Cause(ctx), &why) {
		return why
	}
	return nil
}
