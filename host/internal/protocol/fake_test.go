package protocol

import (
	"context"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakePlugin is a plugin without a process. It keeps to the contract unless it is
// told otherwise.
type fakePlugin struct {
	mu          sync.Mutex
	mode        pluginv1.Mode
	tokens      []string // of Activate
	activations int
	deactivated int
	fail        error // of Activate
	down        error // there is no process
	handle      func(ctx context.Context, call *pluginv1.Call) ([]byte, error)
	inFlight    atomic.Int64
	most        atomic.Int64
}

func (f *fakePlugin) Activate(_ context.Context, req *pluginv1.ActivateRequest, _ ...grpc.CallOption) (*pluginv1.ActivateResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil {
		return nil, f.fail
	}
	f.mode = req.GetMode()
	f.activations++
	f.tokens = append(f.tokens, req.GetToken())
	return &pluginv1.ActivateResponse{Mode: f.mode}, nil
}

func (f *fakePlugin) Deactivate(context.Context, *pluginv1.DeactivateRequest, ...grpc.CallOption) (*pluginv1.DeactivateResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mode = pluginv1.Mode_MODE_INACTIVE
	f.deactivated++
	return &pluginv1.DeactivateResponse{}, nil
}

func (f *fakePlugin) failWith(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail = err
}

// goDown ends the process; nil starts another.
func (f *fakePlugin) goDown(why error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down, f.mode = why, pluginv1.Mode_MODE_INACTIVE
}

func (f *fakePlugin) current() pluginv1.Mode {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.mode
}

func (f *fakePlugin) serve(ctx context.Context, call *pluginv1.Call) ([]byte, error) {
	if mode := f.current(); mode != pluginv1.Mode_MODE_ACTIVE && mode != pluginv1.Mode_MODE_PASSIVE {
		return nil, sdk.Errorf(codes.FailedPrecondition, "PEER_INACTIVE", "not activated")
	}
	n := f.inFlight.Add(1)
	defer f.inFlight.Add(-1)
	for {
		most := f.most.Load()
		if n <= most || f.most.CompareAndSwap(most, n) {
			break
		}
	}
	if f.handle != nil {
		return f.handle(ctx, call)
	}
	return call.GetPayload(), nil
}

func (f *fakePlugin) Handle(ctx context.Context, req *pluginv1.HandleRequest, _ ...grpc.CallOption) (*pluginv1.HandleResponse, error) {
	result, err := f.serve(ctx, req.GetCall())
	if err != nil {
		return nil, err
	}
	return &pluginv1.HandleResponse{Result: result}, nil
}

// pieces is a stream of the bytes of a result, one piece each.
type pieces struct {
	grpc.ClientStream
	left []byte
}

func (p *pieces) Recv() (*pluginv1.HandleStreamResponse, error) {
	if len(p.left) == 0 {
		return nil, io.EOF
	}
	piece := p.left[:1]
	p.left = p.left[1:]
	return &pluginv1.HandleStreamResponse{Chunk: piece}, nil
}

func (f *fakePlugin) HandleStream(ctx context.Context, req *pluginv1.HandleStreamRequest, _ ...grpc.CallOption) (grpc.ServerStreamingClient[pluginv1.HandleStreamResponse], error) {
	result, err := f.serve(ctx, req.GetCall())
	return &pieces{left: result}, err
}

func (f *fakePlugin) Status(context.Context, *pluginv1.StatusRequest, ...grpc.CallOption) (*pluginv1.StatusResponse, error) {
	f.mu.Lock()
	down := f.down
	f.mu.Unlock()
	if down != nil {
		return nil, down
	}
	return &pluginv1.StatusResponse{Mode: f.current(), Operations: []string{"echo"}, Counters: map[string]int64{"late": 1}}, nil
}

// world is a service with fake plugins.
type world struct {
	*Service
	t          *testing.T
	mu         sync.Mutex
	plugins    map[string]*fakePlugin
	generation atomic.Int64
	granted    []string
	ended      int
	life       time.Duration // of tokens for service
	refuse     error         // to issue one
	filed      []string
	healed     []string
	changes    []Changed
	gone       map[string]error // components that are gone
	needed     map[string]int   // by name of who needs one
}

func newWorld(t *testing.T, all ...Settings) *world {
	t.Helper()
	w := &world{t: t, plugins: make(map[string]*fakePlugin), gone: make(map[string]error), needed: make(map[string]int)}
	w.generation.Store(1)
	for _, s := range all {
		w.plugins[s.Name] = &fakePlugin{}
	}
	service, err := NewService(Options{
		Client:     func(name string) pluginv1.ProtocolClient { return w.plugins[name] },
		Generation: func(string) int { return int(w.generation.Load()) },
		Grants:     grants{w}, Maintenance: w, Components: w, Snapshots: t.TempDir(),
		OnChange: func(c Changed) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.changes = append(w.changes, c)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.Service = service
	t.Cleanup(func() {
		if err := service.Close(); err != nil {
			t.Error(err)
		}
	})
	service.Apply(all)
	return w
}

func (w *world) grant(kind, name string) (string, func(), error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.granted = append(w.granted, kind+" "+name)
	return kind + "-" + name, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.ended++
	}, nil
}

func (w *world) Test(_ context.Context, name, _ string) (string, func(), error) {
	return w.grant("test", name)
}

func (w *world) File(_ context.Context, subsystem, _, _, _ string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.filed = append(w.filed, subsystem)
	return nil
}

func (w *world) Healthy(_ context.Context, subsystem string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.healed = append(w.healed, subsystem)
	return nil
}

func (w *world) Need(_ context.Context, name, by string) (func(), error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.gone[name]; err != nil {
		return nil, err
	}
	w.needed[by]++
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.needed[by]--
	}, nil
}

func (w *world) Gone(name string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.gone[name]
}

// turn makes a component gone, or there where why is nil.
func (w *world) turn(name string, why error) {
	w.mu.Lock()
	w.gone[name] = why
	w.mu.Unlock()
	w.ComponentChanged(name)
}

func (w *world) asked() (filed, healed int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.filed), len(w.healed)
}

func (w *world) history() []State {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []State
	for _, c := range w.changes {
		out = append(out, c.To)
	}
	return out
}

// grants are those of a world.
type grants struct{ *world }

func (g grants) Service(_ context.Context, name string) (string, time.Duration, func(), error) {
	secret, end, err := g.grant("service", name)
	g.mu.Lock()
	defer g.mu.Unlock()
	if err == nil {
		err = g.refuse
	}
	return secret, g.life, end, err
}

func (g grants) Call(_ context.Context, name string, _ []string, _ time.Duration) (string, string, func(), error) {
	secret, end, err := g.grant("call", name)
	return secret, "accessor-" + name, end, err
}

// usual are the settings of a protocol in tests.
func usual(name string) Settings {
	return Settings{
		Name: name, Activation: Always, Mode: Active, Timeout: 10 * time.Second, Drain: time.Second, InFlight: 4, Queue: 100,
		MaxPayload: 1000, MaxResult: 1000,
	}
}

// await waits until a protocol stands so.
func (w *world) await(name string, want State) {
	w.t.Helper()
	p, err := w.peer(name)
	if err != nil {
		w.t.Fatal(err)
	}
	for {
		p.mu.Lock()
		state, changed := p.state, p.changed
		p.mu.Unlock()
		if state == want {
			return
		}
		select {
		case <-changed:
		case <-time.After(20 * time.Second):
			w.t.Fatalf("protocol %s is %s, not %s", name, state, want)
		}
	}
}

// ask calls the echo operation.
func (w *world) ask(name, payload string) ([]byte, error) {
	result, _, err := w.Call(w.t.Context(), &Call{Protocol: name, Operation: "echo", Payload: []byte(payload), Take: free})
	return result, err
}

func free(context.Context) error { return nil }

func reason(err error) string {
	if err == nil {
		return ""
	}
	return sdk.FromError(err).Reason
}
