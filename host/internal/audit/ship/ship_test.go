package ship

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"github.com/sop-host/sop/host/internal/audit"
	"github.com/sop-host/sop/host/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// site is a log that is carried away.
type site struct {
	log   *audit.Log
	trail audit.Trail
	set   *Set
	told  chan audit.Record
}

func newSite(t *testing.T) *site {
	t.Helper()
	db, err := store.OpenMemory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	key, err := audit.LoadKey(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s := &site{trail: audit.Trail{Store: db.Audit()}, told: make(chan audit.Record, 100)}
	s.start()
	t.Cleanup(func() { s.set.Close() })
	s.log, err = audit.NewLog(audit.Options{Store: db.Audit(), Key: key, OnSigned: func(c *audit.Checkpoint) { s.set.Signed(c) }})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *site) start() {
	s.set = New(Options{Trail: s.trail, Record: func(r audit.Record) { s.told <- r }, Hostname: "host 1"})
}

func (s *site) append(t *testing.T, n int) *audit.Checkpoint {
	t.Helper()
	if err := s.log.Append(t.Context(), make([]audit.Record, n)...); err != nil {
		t.Fatal(err)
	}
	c, err := s.log.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A mirror goes on where it was, in whole lines, also after a crash in the
// middle of one; checkpoints are appended and can be read as they stand.
func TestFiles(t *testing.T) {
	s := newSite(t)
	dir := t.TempDir()
	mirror, notes := filepath.Join(dir, "mirror"), filepath.Join(dir, "notes")
	specs := []Spec{
		{Mirror: true, Kind: "file", Target: mirror, Shown: mirror, MaxSize: 1 << 20, Files: 3},
		{Kind: "file", Target: notes, Shown: notes},
	}
	s.set.Apply(specs)
	s.append(t, 700)
	s.set.Close()
	for _, path := range []string{mirror, notes} {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			t.Fatal(err)
		}
		_, err = f.WriteString("a torn")
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	s.append(t, 10)
	s.start()
	s.set.Apply(specs)
	last := s.append(t, 5)
	s.set.Close()
	f, err := os.Open(mirror)
	if err != nil {
		t.Fatal(err)
	}
	n := uint64(0)
	for r, err := range audit.Parse(f) {
		if n++; err != nil || r.Seq != n {
			t.Fatalf("line %d: %+v, %v", n, r, err)
		}
	}
	if info, err := f.Stat(); n != 715 || err != nil || info.Mode().Perm() != 0o600 || f.Close() != nil {
		t.Errorf("%d records in the mirror, mode %v", n, info.Mode())
	}
	text, err := os.ReadFile(notes)
	if err != nil {
		t.Fatal(err)
	}
	all := audit.SplitCheckpoints(string(text))
	if len(all) < 2 || all[len(all)-1] != last.Note {
		t.Errorf("notes %q", all)
	}
	if report, err := s.log.Verify(t.Context(), all...); err != nil || report.Fault != nil {
		t.Errorf("%+v, %v", report, err)
	}
}

func TestRotation(t *testing.T) {
	s := newSite(t)
	path := filepath.Join(t.TempDir(), "mirror")
	s.set.Apply([]Spec{{Mirror: true, Kind: "file", Target: path, Shown: path, MaxSize: 4000, Files: 2}})
	s.append(t, 300)
	s.set.Close()
	left, err := filepath.Glob(path + "*")
	if err != nil || len(left) != 3 {
		t.Errorf("%v, %v", left, err)
	}
}

// A collector that refuses is told of once, and gets the newest checkpoint.
func TestHTTP(t *testing.T) {
	t.Setenv("SOP_TEST_HEADER", "secret")
	var refused atomic.Bool
	got := make(chan string, 100)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.Header.Get("Authorization") != "secret" {
			t.Errorf("header %q, %v", r.Header.Get("Authorization"), err)
		}
		if !refused.Swap(true) {
			http.Error(w, "not now", http.StatusServiceUnavailable)
			return
		}
		got <- string(body)
	}))
	defer server.Close()
	s := newSite(t)
	s.set.Apply([]Spec{{Kind: "http", Target: server.URL + "?key=hidden", Shown: server.URL, HeaderEnv: map[string]string{"Authorization": "SOP_TEST_HEADER"}}})
	s.append(t, 3)
	r := <-s.told
	if r.Action != ActionSink || r.Outcome != audit.Failure || !strings.Contains(r.Reason, "503") || strings.Contains(r.Reason, "hidden") {
		t.Errorf("told %+v", r)
	}
	sinks, err := s.set.Sinks(t.Context())
	if err != nil || len(sinks) != 1 || sinks[0].Failures != 1 || sinks[0].Lag != 3 || sinks[0].Remedy == "" {
		t.Errorf("%+v, %v", sinks, err)
	}
	s.append(t, 1)
	newest := s.append(t, 1)
	if note := <-got; note != newest.Note {
		t.Errorf("after the failure came %q", note)
	}
	if r := <-s.told; r.Outcome != audit.Success {
		t.Errorf("told %+v", r)
	}
	server.Close()
}

// Over TCP each message has its length before it.
func TestSyslogTCP(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	s := newSite(t)
	target := "tcp://" + l.Addr().String()
	s.set.Apply([]Spec{{Mirror: true, Kind: "syslog", Target: target, Shown: target, Format: "json"}})
	s.append(t, 1)
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	head := make([]byte, 4)
	if _, err := io.ReadFull(conn, head); err != nil {
		t.Fatal(err)
	}
	length := 0
	for _, c := range strings.TrimSpace(string(head)) {
		length = length*10 + int(c-'0')
	}
	text := make([]byte, length)
	if _, err := io.ReadFull(conn, text); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(text), "<108>1 ") || !strings.Contains(string(text), " host1 sop ") || !strings.HasSuffix(string(text), `"}`) {
		t.Errorf("message %q", text)
	}
	s.set.Close()
	if cursor, err := s.trail.Store.Cursor(context.Background(), "mirror syslog "+target); err != nil || cursor != 1 {
		t.Errorf("cursor %d, %v", cursor, err)
	}
}
