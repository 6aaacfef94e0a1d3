package token

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sop-host/sop/sdk"
)

var start = time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)

func TestCovers(t *testing.T) {
	for _, tt := range []struct {
		outer, inner string
		want         bool
	}{
		{"docs", "docs", true},
		{"docs", "docs/a/b.md", true},
		{"docs", "docs2/a", false},
		{"docs", "doc", false},
		{"docs/api", "docs", false},
		{".", "any/thing", true},
		{"docs", ".", false},
		{"*", "a/b", true},
		{"*", ".", false},
		{"src/*.go", "src/a.go", true},
		{"src/*.go", "src/a.gox", false},
		{"src/*.go", "src/x/a.go", false},
		{"src/*/gen", "src/a/gen/x", true},
		{"a?c", "abc", true},
		{"a?c", "ac", false},
		{"a*b*c", "axxbyybzc", true},
		{"[ab]", "a", false},
		{"[ab]", "[ab]", true},
		{"*.go", "*.go", true},
		{"*", "*.go", true},
		{"a*", "*", false},
		{"a*", "ab*", false}, // true, but not said
	} {
		if got := covers(tt.outer, tt.inner); got != tt.want {
			t.Errorf("covers(%q, %q) = %v", tt.outer, tt.inner, got)
		}
	}
	for _, p := range []string{"", "/etc", "../x", "a/../../b", "a/..", "a\x00b", "a\nb", "\xff", strings.Repeat("x", maxPath+1)} {
		if clean, ok := cleanPath(p); ok {
			t.Errorf("%q is taken as %q", p, clean)
		}
	}
}

var (
	drawSegment = rapid.SampledFrom([]string{"a", "b", "ab", "*", "a*", "?", "*b"})
	drawName    = rapid.SampledFrom([]string{"a", "b", "ab", "ba", "aab"})
)

func drawPaths(t *rapid.T, segment *rapid.Generator[string], least int, label string) []string {
	path := rapid.Custom(func(t *rapid.T) string {
		return strings.Join(rapid.SliceOfN(segment, 1, 3).Draw(t, "segments"), "/")
	})
	return rapid.SliceOfN(path, least, 3).Draw(t, label)
}

// What a narrower pattern lets through, the wider one does too.
func TestCoversIsSound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		outer, inner := drawPaths(t, drawSegment, 1, "outer"), drawPaths(t, drawSegment, 1, "inner")
		name := drawPaths(t, drawName, 1, "name")[:1]
		if allCovered(outer, inner) && allCovered(inner, name) && !allCovered(outer, name) {
			t.Fatalf("%v covers %v, which covers %v", outer, inner, name)
		}
	})
}

func maybe(t *rapid.T, label string, words ...string) string {
	return rapid.SampledFrom(append(words, "")).Draw(t, label)
}

// TestNarrow draws parents, children and requests, down several generations:
// whatever a child permits its parent does, for no longer and not more often.
func TestNarrow(t *testing.T) {
	operations := rapid.SliceOfN(rapid.SampledFrom([]string{"x", "y", "z", Anything}), 1, 3)
	rapid.Check(t, func(t *rapid.T) {
		spec := Spec{
			Type: Todo, Protocol: maybe(t, "protocol", "arp"), Operations: operations.Draw(t, "operations"), Requester: "agent",
			Task: maybe(t, "task", "1"), Workspace: maybe(t, "workspace", "w"), Paths: drawPaths(t, drawSegment, 0, "paths"),
			TTL: time.Duration(rapid.IntRange(1, 48).Draw(t, "ttl")) * time.Hour, MaxUses: rapid.IntRange(1, 9).Draw(t, "uses"),
		}
		if err := spec.complete(DefaultLimits(), start); err != nil {
			t.Fatal(err)
		}
		parent, err := spec.fresh(start)
		if err != nil {
			t.Fatal(err)
		}
		for now, depth := start, 0; depth < 3; depth++ {
			now = now.Add(time.Duration(rapid.IntRange(0, 60).Draw(t, "passed")) * time.Minute)
			child, ok := drawChild(t, parent, now)
			if !ok {
				continue
			}
			compare(t, parent, child)
			parent = child
		}
	})
}

func drawChild(t *rapid.T, parent *Token, now time.Time) (*Token, bool) {
	hours := func(label string) time.Duration {
		return time.Duration(rapid.IntRange(-1, 60).Draw(t, label)) * time.Hour
	}
	want := Spec{
		Protocol: maybe(t, "child protocol", "arp", "scp"), Operations: rapid.SliceOfN(rapid.SampledFrom([]string{"x", "y", Anything}), 0, 2).Draw(t, "child operations"),
		Requester: "sub", Task: maybe(t, "child task", "1", "2"), Workspace: maybe(t, "child workspace", "w", "v"), Paths: drawPaths(t, drawSegment, 0, "child paths"),
		TTL: hours("child ttl"), MaxLife: hours("child life"), NotBefore: now.Add(hours("child start")), MaxUses: rapid.IntRange(-1, 12).Draw(t, "child uses"),
	}
	if err := parent.narrow(&want, now); err != nil {
		if e := sdk.FromError(err); e.Reason == "" || e.Remedy == "" {
			t.Fatalf("error %+v", e)
		}
		return nil, false
	}
	child, err := want.fresh(now)
	if err != nil {
		t.Fatal(err)
	}
	return child, true
}

func compare(t *rapid.T, parent, child *Token) {
	if child.ExpiresAt.After(parent.ExpiresAt) || child.Deadline().After(parent.ExpiresAt) || child.MaxUses > parent.MaxUses || child.MaxUses < 1 || child.Type != parent.Type {
		t.Fatalf("child %+v of %+v", child, parent)
	}
	for range 8 {
		r := Request{
			Requester: child.Requester, Protocol: maybe(t, "asked protocol", "arp", "scp"), Operation: maybe(t, "asked operation", "x", "y", "z", "q"),
			Task: maybe(t, "asked task", "1", "2"), Workspace: maybe(t, "asked workspace", "w", "v"), Paths: drawPaths(t, drawName, 0, "asked paths"),
		}
		if child.permits(&r) != nil {
			continue
		}
		r.Requester = parent.Requester
		if err := parent.permits(&r); err != nil {
			t.Fatalf("the child permits %+v, its parent does not: %v", r, err)
		}
	}
}
