package detector

import (
	"context"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
)

// stubborn is a detector whose scans end when it is let go, and not before.
type stubborn struct{ letGo chan struct{} }

func (stubborn) Rules(context.Context) ([]*pluginv1.Rule, error) { return nil, nil }

func (d stubborn) Scan(context.Context, *Scan) error {
	<-d.letGo
	return nil
}

// stream is the host's side of one scan without files.
type stream struct {
	grpc.ServerStream
	ctx  context.Context
	root string
	said bool
}

func (s *stream) Context() context.Context          { return s.ctx }
func (s *stream) Send(*pluginv1.ScanResponse) error { return nil }

func (s *stream) Recv() (*pluginv1.ScanRequest, error) {
	if s.said {
		return nil, io.EOF
	}
	s.said = true
	return &pluginv1.ScanRequest{Message: &pluginv1.ScanRequest_Start{Start: &pluginv1.ScanStart{Root: s.root, Revision: "1"}}}, nil
}

// A scan does not wait for one that goes on although it was cancelled, and does for
// one that was not.
func TestScanThatIgnoresItsContext(t *testing.T) {
	root := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		d := stubborn{letGo: make(chan struct{})}
		s := newServer(d)
		scan := func(ctx context.Context) <-chan error {
			done := make(chan error, 1)
			go func() { done <- s.Scan(&stream{ctx: ctx, root: root}) }()
			synctest.Wait()
			return done
		}
		ctx, cancel := context.WithCancel(t.Context())
		first, waiting := scan(ctx), scan(t.Context())
		time.Sleep(time.Hour)
		synctest.Wait()
		select {
		case err := <-waiting:
			t.Fatalf("it did not wait for a scan under way: %v", err)
		default:
		}
		cancel()
		began := time.Now()
		if err := <-waiting; sdk.FromError(err).Reason != "SCAN_STUCK" {
			t.Errorf("one that waits while the one before is cancelled: %v", err)
		}
		if err := <-scan(t.Context()); sdk.FromError(err).Reason != "SCAN_STUCK" || !sdk.FromError(err).Retryable {
			t.Errorf("one that begins then: %v", err)
		}
		if took := time.Since(began); took > 3*endsSoon {
			t.Errorf("they were told after %v", took)
		}
		close(d.letGo)
		if err := <-first; err != nil {
			t.Error(err)
		}
		if err := <-scan(t.Context()); err != nil {
			t.Errorf("after the stubborn one has ended: %v", err)
		}
	})
}
