package e2e_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
	"github.com/sop-host/sop/proto/sop/api/v1/apiv1connect"
)

// dial returns an HTTP client of the host's socket.
func (s *site) dial() *http.Client {
	transport := &http.Transport{MaxIdleConnsPerHost: 16, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", s.socket())
	}}
	s.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// Whoever watches and goes on after the host was killed, under load, again and
// again, sees every acknowledged change once, and no revision twice or never.
func TestWatchAcrossKills(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.writeSample()
	s.configure()
	s.lock()
	const kills = 5
	var issued []string // acknowledged
	seen := make(map[string]int)
	at := int64(0)
	for round := range kills {
		h := s.start()
		h.waitUp()
		client := s.dial()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		stream, err := apiv1connect.NewEventClient(client, "http://sop").Watch(ctx, connect.NewRequest(&apiv1.WatchRequest{FromRevision: &at}))
		if err != nil {
			t.Fatal(err)
		}
		acknowledged := load(ctx, t, client, round)
		enough := time.NewTimer(time.Duration(200+150*round) * time.Millisecond)
		for killed := false; stream.Receive(); {
			m := stream.Msg()
			if e := m.GetEvent(); e != nil {
				if m.GetRevision() != at+1 {
					t.Errorf("revision %d after %d", m.GetRevision(), at)
				}
				if e.GetKind() == "token.issued" {
					seen[strings.TrimPrefix(e.GetSubject(), "token/")]++
				}
			}
			at = m.GetRevision()
			select {
			case <-enough.C:
				if !killed {
					h.kill()
					killed = true
				}
			default:
			}
		}
		_ = stream.Close() // the host was killed
		issued = append(issued, <-acknowledged...)
		cancel()
	}
	h := s.start()
	h.waitUp()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	stream, err := apiv1connect.NewEventClient(s.dial(), "http://sop").Watch(ctx, connect.NewRequest(&apiv1.WatchRequest{FromRevision: &at}))
	if err != nil {
		t.Fatal(err)
	}
	missing := func() int {
		n := 0
		for _, id := range issued {
			if seen[id] == 0 {
				n++
			}
		}
		return n
	}
	for missing() > 0 && stream.Receive() {
		if e := stream.Msg().GetEvent(); e.GetKind() == "token.issued" {
			seen[strings.TrimPrefix(e.GetSubject(), "token/")]++
		}
	}
	if n := missing(); n > 0 {
		t.Errorf("%d of %d acknowledged tokens were never told of: %v", n, len(issued), stream.Err())
	}
	_ = stream.Close() // nothing more is wanted of it
	for id, n := range seen {
		if n != 1 {
			t.Errorf("token %s was told of %d times", id, n)
		}
	}
	if len(issued) < 50 {
		t.Errorf("only %d tokens were issued", len(issued))
	}
	t.Logf("%d tokens over %d kills, last revision %d", len(issued), kills, at)
	h.stop()
}

// load issues tokens until the host is gone; the channel yields the ids of those
// that were acknowledged.
func load(ctx context.Context, t *testing.T, client *http.Client, round int) <-chan []string {
	t.Helper()
	tokens := apiv1connect.NewTokenClient(client, "http://sop")
	out := make(chan []string, 1)
	var mu sync.Mutex
	var ids []string
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := 0; ; i++ {
				answer, err := tokens.IssueToken(ctx, connect.NewRequest(&apiv1.IssueTokenRequest{
					Spec: &apiv1.TokenSpec{Type: "test", Operations: []string{"x"}}, IdempotencyKey: fmt.Sprintf("%d.%d.%d", round, w, i),
				}))
				if err != nil {
					return
				}
				mu.Lock()
				ids = append(ids, answer.Msg.GetToken().GetId())
				mu.Unlock()
			}
		})
	}
	go func() {
		wg.Wait()
		out <- ids
	}()
	return out
}

// A key that was answered before the host was killed gets the same answer after.
func TestRepeatedAnswerAcrossKill(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.writeSample()
	s.configure()
	s.lock()
	secret := func() string {
		answer, err := apiv1connect.NewTokenClient(s.dial(), "http://sop").IssueToken(context.Background(), connect.NewRequest(&apiv1.IssueTokenRequest{
			Spec: &apiv1.TokenSpec{Type: "test", Operations: []string{"x"}}, IdempotencyKey: "the-same",
		}))
		if err != nil {
			t.Fatal(err)
		}
		return answer.Msg.GetSecret()
	}
	h := s.start()
	h.waitUp()
	first := secret()
	h.kill()
	database, err := os.ReadFile(filepath.Join(s.data, "state", "sop.db-wal"))
	if err != nil || strings.Contains(string(database), first) {
		t.Errorf("the secret stands in the database: %v", err)
	}
	h = s.start()
	h.waitUp()
	if again := secret(); again != first || first == "" {
		t.Error("the secret is another one after the kill")
	}
	h.stop()
}

// What docs/api.md shows works as it stands there.
func TestExamplesOfTheAPI(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("there is no curl to run the examples of docs/api.md with")
	}
	text, err := os.ReadFile(filepath.Join(repository, "docs", "api.md"))
	if err != nil {
		t.Fatal(err)
	}
	var script strings.Builder
	for i, block := range strings.Split(string(text), "```sh\n")[1:] {
		block, _, _ = strings.Cut(block, "```")
		for line := range strings.Lines(block) {
			if strings.HasPrefix(line, "sop event watch") {
				line = "timeout 2 " + strings.TrimSuffix(line, "\n") + " || test $? = 124\n"
			}
			script.WriteString(line)
		}
		fmt.Fprintf(&script, "echo '--- block %d'\n", i)
	}
	s := newSite(t)
	s.writeSample()
	s.configure()
	s.lock()
	h := s.up()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-e", "-c", script.String())
	cmd.Env = append(os.Environ(), "SOP_SOCKET="+s.socket(), "PATH="+filepath.Dir(sopProgram())+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	got := string(out)
	if strings.Contains(got, `"code"`) || strings.Contains(got, "error") {
		t.Errorf("an example failed:\n%s", got)
	}
	for _, want := range []string{`"id":"detector.docs"`, `"action":"host.start"`, `"secret":"sop_x_`, `"kind":"plugin.start"`} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
	h.stop()
}
