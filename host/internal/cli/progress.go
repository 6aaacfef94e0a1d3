package cli

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"sync"

	"connectrpc.com/connect"

	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

// watchable is the idempotency key of a call whose progress can be watched: the
// given one, or one that nobody else has.
func (a *app) watchable(key string) string {
	if key != "" {
		return key
	}
	return rand.Text()
}

// showProgress shows on a terminal how far the call with a key is, which is made
// after it returns. stop ends that and leaves nothing on the screen.
func (a *app) showProgress(ctx context.Context, c *client, verb, key string, quiet bool) (stop func()) {
	if quiet || !a.ErrTerminal || a.json() {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var done sync.WaitGroup
	done.Go(func() {
		stream, err := c.backup().WatchBackupProgress(ctx, connect.NewRequest(&apiv1.WatchBackupProgressRequest{Key: key}))
		if err != nil {
			return // it is only to be looked at
		}
		for stream.Receive() {
			a.note("\r\x1b[K%s", progressLine(verb, stream.Msg().GetWork(), a.width()))
		}
		_ = stream.Close()
		a.note("\r\x1b[K")
	})
	return func() {
		cancel()
		done.Wait()
	}
}

// barWidth is how many columns the bar itself has.
const barWidth = 24

// progressLine is how far a call is, with a bar where the end is known.
func progressLine(verb string, w *apiv1.BackupWork, width int) string {
	line := fmt.Sprintf("%s  %s", verb, count(w.GetFiles(), "file", "files"))
	if w.GetBytes() > 0 || w.GetExpectedBytes() > 0 {
		line += "  " + sizeText(w.GetBytes())
	}
	if share, known := shareDone(w); known && width > len(line)+barWidth+12 {
		full := int(share * barWidth)
		line = fmt.Sprintf("%s  %s%s %3.0f%%  %s  %s", verb, strings.Repeat("█", full), strings.Repeat("░", barWidth-full), share*100,
			count(w.GetFiles(), "file", "files"), sizeText(w.GetBytes()))
	}
	return line
}

// shareDone is how much of a call is done, where about how much there is is
// known.
func shareDone(w *apiv1.BackupWork) (share float64, known bool) {
	switch {
	case w.GetExpectedBytes() > 0:
		share = float64(w.GetBytes()) / float64(w.GetExpectedBytes())
	case w.GetExpectedFiles() > 0:
		share = float64(w.GetFiles()) / float64(w.GetExpectedFiles())
	default:
		return 0, false
	}
	return min(share, 1), true
}
