package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk/detector"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// host drives a detector over gRPC as the real one does, and draws the same
// conclusions from what is reported and covered.
type host struct {
	client   pluginv1.DetectorClient
	root     string
	revision int
	manifest map[string]*pluginv1.ScanFile
	// gaps are the open ones by path; each is a line of [format].
	gaps map[string][]string
}

// reply is what one scan said.
type reply struct {
	findings    []*pluginv1.Finding
	covered     map[string]bool
	diagnostics []*pluginv1.ScanDiagnostic
	summary     *pluginv1.ScanSummary
}

func newHost(t testing.TB, root string, set *settings) *host {
	t.Helper()
	d := newDocs()
	if set != nil {
		d.settings.Store(set)
	}
	listener := bufconn.Listen(1 << 20)
	server := grpc.NewServer()
	detector.Kind.Register(server, d)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener)
	}()
	conn, err := grpc.NewClient("passthrough:///bufconn",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		server.Stop()
		<-done
	})
	return &host{client: detector.Kind.NewClient(conn), root: root, gaps: make(map[string][]string)}
}

// list walks the workspace; "ignored" stands for what git ignores.
func (h *host) list(t testing.TB) map[string]*pluginv1.ScanFile {
	t.Helper()
	files := make(map[string]*pluginv1.ScanFile)
	err := filepath.WalkDir(h.root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(h.root, name)
		if err != nil {
			return err
		}
		if entry.IsDir() && (entry.Name() == ".git" || entry.Name() == "ignored" || entry.Name() == "vendor" || entry.Name() == "node_modules") {
			return filepath.SkipDir
		}
		if !entry.Type().IsRegular() {
			return nil
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		files[rel] = &pluginv1.ScanFile{
			Path: rel, Size: info.Size(), ModifiedUnixNano: info.ModTime().UnixNano(),
			Testdata: slices.Contains(strings.Split(rel, "/"), "testdata"),
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// scan sends the whole manifest.
func (h *host) scan(t testing.TB, rules ...string) *reply {
	t.Helper()
	h.manifest = h.list(t)
	batch := &pluginv1.ScanFiles{}
	for _, f := range h.manifest {
		batch.Changed = append(batch.Changed, f)
	}
	return h.send(t, &pluginv1.ScanStart{Rules: rules}, batch)
}

// rescan sends what has changed; touched are the paths written since.
func (h *host) rescan(t testing.TB, touched map[string]bool) *reply {
	t.Helper()
	now, batch := h.list(t), &pluginv1.ScanFiles{}
	for name, f := range now {
		if h.manifest[name] == nil || touched[name] || h.manifest[name].GetSize() != f.GetSize() {
			batch.Changed = append(batch.Changed, f)
		}
	}
	for name := range h.manifest {
		if now[name] == nil {
			batch.Removed = append(batch.Removed, name)
		}
	}
	h.manifest = now
	return h.send(t, &pluginv1.ScanStart{BaseRevision: fmt.Sprint(h.revision)}, batch)
}

func (h *host) send(t testing.TB, start *pluginv1.ScanStart, files *pluginv1.ScanFiles) *reply {
	t.Helper()
	h.revision++
	start.Workspace, start.Root, start.Revision = "test", h.root, fmt.Sprint(h.revision)
	stream, err := h.client.Scan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, req := range batches(start, files) {
		if err := stream.Send(req); err != nil {
			t.Fatal(err)
		}
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	r := &reply{covered: make(map[string]bool)}
	for {
		msg, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			h.conclude(r)
			return r
		}
		if err != nil {
			t.Fatal(err)
		}
		r.findings = append(r.findings, msg.GetFindings()...)
		r.diagnostics = append(r.diagnostics, msg.GetDiagnostics()...)
		for _, name := range msg.GetCovered() {
			r.covered[name] = true
		}
		if msg.GetSummary() != nil {
			r.summary = msg.GetSummary()
		}
	}
}

func batches(start *pluginv1.ScanStart, files *pluginv1.ScanFiles) []*pluginv1.ScanRequest {
	slices.SortFunc(files.Changed, func(a, b *pluginv1.ScanFile) int { return strings.Compare(a.GetPath(), b.GetPath()) })
	reqs := []*pluginv1.ScanRequest{{Message: &pluginv1.ScanRequest_Start{Start: start}}}
	for part := range slices.Chunk(files.GetChanged(), 1000) {
		reqs = append(reqs, &pluginv1.ScanRequest{Message: &pluginv1.ScanRequest_Files{Files: &pluginv1.ScanFiles{Changed: part}}})
	}
	return append(reqs, &pluginv1.ScanRequest{Message: &pluginv1.ScanRequest_Files{Files: &pluginv1.ScanFiles{Removed: files.GetRemoved()}}})
}

// conclude applies a scan: a gap at a covered path that was not seen is fixed;
// so is one whose file is gone.
func (h *host) conclude(r *reply) {
	for name := range r.covered {
		delete(h.gaps, name)
	}
	for name := range h.gaps {
		if _, ok := h.manifest[name]; !ok && !h.isDir(name) {
			delete(h.gaps, name)
		}
	}
	for _, f := range r.findings {
		name := f.GetLocation().GetPath()
		if line := format(f); !slices.Contains(h.gaps[name], line) {
			h.gaps[name] = append(h.gaps[name], line)
		}
	}
}

func (h *host) isDir(name string) bool {
	info, err := os.Stat(filepath.Join(h.root, name))
	return err == nil && info.IsDir()
}

// open lists the open gaps, sorted.
func (h *host) open() []string {
	var all []string
	for _, lines := range h.gaps {
		all = append(all, lines...)
	}
	slices.Sort(all)
	return all
}

// format is "path:line rule what".
func format(f *pluginv1.Finding) string {
	what := f.GetLocation().GetSymbol()
	if target := f.GetProperties()["target"]; target != "" {
		what = target
	}
	if f.GetRule() == ruleReadme {
		what = strings.ToLower(strings.TrimPrefix(f.GetSeverity().String(), "SEVERITY_"))
	}
	return strings.TrimSpace(fmt.Sprintf("%s:%d %s %s", f.GetLocation().GetPath(), f.GetLocation().GetLine(), f.GetRule(), what))
}

// write puts files, by path, into root; the empty string removes.
func write(t testing.TB, root string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		full := filepath.Join(root, filepath.FromSlash(name))
		if content == "" {
			if err := os.Remove(full); err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRepository prints what is found in the repository that SOP_DOCS_REPO
// names, to be judged by hand.
func TestRepository(t *testing.T) {
	root := os.Getenv("SOP_DOCS_REPO")
	if root == "" {
		t.Skip("SOP_DOCS_REPO is not set")
	}
	h := newHost(t, root, nil)
	r := h.scan(t)
	counts := make(map[string]int)
	for _, f := range r.findings {
		counts[f.GetRule()]++
	}
	for _, line := range h.open() {
		fmt.Println(line)
	}
	for _, d := range r.diagnostics {
		fmt.Println(d)
	}
	fmt.Println(counts, r.summary)
}
