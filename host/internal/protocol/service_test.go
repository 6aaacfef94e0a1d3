package protocol

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
)

func TestCall(t *testing.T) {
	w := newWorld(t, usual("arp"))
	if got, err := w.ask("arp", `{"a":1}`); err != nil || string(got) != `{"a":1}` { // it waits for the activation
		t.Fatalf("%s, %v", got, err)
	}
	if got, err := w.ask("arp", ""); err != nil || string(got) != "null" {
		t.Errorf("no payload: %s, %v", got, err)
	}
	for name, tt := range map[string]struct {
		call Call
		want string
	}{
		"unknown":         {Call{Protocol: "arq", Operation: "echo"}, ReasonUnknown},
		"no JSON":         {Call{Protocol: "arp", Operation: "echo", Payload: []byte("{")}, ReasonPayload},
		"too large":       {Call{Protocol: "arp", Operation: "echo", Payload: []byte(`"` + strings.Repeat("x", 1000) + `"`)}, ReasonPayload},
		"operation":       {Call{Protocol: "arp", Operation: "a b"}, ReasonOperation},
		"token not taken": {Call{Protocol: "arp", Operation: "echo", Take: func(context.Context) error { return sdk.Errorf(codes.PermissionDenied, "NO", "no") }}, "NO"},
	} {
		if tt.call.Take == nil {
			tt.call.Take = free
		}
		if _, out, err := w.Call(t.Context(), &tt.call); reason(err) != tt.want || out.Sent {
			t.Errorf("%s: %v %+v, want %s", name, err, out, tt.want)
		}
	}
	w.plugins["arp"].handle = func(context.Context, *pluginv1.Call) ([]byte, error) { return []byte("nonsense"), nil }
	if _, err := w.ask("arp", "1"); reason(err) != ReasonResult {
		t.Errorf("a result that is no JSON: %v", err)
	}
	st := w.List(t.Context())
	if len(st) != 1 || st[0].State != StateActive || st[0].Calls != 3 || st[0].Failures != 1 || st[0].Counters["late"] != 1 || st[0].Operations[0] != "echo" {
		t.Errorf("%+v", st[0])
	}
}

func TestStream(t *testing.T) {
	w := newWorld(t, usual("arp"))
	var got []string
	out, err := w.Stream(t.Context(), &Call{Protocol: "arp", Operation: "echo", Payload: []byte("123"), Take: free}, func(piece []byte) error {
		got = append(got, string(piece))
		return nil
	})
	if err != nil || strings.Join(got, " ") != "1 2 3" || !out.Sent {
		t.Errorf("%v, %v, %+v", got, err, out)
	}
	gone := errors.New("the caller has gone")
	if _, err := w.Stream(t.Context(), &Call{Protocol: "arp", Operation: "echo", Payload: []byte("123"), Take: free}, func([]byte) error { return gone }); !errors.Is(err, gone) {
		t.Errorf("%v", err)
	}
}

// Never more are let in than there are places, and never more wait than may.
func TestBounds(t *testing.T) {
	set := usual("arp")
	set.InFlight, set.Queue = 2, 3
	w := newWorld(t, set)
	w.await("arp", StateActive)
	let := make(chan struct{})
	w.plugins["arp"].handle = func(context.Context, *pluginv1.Call) ([]byte, error) {
		<-let
		return []byte("1"), nil
	}
	var served atomic.Int64
	busy := make(chan struct{}, 50)
	var wg sync.WaitGroup
	call := func() {
		switch _, err := w.ask("arp", "1"); {
		case err == nil:
			served.Add(1)
		case reason(err) == ReasonBusy && sdk.FromError(err).Retryable:
			busy <- struct{}{}
		default:
			t.Error(err)
		}
	}
	for range 50 {
		wg.Go(call)
	}
	for range 45 {
		<-busy
	}
	close(let)
	wg.Wait()
	if served.Load() != 5 || len(busy) != 0 || w.plugins["arp"].most.Load() > 2 {
		t.Errorf("%d served, %d more turned away, %d at a time", served.Load(), len(busy), w.plugins["arp"].most.Load())
	}
}

func TestDeadline(t *testing.T) {
	set := usual("arp")
	set.Timeout = 50 * time.Millisecond
	w := newWorld(t, set)
	w.await("arp", StateActive)
	w.plugins["arp"].handle = func(ctx context.Context, _ *pluginv1.Call) ([]byte, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if _, err := w.ask("arp", "1"); reason(err) != ReasonDeadline || sdk.FromError(err).Code != codes.DeadlineExceeded {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := w.Call(ctx, &Call{Protocol: "arp", Operation: "echo", Take: free}); !errors.Is(err, context.Canceled) {
		t.Errorf("the caller's end: %v", err)
	}
}

// A protocol that is taken out lets its calls end, and turns the next away.
func TestDeactivate(t *testing.T) {
	w := newWorld(t, usual("arp"))
	w.await("arp", StateActive)
	begun, let := make(chan struct{}), make(chan struct{})
	w.plugins["arp"].handle = func(context.Context, *pluginv1.Call) ([]byte, error) {
		close(begun)
		<-let
		return []byte("1"), nil
	}
	done := make(chan error, 1)
	go func() {
		_, err := w.ask("arp", "1")
		done <- err
	}()
	<-begun
	out := make(chan error, 1)
	go func() {
		_, err := w.Deactivate(t.Context(), "arp", "uid:0", "release")
		out <- err
	}()
	w.await("arp", StateDeactivating)
	if _, err := w.ask("arp", "1"); reason(err) != ReasonInactive {
		t.Errorf("while it is taken out: %v", err)
	}
	close(let)
	if err := errors.Join(<-done, <-out); err != nil {
		t.Error(err)
	}
	if w.plugins["arp"].deactivated != 1 || w.ended != 1 {
		t.Errorf("deactivated %d times, %d grants ended", w.plugins["arp"].deactivated, w.ended)
	}
	if _, err := w.Activate(t.Context(), "arp", Passive, "uid:0"); err != nil {
		t.Fatal(err)
	}
	if st := w.List(t.Context())[0]; st.Mode != Passive || st.By != "uid:0" {
		t.Errorf("%+v", st)
	}
}

// A call that does not end in time is cut off, with a clear error.
func TestDeactivateCutsOff(t *testing.T) {
	set := usual("arp")
	set.Drain = 20 * time.Millisecond
	w := newWorld(t, set)
	w.await("arp", StateActive)
	begun := make(chan struct{})
	w.plugins["arp"].handle = func(ctx context.Context, _ *pluginv1.Call) ([]byte, error) {
		close(begun)
		<-ctx.Done()
		return nil, ctx.Err()
	}
	done := make(chan error, 1)
	go func() {
		_, err := w.ask("arp", "1")
		done <- err
	}()
	<-begun
	if _, err := w.Deactivate(t.Context(), "arp", "uid:0", ""); err != nil {
		t.Error(err)
	}
	if err := <-done; reason(err) != ReasonDeactivated {
		t.Errorf("%v", err)
	}
}

// The first operation token is earned by the self-test, under one for tests.
func TestSelfTest(t *testing.T) {
	set := usual("arp")
	set.SelfTest = &SelfTest{Operation: "echo", Payload: []byte(`{"n":1,"list":["a"]}`), Expect: []byte(`{"n":"number","list":["string"]}`), Timeout: time.Second}
	w := newWorld(t, set)
	w.await("arp", StateActive)
	if got := strings.Join(w.granted, ", "); got != "test arp, service arp" {
		t.Errorf("granted %s", got)
	}
	if got := strings.Join(w.plugins["arp"].tokens, ", "); got != "test-arp, service-arp" {
		t.Errorf("activated under %s", got)
	}
	if st := w.List(t.Context())[0]; !st.Tested {
		t.Error("it is not said to be tested")
	}
	if got := w.history(); !slices.Equal(got, []State{StateActivating, StateTesting, StateActive}) {
		t.Errorf("went by %v", got)
	}
}

func TestSelfTestFails(t *testing.T) {
	set := usual("arp")
	set.SelfTest = &SelfTest{Operation: "echo", Payload: []byte(`{"n":"one"}`), Expect: []byte(`{"n":"number"}`), Timeout: time.Second}
	w := newWorld(t, set)
	w.await("arp", StateFailed)
	_, err := w.ask("arp", "1")
	if reason(err) != ReasonUnready || !strings.Contains(err.Error(), "the answer.n is not of kind number but string") {
		t.Errorf("%v", err)
	}
	w.mu.Lock()
	filed, granted := slices.Clone(w.filed), slices.Clone(w.granted)
	w.mu.Unlock()
	if len(filed) == 0 || filed[0] != "protocol.arp" || slices.Contains(granted, "service arp") {
		t.Errorf("filed %v, granted %v", filed, granted)
	}
	w.plugins["arp"].failWith(sdk.Errorf(codes.FailedPrecondition, "NO_PEER", "no peer").WithRemedy("start the peer"))
	if _, err := w.Activate(t.Context(), "arp", "", "uid:0"); reason(err) != "NO_PEER" || sdk.FromError(err).Remedy != "start the peer" || strings.Contains(err.Error(), "self-test") {
		t.Errorf("what cannot be activated has not failed its self-test: %v", err)
	}
	w.plugins["arp"].failWith(nil)
	if _, err := w.Activate(t.Context(), "arp", "", "uid:0"); reason(err) != ReasonTestFailed {
		t.Errorf("%v", err)
	}
	if problems := w.Problems(); len(problems) != 1 || !strings.Contains(problems[0], "self-test") {
		t.Errorf("%v", problems)
	}
	if w.plugins["arp"].current() == pluginv1.Mode_MODE_ACTIVE {
		t.Error("it is active")
	}
	mended := usual("arp")
	w.Apply([]Settings{mended})
	if _, err := w.Activate(t.Context(), "arp", "", "uid:0"); err != nil {
		t.Error(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Contains(w.healed, "protocol.arp") {
		t.Errorf("healed %v", w.healed)
	}
}

// A generation that is to take over is tested first, and refused when it fails
// while another serves.
func TestAdmit(t *testing.T) {
	set := usual("arp")
	set.SelfTest = &SelfTest{Operation: "echo", Payload: []byte(`1`), Expect: []byte(`1`), Timeout: time.Second}
	w := newWorld(t, set)
	w.await("arp", StateActive)
	next := &fakePlugin{}
	if err := w.Admit(t.Context(), "arp", 2, next); err != nil || next.current() != pluginv1.Mode_MODE_ACTIVE {
		t.Errorf("%v, %v", err, next.current())
	}
	broken := &fakePlugin{handle: func(context.Context, *pluginv1.Call) ([]byte, error) { return []byte("2"), nil }}
	if err := w.Admit(t.Context(), "arp", 3, broken); reason(err) != ReasonTestFailed {
		t.Errorf("%v", err)
	}
	lonely := &fakePlugin{fail: status.Error(codes.FailedPrecondition, "no peer")}
	if err := w.Admit(t.Context(), "arp", 3, lonely); err == nil || err.Error() != "protocol arp could not be made passive: no peer" {
		t.Errorf("what cannot be activated: %v", err)
	}
	if _, err := w.ask("arp", "1"); err != nil {
		t.Errorf("the one that serves: %v", err)
	}
	if filed, _ := w.asked(); filed != 0 {
		t.Error("maintenance was asked for though one serves")
	}
	// Where none serves any more it is put in service, and tried until it works.
	w.plugins["arp"].goDown(restarting())
	w.Lost("arp")
	sick := &fakePlugin{fail: sdk.Errorf(codes.Unavailable, "SICK", "sick")}
	if err := w.Admit(t.Context(), "arp", 4, sick); err != nil {
		t.Errorf("%v", err)
	}
	w.plugins["arp"].goDown(nil)
	if _, err := w.ask("arp", "1"); err != nil { // the plugin behind the connection is well
		t.Errorf("%v", err)
	}
	if err := w.Admit(t.Context(), "other", 1, next); err != nil {
		t.Errorf("a protocol that is not configured: %v", err)
	}
}

func restarting() error {
	e := sdk.Errorf(codes.Unavailable, "PLUGIN_UNAVAILABLE", "the plugin is not in service (backoff)")
	e.Retryable = true
	return e
}

// A protocol whose plugin has ended is not in service: calls wait for the next
// process, and are refused where there is to be none, for which maintenance is asked.
func TestPluginEnds(t *testing.T) {
	w := newWorld(t, usual("arp"))
	w.await("arp", StateActive)
	plugin := w.plugins["arp"]
	plugin.goDown(restarting())
	w.Lost("arp")
	done := make(chan error, 1)
	go func() {
		_, err := w.ask("arp", "1")
		done <- err
	}()
	w.await("arp", StateFailed)
	plugin.goDown(nil)
	if err := <-done; err != nil {
		t.Errorf("after the restart: %v", err)
	}
	plugin.goDown(sdk.Errorf(codes.Unavailable, "PLUGIN_UNAVAILABLE", "the plugin is not in service (failed)"))
	filed, healed := w.asked()
	w.Lost("arp")
	w.await("arp", StateFailed)
	if _, err := w.ask("arp", "1"); reason(err) != ReasonUnready || !strings.Contains(err.Error(), "(failed)") {
		t.Errorf("it failed for good: %v", err)
	}
	if now, _ := w.asked(); now == filed {
		t.Error("no maintenance was asked for")
	}
	plugin.goDown(nil)
	if err := w.Admit(t.Context(), "arp", 2, plugin); err != nil {
		t.Fatal(err)
	}
	w.await("arp", StateActive)
	if _, now := w.asked(); now == healed {
		t.Error("it is not said to be healthy")
	}
}

// A protocol that needs a component is not in service while that is stopped, nor is
// one that depends on the protocol taken into it.
func TestComponentIsGone(t *testing.T) {
	scp, uip := usual("scp"), usual("uip")
	scp.Components = []string{"db"}
	uip.Activation, uip.DependsOn = OnDemand, []string{"scp"}
	w := newWorld(t, scp, uip)
	w.await("scp", StateActive)
	if w.needed["protocol scp"] != 1 {
		t.Errorf("needed by %v", w.needed)
	}
	w.turn("db", sdk.Errorf(codes.Unavailable, "COMPONENT_STOPPED", "component db was stopped by an operator").WithRemedy("start it"))
	w.await("scp", StateFailed)
	_, err := w.ask("scp", "1")
	if reason(err) != ReasonUnready || !strings.Contains(err.Error(), "db was stopped") || sdk.FromError(err).Remedy != "start it" {
		t.Errorf("%v", err)
	}
	if filed, _ := w.asked(); filed == 0 {
		t.Error("no maintenance was asked for")
	}
	if _, err := w.Activate(t.Context(), "uip", "", "uid:0"); err == nil || !strings.Contains(err.Error(), "db was stopped") {
		t.Errorf("what depends on it: %v", err)
	}
	w.turn("db", nil)
	w.await("scp", StateActive)
	w.await("uip", StateActive)
	if _, err := w.ask("uip", "1"); err != nil {
		t.Error(err)
	}
}

// What does not come into service is tried again, and calls wait for it meanwhile.
func TestRetry(t *testing.T) {
	w := newWorld(t, usual("arp"))
	w.await("arp", StateActive)
	if _, err := w.Deactivate(t.Context(), "arp", "uid:0", ""); err != nil {
		t.Fatal(err)
	}
	down := sdk.Errorf(codes.Unavailable, "DOWN", "the peer is down")
	down.Retryable = true
	w.plugins["arp"].failWith(down)
	if _, err := w.Activate(t.Context(), "arp", "", "uid:0"); reason(err) != "DOWN" {
		t.Errorf("%v", err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := w.ask("arp", "1")
		done <- err
	}()
	w.plugins["arp"].failWith(nil)
	if err := <-done; err != nil {
		t.Errorf("%v", err)
	}
}

func TestOnDemand(t *testing.T) {
	arp, uip := usual("arp"), usual("uip")
	arp.Activation = OnDemand
	uip.Activation, uip.DependsOn, uip.IdleStop = OnDemand, []string{"arp"}, 100*time.Millisecond
	w := newWorld(t, arp, uip)
	if st := w.List(t.Context()); st[0].State != StateInactive || st[1].State != StateInactive {
		t.Fatalf("%+v %+v", st[0], st[1])
	}
	if _, err := w.ask("uip", "1"); err != nil {
		t.Fatal(err)
	}
	if st := w.List(t.Context()); st[0].State != StateActive || st[1].State != StateActive {
		t.Errorf("%s %s", st[0].State, st[1].State)
	}
	if st := w.Standings(); len(st) != 2 || st[0].Name != "arp" || st[1].Name != "uip" || st[1].State != StateActive || st[1].Calls != 1 || st[1].Operations != nil {
		t.Errorf("without asking the plugins: %+v", st)
	}
	if _, err := w.Deactivate(t.Context(), "arp", "uid:0", ""); reason(err) != ReasonInUse {
		t.Errorf("what another needs: %v", err)
	}
	w.await("uip", StateInactive)
	// Whoever comes while it is taken out, or after, is served.
	var wg sync.WaitGroup
	for range 40 {
		wg.Go(func() {
			for range 20 {
				if _, err := w.ask("uip", "1"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if _, err := w.Deactivate(t.Context(), "uip", "uid:0", "release"); err != nil {
		t.Error(err)
	}
	if _, err := w.ask("uip", "1"); reason(err) != ReasonInactive {
		t.Errorf("an operator has taken it out: %v", err)
	}
}

// A call that needs what an operator has taken out does not wait for it, and is
// served once it is back.
func TestNeedsWhatWasTakenOut(t *testing.T) {
	arp, uip := usual("arp"), usual("uip")
	uip.Activation, uip.DependsOn = OnDemand, []string{"arp"}
	w := newWorld(t, arp, uip)
	w.await("arp", StateActive)
	if _, err := w.Deactivate(t.Context(), "arp", "uid:0", ""); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	_, err := w.ask("uip", "1")
	if e := sdk.FromError(err); reason(err) != ReasonUnready || !strings.Contains(e.Message, "uip needs arp") || e.Remedy != inactive("arp").Remedy {
		t.Errorf("%v", err)
	}
	if took := time.Since(begin); took >= uip.Timeout {
		t.Errorf("it waited %v", took)
	}
	if _, err := w.Activate(t.Context(), "arp", "", "uid:0"); err != nil {
		t.Fatal(err)
	}
	w.await("uip", StateActive)
	if _, err := w.ask("uip", "1"); err != nil {
		t.Error(err)
	}
}

// Thousands of calls to a protocol that restarts: each is answered, or told why
// not.
func TestCallsWhileItRestarts(t *testing.T) {
	set := usual("arp")
	set.InFlight, set.Queue = 64, 10_000
	w := newWorld(t, set)
	w.await("arp", StateActive)
	var answered, refused atomic.Int64
	var wg sync.WaitGroup
	next := make(chan struct{}, 10_000)
	for range 10_000 {
		next <- struct{}{}
	}
	close(next)
	for range 64 {
		wg.Go(func() {
			for range next {
				switch _, err := w.ask("arp", "1"); {
				case err == nil:
					answered.Add(1)
				case reason(err) == ReasonInactive, reason(err) == ReasonDeactivated:
					refused.Add(1)
				default:
					t.Error(err)
				}
			}
		})
	}
	for range 5 {
		if _, err := w.Deactivate(t.Context(), "arp", "uid:0", ""); err != nil {
			t.Error(err)
		}
		if _, err := w.Activate(t.Context(), "arp", "", "uid:0"); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
	if answered.Load()+refused.Load() != 10_000 {
		t.Errorf("%d answered and %d refused of 10000", answered.Load(), refused.Load())
	}
}

func TestChain(t *testing.T) {
	uip, arp := usual("uip"), usual("arp")
	uip.Calls, arp.Calls = []string{"arp.echo"}, []string{"uip.echo"}
	w := newWorld(t, uip, arp)
	within := func(accessor, holder, to, operation string) string {
		_, err := w.Within(accessor, holder, to, operation)
		return reason(err)
	}
	inner := make(chan string, 10)
	w.plugins["uip"].handle = func(ctx context.Context, call *pluginv1.Call) ([]byte, error) {
		if call.GetToken() != "call-uip" {
			t.Errorf("token %q", call.GetToken())
		}
		inner <- within("accessor-uip", "arp", "arp", "echo")
		inner <- within("accessor-uip", "uip", "arp", "other")
		parent, err := w.Within("accessor-uip", "uip", "arp", "echo")
		if err != nil {
			return nil, err
		}
		result, _, err := w.Call(ctx, &Call{Protocol: "arp", Operation: "echo", Payload: call.GetPayload(), Parent: parent, Origin: parent.Origin(), Take: free})
		return result, err
	}
	w.plugins["arp"].handle = func(_ context.Context, call *pluginv1.Call) ([]byte, error) {
		if c := call.GetContext(); c["caller"] != "uip" || c["agent"] != "uid:0" || c["parent_request"] == "" {
			t.Errorf("told %v", c)
		}
		inner <- within("accessor-arp", "arp", "uip", "echo")
		return []byte("42"), nil
	}
	result, _, err := w.Call(t.Context(), &Call{Protocol: "uip", Operation: "echo", Payload: []byte("1"), Origin: Origin{"uid:0", "system"}, Take: free})
	if err != nil || string(result) != "42" {
		t.Fatalf("%s, %v", result, err)
	}
	for _, want := range []string{ReasonCallEnded, ReasonNotListed, ReasonCycle} {
		if got := <-inner; got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if got := within("accessor-uip", "uip", "arp", "echo"); got != ReasonCallEnded {
		t.Errorf("after the call: %q", got)
	}
}

func TestSnapshots(t *testing.T) {
	set := usual("arp")
	set.Snapshots = &Snapshots{Operations: []string{"echo"}, Keep: time.Hour, MaxTotal: 40}
	w := newWorld(t, set)
	var names []string
	for i := range 5 {
		_, out, err := w.Call(t.Context(), &Call{Protocol: "arp", Operation: "echo", Payload: fmt.Appendf(nil, `"%08d"`, i), Take: free})
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, out.Snapshot)
	}
	if _, out, err := w.Call(t.Context(), &Call{Protocol: "arp", Operation: "other", Payload: []byte("1"), Take: free}); err != nil || out.Snapshot != "" {
		t.Errorf("%v, %+v", err, out)
	}
	dir := w.opt.Snapshots
	for _, kind := range []string{".request.json", ".result.json"} {
		if text, err := os.ReadFile(filepath.Join(dir, names[4]+kind)); err != nil || string(text) != `"00000004"` {
			t.Errorf("%s: %s, %v", kind, text, err)
		}
	}
	if info, err := os.Stat(filepath.Join(dir, names[4]+".request.json")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	w.pruneSnapshots(time.Now())
	if files, total, err := w.shots.files("arp"); err != nil || total > 40 || len(files) != 4 {
		t.Errorf("%d files, %d bytes, %v", len(files), total, err)
	}
	w.pruneSnapshots(time.Now().Add(2 * time.Hour))
	if files, _, err := w.shots.files("arp"); err != nil || len(files) != 0 {
		t.Errorf("%d files, %v", len(files), err)
	}
}

func TestShapes(t *testing.T) {
	for _, tt := range []struct{ shape, value, want string }{
		{`{"a":"number"}`, `{"a":1,"b":2}`, ""},
		{`{"a":"number"}`, `{"b":2}`, `has no "a"`},
		{`["string"]`, `["a","b"]`, ""},
		{`["string"]`, `["a",1]`, "the answer[1] is not of kind string but number"},
		{`[]`, `[1,"a"]`, ""},
		{`[]`, `{}`, "a list"},
		{`"=ok"`, `"ok"`, ""},
		{`"=ok"`, `"no"`, `"ok"`},
		{`"any"`, `null`, ""},
		{`{"a":{"b":["object"]}}`, `{"a":{"b":[{}]}}`, ""},
		{`true`, `false`, "true"},
		{`null`, `null`, ""},
		{`3`, `3`, ""},
	} {
		err := matchesText([]byte(tt.shape), []byte(tt.value))
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s against %s: %v, want %q", tt.value, tt.shape, err, tt.want)
		}
	}
	for shape, ok := range map[string]bool{`{"a":["string"]}`: true, `"strnig"`: false, `["string","number"]`: false, `{`: false, `"=x"`: true, `1`: true} {
		if err := CheckShape([]byte(shape)); (err == nil) != ok {
			t.Errorf("%s: %v", shape, err)
		}
	}
}

// A service that is closed turns everybody away and leaves nothing behind.
func TestClose(t *testing.T) {
	w := newWorld(t, usual("arp"), usual("scp"))
	w.await("arp", StateActive)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.ask("arp", "1"); reason(err) != ReasonStopped {
		t.Errorf("%v", err)
	}
	if w.plugins["arp"].deactivated != 1 {
		t.Error("it was not taken out")
	}
}
