package bench

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/hashicorp/go-hclog"
	"google.golang.org/protobuf/proto"

	"github.com/sop-host/sop/host/internal/api"
	"github.com/sop-host/sop/host/internal/audit"
	"github.com/sop-host/sop/host/internal/nexus"
	"github.com/sop-host/sop/host/internal/store"
	"github.com/sop-host/sop/host/internal/token"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
	"github.com/sop-host/sop/proto/sop/api/v1/apiv1connect"
)

const (
	crowd  = 64 // callers at once
	rounds = 15 // of which the median counts
	spell  = 250 * time.Millisecond
)

var (
	tokenUse  = token.Request{Requester: "agent", Operation: "op", Source: "bench"}
	tokenSpec = token.Spec{Type: token.Todo, Operations: []string{"op"}, Requester: "agent", IssuedBy: "bench", MaxUses: 1_000_000}
)

// vault is a token service on a database on disk.
type vault struct {
	*token.Service
	t  *testing.T
	db *store.DB
}

// newVault opens a database; wrap, unless it is nil, stands between it and the
// service.
func newVault(t *testing.T, wrap func(token.Store) token.Store) *vault {
	t.Helper()
	db, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "sop.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return serveVault(t, db, wrap)
}

func serveVault(t *testing.T, db *store.DB, wrap func(token.Store) token.Store) *vault {
	t.Helper()
	key, err := token.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	var tokens token.Store = db.Tokens()
	if wrap != nil {
		tokens = wrap(tokens)
	}
	s, err := token.NewService(t.Context(), tokens, token.Options{Key: key})
	if err != nil {
		t.Fatal(err)
	}
	return &vault{s, t, db}
}

// secrets issues n tokens.
func (v *vault) secrets(n int) []string {
	v.t.Helper()
	out := make([]string, n)
	for i := range out {
		secret, _, err := v.Issue(v.t.Context(), tokenSpec)
		if err != nil {
			v.t.Fatal(err)
		}
		out[i] = secret.Reveal()
	}
	return out
}

// consume uses up tokens in turns.
func (v *vault) consume(secrets []string) func(context.Context, int) error {
	return func(ctx context.Context, i int) error {
		_, err := v.Consume(ctx, secrets[i%len(secrets)], tokenUse)
		return err
	}
}

func (v *vault) issue(ctx context.Context, _ int) error {
	_, _, err := v.Issue(ctx, tokenSpec)
	return err
}

// pace is how fast callers came through.
type pace struct {
	rate     float64 // operations a second
	p50, p99 time.Duration
}

// measure has callers do fn for a time.
func measure(t *testing.T, callers int, spell time.Duration, fn func(ctx context.Context, i int) error) pace {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	var wg sync.WaitGroup
	var next atomic.Int64
	took := make([][]time.Duration, callers)
	begin := time.Now()
	for c := range callers {
		wg.Go(func() {
			for time.Since(begin) < spell {
				i := int(next.Add(1))
				start := time.Now()
				if err := fn(ctx, i); err != nil {
					t.Error(err)
					return
				}
				took[c] = append(took[c], time.Since(start))
			}
		})
	}
	wg.Wait()
	elapsed := time.Since(begin)
	all := slices.Concat(took...)
	if len(all) == 0 || t.Failed() {
		t.FailNow()
	}
	slices.Sort(all)
	return pace{rate: float64(len(all)) / elapsed.Seconds(), p50: all[len(all)/2], p99: all[len(all)*99/100]}
}

// measureTimes has a crowd of callers do fn so many times.
func measureTimes(t *testing.T, times int, fn func(ctx context.Context, i int) error) {
	t.Helper()
	var wg sync.WaitGroup
	var next atomic.Int64
	for range crowd {
		wg.Go(func() {
			for i := int(next.Add(1)); i <= times; i = int(next.Add(1)) {
				if err := fn(t.Context(), i); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// middle is the median, for ratios that were taken one after the other, each
// with its own floor, so that what else runs here weighs on both.
func middle(all []float64) float64 {
	all = slices.Clone(all)
	slices.Sort(all)
	return all[len(all)/2]
}

// spread says how far the ratios of the rounds lie apart.
func spread(all []float64) string {
	return fmt.Sprintf("%d rounds: %.2f to %.2f", len(all), slices.Min(all), slices.Max(all))
}

// TestBenchTokenGroups compares durable uses and issues, with their audit
// records, of many callers with the same committed one by one.
func TestBenchTokenGroups(t *testing.T) {
	wanted(t)
	asHost(t)
	v := newVault(t, nil)
	many := v.secrets(1000)
	work := map[string]func(context.Context, int) error{
		"hot": v.consume(many[:1]), "many": v.consume(many), "issue": v.issue,
	}
	ratios, rates := make(map[string][]float64), make(map[string][]float64)
	note := func(name string, ratio, rate float64) {
		ratios[name], rates[name] = append(ratios[name], ratio), append(rates[name], rate)
	}
	var tails []float64
	for range rounds {
		one := measure(t, 1, spell, work["many"])
		together := measure(t, crowd, spell, work["many"])
		hot := measure(t, crowd, spell, work["hot"])
		note("many", together.rate/one.rate, together.rate)
		note("hot", hot.rate/together.rate, hot.rate)
		tails = append(tails, float64(together.p99)/float64(together.p50))
		one = measure(t, 1, spell, work["issue"])
		together = measure(t, crowd, spell, work["issue"])
		note("issue", together.rate/one.rate, together.rate)
	}
	show := func(what, name, target string) {
		say(t, what, middle(ratios[name]), target, "%.0f/s at %d callers (%s)", middle(rates[name]), crowd, spread(ratios[name]))
	}
	show("token consume / one by one", "many", "≥ 8×")
	show("token issue / one by one", "issue", "≥ 8×")
	show("consume of one hot token / of many", "hot", "≥ 1×")
	say(t, "token consume, p99 / p50", middle(tails), "≤ 5×", "at %d callers (%s)", crowd, spread(tails))
}

// silent is a token store that writes no records of uses.
type silent struct{ token.Store }

type silentTx struct{ token.Tx }

// Update implements [token.Store].
func (s silent) Update(ctx context.Context, fn func(tx token.Tx) error) error {
	return s.Store.Update(ctx, func(tx token.Tx) error { return fn(silentTx{tx}) })
}

// Put implements [token.Tx].
func (s silentTx) Put(ctx context.Context, tokens []*token.Token, changes []token.Change) error {
	changes = slices.DeleteFunc(changes, func(c token.Change) bool { return c.Action == token.Used })
	return s.Tx.Put(ctx, tokens, changes)
}

// TestBenchTokenAudit compares durable uses with and without their audit
// records, in short turns: the difference is smaller than what else runs here
// makes from one quarter of a second to the next.
func TestBenchTokenAudit(t *testing.T) {
	const turns = 5
	wanted(t)
	asHost(t)
	with, without := newVault(t, nil), newVault(t, func(s token.Store) token.Store { return silent{s} })
	recorded, unrecorded := with.consume(with.secrets(1000)), without.consume(without.secrets(1000))
	for _, callers := range []int{1, crowd} {
		var ratios, costs []float64
		for range rounds * turns {
			a, costA := measureCost(t, callers, spell/turns, unrecorded)
			b, costB := measureCost(t, callers, spell/turns, recorded)
			ratios, costs = append(ratios, a/b), append(costs, costB/costA)
		}
		say(t, fmt.Sprintf("consume with its record / without, %d callers", callers), middle(ratios), "≤ 1.10×", "%s", spread(ratios))
		say(t, "  CPU time of the same", middle(costs), "-", "%s", spread(costs))
	}
}

// measureCost returns how many operations a second there were, and what one took
// of CPU time, in nanoseconds.
func measureCost(t *testing.T, callers int, spell time.Duration, fn func(ctx context.Context, i int) error) (rate, cost float64) {
	t.Helper()
	cpu := ownCPU()
	rate = measure(t, callers, spell, fn).rate
	return rate, float64(ownCPU()-cpu) / (rate * spell.Seconds())
}

// TestBenchTokenAPI compares uses and issues through the whole path with those in
// process. The callers share the cores with the host, so there are two kinds: those
// of Go's HTTP client and Connect, as most are, and those that write their requests
// themselves, as a load generator does, so that it is the host that is measured.
func TestBenchTokenAPI(t *testing.T) {
	wanted(t)
	asHost(t)
	v := newVault(t, nil)
	secrets := v.secrets(1000)
	path := v.serve()
	var uses []proto.Message
	for _, secret := range secrets {
		uses = append(uses, consumeRequest(secret))
	}
	issue := &apiv1.IssueTokenRequest{Spec: &apiv1.TokenSpec{
		Type: string(tokenSpec.Type), Operations: tokenSpec.Operations, Requester: tokenSpec.Requester, MaxUses: int64(tokenSpec.MaxUses),
	}}
	client := connectClient(t, path)
	type work = func(ctx context.Context, i int) error
	plain := func(procedure string, messages ...proto.Message) func() work {
		return func() work { return newPlainClient(t, path, procedure, messages...).call } // who connects must call soon
	}
	kinds := []struct {
		name, target string
		caller       func() work
		floor        work
	}{
		{"consume through the API / in process", "≥ 0.5×", plain(apiv1connect.TokenConsumeTokenProcedure, uses...), v.consume(secrets)},
		{"  of callers with Connect", "-", func() work {
			return func(ctx context.Context, i int) error {
				_, err := client.ConsumeToken(ctx, connect.NewRequest(consumeRequest(secrets[i%len(secrets)])))
				return err
			}
		}, v.consume(secrets)},
		{"issue through the API / in process", "≥ 0.5×", plain(apiv1connect.TokenIssueTokenProcedure, issue), v.issue},
	}
	for _, k := range kinds {
		var ratios, tails, rates, costs, floors []float64
		call := k.caller()
		measure(t, crowd, spell, call) // connects
		for range rounds {
			cpu := ownCPU()
			floor := measure(t, crowd, spell, k.floor)
			floors = append(floors, float64(ownCPU()-cpu)/(floor.rate*spell.Seconds())/1e3)
			cpu = ownCPU()
			whole := measure(t, crowd, spell, call)
			costs = append(costs, float64(ownCPU()-cpu)/(whole.rate*spell.Seconds())/1e3)
			ratios, rates = append(ratios, whole.rate/floor.rate), append(rates, whole.rate)
			tails = append(tails, float64(whole.p99)/float64(whole.p50))
		}
		say(t, k.name, middle(ratios), k.target, "%.0f/s at %d callers on %d cores, which the callers share (%s)", middle(rates), crowd, runtime.NumCPU(), spread(ratios))
		t.Logf("bench  %-44s %.1f µs of CPU, caller and host; in process %.1f", "", middle(costs), middle(floors))
		say(t, "    p99 / p50", middle(tails), "≤ 5×", "%s", spread(tails))
	}
}

func consumeRequest(secret string) *apiv1.ConsumeTokenRequest {
	return &apiv1.ConsumeTokenRequest{Secret: secret, Use: &apiv1.TokenUse{Operation: "op", Requester: "agent"}}
}

// serve serves the tokens on a socket, as the host does, and returns its path.
func (v *vault) serve() string {
	v.t.Helper()
	dir := v.t.TempDir()
	key, err := audit.LoadKey(dir)
	if err != nil {
		v.t.Fatal(err)
	}
	log, err := audit.NewLog(audit.Options{Store: v.db.Audit(), Key: key})
	if err != nil {
		v.t.Fatal(err)
	}
	path := filepath.Join(dir, "sop.sock")
	listener, err := api.Listen(path)
	if err != nil {
		v.t.Fatal(err)
	}
	server := api.NewServer(&nexus.Nexus{Tokens: v.Service, Audit: log, Logger: hclog.NewNullLogger()})
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	v.t.Cleanup(func() {
		if err := errors.Join(server.Shutdown(context.WithoutCancel(v.t.Context())), <-done); err != nil {
			v.t.Error(err)
		}
	})
	return path
}

func connectClient(t *testing.T, path string) apiv1connect.TokenClient {
	t.Helper()
	transport := &http.Transport{
		MaxIdleConnsPerHost: crowd,
		DialContext:         func(ctx context.Context, _, _ string) (net.Conn, error) { return api.Dial(ctx, path) },
	}
	t.Cleanup(transport.CloseIdleConnections)
	return apiv1connect.NewTokenClient(&http.Client{Transport: transport}, "http://sop")
}

// plainClient writes requests to connections that it keeps, and reads no more of
// the answers than whether they are good.
type plainClient struct {
	requests [][]byte
	idle     chan *bufio.ReadWriter
}

// newPlainClient returns a client that calls a procedure with messages in turns.
func newPlainClient(t *testing.T, path, procedure string, messages ...proto.Message) *plainClient {
	t.Helper()
	c := &plainClient{idle: make(chan *bufio.ReadWriter, crowd)}
	for _, message := range messages {
		body, err := proto.Marshal(message)
		if err != nil {
			t.Fatal(err)
		}
		head := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: sop\r\nContent-Type: application/proto\r\nConnect-Protocol-Version: 1\r\nContent-Length: %d\r\n\r\n",
			procedure, len(body))
		c.requests = append(c.requests, append([]byte(head), body...))
	}
	for range crowd {
		conn, err := api.Dial(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := conn.Close(); err != nil {
				t.Error(err)
			}
		})
		c.idle <- bufio.NewReadWriter(bufio.NewReader(conn), bufio.NewWriter(conn))
	}
	return c
}

func (c *plainClient) call(_ context.Context, i int) error {
	conn := <-c.idle
	defer func() { c.idle <- conn }()
	if _, err := conn.Write(c.requests[i%len(c.requests)]); err != nil {
		return err
	}
	if err := conn.Flush(); err != nil {
		return err
	}
	length := 0
	for n := 0; ; n++ {
		line, err := conn.ReadSlice('\n')
		switch {
		case err != nil:
			return err
		case n == 0 && !bytes.HasPrefix(line, []byte("HTTP/1.1 200 ")):
			return fmt.Errorf("answered %q", line)
		case len(line) == 2:
			_, err := conn.Discard(length)
			return err
		}
		if text, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(text))); err != nil {
				return err
			}
		}
	}
}

// TestBenchTokenValidate looks at tokens without using them.
func TestBenchTokenValidate(t *testing.T) {
	wanted(t)
	asHost(t)
	v := newVault(t, nil)
	secrets := v.secrets(1000)
	cpu := ownCPU()
	p := measure(t, runtime.NumCPU(), 2*time.Second, func(ctx context.Context, i int) error {
		_, err := v.Validate(ctx, secrets[i%len(secrets)], tokenUse)
		return err
	})
	perCore := p.rate * 2 / (ownCPU() - cpu).Seconds()
	say(t, "token validate, per core / 50,000 a second", perCore/50_000, "≥ 1×", "%.0f/s on %d cores, %.0f/s for a second of CPU", p.rate, runtime.NumCPU(), perCore)
}

// fillTokens makes the database hold so many live tokens, and as many audit
// records.
func (v *vault) fillTokens(have, want int) {
	v.t.Helper()
	const batch = 4096
	ctx, now := context.WithoutCancel(v.t.Context()), time.Now().UTC()
	for ; have < want; have += batch {
		tokens, records := make([]*token.Token, min(batch, want-have)), make([]audit.Record, min(batch, want-have))
		for i := range tokens {
			id := fmt.Sprintf("%08d-0000-7000-8000-000000000000", have+i)
			tokens[i] = &token.Token{
				ID: id, Accessor: fmt.Sprintf("%016d", have+i), Hash: make([]byte, 32), Type: token.Todo, State: token.StateActive,
				Operations: []string{"op"}, Requester: fmt.Sprint("agent", i%100), CreatedAt: now, NotBefore: now, ExpiresAt: now.AddDate(1, 0, 0),
				MaxLife: 2 * 366 * 24 * time.Hour, ChangedAt: now, MaxUses: 100, Version: 1,
			}
			records[i] = audit.Record{Actor: "bench", Action: "token.issued", Resource: "token/" + id, Outcome: audit.Success, Token: tokens[i].Accessor}
		}
		err := v.db.Tokens().Update(ctx, func(tx token.Tx) error { return tx.Put(ctx, tokens, nil) })
		if err = errors.Join(err, v.db.Audit().Append(ctx, records...)); err != nil {
			v.t.Fatal(err)
		}
	}
}

// TestBenchTokenMillion fills a database with a million tokens and records,
// measures what a use costs on the way, and then how it starts.
func TestBenchTokenMillion(t *testing.T) {
	wanted(t)
	path := filepath.Join(t.TempDir(), "sop.db")
	db, err := store.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	v := serveVault(t, db, nil)
	consume := v.consume(v.secrets(1000))
	filled := 0
	var first float64
	for _, n := range []int{10_000, 100_000, 1_000_000} {
		v.fillTokens(filled, n)
		filled = n
		syscall.Sync() // what filling left for the disk to do
		measure(t, crowd, spell, consume)
		var rates, costs []float64
		for range rounds {
			cpu := ownCPU()
			rate := measure(t, crowd, spell, consume).rate
			rates, costs = append(rates, rate), append(costs, float64(ownCPU()-cpu)/(rate*spell.Seconds()))
		}
		cost := middle(costs)
		if first == 0 {
			first = cost
		}
		say(t, fmt.Sprintf("consume at %d tokens and records / at 10000", n), cost/first, "≤ 1.2×", "%.0f ns of CPU, %.0f/s at %d callers", cost, middle(rates), crowd)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	before := liveHeap()
	begin := time.Now()
	if db, err = store.Open(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	v = serveVault(t, db, nil)
	v.secrets(1)
	took := time.Since(begin)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	say(t, "start-up with a million tokens / 3 s", took.Seconds()/3, "≤ 1×", "%v until the first token is issued, database of %d MB", took.Round(time.Millisecond), info.Size()>>20)
	grown := float64(liveHeap() - before)
	say(t, "memory with a million tokens / 1 KB each", grown/float64(filled)/1024, "≤ 1×", "%.1f MB after start-up", grown/(1<<20))
	const kept = 20_000
	before = liveHeap()
	measureTimes(t, kept, v.issue)
	grown = float64(liveHeap() - before)
	runtime.KeepAlive(v)
	say(t, "a token kept in memory / 1 KB", grown/kept/1024, "≤ 1×", "%.0f bytes; at most 100000 are kept", grown/kept)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// liveHeap is what is in use.
func liveHeap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// syncsEnv makes the test binary consume for TestBenchTokenSyncs: so many uses
// by so many callers, in a directory.
const syncsEnv = "SOP_BENCH_SYNCS"

const syncedUses = 2000

// TestBenchTokenSyncs counts syncs to disk from outside.
func TestBenchTokenSyncs(t *testing.T) {
	wanted(t)
	var callers int
	if n, _ := fmt.Sscan(os.Getenv(syncsEnv), &callers); n == 1 {
		consumeCounted(t, callers)
		return
	}
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("strace is not installed: it counts the syncs")
	}
	for _, tt := range []struct {
		callers int
		target  string
	}{{1, "≤ 1.05×"}, {crowd, "≤ 0.05×"}} {
		trace := filepath.Join(t.TempDir(), "trace")
		cmd := exec.CommandContext(t.Context(), strace, "-f", "-qq", "-e", "trace=fsync,fdatasync,mkdirat", "-o", trace, os.Args[0], "-test.run", "^TestBenchTokenSyncs$")
		cmd.Env = append(os.Environ(), fmt.Sprint(syncsEnv, "=", tt.callers))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Skipf("strace cannot trace here: %v: %s", err, out)
		}
		text, err := os.ReadFile(trace)
		if err != nil {
			t.Fatal(err)
		}
		_, after, began := strings.Cut(string(text), "consumption-begins")
		during, _, ended := strings.Cut(after, "consumption-ends")
		if !began || !ended {
			t.Fatalf("the trace shows no consumption:\n%s", text)
		}
		syncs := strings.Count(during, "fsync(") + strings.Count(during, "fdatasync(")
		say(t, fmt.Sprintf("syncs / uses, %d callers", tt.callers), float64(syncs)/syncedUses, tt.target, "%d syncs for %d uses", syncs, syncedUses)
	}
}

// consumeCounted consumes between two marks that a trace shows.
func consumeCounted(t *testing.T, callers int) {
	v := newVault(t, nil)
	secrets := v.secrets(100)
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "consumption-begins"), 0o700); err != nil {
		t.Fatal(err)
	}
	consume := v.consume(secrets)
	if callers == 1 {
		for i := range syncedUses {
			if err := consume(t.Context(), i); err != nil {
				t.Fatal(err)
			}
		}
	} else {
		measureTimes(t, syncedUses, consume)
	}
	if err := os.Mkdir(filepath.Join(dir, "consumption-ends"), 0o700); err != nil {
		t.Fatal(err)
	}
}
