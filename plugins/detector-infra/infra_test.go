package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
	"github.com/sop-host/sop/sdk/plugintest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// checkOf decodes a configuration with one check in it and returns the check.
func checkOf(t *testing.T, config string) *check {
	t.Helper()
	s, err := settingsOf(config)
	if err != nil || len(s.checks) != 1 {
		t.Fatalf("%s: %d checks, %v", config, len(s.checks), err)
	}
	return s.checks[0]
}

func settingsOf(config string) (*settings, error) {
	return decode(sdk.NewConfig([]byte(config), ""))
}

// judge does the check and compares what it says; "" is: as expected.
func judge(t *testing.T, config, want string) {
	t.Helper()
	got, err := checkOf(t, config).failing(t.Context())
	if err != nil || (want == "") != (got == "") || !strings.Contains(got, want) {
		t.Errorf("%s: %q, %v; want %q", config, got, err, want)
	}
}

func object(block, label string, attributes map[string]any) string {
	content := any(attributes)
	if label != "" {
		content = map[string]any{label: attributes}
	}
	text, err := json.Marshal(map[string]any{block: content})
	if err != nil {
		panic(err)
	}
	return string(text)
}

func TestMachine(t *testing.T) {
	dir := t.TempDir()
	judge(t, object("disk", dir, map[string]any{"max_used": 100, "max_inodes": 100, "min_free": "1B"}), "")
	judge(t, object("disk", dir, map[string]any{"min_free": "1000000TiB"}), "free; expected is at least 1000000TiB")
	judge(t, object("disk", dir, map[string]any{"max_used": 1e-9}), "% full")
	judge(t, object("memory", "", map[string]any{"max_used": 100, "max_swap": 100}), "")
	judge(t, object("memory", "", map[string]any{"max_used": 1e-9}), "of the memory is in use")
	judge(t, object("load", "", map[string]any{"max_per_cpu": 1e6}), "")
	if _, err := checkOf(t, object("disk", "/no/such/place", map[string]any{"max_used": 1})).failing(t.Context()); err == nil {
		t.Error("a file system that is not there was checked")
	}
}

func TestProcess(t *testing.T) {
	name := fmt.Sprintf("infra%d", os.Getpid()) // at most 15 bytes are kept by the kernel
	program := filepath.Join(t.TempDir(), name)
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(sleep)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(program, content, 0o700); err != nil {
		t.Fatal(err)
	}
	judge(t, object("process", name, nil), "0 processes of "+name)
	judge(t, object("process", name, map[string]any{"min": 0, "max": 0}), "")
	var running []*exec.Cmd
	for range 2 {
		cmd := exec.CommandContext(t.Context(), program, "60")
		cmd.Args[0] = "sleep" // what a busybox asks for
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		running = append(running, cmd)
	}
	judge(t, object("process", name, map[string]any{"min": 2, "max": 2}), "")
	judge(t, object("process", "label", map[string]any{"name": name, "max": 1}), "2 processes of "+name)
	for _, cmd := range running {
		if err := errors.Join(cmd.Process.Kill()); err != nil {
			t.Error(err)
		}
		_ = cmd.Wait() // killed
	}
}

func TestUnit(t *testing.T) {
	for out, want := range map[string]string{
		"LoadState=loaded\nActiveState=active\n":      "",
		"LoadState=loaded\nActiveState=failed\n":      "unit a.service is failed; expected is that it is active",
		"LoadState=not-found\nActiveState=inactive\n": "there is no unit a.service",
		"": "expected is that it is active",
	} {
		if got := unitFailing("a.service", "active", out); (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%q: %q", out, got)
		}
	}
	if _, err := exec.LookPath("systemctl"); err == nil {
		t.Skip("this machine has systemctl: that there is none cannot be shown")
	}
	if _, err := checkOf(t, object("unit", "a.service", nil)).failing(t.Context()); err == nil || !strings.Contains(err.Error(), "no systemctl") {
		t.Errorf("without systemctl: %v", err)
	}
}

func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sudoers")
	if err := os.WriteFile(path, []byte("root ALL\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte("root ALL\n"))
	uid, gid := fmt.Sprint(os.Getuid()), fmt.Sprint(os.Getgid())
	good := map[string]any{"mode": "0640", "owner": uid, "group": gid, "sha256": hex.EncodeToString(sum[:])}
	judge(t, object("file", path, good), "")
	for attribute, c := range map[string]struct{ value, want string }{
		"mode":   {"4600", "has mode -rw-r-----; expected is urw-------"},
		"owner":  {"54321", "has the owner " + uid},
		"group":  {"54321", "has the group " + gid},
		"sha256": {strings.Repeat("0", 64), "has the checksum " + hex.EncodeToString(sum[:])},
	} {
		judge(t, object("file", path, map[string]any{attribute: c.value}), c.want)
	}
	if os.Getuid() == 0 {
		judge(t, object("file", path, map[string]any{"owner": "root"}), "")
	}
	judge(t, object("file", path+".not", map[string]any{"mode": "0600"}), "is missing")
	if _, err := checkOf(t, object("file", "/dev/zero", map[string]any{"sha256": strings.Repeat("0", 64)})).failing(t.Context()); err == nil {
		t.Error("a device was hashed")
	}
	if _, err := checkOf(t, object("file", path, map[string]any{"owner": "nobody-of-this-name"})).failing(t.Context()); err == nil {
		t.Error("an unknown owner was compared")
	}
}

func TestPort(t *testing.T) {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	judge(t, object("port", "p", map[string]any{"address": address}), "")
	judge(t, object("port", "p", map[string]any{"address": address, "open": false}), "is open")
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	judge(t, object("port", "p", map[string]any{"address": address}), "connection refused")
	judge(t, object("port", "p", map[string]any{"address": address, "open": false}), "")
}

func TestHTTP(t *testing.T) {
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/health":
			fmt.Fprint(w, "all is well")
		case "/moved":
			http.Redirect(w, r, "/health", http.StatusFound)
		case "/slow":
			select {
			case <-release:
			case <-r.Context().Done():
			}
		default:
			http.NotFound(w, r)
		}
	}))
	defer server.Close()
	defer close(release)
	at := func(path string, more map[string]any) string {
		attributes := map[string]any{"url": server.URL + path}
		for k, v := range more {
			attributes[k] = v
		}
		return object("http", "h", attributes)
	}
	judge(t, at("/health", map[string]any{"contains": "well"}), "")
	judge(t, at("/health", map[string]any{"contains": "badly"}), `does not contain "badly"`)
	judge(t, at("/health", map[string]any{"status": 204}), "answers 200; expected is 204")
	judge(t, at("/moved", nil), "answers 302")
	judge(t, at("/nothing", map[string]any{"status": 404}), "")
	judge(t, at("/slow", map[string]any{"timeout": "50ms"}), "no answer in time")
	secret := strings.Replace(server.URL, "http://", "http://user:hunter2@", 1) + "/nothing"
	judge(t, object("http", "h", map[string]any{"url": secret}), "answers 404")
	if c := checkOf(t, object("http", "h", map[string]any{"url": secret})); strings.Contains(c.expected, "hunter2") {
		t.Errorf("the password is shown: %s", c.expected)
	}
}

// certificate makes one that is valid for a time from now.
func certificate(t *testing.T, from, to time.Duration) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test.example"},
		NotBefore: time.Now().Add(from), NotAfter: time.Now().Add(to),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func TestCertificate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cert.pem")
	for _, c := range []struct {
		from, to time.Duration
		want     string
	}{
		{-day, 100 * day, ""},
		{-day, 10*day + time.Hour, "in 10 days"},
		{-2 * day, -day, "has expired"},
		{day, 100 * day, "is not valid before"},
	} {
		cert := certificate(t, c.from, c.to)
		text := append([]byte("Subject: test\n"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]})...)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		judge(t, object("certificate", "c", map[string]any{"file": path}), c.want)

		l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13})
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{ReadHeaderTimeout: time.Second}
		done := make(chan struct{})
		go func() { defer close(done); _ = server.Serve(l) }()
		judge(t, object("certificate", "c", map[string]any{"address": l.Addr().String()}), c.want)
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		<-done
	}
	if err := os.WriteFile(path, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := checkOf(t, object("certificate", "c", map[string]any{"file": path})).failing(t.Context()); err == nil {
		t.Error("a file without certificate was judged")
	}
}

// ntp answers one question with a clock that is ahead by skew; mangle may spoil
// the answer.
func ntp(t *testing.T, skew time.Duration, mangle func([]byte)) string {
	t.Helper()
	conn, err := (&net.ListenConfig{}).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 100)
		_, from, err := conn.ReadFrom(b)
		if err != nil {
			return
		}
		answer := make([]byte, ntpPacket)
		answer[0], answer[1] = ntpVersion4|ntpServer, 1
		copy(answer[24:32], b[ntpSent:])
		putNTP(answer[ntpReceived:], time.Now().Add(skew))
		putNTP(answer[ntpSent:], time.Now().Add(skew))
		if mangle != nil {
			mangle(answer)
		}
		_, _ = conn.WriteTo(answer, from)
	}()
	t.Cleanup(func() {
		_ = conn.Close()
		<-done
	})
	return conn.LocalAddr().String()
}

func TestClock(t *testing.T) {
	judge(t, object("clock", "", map[string]any{"server": ntp(t, 0, nil)}), "")
	judge(t, object("clock", "", map[string]any{"server": ntp(t, time.Hour, nil)}), "differs from")
	judge(t, object("clock", "", map[string]any{"server": ntp(t, -2*time.Second, nil), "max_skew": "1s"}), "by -2")
	for name, mangle := range map[string]func([]byte){
		"another question": func(b []byte) { b[24]++ },
		"a kiss of death":  func(b []byte) { b[1] = 0 },
		"no server":        func(b []byte) { b[0] = ntpVersion4 | ntpClient },
	} {
		if _, err := checkOf(t, object("clock", "", map[string]any{"server": ntp(t, 0, mangle)})).failing(t.Context()); err == nil {
			t.Errorf("an answer to %s was believed", name)
		}
	}
}

func TestSettings(t *testing.T) {
	for config, want := range map[string]string{
		`{"open_after": 0}`: "count scans",
		object("disk", "var", map[string]any{"max_used": 1}):                     "disk.var: \"var\" is no absolute path",
		object("disk", "/", nil):                                                 "nothing is expected of /",
		object("disk", "/", map[string]any{"max_used": 101}):                     "disk./.max_used: 101 is no percentage",
		object("disk", "/", map[string]any{"min_free": "5"}):                     `"5" is no size`,
		object("memory", "", nil):                                                "",
		object("load", "", map[string]any{"max_per_cpu": 0}):                     "is no load",
		object("clock", "", map[string]any{"max_skew": "soon"}):                  `"soon" is no time`,
		object("port", "p", map[string]any{"address": "x"}):                      `"x" is no address`,
		object("process", "p", map[string]any{"min": 3, "max": 2}):               "no number of processes is right",
		object("unit", "-x", nil):                                                "is no unit",
		object("unit", "a b", nil):                                               "is no unit",
		object("certificate", "c", nil):                                          "in a file or at an address",
		object("file", "/x", map[string]any{"mode": "0999"}):                     "is no mode",
		object("file", "/x", map[string]any{"sha256": "abc"}):                    "is no SHA-256 checksum",
		object("http", "h", map[string]any{"url": "ftp://x"}):                    "is no HTTP URL",
		object("http", "h", map[string]any{"url": "http://x", "timeout": "-1s"}): "is no time",
	} {
		_, err := settingsOf(config)
		if want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v; want %q", config, err, want)
		}
	}
	// Every wrong block is told, not only the first.
	_, err := settingsOf(`{"port": {"a": {"address": "x"}, "b": {"address": "y"}}}`)
	if joined, ok := err.(interface{ Unwrap() []error }); !ok || len(joined.Unwrap()) != 2 {
		t.Errorf("two wrong blocks: %v", err)
	}
}

// What a gap needs to open and to close, whatever is measured in between.
func TestHysteresis(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := patience{rapid.IntRange(1, 4).Draw(t, "open"), rapid.IntRange(1, 4).Draw(t, "close")}
		var s state
		var known []bool // failing, of the scans that found out
		for range rapid.IntRange(1, 40).Draw(t, "scans") {
			before := s
			r := result{}
			switch rapid.IntRange(0, 2).Draw(t, "result") {
			case 0:
				r.failing = "wrong"
			case 1:
				r.err = errors.New("unknown")
			}
			s = s.next(r, p)
			if r.err != nil {
				if s != before {
					t.Fatalf("what could not be found out changed %+v to %+v", before, s)
				}
				continue
			}
			known = append(known, r.failing != "")
			if s.Open != before.Open {
				needed := p.open
				if before.Open {
					needed = p.close
				}
				if len(known) < needed {
					t.Fatalf("%d scans changed it; %d are needed", len(known), needed)
				}
				for _, failing := range known[len(known)-needed:] {
					if failing != s.Open {
						t.Fatalf("it became open=%v after %v", s.Open, known)
					}
				}
			}
		}
	})
}

// Through the wire, as the host scans: a gap opens and closes with patience, in
// the workspace that was named, and a new process remembers.
func TestScan(t *testing.T) {
	root, stateDir := t.TempDir(), t.TempDir()
	target := filepath.Join(t.TempDir(), "there")
	scan := func(d *infra, workspace string) *plugintest.Result {
		t.Helper()
		result, err := plugintest.Exchange(t.Context(), plugintest.Detector(t, d), &pluginv1.ScanStart{
			ScanId: "s", Workspace: workspace, Root: root, Revision: "r", MaxFileSize: 1 << 20,
		}, &pluginv1.ScanFiles{})
		if err != nil {
			t.Fatal(err)
		}
		return result
	}
	start := func() *infra {
		t.Helper()
		d := &infra{}
		config := fmt.Sprintf(`{"workspace": "main", "open_after": 2, "close_after": 2, "file": {%q: {"mode": "0600"}}}`, target)
		if err := d.configure(t.Context(), sdk.NewConfig([]byte(config), stateDir)); err != nil {
			t.Fatal(err)
		}
		return d
	}
	d := start()
	want := func(r *plugintest.Result, findings int) {
		t.Helper()
		if len(r.Findings) != findings || len(r.Covered) != 1 || r.Covered[0] != "." {
			t.Errorf("%d findings, covered %v; want %d: %v", len(r.Findings), r.Covered, findings, r.Diagnostics)
		}
	}
	want(scan(d, "main"), 0)
	d = start() // a new process
	first := scan(d, "main")
	want(first, 1)
	if f := first.Findings[0]; f.GetRule() != "infra.file" || !strings.Contains(f.GetMessage(), "is missing") || f.GetLocation().GetSymbol() != "file "+target {
		t.Errorf("%v", f)
	}
	if r := scan(d, "other"); len(r.Findings) != 0 || len(r.Covered) != 0 {
		t.Errorf("in another workspace: %+v", r)
	}
	if err := os.WriteFile(target, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	want(scan(d, "main"), 1)
	want(scan(d, "main"), 0)

	// A memory that cannot be read is told, and the checks begin anew.
	if err := os.WriteFile(filepath.Join(stateDir, "checks.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := scan(d, "main"); len(r.Diagnostics) != 1 || r.Diagnostics[0].GetReason() != "STATE_LOST" {
		t.Errorf("%v", r.Diagnostics)
	}
	if r := scan(d, "main"); len(r.Diagnostics) != 0 {
		t.Errorf("%v", r.Diagnostics)
	}
}

// A check that hangs is given up, and the others are not kept from their work.
func TestRunIsBounded(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	var checks []*check
	for i := range 3 * checksAtOnce {
		checks = append(checks, &check{failing: func(ctx context.Context) (string, error) {
			if i%2 == 0 {
				<-ctx.Done()
				return "", ctx.Err()
			}
			return "wrong", nil
		}})
	}
	for i, r := range run(ctx, checks) {
		if (i%2 == 0) != (r.err != nil) || (i%2 == 1) != (r.failing == "wrong") {
			t.Errorf("check %d: %+v", i, r)
		}
	}
}
