package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/sop-host/sop/host/internal/api/apierr"
	"github.com/sop-host/sop/host/internal/audit"
	"github.com/sop-host/sop/host/internal/gap"
	"github.com/sop-host/sop/host/internal/nexus"
	"github.com/sop-host/sop/host/internal/plugin"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
	"github.com/sop-host/sop/proto/sop/api/v1/apiv1connect"
	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Every method of every service states the permission that it takes.
func TestEveryMethodStatesItsPermission(t *testing.T) {
	methods := 0
	look := func(file protoreflect.FileDescriptor) bool {
		for i := range file.Services().Len() {
			service := file.Services().Get(i)
			for j := range service.Methods().Len() {
				method := service.Methods().Get(j)
				methods++
				p, _ := proto.GetExtension(method.Options(), apiv1.E_Permission).(string)
				if noun, verb, ok := strings.Cut(p, "."); !ok || noun == "" || verb == "" {
					t.Errorf("%s states the permission %q; want noun.verb", method.FullName(), p)
				}
			}
		}
		return true
	}
	protoregistry.GlobalFiles.RangeFilesByPackage("sop.api.v1", look)
	look(pluginv1.File_sop_plugin_v1_host_proto)
	if methods < 10 {
		t.Errorf("only %d methods were looked at", methods)
	}
}

// fakes is everything behind the nexus.
type fakes struct {
	plugins []plugin.Status
	gaps    map[string]*gap.Gap
	filter  gap.Filter
	by      string
}

func (f *fakes) Status() []plugin.Status { return f.plugins }
func (f *fakes) Restart(_ context.Context, id string) error {
	return sdk.Errorf(codes.NotFound, plugin.ReasonUnknown, "there is no plugin %q", id).WithRemedy("look at the list")
}

func (f *fakes) List(_ context.Context, filter gap.Filter) (gap.Page, error) {
	f.filter = filter
	page := gap.Page{Next: "more"}
	for _, g := range f.gaps {
		page.Gaps = append(page.Gaps, g)
	}
	return page, nil
}
func (f *fakes) Counts(context.Context, string) ([]gap.Count, error) { return nil, nil }
func (f *fakes) Get(_ context.Context, ref string) (*gap.Gap, error) {
	if g, ok := f.gaps[ref]; ok {
		return g, nil
	}
	return nil, gap.NotFound(ref)
}

func (f *fakes) Suppress(_ context.Context, ref, by, reason string, until *time.Time) (*gap.Gap, error) {
	if f.gaps[ref] == nil {
		return nil, gap.NotFound(ref)
	}
	g := *f.gaps[ref]
	f.by = by
	g.State, g.Suppression = gap.StateSuppressed, &gap.Suppression{Reason: reason, Until: until, By: by}
	return &g, nil
}

func (f *fakes) CheckSuppress(ctx context.Context, ref, _, _ string, _ *time.Time) (*gap.Gap, error) {
	return f.Get(ctx, ref)
}

func (f *fakes) CheckReopen(ctx context.Context, ref, _, _ string) (*gap.Gap, error) {
	return f.Get(ctx, ref)
}

func (f *fakes) CheckAcknowledge(ctx context.Context, ref, _, _ string) (*gap.Gap, error) {
	return f.Get(ctx, ref)
}

func (f *fakes) Acknowledge(_ context.Context, ref, by, _ string) (*gap.Gap, error) {
	if f.gaps[ref] == nil {
		return nil, gap.NotFound(ref)
	}
	g := *f.gaps[ref]
	f.by, g.State = by, gap.StateAcknowledged
	return &g, nil
}

func (f *fakes) Reopen(context.Context, string, string, string) (*gap.Gap, error) {
	return nil, errors.New("a plain error")
}

// serve serves f on a socket and returns an HTTP client of it.
func serve(t *testing.T, f *fakes) *http.Client {
	t.Helper()
	return serveWith(t, f, &fakeLog{})
}

func serveWith(t *testing.T, f *fakes, log nexus.Audit) *http.Client {
	t.Helper()
	// A long path: the socket's address does not fit it.
	path := filepath.Join(t.TempDir(), strings.Repeat("d", 100), "sop.sock")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	server := NewServer(&nexus.Nexus{Plugins: f, Gaps: f, Audit: log, Logger: hclog.NewNullLogger()})
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return Dial(ctx, path) }}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		if err := server.Shutdown(context.WithoutCancel(t.Context())); err != nil {
			t.Errorf("shut down: %v", err)
		}
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return &http.Client{Transport: transport}
}

func TestGapsOverTheSocket(t *testing.T) {
	f := &fakes{gaps: map[string]*gap.Gap{"1": {
		ID: "1", Rule: "docs.readme", Severity: gap.SeverityHigh, State: gap.StateOpen,
		Location: gap.Location{Path: "a/b", Line: 3, EndLine: 4, Symbol: "S"},
	}}}
	client := apiv1connect.NewGapClient(serve(t, f), "http://sop")
	list, err := client.ListGaps(t.Context(), connect.NewRequest(&apiv1.ListGapsRequest{MinSeverity: "high", Path: "a"}))
	if err != nil {
		t.Fatal(err)
	}
	if g := list.Msg.GetGaps()[0]; g.GetRule() != "docs.readme" || g.GetSeverity() != "high" || g.GetLine() != 3 || list.Msg.GetNextPageToken() == "" || list.Msg.GetNextPageToken() == "more" {
		t.Errorf("got %v", list.Msg)
	}
	if f.filter.Severity != gap.SeverityHigh || f.filter.Path != "a" || len(f.filter.States) == 0 {
		t.Errorf("filter: %+v", f.filter)
	}
	if _, err := client.SuppressGap(t.Context(), connect.NewRequest(&apiv1.SuppressGapRequest{Id: "1", Reason: "known"})); err != nil || !strings.HasPrefix(f.by, "uid:") {
		t.Errorf("suppress by %q: %v", f.by, err)
	}
}

func TestErrorsCarryReasonAndRemedy(t *testing.T) {
	httpClient := serve(t, &fakes{})
	_, err := apiv1connect.NewPluginClient(httpClient, "http://sop").RestartPlugin(t.Context(), connect.NewRequest(&apiv1.RestartPluginRequest{Id: "x"}))
	var ce *connect.Error
	if !errors.As(err, &ce) || ce.Code() != connect.CodeNotFound || len(ce.Details()) != 2 {
		t.Fatalf("got %v", err)
	}
	if e := apierr.Decode(ce); e.Reason != plugin.ReasonUnknown || e.Remedy != "look at the list" || e.Retryable {
		t.Errorf("error: %+v", e)
	}
	_, err = apiv1connect.NewGapClient(httpClient, "http://sop").ListGaps(t.Context(), connect.NewRequest(&apiv1.ListGapsRequest{States: []string{"lost"}}))
	if connect.CodeOf(err) != connect.CodeInvalidArgument {
		t.Errorf("unknown state: %v", err)
	}
	if errors.As(err, &ce); len(apierr.Decode(ce).Fields) != 1 || apierr.Decode(ce).Fields[0].Field != "states" {
		t.Errorf("fields of an unknown state: %+v", apierr.Decode(ce))
	}
}

// What nobody has put into words has a reason and a remedy too, and tells none but
// system agents of the host's files.
func TestEveryErrorHasAReason(t *testing.T) {
	d := &door{nexus: &nexus.Nexus{Logger: hclog.NewNullLogger()}}
	late, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	secret := &fs.PathError{Op: "open", Path: "/srv/secret", Err: syscall.EIO}
	long := fmt.Errorf("look: %w", &fs.PathError{Op: "statat", Path: "/srv/secret/aaa", Err: syscall.ENAMETOOLONG})
	for name, c := range map[string]struct {
		ctx    context.Context
		err    error
		code   connect.Code
		reason string
		tells  bool // of the path
	}{
		"exterior": {nexus.WithCaller(t.Context(), nexus.Caller{Name: "bot", Trust: nexus.Exterior}), secret, connect.CodeUnknown, "INTERNAL", false},
		"system":   {nexus.WithCaller(t.Context(), nexus.Caller{Name: "me", Trust: nexus.System}), secret, connect.CodeUnknown, "INTERNAL", true},
		"too long": {t.Context(), long, connect.CodeInvalidArgument, "NAME_TOO_LONG", false},
		"deadline": {t.Context(), fmt.Errorf("verify: %w", context.DeadlineExceeded), connect.CodeDeadlineExceeded, "CALL_TIMEOUT", false},
		"in words": {late, errors.New("/srv/secret: interrupted (9)"), connect.CodeDeadlineExceeded, "CALL_TIMEOUT", false},
		"canceled": {t.Context(), context.Canceled, connect.CodeCanceled, "CALL_CANCELED", false},
		"a plugin": {t.Context(), status.Error(codes.FailedPrecondition, "not now"), connect.CodeFailedPrecondition, "FAILED_PRECONDITION", false},
		"its own":  {t.Context(), sdk.Errorf(codes.NotFound, "X", "x"), connect.CodeNotFound, "X", false},
	} {
		var ce *connect.Error
		if !errors.As(d.failed(audit.WithOrigin(c.ctx, audit.Origin{RequestID: "r1"}), c.err), &ce) {
			t.Fatalf("%s: no error of the wire", name)
		}
		e := apierr.Decode(ce)
		if ce.Code() != c.code || e.Reason != c.reason || strings.Contains(ce.Message(), "/srv/secret") != c.tells {
			t.Errorf("%s: %v: %+v", name, ce, e)
		}
		if e.Reason == "INTERNAL" && !strings.Contains(e.Remedy, "r1") {
			t.Errorf("%s: the remedy names no request: %s", name, e.Remedy)
		}
	}
	if d.failed(t.Context(), nil) != nil {
		t.Error("no error has become one")
	}
}

// The same port speaks JSON, which curl can call.
func TestJSON(t *testing.T) {
	httpClient := serve(t, &fakes{plugins: []plugin.Status{{ID: "detector.docs", State: plugin.StateReady, Since: time.Unix(0, 0)}}})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://sop/sop.api.v1.Plugin/ListPlugins", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := httpClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK || !strings.Contains(string(body), `"id":"detector.docs"`) {
		t.Errorf("%s: %s", resp.Status, body)
	}
}

// Who cannot be identified, and who is not the owner, is refused.
func TestStrangersAreRefused(t *testing.T) {
	n := &nexus.Nexus{Logger: hclog.NewNullLogger()}
	if err := n.Authorize(t.Context(), "gap.read"); sdk.FromError(err).Code != codes.Unauthenticated {
		t.Errorf("nobody: %v", err)
	}
	stranger := nexus.WithCaller(t.Context(), nexus.PeerCaller(54321, 0))
	if err := n.Authorize(stranger, "gap.read"); sdk.FromError(err).Code != codes.PermissionDenied {
		t.Errorf("stranger: %v", err)
	}
	owner := nexus.WithCaller(t.Context(), nexus.PeerCaller(0, 0))
	if err := n.Authorize(owner, ""); sdk.FromError(err).Code != codes.PermissionDenied {
		t.Errorf("a method that states no permission: %v", err)
	}
	if err := n.Authorize(owner, "gap.read"); err != nil {
		t.Errorf("root: %v", err)
	}
}
