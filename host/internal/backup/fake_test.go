package backup_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/sop-host/sop/host/internal/audit"
	"github.com/sop-host/sop/host/internal/backup"
	"github.com/sop-host/sop/host/internal/store"
	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
	backupkind "github.com/sop-host/sop/sdk/backup"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is a backup plugin that keeps everything in memory.
type memory struct {
	mu      sync.Mutex
	all     []*kept
	tokens  []string // that calls carried
	fail    error    // what the next calls end with
	damaged []*pluginv1.DamagedObject
	expired []string                                    // what Prune forgets
	lossy   bool                                        // what is restored is not what was saved
	loud    bool                                        // likewise, in the same size
	mute    bool                                        // it cannot list what a snapshot holds
	hold    <-chan struct{}                             // a save waits for it to be closed
	claim   func(*pluginv1.Snapshot) *pluginv1.Snapshot // what a save says that it made; nil: what it did
}

// kept is a snapshot with its regular files.
type kept struct {
	*pluginv1.Snapshot
	files map[string]string
	dirs  []string
}

func (m *memory) call(token string) error {
	m.tokens = append(m.tokens, token)
	return m.fail
}

// Save implements [backupkind.Backup].
func (m *memory) Save(_ context.Context, req *pluginv1.SaveRequest, tell backupkind.ProgressFunc) (*pluginv1.Snapshot, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.call(req.GetToken()); err != nil {
		return nil, err
	}
	k := &kept{files: make(map[string]string), Snapshot: &pluginv1.Snapshot{Id: fmt.Sprintf("ref%d", len(m.all)), Root: req.GetRoot(), Labels: req.GetLabels()}}
	asked := make([]string, 0, len(req.GetRawPaths()))
	for _, p := range req.GetRawPaths() {
		asked = append(asked, string(p))
		if _, err := os.Lstat(filepath.Join(req.GetRoot(), string(p))); err != nil {
			k.Failures = append(k.Failures, &pluginv1.PathFailure{Path: p, Message: "it does not exist\n"})
		}
	}
	err := filepath.WalkDir(req.GetRoot(), func(path string, d fs.DirEntry, err error) error {
		rel := strings.TrimPrefix(path, req.GetRoot()+"/")
		switch {
		case err != nil || path == req.GetRoot():
			return err
		case slices.ContainsFunc(req.GetExcluded(), func(p []byte) bool { return rel == string(p) }):
			return fs.SkipDir
		case len(asked) > 0 && !slices.ContainsFunc(asked, func(p string) bool { return rel == p || strings.HasPrefix(rel, p+"/") }):
			return nil
		case d.IsDir():
			k.dirs = append(k.dirs, rel)
			return nil
		case !d.Type().IsRegular():
			return nil
		}
		text, err := os.ReadFile(path)
		k.files[rel] = string(text)
		k.Files++
		k.Bytes += int64(len(text))
		return err
	})
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256([]byte(fmt.Sprint(k.files, k.Id)))
	k.ManifestSha256 = sum[:]
	m.all = append(m.all, k)
	if m.hold != nil {
		<-m.hold
	}
	if m.claim != nil {
		return m.claim(k.Snapshot), nil
	}
	return k.Snapshot, tell(&pluginv1.BackupProgress{Files: k.GetFiles(), Bytes: k.GetBytes()})
}

// List implements [backupkind.Backup]; a page has one snapshot.
func (m *memory) List(_ context.Context, req *pluginv1.ListRequest) (*pluginv1.ListResponse, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.call(req.GetToken()); err != nil {
		return nil, err
	}
	for i, k := range slices.Backward(m.all) {
		if req.GetPageToken() != "" && fmt.Sprint(i) >= req.GetPageToken() {
			continue
		}
		matches := len(req.GetSnapshotIds()) == 0 || slices.Contains(req.GetSnapshotIds(), k.GetId())
		for name, value := range req.GetLabels() {
			matches = matches && k.GetLabels()[name] == value
		}
		if matches {
			return &pluginv1.ListResponse{Snapshots: []*pluginv1.Snapshot{k.Snapshot}, NextPageToken: fmt.Sprint(i)}, nil
		}
	}
	return &pluginv1.ListResponse{}, nil
}

func (m *memory) find(id string) (*kept, error) {
	for _, k := range m.all {
		if k.GetId() == id {
			return k, nil
		}
	}
	return nil, sdk.Errorf(codes.NotFound, "NO_SUCH", "no snapshot %s", id)
}

// Verify implements [backupkind.Backup].
func (m *memory) Verify(_ context.Context, req *pluginv1.VerifyRequest, _ backupkind.ProgressFunc) (*pluginv1.VerifyResult, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.call(req.GetToken()); err != nil {
		return nil, err
	}
	return &pluginv1.VerifyResult{Intact: len(m.damaged) == 0, Damaged: m.damaged, Snapshots: int64(len(m.all))}, nil
}

// Restore implements [backupkind.Backup].
func (m *memory) Restore(_ context.Context, req *pluginv1.RestoreRequest, _ backupkind.ProgressFunc) (*pluginv1.RestoreResult, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.call(req.GetToken()); err != nil {
		return nil, err
	}
	k, err := m.find(req.GetSnapshotId())
	if err != nil {
		return nil, err
	}
	result := &pluginv1.RestoreResult{}
	for name, text := range k.files {
		if m.lossy {
			text += "!"
		}
		if m.loud {
			text = strings.ToUpper(text)
		}
		if len(req.GetRawPaths()) > 0 && !slices.ContainsFunc(req.GetRawPaths(), func(p []byte) bool { return string(p) == name }) {
			continue
		}
		to := filepath.Join(req.GetTarget(), name)
		if _, err := os.Lstat(to); err == nil && !req.GetOverwrite() {
			result.Failures = append(result.Failures, &pluginv1.PathFailure{Path: []byte(name), Message: "it exists"})
			continue
		}
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return nil, err
		}
		if err := os.WriteFile(to, []byte(text), 0o600); err != nil {
			return nil, err
		}
		result.Files++
	}
	return result, nil
}

// Contents implements [backupkind.Lister].
func (m *memory) Contents(_ context.Context, req *pluginv1.ContentsRequest, send func([]*pluginv1.SnapshotEntry) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.call(req.GetToken()); err != nil {
		return err
	}
	k, err := m.find(req.GetSnapshotId())
	if m.mute {
		err = sdk.Errorf(codes.Unimplemented, "NO_CONTENTS", "it cannot")
	}
	if err != nil {
		return err
	}
	for _, dir := range k.dirs {
		if err := send([]*pluginv1.SnapshotEntry{{Path: []byte(dir), Type: "dir", Mode: 0o755}}); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(k.files)) {
		sum := sha256.Sum256([]byte(k.files[name]))
		if err := send([]*pluginv1.SnapshotEntry{{Path: []byte(name), Type: "file", Mode: 0o600, Size: int64(len(k.files[name])), Sha256: sum[:]}}); err != nil {
			return err
		}
	}
	return nil
}

// Delete implements [backupkind.Backup].
func (m *memory) Delete(_ context.Context, req *pluginv1.DeleteRequest) (*pluginv1.DeleteResponse, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.call(req.GetToken()); err != nil {
		return nil, err
	}
	m.drop(req.GetSnapshotIds()...)
	return &pluginv1.DeleteResponse{DeletedIds: req.GetSnapshotIds()}, nil
}

func (m *memory) drop(ids ...string) {
	m.all = slices.DeleteFunc(m.all, func(k *kept) bool { return slices.Contains(ids, k.GetId()) })
}

// Pin implements [backupkind.Backup].
func (m *memory) Pin(_ context.Context, req *pluginv1.PinRequest) (*pluginv1.PinResponse, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.call(req.GetToken()); err != nil {
		return nil, err
	}
	k, err := m.find(req.GetSnapshotId())
	if err == nil {
		k.Pinned = req.GetPinned()
	}
	return &pluginv1.PinResponse{}, err
}

// Prune implements [backupkind.Pruner].
func (m *memory) Prune(_ context.Context, req *pluginv1.PruneRequest, progress backupkind.ProgressFunc) (*pluginv1.PruneResult, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.call(req.GetToken()); err != nil {
		return nil, err
	}
	if !req.GetDryRun() {
		m.drop(m.expired...)
		if err := progress(&pluginv1.BackupProgress{Files: int64(len(m.expired)), Bytes: 5}); err != nil {
			return nil, err
		}
	}
	return &pluginv1.PruneResult{DeletedIds: m.expired, FreedBytes: 5}, nil
}

// site is a service on a database in memory, with one plugin and one workspace.
type site struct {
	*testing.T
	*backup.Service
	db     *store.DB
	plugin *memory
	root   string
	grants []string // what tokens were for; ended ones begin with "ended "
}

func newSite(t *testing.T) *site {
	t.Helper()
	db, err := store.OpenMemory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s := &site{T: t, db: db, plugin: &memory{}, root: t.TempDir()}
	client := connect(t, s.plugin)
	s.Service = backup.NewService(backup.Options{
		Store: db.Backups(), Plugins: plugins{"files": client}, Scratch: t.TempDir(), DataDir: filepath.Join(s.root, ".sop"),
		Root: func(workspace string) (string, error) {
			if workspace != "w" {
				return "", sdk.Errorf(codes.NotFound, "WORKSPACE_UNKNOWN", "no workspace %s", workspace)
			}
			return s.root, nil
		},
		Grant: func(_ context.Context, plugin, workspace, what string) (string, func(), error) {
			s.grants = append(s.grants, what)
			return "secret", func() { s.grants = append(s.grants, "ended "+what) }, nil
		},
	})
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

type plugins map[string]pluginv1.BackupClient

// Names implements [backup.Plugins].
func (p plugins) Names() []string { return slices.Sorted(maps.Keys(p)) }

// Client implements [backup.Plugins].
func (p plugins) Client(name string) pluginv1.BackupClient { return p[name] }

// connect serves a plugin over a connection in memory.
func connect(t *testing.T, impl backupkind.Backup) pluginv1.BackupClient {
	t.Helper()
	listener, server := bufconn.Listen(1<<20), grpc.NewServer()
	backupkind.Kind.Register(server, impl)
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:plugin", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		server.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return backupkind.Kind.NewClient(conn)
}

// write writes a file of the workspace.
func (s *site) write(name, text string) {
	s.Helper()
	path := filepath.Join(s.root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		s.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		s.Fatal(err)
	}
}

// save saves paths of the workspace.
func (s *site) save(paths ...string) *backup.Snapshot {
	s.Helper()
	snap, err := s.Save(s.Context(), backup.SaveRequest{Workspace: "w", Paths: paths, Reason: backup.ForIntegration, Task: "t", Patch: "p", By: "me"})
	if err != nil {
		s.Fatal(err)
	}
	return snap
}

// records are the audit records of backups, as "action outcome reason".
func (s *site) records() (out []string) {
	s.Helper()
	key, err := audit.LoadKey(s.TempDir())
	if err != nil {
		s.Fatal(err)
	}
	log, err := audit.NewLog(audit.Options{Store: s.db.Audit(), Key: key})
	if err != nil {
		s.Fatal(err)
	}
	page, err := log.List(s.Context(), audit.Filter{Action: "backup"})
	if err != nil {
		s.Fatal(err)
	}
	for _, r := range slices.Backward(page.Records) {
		out = append(out, strings.TrimSpace(fmt.Sprintf("%s %s %s", r.Action, r.Outcome, r.Reason)))
	}
	return out
}
