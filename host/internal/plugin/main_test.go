package plugin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
	"github.com/sop-host/sop/sdk/detector"
	"github.com/sop-host/sop/sdk/protocol"
)

// modeEnv makes the test binary a plugin: its value says how it behaves.
const modeEnv = "SOP_TEST_PLUGIN"

func TestMain(m *testing.M) {
	if mode := os.Getenv(modeEnv); mode != "" {
		behave(mode)
		return
	}
	if runDir := os.Getenv(hostEnv); runDir != "" {
		actAsHost(runDir)
		return
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if programs != "" {
			_ = os.RemoveAll(programs) // in the system's temporary directory
		}
		os.Exit(code)
	}))
}

// behave acts as a plugin, good or bad.
func behave(mode string) {
	mode, arg, _ := strings.Cut(mode, ":")
	switch mode {
	case "good":
	case "print": // something that is no handshake
		fmt.Println(arg)
		block()
	case "silent":
		block()
	case "exit":
		fmt.Fprintln(os.Stderr, "panic: the database is on fire")
		os.Exit(3)
	case "quiet-exit":
		os.Exit(0)
	case "stray-line":
		fmt.Println("Hello from my plugin!")
	case "deaf": // announces a socket that nobody serves
		fmt.Println("1|1|unix|./nobody|grpc|" + strings.Repeat("A", 60))
		block()
	case "outside":
		fmt.Println("1|1|unix|/run/other.sock|grpc|" + strings.Repeat("A", 60))
		block()
	case "refuse-config":
	case "bad-json":
		fmt.Fprintln(os.Stderr, `{"@message":1,"@level":"info"}`)
		fmt.Fprintln(os.Stderr, `{"@message":{"a":[1]},"@level":7,"@timestamp":false}`)
		_, _ = os.Stderr.Write([]byte("\xff\xfe\x00 no utf-8 \x1b[31mred\n"))
	case "flood-stderr":
		go flood(os.Stderr, []byte("2026 a line that means nothing at all\n"))
	case "long-line":
		_, _ = os.Stderr.Write(bytes.Repeat([]byte("x"), 100<<20))
	case "flood-stdout":
		defer flood(os.Stdout, []byte("x"))
		go func() { // after the handshake, on the real descriptor
			time.Sleep(50 * time.Millisecond)
			f := os.NewFile(1, "stdout")
			_, _ = f.Write(bytes.Repeat([]byte("y"), 70<<10)) // no newline
			flood(f, []byte("line\n"))
		}()
	case "ignore-term":
		signal.Ignore(syscall.SIGTERM)
	case "hungry": // more memory than a limit allows, before the handshake
		hold := bytes.Repeat([]byte{1}, 512<<20)
		fmt.Fprintln(os.Stderr, len(hold))
	case "grandchild", "daemon":
		cmd := exec.Command("sleep", "300")
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: mode == "daemon"}
		if err := cmd.Start(); err != nil {
			panic(err)
		}
	case "wrong-kind":
		sdk.Serve(detector.Kind, sdk.Plugin[detector.Detector]{Name: "test", Version: "1.0.0"})
		return
	}
	kind := protocol.Kind
	if mode == "strict" {
		kind.CancelWithin = 200 * time.Millisecond
	}
	sdk.Serve(kind, sdk.Plugin[protocol.Protocol]{
		Name: "test", Version: "1.2.3", Summary: "behaves as it is told", Impl: testProtocol{},
		Schema: sdk.Schema{Attributes: []sdk.Attribute{{Name: "limit", Type: sdk.Number}}},
		Configure: func(_ context.Context, c *sdk.Config) error {
			wayBack.Store(c.Host)
			switch mode {
			case "panic-config":
				panic("as it was told")
			case "fail-config":
				return errors.New("it is not there")
			case "refuse-config":
				return &sdk.ConfigError{Attribute: "limit", Summary: "limit must be positive", Detail: "set it to 1 or more"}
			}
			return nil
		},
	})
	if mode == "ignore-term" {
		block() // the shutdown call has ended Serve
	}
}

func block() {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGUSR2)
	<-c
}

// flood writes 1 GiB.
func flood(w io.Writer, piece []byte) {
	chunk := bytes.Repeat(piece, (64<<10)/len(piece))
	for n := 0; n < 1<<30; n += len(chunk) {
		if _, err := w.Write(chunk); err != nil {
			return
		}
	}
}

// wayBack is what the plugin was configured with.
var wayBack atomic.Pointer[sdk.Host]

// testProtocol does what the operation says.
type testProtocol struct{ protocol.Protocol }

// Status answers.
func (testProtocol) Status(context.Context, *pluginv1.StatusRequest) (*pluginv1.StatusResponse, error) {
	return &pluginv1.StatusResponse{Mode: pluginv1.Mode_MODE_ACTIVE}, nil
}

// Handle does what the operation says.
func (testProtocol) Handle(ctx context.Context, call *pluginv1.Call) ([]byte, error) {
	switch call.GetOperation() {
	case "echo":
		return call.GetPayload(), nil
	case "call-back":
		_, err := wayBack.Load().AppendAudit(ctx, &pluginv1.AppendAuditRequest{Action: string(call.GetPayload())})
		return nil, err
	case "pid":
		return fmt.Appendf(nil, "%d", os.Getpid()), nil
	case "env":
		return []byte(strings.Join(os.Environ(), "\n")), nil
	case "write": // path and content
		name, content, _ := strings.Cut(string(call.GetPayload()), " ")
		return nil, os.WriteFile(name, []byte(content), 0o644)
	case "read":
		return os.ReadFile(string(call.GetPayload()))
	case "daemon":
		cmd := exec.Command("sleep", "300")
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: string(call.GetPayload()) == "setsid"}
		return nil, cmd.Start()
	case "stderr": // as many bytes
		n, err := strconv.Atoi(string(call.GetPayload()))
		if err == nil {
			_, err = os.Stderr.Write(bytes.Repeat([]byte("x"), n))
		}
		return nil, err
	case "fds":
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			return nil, err
		}
		var out []string
		for _, e := range entries {
			target, _ := os.Readlink("/proc/self/fd/" + e.Name())
			out = append(out, e.Name()+" "+target)
		}
		return []byte(strings.Join(out, "\n")), nil
	case "panic":
		go panic("as it was told")
		<-ctx.Done()
		return nil, ctx.Err()
	case "exit":
		fmt.Fprintln(os.Stderr, "about to end\nas it was told")
		os.Exit(7)
	case "hang":
		select {} // not even when cancelled
	case "wait":
		<-ctx.Done()
		return nil, ctx.Err()
	case "huge":
		return make([]byte, 2*maxReply), nil // the end-to-end suite sends 2 GiB
	case "cgroup":
		return os.ReadFile("/proc/self/cgroup")
	case "eat": // more memory than a limit allows
		var hold [][]byte
		for range 2 << 10 {
			hold = append(hold, bytes.Repeat([]byte{1}, 1<<20))
		}
		return nil, fmt.Errorf("had all %d MiB", len(hold))
	case "forks": // as many as it gets
		for {
			if err := exec.Command("sleep", "300").Start(); err != nil {
				return []byte(err.Error()), nil //nolint:nilerr // the error is the answer
			}
		}
	case "error":
		return nil, sdk.Errorf(codes.InvalidArgument, "BAD_PAYLOAD", "the payload is bad").WithRemedy("send a better one")
	case "sleep":
		d, err := time.ParseDuration(string(call.GetPayload()))
		if err != nil {
			return nil, err
		}
		time.Sleep(d)
		return nil, nil
	}
	return nil, sdk.Errorf(codes.Unimplemented, "", "no operation %q", call.GetOperation())
}

// HandleStream sends without end until it is stopped.
func (testProtocol) HandleStream(_ context.Context, _ *pluginv1.Call, send func([]byte) error) error {
	for {
		if err := send(bytes.Repeat([]byte("z"), 1<<10)); err != nil {
			return err
		}
	}
}
