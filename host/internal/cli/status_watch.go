package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"connectrpc.com/connect"

	"github.com/sop-host/sop/host/internal/cli/term"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

// follow shows the status whenever it has changed, until ctx is done. On a
// terminal it draws over the last one, and each second, since ages grow.
func (o *statusOptions) follow(ctx context.Context, c *client) error {
	ctx, cancel := o.bounded(ctx, 0)
	defer cancel()
	stream, err := c.host().WatchStatus(ctx, connect.NewRequest(&apiv1.WatchStatusRequest{}))
	if err != nil {
		return ended(ctx, err)
	}
	updates, done := make(chan *apiv1.Status), make(chan error, 1)
	go func() { done <- receive(ctx, stream, updates) }()
	err = o.draw(ctx, updates, done)
	cancel()
	_ = stream.Close() // what it has to say is known already
	return ended(ctx, err)
}

// receive passes on what comes until the stream ends.
func receive(ctx context.Context, stream *connect.ServerStreamForClient[apiv1.WatchStatusResponse], updates chan<- *apiv1.Status) error {
	for stream.Receive() {
		select {
		case updates <- stream.Msg().GetStatus():
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return stream.Err()
}

// draw shows updates until done says why there are no more.
func (o *statusOptions) draw(ctx context.Context, updates <-chan *apiv1.Status, done <-chan error) error {
	var tick <-chan time.Time
	if o.OutTerminal && !o.json() {
		ticker := time.NewTicker(time.Second)
		defer ticker.Stop()
		tick = ticker.C
	}
	var last *apiv1.Status
	var failed error
	for {
		select {
		case err := <-done:
			return err
		case last = <-updates:
		case <-tick:
		}
		if last == nil || failed != nil {
			continue
		}
		if failed = o.show(last); failed != nil {
			return errors.Join(failed, ctx.Err())
		}
	}
}

// show writes one status: a line of JSON, a screen, or an entry of a log.
func (o *statusOptions) show(status *apiv1.Status) error {
	if o.json() {
		return printJSONLine(o.Out, wire{status})
	}
	var b bytes.Buffer
	if err := o.printStatus(&b, status); err != nil {
		return err
	}
	if !o.OutTerminal {
		_, err := fmt.Fprintf(o.Out, "--- %s\n%s", o.now().UTC().Format(time.RFC3339), b.Bytes())
		return err
	}
	// Each line is cleared before it is written, then what is left below:
	// clearing all at once flickers.
	lines := strings.SplitAfter(b.String(), "\n")
	if _, rows := o.size(); rows > 1 && len(lines) > rows-1 {
		lines = lines[:rows-1] // more would scroll
	}
	screen := strings.ReplaceAll(strings.Join(lines, ""), "\n", "\x1b[K\n")
	_, err := fmt.Fprintf(o.Out, "\x1b[H%s%s\x1b[J", screen, o.palette(true).Paint(term.Faint, "Ctrl-C ends this"))
	return err
}

// ended makes nothing of an error that is only the caller's wish to stop.
func ended(ctx context.Context, err error) error {
	if errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
		return timeoutError(err)
	}
	if err == nil || explain(err).exit == exitInterrupted {
		return nil
	}
	return err
}
