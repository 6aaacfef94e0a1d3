package detector

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
)

// openFlags keep a file that turned into a pipe, or into a link, from being waited for or followed.
const openFlags = syscall.O_NONBLOCK | syscall.O_NOFOLLOW

// maxWorkspaces bounds the manifests that a detector holds.
const maxWorkspaces = 16

// endsSoon is how long a scan that was cancelled is waited for.
const endsSoon = time.Second

// cancelWithin is how long a scan that was cancelled may go on before the
// detector is started anew.
const cancelWithin = 30 * time.Second

// server puts a Detector on the wire and holds the manifests between scans.
type server struct {
	pluginv1.UnimplementedDetectorServer
	impl Detector

	mu         sync.Mutex
	workspaces map[string]*held
	uses       uint64
}

// held is what is known of one workspace.
type held struct {
	manifest *manifest // nil: none; for the scan under way
	used     uint64

	mu        sync.Mutex      // guards what follows
	ended     chan struct{}   // closed when the scan under way has ended; nil: there is none
	cancelled <-chan struct{} // closed when the scan under way was told to end
}

// enter waits until the scan before has ended, but not for one that goes on
// although it was told to end. The caller calls leave.
func (h *held) enter(ctx context.Context) error {
	for {
		ended, cancelled := h.take(ctx)
		if ended == nil {
			return nil
		}
		select {
		case <-ended:
			continue
		case <-ctx.Done():
			return ctx.Err()
		case <-cancelled:
		}
		select {
		case <-ended:
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(endsSoon):
			e := sdk.Errorf(codes.Unavailable, "SCAN_STUCK", "the scan of this workspace before was cancelled and goes on").
				WithRemedy("run `sop plugin restart` with the name of the detector; the host does so by itself if it goes on for %v; report it to the detector's author", cancelWithin)
			e.Retryable = true
			return e
		}
	}
}

// take begins a scan, or returns what tells of the one under way.
func (h *held) take(ctx context.Context) (ended chan struct{}, cancelled <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended == nil {
		h.ended, h.cancelled = make(chan struct{}), ctx.Done()
		return nil, nil
	}
	return h.ended, h.cancelled
}

// leave ends what enter began.
func (h *held) leave() {
	h.mu.Lock()
	defer h.mu.Unlock()
	close(h.ended)
	h.ended = nil
}

func newServer(impl Detector) *server {
	return &server{impl: impl, workspaces: make(map[string]*held)}
}

// ListRules implements [pluginv1.DetectorServer].
func (s *server) ListRules(ctx context.Context, _ *pluginv1.ListRulesRequest) (*pluginv1.ListRulesResponse, error) {
	rules, err := s.impl.Rules(ctx)
	if err != nil {
		return nil, err
	}
	return &pluginv1.ListRulesResponse{Rules: rules}, nil
}

// Scan implements [pluginv1.DetectorServer].
func (s *server) Scan(stream grpc.BidiStreamingServer[pluginv1.ScanRequest, pluginv1.ScanResponse]) error {
	start, c, err := receive(stream)
	if err != nil {
		return err
	}
	h := s.hold(start.GetWorkspace() + "\x00" + start.GetRoot())
	if err := h.enter(stream.Context()); err != nil {
		return err
	}
	defer h.leave()

	scan, err := s.prepare(stream.Context(), start, c, h.manifest)
	if err != nil {
		return err
	}
	defer func() { _ = scan.root.Close() }() // opened for reading only
	scan.out = newReporter(stream.Send, len(scan.changed))
	h.manifest = nil // holds again only after success
	if err := s.impl.Scan(stream.Context(), scan); err != nil {
		return err
	}
	if err := scan.out.finish(); err != nil {
		return err
	}
	h.manifest = &manifest{revision: start.GetRevision(), files: scan.files, kept: scan.next}
	return nil
}

// receive reads the host's side to its end.
func receive(stream grpc.BidiStreamingServer[pluginv1.ScanRequest, pluginv1.ScanResponse]) (*pluginv1.ScanStart, *change, error) {
	first, err := stream.Recv()
	if err != nil {
		return nil, nil, err
	}
	start := first.GetStart()
	if start == nil {
		return nil, nil, sdk.Errorf(codes.InvalidArgument, "SCAN_START_MISSING", "a scan begins with ScanStart")
	}
	c := &change{}
	for {
		msg, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			c.sort()
			return start, c, nil
		}
		if err != nil {
			return nil, nil, err
		}
		c.add(msg.GetFiles())
	}
}

// hold returns what is known of the workspace, forgetting the one not used for
// longest when there are too many.
func (s *server) hold(key string) *held {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.uses++
	h, ok := s.workspaces[key]
	if !ok {
		if len(s.workspaces) >= maxWorkspaces {
			oldest := ""
			for k, w := range s.workspaces {
				if oldest == "" || w.used < s.workspaces[oldest].used {
					oldest = k
				}
			}
			delete(s.workspaces, oldest)
		}
		h = &held{}
		s.workspaces[key] = h
	}
	h.used = s.uses
	return h
}

// prepare makes the Scan that the detector is given.
func (s *server) prepare(ctx context.Context, start *pluginv1.ScanStart, c *change, base *manifest) (*Scan, error) {
	scan := &Scan{
		ID: start.GetScanId(), Workspace: start.GetWorkspace(), Root: start.GetRoot(), Token: start.GetToken(),
		MaxFileSize: start.GetMaxFileSize(), changed: c.changed, removed: c.removed, next: make(map[string]any),
	}
	if scan.MaxFileSize <= 0 {
		scan.MaxFileSize = 4 << 20
	}
	switch rev := start.GetBaseRevision(); {
	case rev == "":
		scan.files = c.changed
	case base == nil || base.revision != rev:
		return nil, sdk.Errorf(codes.FailedPrecondition, "MANIFEST_UNKNOWN", "the manifest of revision %s is not held", rev).
			WithRemedy("send the whole manifest")
	default:
		scan.incremental, scan.files, scan.previous = true, apply(base.files, c), base.kept
	}
	rules, err := s.impl.Rules(ctx)
	if err != nil {
		return nil, fmt.Errorf("list rules: %w", err)
	}
	scan.rules = make(map[string]*pluginv1.Rule, len(rules))
	for _, r := range rules {
		scan.rules[r.GetId()] = r
	}
	if len(start.GetRules()) > 0 {
		scan.enabled = make(map[string]bool)
		for _, r := range start.GetRules() {
			scan.enabled[r] = true
		}
	}
	scan.root, err = os.OpenRoot(start.GetRoot())
	if err != nil {
		return nil, sdk.Errorf(codes.NotFound, "WORKSPACE_UNREADABLE", "open workspace: %w", err)
	}
	return scan, nil
}

// toUTF8 replaces what is no UTF-8: protobuf strings must be valid.
func toUTF8(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }
