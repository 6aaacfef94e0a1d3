package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
)

const (
	backupFiles  = 5
	backupRounds = 101
	backupSize   = 4 << 10 // bytes of a file
)

// connPlugin hands out the connection of a plugin.
type connPlugin struct {
	goplugin.NetRPCUnsupportedPlugin
}

func (connPlugin) GRPCServer(*goplugin.GRPCBroker, *grpc.Server) error {
	return errors.New("this side only calls")
}

func (connPlugin) GRPCClient(_ context.Context, _ *goplugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return conn, nil
}

// startBackup starts the built plugin in a process of its own, as the host does.
func startBackup(t *testing.T) pluginv1.BackupClient {
	t.Helper()
	path, err := filepath.Abs("../../../bin/plugins/backup-files")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v; run `make build` first", err)
	}
	client := goplugin.NewClient(&goplugin.ClientConfig{
		HandshakeConfig: sdk.Handshake, Plugins: goplugin.PluginSet{"backup": connPlugin{}}, Cmd: exec.CommandContext(t.Context(), path), AutoMTLS: true,
		AllowedProtocols: []goplugin.Protocol{goplugin.ProtocolGRPC}, Logger: quiet(),
	})
	t.Cleanup(client.Kill)
	rpc, err := client.Client()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := rpc.Dispense("backup")
	if err != nil {
		t.Fatal(err)
	}
	conn := raw.(*grpc.ClientConn)
	resp, err := pluginv1.NewPluginClient(conn).Configure(t.Context(), &pluginv1.ConfigureRequest{StateDir: t.TempDir()})
	if err != nil || len(resp.GetDiagnostics()) > 0 {
		t.Fatalf("configure: %v %v", err, resp.GetDiagnostics())
	}
	return pluginv1.NewBackupClient(conn)
}

// durable writes a file and makes it durable, not its name.
func durable(path string, data []byte) error {
	f, err := os.Create(path + ".tmp")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close(), os.Rename(path+".tmp", path))
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// bareSave does what a durable save of files needs and nothing else: each file,
// their directory, a list of them, its directory.
func bareSave(t *testing.T, dir string, contents [][]byte, atOnce bool) {
	t.Helper()
	var wg sync.WaitGroup
	failed := make([]error, len(contents))
	for i, data := range contents {
		one := func() { failed[i] = durable(filepath.Join(dir, fmt.Sprint(i)), data) }
		if atOnce {
			wg.Go(one)
		} else {
			one()
		}
	}
	wg.Wait()
	err := errors.Join(failed...)
	if err = errors.Join(err, syncDir(dir), durable(filepath.Join(dir, "list"), contents[0]), syncDir(dir)); err != nil {
		t.Fatal(err)
	}
}

// bareRestore does what a durable restore needs.
func bareRestore(t *testing.T, dir string, contents [][]byte) {
	t.Helper()
	var err error
	for i, data := range contents {
		err = errors.Join(err, durable(filepath.Join(dir, fmt.Sprint(i)), data))
	}
	if err = errors.Join(err, syncDir(dir)); err != nil {
		t.Fatal(err)
	}
}

// drain reads a stream of answers to its end and returns the last.
func drain[R any](t *testing.T, recv func() (*R, error), err error) (last *R) {
	t.Helper()
	for err == nil {
		var resp *R
		if resp, err = recv(); err == nil {
			last = resp
		}
	}
	if !errors.Is(err, io.EOF) || last == nil {
		t.Fatal(err)
	}
	return last
}

// TestBenchBackup compares saving and restoring a few files by the plugin, calls
// included, with the writes and syncs that it takes.
func TestBenchBackup(t *testing.T) {
	wanted(t)
	client, root, floor := startBackup(t), t.TempDir(), t.TempDir()
	var save, restore, serial, parallel, bare []time.Duration
	measure := func(into *[]time.Duration, do func()) {
		began := time.Now()
		do()
		*into = append(*into, time.Since(began))
	}
	for round := range backupRounds {
		contents := make([][]byte, backupFiles)
		req := &pluginv1.SaveRequest{Root: root}
		for i := range contents {
			contents[i] = make([]byte, backupSize)
			copy(contents[i], fmt.Sprintf("round %d file %d", round, i))
			req.Paths = append(req.Paths, fmt.Sprint(i))
			if err := durable(filepath.Join(root, fmt.Sprint(i)), contents[i]); err != nil {
				t.Fatal(err)
			}
		}
		var id string
		measure(&save, func() {
			stream, err := client.Save(t.Context(), req)
			id = drain(t, stream.Recv, err).GetSnapshot().GetId()
		})
		measure(&serial, func() { bareSave(t, floor, contents, false) })
		measure(&parallel, func() { bareSave(t, floor, contents, true) })
		measure(&restore, func() {
			stream, err := client.Restore(t.Context(), &pluginv1.RestoreRequest{SnapshotId: id, Target: root, Overwrite: true})
			if result := drain(t, stream.Recv, err).GetResult(); result.GetFiles() != backupFiles || len(result.GetFailures()) > 0 {
				t.Fatalf("restored %v", result)
			}
		})
		measure(&bare, func() { bareRestore(t, floor, contents) })
	}
	ratio := func(a, b []time.Duration) float64 { return float64(median(a)) / float64(median(b)) }
	say(t, "save 5 files, durable", ratio(save, serial), "≤2×", "p50 %v (bare syncs, one after the other: %v)", median(save), median(serial))
	if cold := coldRestic(t, root); cold > 0 {
		say(t, "restic, cold, to the same save", float64(cold)/float64(median(save)), "≥50×", "restic backup %v, without its cache", cold)
	}
	say(t, "save 5 files, durable, best case", ratio(save, parallel), "-", "p50 %v (bare syncs, files at once: %v)", median(save), median(parallel))
	say(t, "restore 5 files, durable", ratio(restore, bare), "≤2×", "p50 %v (bare syncs: %v)", median(restore), median(bare))
}

// coldRestic is how long restic takes to save a directory into a repository that
// it has not in its cache; 0 where it is not installed.
func coldRestic(t *testing.T, root string) time.Duration {
	t.Helper()
	program, err := exec.LookPath("restic")
	if err != nil {
		t.Log("restic is not installed: no comparison with it")
		return 0
	}
	restic := func(args ...string) time.Duration {
		cmd := exec.CommandContext(t.Context(), program, append(args, "--quiet", "--no-cache")...)
		cmd.Env = append(os.Environ(), "RESTIC_PASSWORD=bench", "RESTIC_REPOSITORY="+filepath.Join(filepath.Dir(root), "restic"))
		began := time.Now()
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("restic %v: %v\n%s", args, err, out)
		}
		return time.Since(began)
	}
	restic("init")
	var took []time.Duration
	for range 5 {
		took = append(took, restic("backup", root))
	}
	return median(took)
}
