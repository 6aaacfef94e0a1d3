package plugin

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
)

// recorder serves plugins: it takes down who asked for what.
type recorder struct {
	pluginv1.UnimplementedHostServer
	id    string
	asked chan<- string
}

// AppendAudit implements pluginv1.HostServer.
func (r *recorder) AppendAudit(_ context.Context, req *pluginv1.AppendAuditRequest) (*pluginv1.AppendAuditResponse, error) {
	if req.GetAction() == "refuse" {
		return nil, sdk.Errorf(codes.PermissionDenied, "REFUSED", "not you").WithRemedy("be somebody else")
	}
	r.asked <- r.id + " " + req.GetAction()
	return &pluginv1.AppendAuditResponse{}, nil
}

// callbacks makes a pool serve its plugins with a recorder.
func callbacks(asked chan<- string) func(*Options) {
	return func(o *Options) {
		o.Callbacks = func(l net.Listener, id string) error {
			s := grpc.NewServer()
			pluginv1.RegisterHostServer(s, &recorder{id: id, asked: asked})
			defer s.Stop()
			return s.Serve(l)
		}
	}
}

// Each generation of each plugin has its own way back, which says who asks.
func TestCallback(t *testing.T) {
	asked := make(chan string, 1)
	p := newPool(t, callbacks(asked))
	p.start(newSpec(t, "a", "good"), newSpec(t, "b", "good"))
	for range 2 {
		for _, name := range []string{"a", "b"} {
			if _, err := p.client(name).Handle(t.Context(), &pluginv1.HandleRequest{Call: &pluginv1.Call{Operation: "call-back", Payload: []byte("x")}}); err != nil {
				t.Fatal(err)
			}
			if got := <-asked; got != "protocol."+name+" x" {
				t.Errorf("the host heard %q from %s", got, name)
			}
			if err := p.Restart(t.Context(), "protocol."+name); err != nil {
				t.Fatal(err)
			}
		}
	}
	_, err := p.client("a").Handle(t.Context(), &pluginv1.HandleRequest{Call: &pluginv1.Call{Operation: "call-back", Payload: []byte("refuse")}})
	if e := sdk.FromError(err); e.Reason != "REFUSED" || e.Remedy == "" {
		t.Errorf("a refusal went through the plugin as %+v", e)
	}
}

// A pool without callbacks tells its plugins that there are none.
func TestNoCallback(t *testing.T) {
	p := newPool(t)
	p.start(newSpec(t, "a", "good"))
	_, err := p.client("a").Handle(t.Context(), &pluginv1.HandleRequest{Call: &pluginv1.Call{Operation: "call-back"}})
	if e := sdk.FromError(err); e.Reason != "NO_HOST" {
		t.Errorf("%+v", e)
	}
}

// Whoever finds the socket gets nowhere without the plugin's key.
func TestCallbackIsForThePlugin(t *testing.T) {
	asked := make(chan string, 1)
	p := newPool(t, callbacks(asked))
	p.start(newSpec(t, "a", "good"))
	stranger, err := sdk.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	sockets, err := filepath.Glob(filepath.Join(p.runDir, "*", "plugin*"))
	if err != nil || len(sockets) < 2 {
		t.Fatalf("sockets: %v, %v", sockets, err)
	}
	for _, path := range sockets {
		for name, config := range map[string]*tls.Config{
			"without certificate": {},
			"with another":        {Certificates: []tls.Certificate{stranger}},
		} {
			config.InsecureSkipVerify, config.NextProtos = true, []string{"h2"}
			var d net.Dialer
			raw, err := d.DialContext(t.Context(), "unix", path)
			if err != nil {
				t.Fatal(err)
			}
			conn := tls.Client(raw, config)
			// The verdict of the other side comes with the first read.
			_, err = conn.Read(make([]byte, 1))
			if err == nil || errors.Is(err, io.EOF) || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%s, %s: %v", filepath.Base(path), name, err)
			}
			_ = raw.Close()
		}
	}
	select {
	case got := <-asked:
		t.Errorf("somebody was heard: %q", got)
	default:
	}
}
