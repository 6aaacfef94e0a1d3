package gap

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/workspace"
	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
)

// Stream is the host's side of one Scan call.
type Stream = grpc.BidiStreamingClient[pluginv1.ScanRequest, pluginv1.ScanResponse]

// Bounds on one exchange.
const (
	batchFiles = 1000 // in a message
	// maxHeld is how much text of findings is held at a time, in bytes.
	maxHeld = 256 << 20
	// maxSkips is how many different reasons for skipping are kept.
	maxSkips = 32
)

// collector gathers what a detector sends during one scan.
type collector struct {
	checker  checker
	applied  func(rule string) bool
	max      int // findings
	held     int // bytes
	found    []finding
	covered  map[string]struct{}
	spoiled  []string // paths with a finding that was rejected: what is there is not known
	rejected int
	notes    diagnostics
	skipped  map[string]int64
	examined int64
	complete bool
}

// exchange makes one Scan call. It returns nil when the detector has answered
// to the end; only then does the collector hold a result.
func exchange(ctx context.Context, d Detector, start *pluginv1.ScanStart, p *plan, c *collector) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // releases the stream
	stream, err := d.Scan(ctx)
	if err != nil {
		return err
	}
	sent := make(chan error, 1)
	go func() { sent <- send(stream, start, p) }()
	err = receive(stream, c)
	if err != nil {
		cancel()
	}
	// A stream that has ended fails sends with io.EOF, and its own error is in err.
	if sendErr := <-sent; err == nil && sendErr != nil && !errors.Is(sendErr, io.EOF) {
		err = fmt.Errorf("send manifest: %w", sendErr)
	}
	return err
}

// send sends the start and the files, and closes the host's side.
func send(stream Stream, start *pluginv1.ScanStart, p *plan) error {
	if err := stream.Send(&pluginv1.ScanRequest{Message: &pluginv1.ScanRequest_Start{Start: start}}); err != nil {
		return err
	}
	changed, removed := p.changed, p.removed
	for len(changed)+len(removed) > 0 {
		batch := &pluginv1.ScanFiles{}
		n := min(len(changed), batchFiles)
		batch.Changed, changed = files(changed[:n]), changed[n:]
		n = min(len(removed), batchFiles-n)
		batch.Removed, removed = removed[:n], removed[n:]
		if err := stream.Send(&pluginv1.ScanRequest{Message: &pluginv1.ScanRequest_Files{Files: batch}}); err != nil {
			return err
		}
	}
	return stream.CloseSend()
}

func files(list []workspace.File) []*pluginv1.ScanFile {
	out := make([]*pluginv1.ScanFile, len(list))
	for i, f := range list {
		out[i] = &pluginv1.ScanFile{Path: f.Path, Size: f.Size, ModifiedUnixNano: f.ModTime, Testdata: f.Testdata}
	}
	return out
}

// receive reads the detector's side to its end.
func receive(stream Stream, c *collector) error {
	for {
		msg, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF) && c.complete:
			return nil
		case errors.Is(err, io.EOF):
			return sdk.Errorf(codes.DataLoss, "SCAN_CUT_OFF", "the detector ended the scan without a summary")
		case err != nil:
			return err
		case c.complete:
			return sdk.Errorf(codes.DataLoss, "SCAN_OVERLONG", "the detector went on after its summary")
		}
		if err := c.take(msg); err != nil {
			return err
		}
	}
}

// take takes one message in.
func (c *collector) take(msg *pluginv1.ScanResponse) error {
	for _, f := range msg.GetFindings() {
		if err := c.takeFinding(f); err != nil {
			return err
		}
	}
	for _, path := range msg.GetCovered() {
		if checkPath(path) == nil && c.checker.exists(path) {
			c.covered[path] = struct{}{}
		}
	}
	for _, d := range msg.GetDiagnostics() {
		if len(c.notes.list) >= maxDiagnostics {
			c.notes.omitted++
			continue
		}
		c.notes.add(ofDetector(c.checker.detector, d))
	}
	if s := msg.GetSummary(); s != nil {
		c.complete = true
		c.examined = max(s.GetFilesExamined(), 0)
		c.skipped = skips(s.GetSkipped())
	}
	return nil
}

func (c *collector) takeFinding(f *pluginv1.Finding) error {
	got, err := c.checker.check(f)
	if err != nil {
		c.reject(f, err)
		return nil
	}
	if !c.applied(got.Rule) {
		return nil
	}
	c.held += len(got.Path) + len(got.Symbol) + len(got.Message) + len(got.Remedy) + len(got.Evidence) + 512
	if len(c.found) >= c.max || c.held > maxHeld {
		return sdk.Errorf(codes.ResourceExhausted, "TOO_MANY_FINDINGS", "the detector reports more than %d findings; none are kept", len(c.found)).
			WithRemedy("narrow its rules or exclude files from the workspace")
	}
	c.found = append(c.found, got)
	return nil
}

// reject notes a finding that cannot be used. Nothing is concluded about the
// path that it names.
func (c *collector) reject(f *pluginv1.Finding, why error) {
	c.rejected++
	path := f.GetLocation().GetPath()
	if checkPath(path) == nil {
		c.spoiled = append(c.spoiled, path)
	} else {
		path = ""
	}
	c.notes.add(Diagnostic{
		Detector: c.checker.detector, Path: path, Reason: ReasonRejected,
		Message: oneLine("a finding was not accepted: "+why.Error(), maxText),
		Remedy:  "report this to the author of the detector",
	})
}

// finish settles what is covered.
func (c *collector) finish() {
	for _, path := range c.spoiled {
		delete(c.covered, path)
	}
}

// skips keeps a few of the reasons, made printable.
func skips(in map[string]int64) map[string]int64 {
	reasons := make([]string, 0, len(in))
	for reason, n := range in {
		if n > 0 {
			reasons = append(reasons, reason)
		}
	}
	slices.Sort(reasons)
	out := make(map[string]int64)
	for _, reason := range reasons[:min(len(reasons), maxSkips)] {
		out[oneLine(reason, 64)] += in[reason]
	}
	return out
}
