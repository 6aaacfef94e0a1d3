package bench

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
	"github.com/sop-host/sop/sdk/heap"
	"github.com/sop-host/sop/sdk/protocol"
)

// Modes of the test binary as a plugin: with the sdk, and with bare go-plugin.
const (
	modeEnv  = "SOP_BENCH_PLUGIN"
	modeSDK  = "sdk"
	modeBare = "bare"
)

func TestMain(m *testing.M) {
	switch os.Getenv(modeEnv) {
	case modeSDK:
		sdk.Serve(protocol.Kind, sdk.Plugin[protocol.Protocol]{Name: "bench", Version: "1.0.0", Impl: echo{}})
		return
	case modeReady:
		actReady()
		return
	case modeBare:
		goplugin.Serve(&goplugin.ServeConfig{
			HandshakeConfig: sdk.Handshake, Plugins: goplugin.PluginSet{"bench": barePlugin{}}, GRPCServer: goplugin.DefaultGRPCServer,
		})
		return
	}
	os.Exit(m.Run())
}

// wanted skips unless benchmarks were asked for.
func wanted(t *testing.T) {
	t.Helper()
	if os.Getenv("SOP_BENCH") == "" {
		t.Skip("a measurement and no test: run `make bench`")
	}
}

// asHost has the collector run as it does in a host, until the test ends.
func asHost(t *testing.T) { t.Cleanup(heap.Floor(heap.Host)) }

// say prints one result.
func say(t *testing.T, what string, ratio float64, target string, detail string, args ...any) {
	t.Helper()
	t.Logf("bench  %-44s %7.2f×  target %-8s %s", what, ratio, target, fmt.Sprintf(detail, args...))
}

// echo answers with what it is sent.
type echo struct{ protocol.Protocol }

// Handle implements [protocol.Protocol].
func (echo) Handle(_ context.Context, call *pluginv1.Call) ([]byte, error) {
	return call.GetPayload(), nil
}

// Activate implements [protocol.Protocol].
func (echo) Activate(_ context.Context, req *pluginv1.ActivateRequest) (*pluginv1.ActivateResponse, error) {
	return &pluginv1.ActivateResponse{Mode: req.GetMode()}, nil
}

// Deactivate implements [protocol.Protocol].
func (echo) Deactivate(context.Context, *pluginv1.DeactivateRequest) (*pluginv1.DeactivateResponse, error) {
	return &pluginv1.DeactivateResponse{}, nil
}

// Status implements [protocol.Protocol].
func (echo) Status(context.Context, *pluginv1.StatusRequest) (*pluginv1.StatusResponse, error) {
	return &pluginv1.StatusResponse{}, nil
}

// barePlugin serves the same service without our adapter.
type barePlugin struct {
	goplugin.NetRPCUnsupportedPlugin
}

func (barePlugin) GRPCServer(_ *goplugin.GRPCBroker, s *grpc.Server) error {
	protocol.Kind.Register(s, echo{})
	return nil
}

func (barePlugin) GRPCClient(_ context.Context, _ *goplugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return pluginv1.NewProtocolClient(conn), nil
}

// startBare starts the test binary with bare go-plugin, in a session of its own
// or in that of the test.
func startBare(t *testing.T, mtls, ownSession bool) (pluginv1.ProtocolClient, *goplugin.Client) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), modeEnv+"="+modeBare)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: ownSession}
	client := goplugin.NewClient(&goplugin.ClientConfig{
		HandshakeConfig: sdk.Handshake, Plugins: goplugin.PluginSet{"bench": barePlugin{}}, Cmd: cmd, AutoMTLS: mtls,
		AllowedProtocols: []goplugin.Protocol{goplugin.ProtocolGRPC}, Logger: quiet(),
	})
	t.Cleanup(client.Kill)
	rpc, err := client.Client()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := rpc.Dispense("bench")
	if err != nil {
		t.Fatal(err)
	}
	return raw.(pluginv1.ProtocolClient), client
}

// ownCPU is what this process has used.
func ownCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// cpuOf is what another process has used.
func cpuOf(t *testing.T, pid int) (sum time.Duration) {
	t.Helper()
	threads, err := filepath.Glob(filepath.Join("/proc", strconv.Itoa(pid), "task/*/schedstat"))
	if err != nil || len(threads) == 0 {
		t.Fatalf("threads of process %d: %v", pid, err)
	}
	for _, path := range threads {
		data, err := os.ReadFile(path)
		if err != nil {
			continue // the thread has ended
		}
		ns, _, _ := strings.Cut(string(data), " ")
		n, err := strconv.ParseInt(ns, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		sum += time.Duration(n)
	}
	return sum
}

func median(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)/2]
}

func worst(all []time.Duration) time.Duration { return slices.Max(all) }
