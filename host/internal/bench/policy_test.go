package bench

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	cedar "github.com/cedar-policy/cedar-go"

	"github.com/sop-host/sop/host/internal/policy"
)

// shapes are ways in which a large set may be written.
var shapes = []struct {
	name   string
	target string
	head   func(i int, actions []string) string
}{
	{"one action each", "≤10µs", func(i int, actions []string) string {
		return fmt.Sprintf(`principal, action == Action::%q, resource`, actions[i%len(actions)])
	}},
	{"action and group", "≤10µs", func(i int, actions []string) string {
		return fmt.Sprintf(`principal in Group::"g%d", action == Action::%q, resource`, i%20, actions[i%len(actions)])
	}},
	{"groups of actions, one agent", "≤10µs", func(i int, _ []string) string {
		return fmt.Sprintf(`principal == Agent::"a%d", action in Action::%q, resource`, i, []string{"read", "write"}[i%2])
	}},
	{"nothing in the head (worst)", "-", func(int, []string) string { return `principal, action, resource` }},
}

// generate writes n policies beside the default ones.
func generate(n int, head func(int, []string) string) string {
	var b strings.Builder
	for _, f := range policy.DefaultFiles() {
		b.Write(f.Text)
	}
	for i := range n - 10 {
		effect := []string{"permit", "permit", "forbid"}[i%3]
		fmt.Fprintf(&b, "@id(\"p%d\")\n%s (%s)\nwhen { principal.trust == \"exterior\" && principal.name == \"nobody-%d\" };\n", i, effect, head(i, policy.Actions()), i)
	}
	return b.String()
}

// TestBenchPolicyDecision compares a decision with cedar-go's own, which
// evaluates every policy.
func TestBenchPolicyDecision(t *testing.T) {
	wanted(t)
	for _, shape := range shapes {
		for _, n := range []int{10, 100, 1000} {
			text := []byte(generate(n, shape.head))
			set, diags := policy.Parse("bench", []policy.File{{Name: "bench.cedar", Text: text}})
			if set == nil {
				t.Fatal(diags)
			}
			linear, err := cedar.NewPolicySetFromBytes("bench.cedar", text)
			if err != nil {
				t.Fatal(err)
			}
			now := time.Now()
			indexed, allocations := perDecision(func() bool {
				return set.Decide(&policy.Request{
					Principal: policy.Agent{Name: "a7", Trust: "system", Method: "peer", Groups: []string{"g3", "g4"}},
					Action:    "gap.suppress", Resource: policy.TheHost(), Context: map[string]any{"time": now},
				}).Allow
			})
			all, _ := perDecision(func() bool { return linearly(linear, now) })
			say(t, fmt.Sprintf("policy decision, %d: %s", n, shape.name), float64(all)/float64(indexed), shape.target,
				"%.2f µs (a pass over all: %.1f µs), %d allocations, request and all", micro(indexed), micro(all), allocations)
		}
	}
}

func micro(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }

// linearly decides as cedar-go does by itself, from the same facts.
func linearly(set *cedar.PolicySet, now time.Time) bool {
	agent, host := cedar.NewEntityUID("Agent", "a7"), cedar.NewEntityUID("Host", "sop")
	action, write := cedar.NewEntityUID("Action", "gap.suppress"), cedar.NewEntityUID("Action", "write")
	entities := cedar.EntityMap{
		agent: {
			UID: agent, Parents: cedar.NewEntityUIDSet(cedar.NewEntityUID("Group", "g3"), cedar.NewEntityUID("Group", "g4")),
			Attributes: cedar.NewRecord(cedar.RecordMap{"name": cedar.String("a7"), "trust": cedar.String("system"), "method": cedar.String("peer")}),
		},
		host:   {UID: host},
		action: {UID: action, Parents: cedar.NewEntityUIDSet(write)},
	}
	decision, _ := cedar.Authorize(set, entities, cedar.Request{
		Principal: agent, Action: action, Resource: host,
		Context: cedar.NewRecord(cedar.RecordMap{"method": cedar.String("peer"), "time": cedar.NewDatetime(now)}),
	})
	return decision == cedar.Allow
}

// perDecision is the median time of a decision, which must be to allow, over
// rounds of many, and the allocations of one.
func perDecision(decide func() bool) (time.Duration, uint64) {
	const rounds = 11
	each := 20
	var before, after runtime.MemStats
	var times []time.Duration
	for begin := time.Now(); time.Since(begin) < 5*time.Millisecond; each++ { // as many as a round of some length takes
		if !decide() {
			panic("denied")
		}
	}
	runtime.ReadMemStats(&before)
	for range rounds {
		begin := time.Now()
		for range each {
			decide()
		}
		times = append(times, time.Since(begin)/time.Duration(each))
	}
	runtime.ReadMemStats(&after)
	return median(times), (after.Mallocs - before.Mallocs) / uint64(rounds*each)
}
