package sandbox

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sop-host/sop/host/internal/sandbox/egress"
)

// webServer answers with what is asked and which key it was shown.
func webServer(t *testing.T) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "asked ", r.URL.Path, " key ", r.Header.Get("X-Key"))
	}))
	t.Cleanup(server.Close)
	return server
}

func parseTarget(t *testing.T, text string) egress.Target {
	t.Helper()
	out, err := egress.ParseTarget(text)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// inWeb runs the attacker in a workspace of its own under rules.
func inWeb(t *testing.T, rules egress.Rules, argv ...string) *Outcome {
	t.Helper()
	dir := t.TempDir()
	arm(t, dir, targets{})
	profile := DefaultProfile
	profile.Limits.Wall, profile.Network = time.Minute, rules
	return runIn(t, profile, dir, argv...)
}

// A run goes where its profile says, by way of the proxy, and nowhere else.
func TestNetwork(t *testing.T) {
	server := webServer(t)
	rules := egress.Rules{AllowPrivate: []egress.Target{parseTarget(t, "host.invalid:80")}}
	out := inWeb(t, rules, "sh", "-c", `./attacker fetch `+server.URL+`/direct http://host.invalid/ http://evil.example/; env | grep -ci _proxy=`)
	lines := strings.Split(strings.TrimSpace(out.Stdout.Text), "\n")
	if len(lines) != 4 || !strings.HasPrefix(lines[0], "error") || !strings.HasPrefix(lines[1], "502") || !strings.HasPrefix(lines[2], "403") || lines[3] != "6" {
		t.Errorf("%q %q, %v", out.Stdout.Text, out.Stderr.Text, out.Refusal)
	}
	if len(out.Network) != 2 || out.Network[0].Target != "evil.example:80" || out.Network[0].Allowed || !out.Network[1].Allowed || out.Network[1].Why == "" {
		t.Errorf("%+v", out.Network)
	}
}

// A credential reaches the target, and the sandbox has a placeholder.
func TestNetworkCredential(t *testing.T) {
	const secret = "the-secret-of-the-host"
	server := webServer(t)
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	target := strings.TrimPrefix(server.URL, "http://")
	rules := egress.Rules{Credentials: []egress.Credential{{Target: parseTarget(t, target), Plain: true, Header: "X-Key", File: key, Variable: "API_KEY"}}}
	ask := `exec 3<>/dev/tcp/127.0.0.1/3128; printf 'GET http://` + target + `/x HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-Key: '$API_KEY'\r\n\r\n' >&3; cat <&3; env`
	if _, err := os.Stat("/bin/bash"); err != nil {
		t.Skip("there is no bash, which speaks TCP: ", err)
	}
	out := inWeb(t, rules, "bash", "-c", ask)
	if !strings.Contains(out.Stdout.Text, "asked /x key "+secret) || !strings.Contains(out.Stdout.Text, "API_KEY="+egress.Placeholder) {
		t.Errorf("%v %v: %q %q", out.Status, out.Refusal, out.Stdout.Text, out.Stderr.Text)
	}
	if len(out.Network) != 1 || !out.Network[0].Credential || out.Network[0].Count != 1 {
		t.Errorf("%+v", out.Network)
	}
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	if out := inWeb(t, rules, "true"); out.Status != Refused || out.Refusal.Stage != "network" {
		t.Errorf("without the secret: %v %v", out.Status, out.Refusal)
	}
}

// With a way out the sandbox is as closed as without.
func TestNetworkAbuse(t *testing.T) {
	needs(t, LevelStrict)
	goals := outside(t)
	arm(t, goals.Workspace, goals)
	profile := DefaultProfile
	profile.Network.AllowPrivate = []egress.Target{parseTarget(t, "host.invalid:80")}
	out := runIn(t, profile, goals.Workspace, "./attacker", "try", "targets.json")
	made := reports(t, out.Stdout.Text)
	if len(made) < leastAttacks {
		t.Errorf("only %d attacks were made: %v %v", len(made), out.Status, out.Refusal)
	}
	for _, r := range made {
		if r.Succeeded {
			t.Errorf("%s: not contained", r.Attack)
		}
	}
}

func TestNetworkTakesNamespaces(t *testing.T) {
	p := DefaultProfile
	p.Network.Allow = []egress.Target{{Host: "a.example", Port: 80}}
	if err := p.Validate(); err != nil {
		t.Error(err)
	}
	for _, level := range []Level{LevelLandlock, LevelNone} {
		if p.Level = level; p.Validate() == nil {
			t.Errorf("%s: accepted", level)
		}
	}
}
