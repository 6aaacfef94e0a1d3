package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
	"github.com/sop-host/sop/sdk/plugintest"
	"github.com/sop-host/sop/sdk/protocol"
)

// The test binary is the program, too.
const actVariable = "SOP_EXEC_TEST"

func TestMain(m *testing.M) {
	if dialect := os.Getenv(actVariable); dialect != "" {
		act(dialect, os.Getenv("FRAMING"))
		return
	}
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/sop-host/sop/plugins/protocol-exec.launch")) // it lasts
}

// act reads requests and answers them, or does not, as their operation says.
func act(dialect, frames string) {
	f := framingOf(frames)
	in := bufio.NewReader(os.Stdin)
	var mu sync.Mutex
	say := func(v any) {
		text, err := json.Marshal(v)
		if raw, ok := v.(string); ok {
			text, err = []byte(raw), nil
		}
		if err != nil {
			panic(err)
		}
		mu.Lock()
		defer mu.Unlock()
		if _, err := os.Stdout.Write(f.frame(text)); err != nil {
			os.Exit(3)
		}
	}
	for {
		text, err := f.read(in, 64<<20)
		if err != nil {
			return
		}
		var r struct {
			ID                string
			Operation, Method string
			Payload, Params   json.RawMessage
			Stream            bool
		}
		if err := json.Unmarshal(text, &r); err != nil {
			panic(err)
		}
		if dialect == dialectRPC {
			r.Operation, r.Payload = r.Method, r.Params
			if r.Payload == nil {
				r.Payload = json.RawMessage("null")
			}
		}
		answerTo(say, dialect, r.ID, r.Operation, r.Payload)
	}
}

// held is an answer that waits for that of a later request.
var held = make(chan func(), 1)

func answerTo(say func(any), dialect, id, operation string, payload json.RawMessage) {
	type m = map[string]any
	switch operation {
	case "echo":
		go say(m{"id": id, "result": payload})
	case "hang", "":
	case "first": // is answered after the next one
		held <- func() { say(m{"id": id, "result": "first"}) }
	case "second":
		go func() {
			say(m{"id": id, "result": "second"})
			(<-held)()
		}()
	case "late":
		go func() {
			time.Sleep(200 * time.Millisecond)
			say(m{"id": id, "result": 1})
		}()
	case "stream":
		var list []json.RawMessage
		if err := json.Unmarshal(payload, &list); err != nil {
			panic(err)
		}
		for _, piece := range list {
			say(m{"id": id, "chunk": piece})
		}
		say(m{"id": id, "end": true})
	case "unknown_id":
		say(m{"id": "987654", "result": 1})
		say(m{"id": id, "result": 1})
	case "invalid":
		say(`{"id": `)
		say(`"text"`)
		say(m{"id": id, "result": 1})
	case "oversize":
		say(m{"id": id, "result": strings.Repeat("x", 3000)})
		say(m{"id": id, "result": 1})
	case "fail":
		say(m{"id": id, "error": m{"code": "NOT_FOUND", "reason": "NO_GAP", "message": "no such gap", "remedy": "look again"}})
	case "die":
		os.Exit(7)
	case "last words":
		for i := range 10 {
			say(m{"id": id, "chunk": i})
		}
		say(m{"id": id, "end": true})
		os.Exit(7)
	case "complain":
		fmt.Fprintln(os.Stderr, strings.Repeat("y", 100_000))
		say(m{"id": id, "result": 1})
	case "deaf":
		time.Sleep(time.Hour)
	default:
		if dialect == dialectRPC {
			say(m{"jsonrpc": "2.0", "id": id, "error": m{"code": -32601, "message": "Method not found"}})
			return
		}
		say(m{"id": id, "error": m{"code": "UNIMPLEMENTED", "message": "unknown"}})
	}
}

func newPeer(t *testing.T, dialect, frames, more string) *peer {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{logger: hclog.NewNullLogger()}
	text := fmt.Sprintf(`{"command": [%q], "dialect": %q, "framing": %q, "env": {%q: %q, "FRAMING": %q}%s}`, exe, dialect, frames, actVariable, dialect, frames, more)
	if err := p.configure(t.Context(), sdk.NewConfig([]byte(text), t.TempDir())); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestConformance(t *testing.T) {
	for _, c := range []struct{ dialect, framing, stream string }{
		{dialectSOP, framingLines, "stream"}, {dialectSOP, framingLength, "stream"}, {dialectRPC, framingLength, ""},
	} {
		t.Run(c.dialect+" "+c.framing, func(t *testing.T) {
			plugintest.Protocol(t, plugintest.ProtocolPeer{
				New:  func(t *testing.T) protocol.Protocol { return newPeer(t, c.dialect, c.framing, `, "cancel": true`) },
				Echo: "echo", Hang: "hang", Stream: c.stream,
			})
		})
	}
}

func activated(t *testing.T, more string) *peer {
	t.Helper()
	p := newPeer(t, dialectSOP, framingLines, more)
	if _, err := p.Activate(t.Context(), &pluginv1.ActivateRequest{Mode: pluginv1.Mode_MODE_ACTIVE}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 10*time.Second)
		defer cancel()
		if _, err := p.Deactivate(ctx, &pluginv1.DeactivateRequest{}); err != nil {
			t.Error(err)
		}
	})
	return p
}

func (p *peer) try(ctx context.Context, operation string, within time.Duration) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	result, err := p.Handle(ctx, &pluginv1.Call{Operation: operation, Payload: []byte("1")})
	return string(result), err
}

const soon = 10 * time.Second

// Whatever a program answers, or does not, each request has a defined outcome, and
// what was wrong is counted.
func TestBadAnswers(t *testing.T) {
	p := activated(t, `, "max_message": 2000`)
	for _, tt := range []struct {
		operation string
		within    time.Duration
		want      codes.Code
		counter   string
	}{
		{"unknown_id", soon, codes.OK, "unknown_id"},
		{"invalid", soon, codes.OK, "invalid"},
		{"oversize", soon, codes.OK, "oversize"},
		{"complain", soon, codes.OK, "answered"},
		{"fail", soon, codes.NotFound, "failed"},
		{"hang", 50 * time.Millisecond, codes.DeadlineExceeded, "timeouts"},
		{"late", 50 * time.Millisecond, codes.DeadlineExceeded, ""},
	} {
		_, err := p.try(t.Context(), tt.operation, tt.within)
		code := codes.OK
		if err != nil {
			code = sdk.FromError(err).Code
		}
		if code != tt.want || tt.counter != "" && p.count.all()[tt.counter] == 0 {
			t.Errorf("%s: %v, counted %v", tt.operation, err, p.count.all())
		}
	}
	await(t, "a late answer is counted", func() bool { return p.count.all()["late"] == 1 })
	if got, err := p.try(t.Context(), "echo", soon); err != nil || got != "1" {
		t.Errorf("afterwards: %s, %v", got, err)
	}
}

// Answers that come in another order find their requests.
func TestOutOfOrder(t *testing.T) {
	p := activated(t, "")
	p.mu.Lock()
	program := p.program
	p.mu.Unlock()
	first := make(chan string, 1)
	go func() {
		got, err := p.try(t.Context(), "first", soon)
		first <- fmt.Sprint(got, err)
	}()
	await(t, "the first is in flight", func() bool {
		program.mu.Lock()
		defer program.mu.Unlock()
		return program.order.Len() == 1
	})
	if got, err := p.try(t.Context(), "second", soon); err != nil || got != `"second"` {
		t.Errorf("%s, %v", got, err)
	}
	if got := <-first; got != `"first"<nil>` {
		t.Error(got)
	}
	if p.count.all()["out_of_order"] != 1 {
		t.Errorf("counted %v", p.count.all())
	}
}

// Ten thousand requests to a program that is killed again and again: each is
// answered, with what it asked for, or told why not; none is lost.
func TestRequestsWhileItRestarts(t *testing.T) {
	const all, callers, kills = 10_000, 64, 5
	p := activated(t, `, "max_in_flight": 64`)
	var answered, refused, taken atomic.Int64
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for n := taken.Add(1); n <= all; n = taken.Add(1) {
				ctx, cancel := context.WithTimeout(t.Context(), 6*soon)
				result, err := p.Handle(ctx, &pluginv1.Call{Operation: "echo", Payload: fmt.Append(nil, n)})
				cancel()
				switch e := sdk.FromError(err); {
				case err == nil && string(result) == fmt.Sprint(n):
					answered.Add(1)
				case err == nil:
					t.Errorf("asked for %d, got %s", n, result)
				case e.Reason == "PEER_ENDED" && e.Message != "":
					refused.Add(1)
				default:
					t.Errorf("%d: %v", n, err)
				}
			}
		})
	}
	last := 0
	for round := range int64(kills) {
		await(t, "there is something to interrupt", func() bool { return answered.Load()+refused.Load() >= all*round/(kills+1) })
		await(t, "another program runs", func() bool {
			p.mu.Lock()
			defer p.mu.Unlock()
			if p.program == nil || p.program.cmd.Process.Pid == last {
				return false
			}
			last = p.program.cmd.Process.Pid
			return true
		})
		if err := syscall.Kill(last, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
	if answered.Load()+refused.Load() != all || answered.Load() < all/2 {
		t.Errorf("%d answered and %d refused of %d", answered.Load(), refused.Load(), all)
	}
	t.Logf("%d answered, %d told that the program has ended", answered.Load(), refused.Load())
}

func await(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(soon); !is(); {
		if time.Now().After(deadline) {
			t.Fatal("never so: " + what)
		}
		time.Sleep(time.Millisecond)
	}
}

// A program that dies takes the requests with it that it had, each with a clear
// error, and is started again.
func TestProgramDies(t *testing.T) {
	p := activated(t, "")
	hanging := make(chan error, 8)
	for range 8 {
		go func() {
			_, err := p.try(t.Context(), "hang", soon)
			hanging <- err
		}()
	}
	await(t, "8 in flight", func() bool { return p.Standing.Status().GetInFlight() == 8 })
	if _, err := p.try(t.Context(), "die", soon); sdk.FromError(err).Reason != "PEER_ENDED" {
		t.Errorf("%v", err)
	}
	for range 8 {
		if err := <-hanging; sdk.FromError(err).Reason != "PEER_ENDED" || !sdk.FromError(err).Retryable {
			t.Errorf("%v", err)
		}
	}
	if got, err := p.try(t.Context(), "echo", soon); err != nil || got != "1" { // it waits for the next program
		t.Errorf("%s, %v", got, err)
	}
}

// What a program has said comes whole and in order, also when it has ended before it
// was taken.
func TestLastWords(t *testing.T) {
	p := activated(t, "")
	p.mu.Lock()
	prog := p.program
	p.mu.Unlock()
	var got []string
	err := p.HandleStream(t.Context(), &pluginv1.Call{Operation: "last words", Payload: []byte("1")}, func(piece []byte) error {
		<-prog.exited
		got = append(got, string(piece))
		return nil
	})
	if said := strings.Join(got, " "); err != nil || said != "0 1 2 3 4 5 6 7 8 9" {
		t.Errorf("%s, %v", said, err)
	}
}

// Nothing of a program is left when it was killed, and the next takes over.
func TestProgramIsKilled(t *testing.T) {
	p := activated(t, "")
	first := p.program.cmd.Process.Pid
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	await(t, "another program runs", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.program != nil && p.program.cmd.Process.Pid != first
	})
	if got, err := p.try(t.Context(), "echo", soon); err != nil || got != "1" {
		t.Errorf("%s, %v", got, err)
	}
}

// A program that leaves its input unread is ended, and does not hold up the plugin.
func TestDeafProgram(t *testing.T) {
	p := activated(t, `, "stall": "200ms"`)
	if _, err := p.try(t.Context(), "deaf", 20*time.Millisecond); sdk.FromError(err).Code != codes.DeadlineExceeded {
		t.Errorf("%v", err)
	}
	large := []byte(`"` + strings.Repeat("x", 1<<20) + `"`)
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	if _, err := p.Handle(ctx, &pluginv1.Call{Operation: "echo", Payload: large}); sdk.FromError(err).Reason != "PEER_ENDED" {
		t.Errorf("%v", err)
	}
	if got, err := p.try(t.Context(), "echo", soon); err != nil || got != "1" {
		t.Errorf("%s, %v", got, err)
	}
	if p.count.all()["stalled"] != 1 {
		t.Errorf("counted %v", p.count.all())
	}
}

func TestConfigure(t *testing.T) {
	for text, attribute := range map[string]string{
		`{"command": []}`:                                     "command",
		`{"command": ["arp"]}`:                                "command",
		`{"command": ["/bin/arp"], "framing": "xml"}`:         "framing",
		`{"command": ["/bin/arp"], "dialect": "latin"}`:       "dialect",
		`{"command": ["/bin/arp"], "max_in_flight": 0}`:       "max_in_flight",
		`{"command": ["/bin/arp"], "max_message": 1}`:         "max_message",
		`{"command": ["/bin/arp"], "stop_grace": "for ever"}`: "stop_grace",
		`{"command": ["/bin/arp"], "stall": "-1s"}`:           "stall",
	} {
		err := (&peer{logger: hclog.NewNullLogger()}).configure(t.Context(), sdk.NewConfig([]byte(text), t.TempDir()))
		if err == nil || !strings.HasPrefix(err.Error(), attribute+": ") {
			t.Errorf("%s: %v", text, err)
		}
	}
	p := &peer{logger: hclog.NewNullLogger()}
	if err := p.configure(t.Context(), sdk.NewConfig([]byte(`{"command": ["/no/such/program"]}`), t.TempDir())); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Activate(t.Context(), &pluginv1.ActivateRequest{Mode: pluginv1.Mode_MODE_ACTIVE}); sdk.FromError(err).Reason != "PEER_DOWN" {
		t.Errorf("%v", err)
	}
}

func FuzzFrames(f *testing.F) {
	f.Add([]byte("{}\n{}\n"), true)
	f.Add([]byte("Content-Length: 2\r\n\r\n{}Content-Length: 3\r\n\r\n123"), false)
	f.Fuzz(func(t *testing.T, data []byte, lines bool) {
		frames := framingOf(framingLength)
		if lines {
			frames = framingOf(framingLines)
		}
		r := bufio.NewReaderSize(strings.NewReader(string(data)), 16)
		for {
			message, err := frames.read(r, 100)
			if len(message) > 100 {
				t.Fatalf("%d bytes", len(message))
			}
			if err == io.EOF || err != nil && !lines { //nolint:errorlint // read returns it bare
				return
			}
			if err != nil && err != errTooLong { //nolint:errorlint // likewise
				return
			}
		}
	})
}
