package plugintest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk/backup"
)

// backupJobEnv makes the test binary a process with a plugin in it: the value
// says what it does, see [job].
const backupJobEnv = "SOP_PLUGINTEST_BACKUP"

// job is one call that a process of its own makes.
type job struct {
	State string `json:"state"`
	// Op is the method.
	Op string `json:"op"`
	// Request in protojson.
	Request json.RawMessage `json:"request"`
	// Times is how often; 0: once.
	Times int `json:"times,omitempty"`
}

// What a process says: that it begins, and the answer in protojson after acked.
const (
	ready = "ready"
	acked = "acked "
)

// work does a job in this process and returns its exit code.
func work(text string, open OpenBackup) int {
	var j job
	if err := json.Unmarshal([]byte(text), &j); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	fmt.Println(ready)
	impl, err := open(j.State)
	for range max(j.Times, 1) {
		var answer proto.Message
		if err == nil {
			answer, err = j.call(impl)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		text, err := protojson.MarshalOptions{}.Marshal(answer)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		fmt.Println(acked + string(text))
	}
	return 0
}

func (j *job) call(impl backup.Backup) (proto.Message, error) {
	ctx := context.Background()
	quiet := func(*pluginv1.BackupProgress) error { return nil }
	switch j.Op {
	case "save":
		var req pluginv1.SaveRequest
		if err := protojson.Unmarshal(j.Request, &req); err != nil {
			return nil, err
		}
		return impl.Save(ctx, &req, quiet)
	case "restore":
		var req pluginv1.RestoreRequest
		if err := protojson.Unmarshal(j.Request, &req); err != nil {
			return nil, err
		}
		return impl.Restore(ctx, &req, quiet)
	case "delete":
		var req pluginv1.DeleteRequest
		if err := protojson.Unmarshal(j.Request, &req); err != nil {
			return nil, err
		}
		return impl.Delete(ctx, &req)
	case "prune":
		if p, ok := impl.(backup.Pruner); ok {
			return p.Prune(ctx, &pluginv1.PruneRequest{}, quiet)
		}
		return &pluginv1.PruneResult{}, nil
	}
	return nil, fmt.Errorf("unknown job %q", j.Op)
}

// process is a started job.
type process struct {
	cmd    *exec.Cmd
	out    *bufio.Reader
	stderr bytes.Buffer
}

// start starts a process for a job and returns when it begins.
func (b *backupTest) start(op string, times int, req proto.Message) *process {
	b.Helper()
	return b.startWith(b.command(op, times, req))
}

// command makes the command of a job: this test binary, running the suite's test.
func (b *backupTest) command(op string, times int, req proto.Message) *exec.Cmd {
	b.Helper()
	request, err := protojson.Marshal(req)
	b.must(err)
	text, err := json.Marshal(job{b.state, op, request, times})
	b.must(err)
	exe, err := os.Executable()
	b.must(err)
	pattern := "^" + strings.ReplaceAll(b.suite, "/", "$/^") + "$"
	cmd := exec.Command(exe, "-test.run="+pattern) //nolint:noctx // each caller waits for it or kills it
	cmd.Env = append(os.Environ(), backupJobEnv+"="+string(text))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

func (b *backupTest) startWith(cmd *exec.Cmd) *process {
	b.Helper()
	p := &process{cmd: cmd}
	cmd.Stderr = &p.stderr
	out, err := cmd.StdoutPipe()
	b.must(err, cmd.Start())
	p.out = bufio.NewReader(out)
	if line, err := p.out.ReadString('\n'); err != nil || line != ready+"\n" {
		b.must(cmd.Process.Kill())
		b.Fatalf("the process says %q, %v: %v, %s", line, err, cmd.Wait(), p.stderr.String())
	}
	return p
}

// wait waits for the end and returns the answers that were acknowledged.
func (p *process) wait() (answers []string, err error) {
	out, err := io.ReadAll(p.out)
	for line := range strings.Lines(string(out)) {
		if answer, ok := strings.CutPrefix(line, acked); ok && strings.HasSuffix(line, "\n") {
			answers = append(answers, answer)
		}
	}
	if err = errors.Join(err, p.cmd.Wait()); err != nil {
		err = fmt.Errorf("%w: %s", err, p.stderr.String())
	}
	return answers, err
}

// killWithin kills the process at a random moment of a span, unless it ends
// before, and returns what it had acknowledged.
func (p *process) killWithin(span time.Duration) (answers []string, err error) {
	moment := rand.N(span)                                               //nolint:gosec // any moment will do
	timer := time.AfterFunc(moment, func() { _ = p.cmd.Process.Kill() }) // it may have ended
	defer timer.Stop()
	answers, err = p.wait()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.ProcessState.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL { //nolint:forcetypeassert // on Linux it is one
		err = nil
	}
	return answers, err
}

// asNobody saves as a user without rights; a test that runs as root starts a
// process for it.
func (b *backupTest) asNobody(req *pluginv1.SaveRequest) (*pluginv1.Snapshot, error) {
	b.Helper()
	if os.Geteuid() != 0 {
		return saveOver(b.Context(), b.client, req)
	}
	const nobody = 65534
	cmd := b.command("save", 1, req)
	dir, err := os.MkdirTemp("", "sop-plugintest-") // others cannot enter that of the go command
	b.must(err)
	b.Cleanup(func() { b.must(os.RemoveAll(dir)) })
	exe := filepath.Join(dir, "test")
	text, err := os.ReadFile(cmd.Path)
	b.must(err, os.WriteFile(exe, text, 0o755), os.Chmod(dir, 0o755)) //nolint:gosec // another user runs it
	b.must(os.RemoveAll(b.state), os.Mkdir(b.state, 0o700), os.Chown(b.state, nobody, nobody))
	for at := b.root; at != os.TempDir() && at != "/"; at = filepath.Dir(at) {
		b.must(os.Chmod(at, 0o755)) //nolint:gosec // another user reads it
	}
	b.must(os.Chmod(filepath.Join(b.root, "fine"), 0o644)) //nolint:gosec // as above
	cmd.Path, cmd.Dir = exe, dir
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
	answers, err := b.startWith(cmd).wait()
	if err != nil {
		return nil, err
	}
	s := &pluginv1.Snapshot{}
	return s, protojson.Unmarshal([]byte(answers[0]), s)
}

// parentName is the test that t is a part of.
func parentName(t *testing.T) string {
	return t.Name()[:strings.LastIndexByte(t.Name(), '/')]
}
