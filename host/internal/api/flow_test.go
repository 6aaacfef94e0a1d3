package api

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sop-host/sop/host/internal/answer"
	"github.com/sop-host/sop/host/internal/api/apierr"
	"github.com/sop-host/sop/host/internal/audit"
	"github.com/sop-host/sop/host/internal/event"
	"github.com/sop-host/sop/host/internal/gap"
	"github.com/sop-host/sop/host/internal/nexus"
	"github.com/sop-host/sop/host/internal/store"
	"github.com/sop-host/sop/host/internal/token"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
	"github.com/sop-host/sop/proto/sop/api/v1/apiv1connect"
	"github.com/sop-host/sop/sdk"
)

// Every method that changes something takes an idempotency key and can be asked
// to check only, and no other does.
func TestMutationsTakeKeyAndValidateOnly(t *testing.T) {
	mutations := 0
	protoregistry.GlobalFiles.RangeFilesByPackage("sop.api.v1", func(file protoreflect.FileDescriptor) bool {
		for i := range file.Services().Len() {
			methods := file.Services().Get(i).Methods()
			for j := range methods.Len() {
				m := methods.Get(j)
				p, _ := proto.GetExtension(m.Options(), apiv1.E_Permission).(string)
				key, check := m.Input().Fields().ByName("idempotency_key"), m.Input().Fields().ByName("validate_only")
				if changes(p) != (key != nil) || changes(p) != (check != nil) {
					t.Errorf("%s takes %s: key %v, validate_only %v", m.FullName(), p, key != nil, check != nil)
				}
				if changes(p) {
					mutations++
					if (m.IsStreamingServer() || m.IsStreamingClient()) && m.Name() != "StreamProtocol" { // whose key the token keeps
						t.Errorf("%s changes something and is a stream", m.FullName())
					}
				}
			}
		}
		return true
	})
	if mutations < 10 {
		t.Errorf("only %d mutations", mutations)
	}
}

// Every list is narrowed, ordered and paged in the same way.
func TestListsAreAlike(t *testing.T) {
	lists := 0
	protoregistry.GlobalFiles.RangeFilesByPackage("sop.api.v1", func(file protoreflect.FileDescriptor) bool {
		for i := range file.Services().Len() {
			methods := file.Services().Get(i).Methods()
			for j := range methods.Len() {
				m := methods.Get(j)
				if !strings.HasPrefix(string(m.Name()), "List") {
					continue
				}
				lists++
				for field, kind := range map[protoreflect.Name]protoreflect.Kind{
					"filter": protoreflect.StringKind, "order_by": protoreflect.StringKind,
					"page_size": protoreflect.Int32Kind, "page_token": protoreflect.StringKind,
				} {
					if f := m.Input().Fields().ByName(field); f == nil || f.Kind() != kind || f.IsList() {
						t.Errorf("%s has no %s", m.FullName(), field)
					}
				}
				if m.Output().Fields().ByName("next_page_token") == nil {
					t.Errorf("the answer of %s has no next_page_token", m.FullName())
				}
			}
		}
		return true
	})
	if lists < 8 {
		t.Errorf("only %d lists", lists)
	}
}

// site is a server with a real store behind it, which can be started again.
type site struct {
	t      *testing.T
	dir    string
	db     *store.DB
	bus    event.Bus
	server *Server
	served chan error
	client *http.Client
}

func newSite(t *testing.T, opts ...Option) *site {
	s := &site{t: t, dir: t.TempDir()}
	db, err := store.Open(t.Context(), filepath.Join(s.dir, "sop.db"))
	if err != nil {
		t.Fatal(err)
	}
	s.db = db
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	s.start(opts...)
	return s
}

func (s *site) start(opts ...Option) {
	s.t.Helper()
	key, err := token.LoadKey(filepath.Join(s.dir, "token.key"))
	if err != nil {
		s.t.Fatal(err)
	}
	tokens, err := token.NewService(s.t.Context(), s.db.Tokens(), token.Options{Key: key})
	if err != nil {
		s.t.Fatal(err)
	}
	auditKey, err := audit.LoadKey(s.dir)
	if err != nil {
		s.t.Fatal(err)
	}
	log, err := audit.NewLog(audit.Options{Store: s.db.Audit(), Key: auditKey})
	if err != nil {
		s.t.Fatal(err)
	}
	keeper, err := answer.NewKeeper(s.t.Context(), s.db.Answers(), key.Derive("answers"), nil)
	if err != nil {
		s.t.Fatal(err)
	}
	opts = append([]Option{WithAnswers(keeper), WithPageKey(key.Derive("pages"))}, opts...)
	s.server = NewServer(&nexus.Nexus{
		Plugins: &fakes{}, Gaps: gap.NewService(s.db.Gaps(), &s.bus), Tokens: tokens, Audit: log, Events: s.db.Events(), Logger: hclog.NewNullLogger(),
	}, opts...)
	listener, err := Listen(s.socket())
	if err != nil {
		s.t.Fatal(err)
	}
	s.served = make(chan error, 1)
	server, served := s.server, s.served
	go func() { served <- server.Serve(listener) }()
	transport := &http.Transport{MaxIdleConnsPerHost: 64, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return Dial(ctx, s.socket()) }}
	s.client = &http.Client{Transport: transport}
	s.t.Cleanup(func() {
		transport.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(s.t.Context()), time.Second)
		defer cancel()
		if err := errors.Join(server.Shutdown(ctx), <-served); err != nil {
			s.t.Errorf("stop: %v", err)
		}
	})
}

func (s *site) socket() string { return filepath.Join(s.dir, "sop.sock") }

func (s *site) gaps() apiv1connect.GapClient {
	return apiv1connect.NewGapClient(s.client, "http://sop")
}

func (s *site) tokens() apiv1connect.TokenClient {
	return apiv1connect.NewTokenClient(s.client, "http://sop")
}

func (s *site) events() apiv1connect.EventClient {
	return apiv1connect.NewEventClient(s.client, "http://sop")
}

// find puts n open gaps with these ids in the store.
func (s *site) find(from, to int) {
	s.t.Helper()
	var gaps []*gap.Gap
	var changes []gap.Change
	for i := from; i < to; i++ {
		g := &gap.Gap{
			ID: fmt.Sprintf("gap%06d", i), Fingerprint: fmt.Sprint("g1:", i), Workspace: "main", Rule: "r", Severity: gap.Severity(i%5 + 1), Confidence: 1,
			State: gap.StateOpen, Location: gap.Location{Path: fmt.Sprintf("dir%d/%d", i%7, i)}, Message: strings.Repeat("m", 200),
		}
		gaps = append(gaps, g)
		changes = append(changes, gap.Change{GapID: g.ID, At: time.Unix(1, 0), To: gap.StateOpen, By: "scan 1"})
	}
	if err := s.db.Gaps().Update(context.WithoutCancel(s.t.Context()), func(tx gap.Tx) error { return tx.Put(context.Background(), gaps, changes) }); err != nil {
		s.t.Fatal(err)
	}
}

func wireReason(err error) string {
	var ce *connect.Error
	if !errors.As(err, &ce) {
		return fmt.Sprint(err)
	}
	return apierr.Decode(ce).Reason
}

func issueRequest(key string) *connect.Request[apiv1.IssueTokenRequest] {
	return connect.NewRequest(&apiv1.IssueTokenRequest{
		Spec: &apiv1.TokenSpec{Type: "operation", Operations: []string{"op"}}, IdempotencyKey: key,
	})
}

func TestOneKeyIsOneEffect(t *testing.T) {
	s := newSite(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	secrets := make(map[string]int)
	for range 64 {
		wg.Go(func() {
			answer, err := s.tokens().IssueToken(t.Context(), issueRequest("one"))
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			secrets[answer.Msg.GetSecret()]++
		})
	}
	wg.Wait()
	list, err := s.tokens().ListTokens(t.Context(), connect.NewRequest(&apiv1.ListTokensRequest{}))
	if err != nil || len(list.Msg.GetTokens()) != 1 || len(secrets) != 1 {
		t.Fatalf("%d tokens, %d secrets, %v", len(list.Msg.GetTokens()), len(secrets), err)
	}
	other := issueRequest("one")
	other.Msg.Spec.Type = "test"
	if _, err := s.tokens().IssueToken(t.Context(), other); wireReason(err) != "IDEMPOTENCY_KEY_REUSED" || connect.CodeOf(err) != connect.CodeAlreadyExists {
		t.Errorf("the key for another request: %v", err)
	}
	// A final error is an answer too, and it stays when its cause has gone.
	suppress := &apiv1.SuppressGapRequest{Id: "gap000001", Reason: "r", IdempotencyKey: "two"}
	_, first := s.gaps().SuppressGap(t.Context(), connect.NewRequest(suppress))
	s.find(1, 2)
	_, second := s.gaps().SuppressGap(t.Context(), connect.NewRequest(suppress))
	if wireReason(first) != "GAP_NOT_FOUND" || wireReason(second) != "GAP_NOT_FOUND" {
		t.Errorf("%v, then %v", first, second)
	}
	var ce *connect.Error
	if errors.As(second, &ce); ce.Meta().Get(repeatedHeader) != "true" || apierr.Decode(ce).Remedy == "" {
		t.Errorf("the repeated error: %v %+v", ce.Meta(), apierr.Decode(ce))
	}
}

// Whoever goes away while it is served gets the answer when it comes back.
func TestCallerThatGoesAway(t *testing.T) {
	s := newSite(t)
	for i := range 20 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*100*time.Microsecond)
		key := fmt.Sprint("k", i)
		_, _ = s.tokens().IssueToken(ctx, issueRequest(key)) // whether or not it comes that far
		cancel()
		if _, err := s.tokens().IssueToken(t.Context(), issueRequest(key)); err != nil {
			t.Errorf("%s again: %v", key, err)
		}
	}
	list, err := s.tokens().ListTokens(t.Context(), connect.NewRequest(&apiv1.ListTokensRequest{}))
	if err != nil || len(list.Msg.GetTokens()) != 20 {
		t.Errorf("%d tokens, %v", len(list.Msg.GetTokens()), err)
	}
}

func TestValidateOnlyChangesNothing(t *testing.T) {
	s := newSite(t)
	s.find(1, 2)
	gaps, tokens, ctx := s.gaps(), s.tokens(), t.Context()
	issued, err := tokens.IssueToken(ctx, connect.NewRequest(&apiv1.IssueTokenRequest{Spec: &apiv1.TokenSpec{Type: "todo", Operations: []string{"op"}}}))
	if err != nil {
		t.Fatal(err)
	}
	secret, id := issued.Msg.GetSecret(), issued.Msg.GetToken().GetId()
	_, before, err := s.db.Events().Bounds(ctx)
	if err != nil {
		t.Fatal(err)
	}
	until := timestamppb.New(time.Unix(1, 0))
	for name, call := range map[string]struct {
		do   func() error
		want string
	}{
		"suppress": {func() error {
			_, err := gaps.SuppressGap(ctx, connect.NewRequest(&apiv1.SuppressGapRequest{Id: "gap000001", Reason: "r", ValidateOnly: true}))
			return err
		}, ""},
		"suppress, past": {func() error {
			_, err := gaps.SuppressGap(ctx, connect.NewRequest(&apiv1.SuppressGapRequest{Id: "gap000001", Reason: "r", Until: until, ValidateOnly: true}))
			return err
		}, "GAP_UNTIL_PAST"},
		"acknowledge": {func() error {
			_, err := gaps.AcknowledgeGap(ctx, connect.NewRequest(&apiv1.AcknowledgeGapRequest{Id: "gap000001", ValidateOnly: true}))
			return err
		}, ""},
		"acknowledge, unknown": {func() error {
			_, err := gaps.AcknowledgeGap(ctx, connect.NewRequest(&apiv1.AcknowledgeGapRequest{Id: "none", ValidateOnly: true}))
			return err
		}, "GAP_NOT_FOUND"},
		"reopen, open": {func() error {
			_, err := gaps.ReopenGap(ctx, connect.NewRequest(&apiv1.ReopenGapRequest{Id: "gap000001", ValidateOnly: true}))
			return err
		}, "GAP_TRANSITION"},
		"revoke": {func() error {
			_, err := tokens.RevokeToken(ctx, connect.NewRequest(&apiv1.RevokeTokenRequest{Id: id, ValidateOnly: true}))
			return err
		}, ""},
		"renew, too long": {func() error {
			_, err := tokens.RenewToken(ctx, connect.NewRequest(&apiv1.RenewTokenRequest{Id: "none", ValidateOnly: true}))
			return err
		}, "TOKEN_NOT_FOUND"},
		"consume": {func() error {
			_, err := tokens.ConsumeToken(ctx, connect.NewRequest(&apiv1.ConsumeTokenRequest{Secret: secret, Use: &apiv1.TokenUse{Operation: "op"}, ValidateOnly: true}))
			return err
		}, ""},
		"consume, other": {func() error {
			_, err := tokens.ConsumeToken(ctx, connect.NewRequest(&apiv1.ConsumeTokenRequest{Secret: secret, Use: &apiv1.TokenUse{Operation: "x"}, ValidateOnly: true}))
			return err
		}, "TOKEN_WRONG_OPERATION"},
		"child": {func() error {
			_, err := tokens.IssueChildToken(ctx, connect.NewRequest(&apiv1.IssueChildTokenRequest{Secret: secret, Spec: &apiv1.TokenSpec{}, ValidateOnly: true}))
			return err
		}, ""},
		"child, wider": {func() error {
			_, err := tokens.IssueChildToken(ctx, connect.NewRequest(&apiv1.IssueChildTokenRequest{Secret: secret, Spec: &apiv1.TokenSpec{Operations: []string{"x"}}, ValidateOnly: true}))
			return err
		}, "TOKEN_WIDER"},
	} {
		if err := call.do(); err == nil && call.want != "" || err != nil && wireReason(err) != call.want {
			t.Errorf("%s: %v, want %q", name, err, call.want)
		}
	}
	_, after, err := s.db.Events().Bounds(ctx)
	if err != nil || before != after {
		t.Errorf("events went from %d to %d, %v", before, after, err)
	}
	if got, err := tokens.GetToken(ctx, connect.NewRequest(&apiv1.GetTokenRequest{Id: id})); err != nil || got.Msg.GetToken().GetUses() != 0 || got.Msg.GetToken().GetReserved() != 0 {
		t.Errorf("the token is %v, %v", got, err)
	}
}

// The log tells what was only checked from what was done.
func TestChecksAreRecordedAsSuch(t *testing.T) {
	s := newSite(t)
	s.find(1, 2)
	for _, check := range []bool{true, false} {
		if _, err := s.gaps().SuppressGap(t.Context(), connect.NewRequest(&apiv1.SuppressGapRequest{Id: "gap000001", Reason: "r", ValidateOnly: check})); err != nil {
			t.Fatal(err)
		}
	}
	page, err := s.db.Audit().List(t.Context(), audit.Filter{Action: "access.gap.suppress"})
	if err != nil || len(page.Records) != 2 {
		t.Fatal(len(page.Records), err)
	}
	checks := 0
	for _, r := range page.Records {
		if r.Attributes["validate_only"] == "true" {
			checks++
		}
	}
	if checks != 1 {
		t.Errorf("%d of 2 records are of a check", checks)
	}
}

// Paging through many gaps shows each one that was there all the time, once,
// whatever comes and goes meanwhile.
func TestPagesWhileGapsChange(t *testing.T) {
	s := newSite(t)
	s.find(0, 2_000)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 20_000; i < 22_000; i += 50 { // more would be read for ever on a slow machine
			select {
			case <-stop:
				return
			default:
			}
			s.find(i, i+50)
		}
	})
	req := &apiv1.ListGapsRequest{PageSize: 97, Filter: `rule = r AND NOT path : dir3`, OrderBy: "path desc, severity"}
	seen := make(map[string]int)
	for {
		page, err := s.gaps().ListGaps(t.Context(), connect.NewRequest(req))
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range page.Msg.GetGaps() {
			seen[g.GetId()]++
		}
		if req.PageToken = page.Msg.GetNextPageToken(); req.PageToken == "" {
			break
		}
	}
	close(stop)
	wg.Wait()
	for i := range 2_000 {
		want := 1
		if i%7 == 3 {
			want = 0
		}
		if id := fmt.Sprintf("gap%06d", i); seen[id] != want {
			t.Fatalf("%s was shown %d times", id, seen[id])
		}
	}
	for id, n := range seen {
		if n > 1 {
			t.Fatalf("%s was shown %d times", id, n)
		}
	}
}

func TestPageTokensHoldForTheirRequest(t *testing.T) {
	s := newSite(t)
	s.find(0, 30)
	list := func(req *apiv1.ListGapsRequest) (*connect.Response[apiv1.ListGapsResponse], error) {
		return s.gaps().ListGaps(t.Context(), connect.NewRequest(req))
	}
	first, err := list(&apiv1.ListGapsRequest{PageSize: 10, Filter: "severity > info"})
	if err != nil || first.Msg.GetTotal() != 24 {
		t.Fatalf("%v, %v", first, err)
	}
	next := first.Msg.GetNextPageToken()
	if page, err := list(&apiv1.ListGapsRequest{PageSize: 20, Filter: "severity > info", PageToken: next}); err != nil || len(page.Msg.GetGaps()) != 14 {
		t.Errorf("another size of page: %v", err)
	}
	changed := []byte(next)
	changed[len(changed)/2] ^= 1
	for name, req := range map[string]*apiv1.ListGapsRequest{
		"another filter": {Filter: "severity > low", PageToken: next},
		"another order":  {Filter: "severity > info", OrderBy: "path", PageToken: next},
		"another state":  {Filter: "severity > info", States: []string{"open"}, PageToken: next},
		"changed":        {Filter: "severity > info", PageToken: string(changed)},
		"made up":        {PageToken: "eyJhIjoxfQ"},
		"long":           {PageToken: strings.Repeat("A", maxPageToken+1)},
	} {
		if _, err := list(req); wireReason(err) != "PAGE_TOKEN" || connect.CodeOf(err) != connect.CodeInvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err = list(&apiv1.ListGapsRequest{Filter: "severity >= hgih"})
	if wireReason(err) != "FILTER_INVALID" || !strings.Contains(err.Error(), "column 13") || !strings.Contains(err.Error(), "\n            ^") {
		t.Errorf("%v", err)
	}
}

// What asks for nothing that there is, is told so.
func TestPageSizesAndKindsAreChecked(t *testing.T) {
	s := newSite(t)
	if _, err := s.gaps().ListGaps(t.Context(), connect.NewRequest(&apiv1.ListGapsRequest{PageSize: -1})); wireReason(err) != "PAGE_SIZE" {
		t.Errorf("a negative page: %v", err)
	}
	for kind, want := range map[string]bool{"gap": true, "gap.open": true, "plugin.snapshot.prune": true, "gapp": false, "gap.op": false, "": false} {
		if isKind(kind) != want {
			t.Errorf("%q is a kind: %t", kind, !want)
		}
	}
	stream, err := s.events().Watch(t.Context(), connect.NewRequest(&apiv1.WatchRequest{Kinds: []string{"gapp"}}))
	if err != nil {
		t.Fatal(err)
	}
	if stream.Receive() || wireReason(stream.Err()) != "EVENT_KINDS" {
		t.Errorf("an unknown kind: %v", stream.Err())
	}
	_ = stream.Close()
}

func FuzzPageToken(f *testing.F) {
	p := &pages{key: []byte("key")}
	f.Add("")
	f.Add("AAAAAAAAAAAAAAAAAAAAAAAA")
	f.Fuzz(func(t *testing.T, text string) {
		req := &apiv1.ListGapsRequest{PageToken: text}
		if err := p.open(req.ProtoReflect(), []byte("digest")); err == nil && text != "" {
			t.Errorf("%q was taken for a token", text)
		}
	})
}

func from(revision int64) *connect.Request[apiv1.WatchRequest] {
	return connect.NewRequest(&apiv1.WatchRequest{FromRevision: &revision, Kinds: []string{"gap"}})
}

func TestWatch(t *testing.T) {
	s := newSite(t)
	s.find(0, 600)
	var seen []int64
	at := int64(0)
	for len(seen) < 1200 { // again and again from the last revision
		ctx, cancel := context.WithCancel(t.Context())
		stream, err := s.events().Watch(ctx, from(at))
		if err != nil {
			t.Fatal(err)
		}
		for range 250 {
			if !stream.Receive() {
				t.Fatal(stream.Err())
			}
			at = stream.Msg().GetRevision()
			if e := stream.Msg().GetEvent(); e != nil {
				seen = append(seen, e.GetRevision())
			}
			if len(seen) == 600 {
				s.find(600, 1200)
			}
			if len(seen) == 1200 {
				break
			}
		}
		cancel()
		_ = stream.Close() // it was cut
	}
	for i, r := range seen {
		if r != int64(i)+1 {
			t.Fatalf("event %d has revision %d", i, r)
		}
	}
	stream, err := s.events().Watch(t.Context(), from(5000))
	if err == nil && stream.Receive() || wireReason(errors.Join(err, stream.Err())) != "EVENT_REVISION" {
		t.Errorf("a revision that is to come: %v %v", err, stream.Err())
	}
	_ = stream.Close()
}

// old is a journal of which the beginning is gone.
type old struct{ nexus.Events }

func (old) Bounds(context.Context) (first, last int64, err error) { return 101, 200, nil }

func TestWatchOfWhatIsGone(t *testing.T) {
	w := &watcher{events: old{}, send: func(*apiv1.WatchResponse) error { return nil }}
	revision := int64(50)
	var ce *connect.Error
	if !errors.As(wireError(w.begin(t.Context(), &revision)), &ce) || ce.Code() != connect.CodeOutOfRange || apierr.Decode(ce).Metadata["earliest_revision"] != "100" {
		t.Errorf("%v", ce)
	}
	revision = 100
	if err := w.begin(t.Context(), &revision); err != nil {
		t.Error(err)
	}
	w.caught = true
	err := w.pass([]*event.Record{{Revision: 105}}) // deleted while it was waited for
	if !errors.As(wireError(err), &ce) || ce.Code() != connect.CodeResourceExhausted || apierr.Decode(ce).Metadata["resume_revision"] != "100" {
		t.Errorf("%v", err)
	}
}

// A reader that stops reading is cut off; others and writers do not notice.
func TestSlowReaderIsCutOff(t *testing.T) {
	s := newSite(t)
	s.server.http.Handler.(*patience).write = 300 * time.Millisecond
	conn, err := Dial(t.Context(), s.socket())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	body := "\x00\x00\x00\x00\x15" + `{"from_revision":"0"}`
	_, err = fmt.Fprintf(conn, "POST /sop.api.v1.Event/Watch HTTP/1.1\r\nHost: sop\r\nContent-Type: application/connect+json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	if err != nil {
		t.Fatal(err)
	}
	quick, err := s.events().Watch(t.Context(), from(0))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = quick.Close() }()
	const events = 6000
	done := make(chan error, 1)
	go func() {
		for at := int64(0); at < events; at = quick.Msg().GetRevision() {
			if !quick.Receive() {
				done <- quick.Err()
				return
			}
		}
		done <- nil
	}()
	for i := 0; i < events; i += 1000 {
		s.find(i, i+1000)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	// What was on its way is there, and then nothing.
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	waitReleased(t, s)
	n, err := io.Copy(io.Discard, bufio.NewReader(conn))
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the slow reader's connection: %v", err)
	}
	if n > events*100 {
		t.Errorf("the slow reader got all %d bytes", n)
	}
}

// waitReleased waits until one stream of two is left.
func waitReleased(t *testing.T, s *site) {
	t.Helper()
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if s.server.limiter.open() == 1 {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatal("the slow reader was not cut off")
		}
	}
}

func limits(change func(*Limits)) Option {
	l := DefaultLimits()
	change(&l)
	return WithLimits(func() Limits { return l })
}

func TestRateLimit(t *testing.T) {
	s := newSite(t, limits(func(l *Limits) { l.RequestsPerSecond, l.Burst, l.LimitSystem = 1, 5, true }))
	refused := 0
	for range 20 {
		_, err := s.gaps().ListGaps(t.Context(), connect.NewRequest(&apiv1.ListGapsRequest{}))
		var ce *connect.Error
		if errors.As(err, &ce) {
			refused++
			if e := apierr.Decode(ce); e.Reason != "RATE_LIMITED" || !e.Retryable || e.RetryAfter <= 0 || e.RetryAfter > time.Second {
				t.Fatalf("%+v", e)
			}
		}
	}
	if refused < 10 || refused > 15 {
		t.Errorf("%d of 20 calls were refused", refused)
	}
	s.server.limiter.flush() // as when the server stops, or it is time
	page, err := s.db.Audit().List(t.Context(), audit.Filter{Action: "access.limit"})
	recorded := 0
	for _, r := range page.Records {
		n, _ := strconv.Atoi(r.Attributes["refused"])
		recorded += n
	}
	if err != nil || len(page.Records) != 2 || recorded != refused {
		t.Errorf("%d records of %d of %d refusals, %v", len(page.Records), recorded, refused, err)
	}
}

// What plugins and sandboxes work on is bounded by their own limits, not by that
// of a call.
func TestTimeOfCalls(t *testing.T) {
	for permission, want := range map[string]time.Duration{
		"gap.read": time.Minute, "workspace.scan": time.Hour, "run.start": time.Minute,
		"run.try": 24 * time.Hour, "patch.rollback": 24 * time.Hour, "backup.restore": 24 * time.Hour,
	} {
		if got := timeoutOf(permission); got != want {
			t.Errorf("%s may take %s; want %s", permission, got, want)
		}
	}
}

func TestLimitsOfStreamsAndConnections(t *testing.T) {
	s := newSite(t, limits(func(l *Limits) { l.MaxStreams, l.MaxConnections = 2, 8 }))
	var streams []*connect.ServerStreamForClient[apiv1.WatchResponse]
	watch := func() error {
		stream, err := s.events().Watch(t.Context(), from(0))
		if err != nil {
			return err
		}
		streams = append(streams, stream)
		if stream.Receive() {
			return nil
		}
		return stream.Err()
	}
	for range 2 {
		if err := watch(); err != nil {
			t.Fatal(err)
		}
	}
	if err := watch(); wireReason(err) != "TOO_MANY_STREAMS" {
		t.Errorf("the third stream: %v", err)
	}
	if _, err := s.gaps().ListGaps(t.Context(), connect.NewRequest(&apiv1.ListGapsRequest{})); err != nil {
		t.Errorf("a call beside the streams: %v", err)
	}
	var conns []net.Conn
	cut := 0
	for range 12 {
		conn, err := Dial(t.Context(), s.socket())
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
	}
	for _, conn := range conns {
		_ = conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		if _, err := conn.Read(make([]byte, 1)); errors.Is(err, io.EOF) {
			cut++
		}
		_ = conn.Close()
	}
	if cut < 4 {
		t.Errorf("%d of 12 connections were cut", cut)
	}
	for _, stream := range streams {
		_ = stream.Close()
	}
}

// Whoever is unknown is counted by where it calls from: one address that floods
// takes nothing from another, nor from those who are known.
func TestUnknownCallersAreCountedBySource(t *testing.T) {
	log := &fakeLog{}
	l := newLimiter(func() Limits { return Limits{RequestsPerSecond: 1, Burst: 3, MaxStreams: 1} }, log)
	at := time.Now()
	l.now = func() time.Time { return at }
	from := func(source string) context.Context {
		return context.WithValue(t.Context(), connectionKey{}, connection{source: source})
	}
	admitted := func(ctx context.Context) int {
		n := 0
		for range 10 {
			if _, err := l.admit(ctx, false); err == nil {
				n++
			} else if e := sdk.FromError(err); e.Reason != "RATE_LIMITED" || e.RetryAfter <= 0 {
				t.Fatal(err)
			}
		}
		return n
	}
	known := nexus.WithCaller(from("192.0.2.1"), nexus.Caller{Name: "agent-7", Trust: nexus.Exterior})
	for _, ctx := range []context.Context{from("192.0.2.1"), from("192.0.2.2"), known} {
		if n := admitted(ctx); n != 3 {
			t.Errorf("%d calls of 10 were let in, want 3", n)
		}
	}
	if n := admitted(from("192.0.2.1")); n != 0 {
		t.Errorf("%d more calls were let in", n)
	}
	var sources []string
	for _, r := range log.all() {
		sources = append(sources, r.Actor+" "+r.Attributes["source"])
	}
	if want := []string{"unauthenticated 192.0.2.1", "unauthenticated 192.0.2.2", "agent-7 192.0.2.1"}; !slices.Equal(sources, want) {
		t.Errorf("recorded %q, want %q", sources, want)
	}
}

func TestLimiterForgets(t *testing.T) {
	l := newLimiter(DefaultLimits, nil)
	for i := range maxCallers + 100 {
		ctx := nexus.WithCaller(t.Context(), nexus.Caller{Name: fmt.Sprint("agent", i)})
		if _, err := l.admit(ctx, i == 0); err != nil {
			t.Fatal(err)
		}
	}
	if len(l.callers) != maxCallers || l.recent.Len() != maxCallers || l.callers["agent0"] == nil {
		t.Errorf("%d callers are remembered, with a stream: %v", len(l.callers), l.callers["agent0"])
	}
}

// A caller that sends its request too slowly is cut off.
func TestSlowWriterIsCutOff(t *testing.T) {
	s := newSite(t)
	s.server.http.Handler.(*patience).body = 100 * time.Millisecond
	conn, err := Dial(t.Context(), s.socket())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := io.WriteString(conn, "POST /sop.api.v1.Gap/ListGaps HTTP/1.1\r\nHost: sop\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil || !bytes.Contains(answer, []byte("HTTP/1.1 ")) || bytes.Contains(answer, []byte("200 OK")) {
		t.Errorf("%s, %v", answer, err)
	}
}

// few is a journal of three events, which ends there.
type few struct{}

func (few) Bounds(context.Context) (first, last int64, err error) { return 1, 3, nil }
func (few) Changed() <-chan struct{}                              { return nil }
func (few) After(_ context.Context, revision int64, _ int) (page []*event.Record, err error) {
	for n := revision + 1; n <= 3; n++ {
		page = append(page, &event.Record{Revision: n, Kind: "gap.open"})
	}
	if page == nil {
		err = sdk.Errorf(codes.Unavailable, "TEST_END", "there are no more")
	}
	return page, err
}

// Whatever is sent, the server answers, and an error says why.
func FuzzRequests(f *testing.F) {
	dir := f.TempDir()
	l, err := Listen(filepath.Join(dir, "s"))
	if err != nil {
		f.Fatal(err)
	}
	server := NewServer(&nexus.Nexus{Plugins: &fakes{}, Gaps: &fakes{}, Audit: &fakeLog{}, Events: few{}, Logger: hclog.NewNullLogger()})
	go func() { _ = server.Serve(l) }()
	f.Cleanup(func() { _ = server.http.Close() })
	handler := server.http.Handler
	methods := []string{"Gap/ListGaps", "Gap/SuppressGap", "Plugin/ListPlugins", "Audit/ListRecords", "Audit/ExportRecords", "Event/Watch", "Token/None"}
	for i, seed := range []string{`{}`, `{"filter":"severity > low"}`, `{"page_token":"x"}`, `{`, "\x00\x00\x00\x00\x02{}", "\x01\xff\xff\xff\xff", "\x1f\x8b\x08\x00", "\x0a\xff\xff\xff\xff\x0f", `{"fromRevision":"-1"}`} {
		f.Add(i, "application/json", "", []byte(seed))
		f.Add(i, "application/proto", "gzip", []byte(seed))
		f.Add(i, "application/connect+json", "identity", []byte(seed))
		f.Add(i, "application/grpc+proto", "gzip", []byte(seed))
		f.Add(i, "application/grpc-web+json", "br", []byte(seed))
	}
	f.Add(5, "AppliCAtion/ConneCt+json", "", []byte("\x00\x00\x00\x00\x02{}")) // watches to the end
	f.Add(3, "application/grpc+json", "", []byte("\x00\x00\x00\x00\x01\x88"))  // is quoted, and no UTF-8
	f.Fuzz(func(t *testing.T, method int, contentType, encoding string, body []byte) {
		ctx, cancel := context.WithTimeout(nexus.WithCaller(t.Context(), nexus.PeerCaller(0, 1)), time.Second)
		defer cancel()
		name := methods[max(method, -method)&0xff%len(methods)]
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://sop/sop.api.v1."+name, bytes.NewReader(body))
		if err != nil {
			t.Skip(err)
		}
		req.Header.Set("Content-Type", contentType)
		for _, h := range []string{"Content-Encoding", "Connect-Content-Encoding", "Grpc-Encoding"} {
			req.Header.Set(h, encoding)
		}
		out := &kept{header: http.Header{}}
		handler.ServeHTTP(out, req)
		out.check(t)
	})
}

// kept is a response that is looked at.
type kept struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (k *kept) Header() http.Header         { return k.header }
func (k *kept) Write(p []byte) (int, error) { return k.body.Write(p) }
func (k *kept) WriteHeader(status int)      { k.status = status }
func (k *kept) Flush()                      {}

// check asserts that an error has a reason, in the protocol of the answer.
func (k *kept) check(t *testing.T) {
	t.Helper()
	if k.status >= 600 || k.status >= 400 && !bytes.Contains(k.body.Bytes(), []byte(`"google.rpc.ErrorInfo"`)) {
		t.Errorf("status %d, %v: %q", k.status, k.header, k.body.Bytes())
	}
	for _, prefix := range []string{"", http.TrailerPrefix} {
		if code := first(k.header[prefix+"Grpc-Status"]); code != "" && code != "0" && len(k.header[prefix+"Grpc-Status-Details-Bin"]) == 0 {
			t.Errorf("gRPC status %s: %v", code, k.header)
		}
	}
}

func TestListsInMemory(t *testing.T) {
	all := []*apiv1.WorkspaceStatus{{Name: "c", State: "idle"}, {Name: "a", State: "scanning"}, {Name: "b", State: "idle"}}
	var names []string
	req := &apiv1.ListWorkspacesRequest{PageSize: 1, OrderBy: "state desc", Filter: `name != "x*"`}
	for {
		items, next, total, err := workspaceList.page(slices.Clone(all), req)
		if err != nil || total != 3 || len(items) != 1 {
			t.Fatalf("%v %d %v", items, total, err)
		}
		names = append(names, items[0].GetName())
		if req.PageToken = next; next == "" {
			break
		}
	}
	if strings.Join(names, "") != "abc" {
		t.Errorf("%v", names)
	}
	req.PageToken = "AAAA"
	if _, _, _, err := workspaceList.page(all, req); err == nil {
		t.Error("a token that is none was taken")
	}
}
