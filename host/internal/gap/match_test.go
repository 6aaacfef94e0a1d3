package gap

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
)

// line is a line of a made-up source file. A line with an id is a gap; the id
// is the truth that matching has to recover.
type line struct {
	text   string
	id     int
	symbol string
}

// tree is a made-up workspace.
type tree struct {
	files  map[string][]line
	lastID int
}

var words = strings.Fields(`open read write close index cache token frame queue retry limit
	parse print merge split order trace guard build fetch store apply reset`)

func newTree(r *rand.Rand, files, gaps int) *tree {
	t := &tree{files: make(map[string][]line)}
	for i := range files {
		lines := make([]line, 0, gaps*12)
		for g := range gaps {
			symbol := fmt.Sprintf("%s%s%d", words[r.IntN(len(words))], words[r.IntN(len(words))], g)
			lines = append(lines, line{text: "func " + symbol + "() {", symbol: symbol})
			for range 2 + r.IntN(8) {
				lines = append(lines, line{text: sentence(r), symbol: symbol})
			}
			lines = append(lines, t.gap(r, symbol))
			for range r.IntN(4) {
				lines = append(lines, line{text: sentence(r), symbol: symbol})
			}
			lines = append(lines, line{text: "}", symbol: symbol})
		}
		t.files[fmt.Sprintf("pkg%d/file%d.go", i%7, i)] = lines
	}
	return t
}

func sentence(r *rand.Rand) string {
	return fmt.Sprintf("%s(%s, %d)", words[r.IntN(len(words))], words[r.IntN(len(words))], r.IntN(100))
}

// gap makes a line with a gap; one in four says the same as many others.
func (t *tree) gap(r *rand.Rand, symbol string) line {
	t.lastID++
	text := "// TODO: fix this"
	if r.IntN(4) > 0 {
		text = "// TODO: " + sentence(r) + " " + sentence(r)
	}
	return line{text: text, id: t.lastID, symbol: symbol}
}

func (t *tree) clone() *tree {
	c := &tree{files: make(map[string][]line), lastID: t.lastID}
	for p, lines := range t.files {
		c.files[p] = slices.Clone(lines)
	}
	return c
}

// edit does one thing that people do to a file.
func (t *tree) edit(r *rand.Rand, p string, kind int) {
	lines := t.files[p]
	if len(lines) < 20 {
		return
	}
	at := r.IntN(len(lines) - 10)
	switch kind % 7 {
	case 0: // insert
		var fresh []line
		for range 1 + r.IntN(6) {
			fresh = append(fresh, line{text: sentence(r), symbol: lines[at].symbol})
		}
		lines = slices.Insert(lines, at, fresh...)
	case 1: // delete
		lines = slices.Delete(lines, at, at+1+r.IntN(5))
	case 2: // move a block
		n := 1 + r.IntN(9)
		block := slices.Clone(lines[at : at+n])
		lines = slices.Delete(lines, at, at+n)
		to := r.IntN(len(lines))
		lines = slices.Insert(lines, to, block...)
	case 3: // reindent
		for i := range lines {
			lines[i].text = "\t" + strings.Replace(lines[i].text, " ", "  ", 1)
		}
	case 4: // reword the next gap
		for i := at; i < len(lines); i++ {
			if lines[i].id != 0 {
				lines[i].text = "// TODO: " + sentence(r) + " at last"
				break
			}
		}
	case 5: // add a gap
		lines = slices.Insert(lines, at, t.gap(r, lines[at].symbol))
	case 6: // rename
		delete(t.files, p)
		p = fmt.Sprintf("moved%d/%s", r.IntN(3), p)
	}
	t.files[p] = lines
}

// findings are what a detector would say about the tree, with the truth.
func (t *tree) findings() ([]finding, []int) {
	c := checker{
		workspace: "w", detector: "d", exists: func(string) bool { return true },
		rules: map[string]*pluginv1.Rule{"todo": {Id: "todo", Version: "1"}},
	}
	var found []finding
	var ids []int
	for _, p := range slices.Sorted(maps.Keys(t.files)) {
		lines := t.files[p]
		join := func(from, to int) string {
			var b strings.Builder
			for _, l := range lines[max(from, 0):min(to, len(lines))] {
				b.WriteString(l.text + "\n")
			}
			return b.String()
		}
		for i, l := range lines {
			if l.id == 0 {
				continue
			}
			f, err := c.check(&pluginv1.Finding{
				Rule:     "todo",
				Location: &pluginv1.Location{Path: p, Line: int32(i + 1), EndLine: int32(i + 1), Symbol: l.symbol},
				Message:  "TODO comment", Snippet: l.text + "\n",
				ContextBefore: join(i-3, i), ContextAfter: join(i+1, i+4),
			})
			if err != nil {
				panic(err)
			}
			found = append(found, f)
			ids = append(ids, l.id)
		}
	}
	return found, ids
}

// score is how well matching did.
type score struct{ survivors, kept, wrong int }

// compare matches the findings of two states of a tree and scores the result.
// A link is wrong when it joins two gaps; a swap of two with the same text in
// the same symbol is not kept, but not wrong either.
func compare(before, after *tree) score {
	was, wasIDs := before.findings()
	now, nowIDs := after.findings()
	known := make([]*Gap, len(was))
	for i := range was {
		known[i] = was[i].Gap
	}
	partner := match(matching{
		known: known, found: now,
		left: func(*Gap) bool { return true },
		gone: func(p string) bool { return after.files[p] == nil },
	})
	at := make(map[int]int)
	for i, id := range wasIDs {
		at[id] = i
	}
	var s score
	for j, id := range nowIDs {
		i, survived := at[id]
		if survived {
			s.survivors++
		}
		switch p := partner[j]; {
		case p != none && wasIDs[p] == id, p != none && survived && known[p].Keys == known[i].Keys:
			s.kept++
		case p == none:
		case !survived, known[p].Keys.Snippet != now[j].Keys.Snippet, known[p].Path != now[j].Path, known[p].Symbol != was[i].Symbol:
			s.wrong++
		}
	}
	return s
}

func TestMatchKeepsGapsAcrossEdits(t *testing.T) {
	var total score
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 1))
		before := newTree(r, 20, 15)
		after := before.clone()
		for _, p := range slices.Sorted(maps.Keys(before.files)) {
			if r.IntN(2) == 0 {
				continue
			}
			for range 1 + r.IntN(4) {
				if _, ok := after.files[p]; ok {
					after.edit(r, p, r.IntN(7))
				}
			}
		}
		s := compare(before, after)
		total.survivors += s.survivors
		total.kept += s.kept
		total.wrong += s.wrong
	}
	kept := float64(total.kept) / float64(total.survivors)
	wrong := float64(total.wrong) / float64(total.survivors)
	t.Logf("%d gaps survived edits: kept %.5f, wrong links %d (%.5f)", total.survivors, kept, total.wrong, wrong)
	if kept < 0.99 || wrong > 0.002 {
		t.Errorf("kept %.5f, want at least 0.99; wrong %.5f, want at most 0.002", kept, wrong)
	}
}

// TestMatchProperties states what holds for every edit: one partner each, the
// same rule, nothing lost when nothing changed, and whoever is bound stays.
func TestMatchProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 2))
		before := newTree(r, 4, rapid.IntRange(1, 8).Draw(t, "gaps"))
		after := before.clone()
		for _, kind := range rapid.SliceOfN(rapid.IntRange(0, 6), 0, 10).Draw(t, "edits") {
			paths := slices.Sorted(maps.Keys(after.files))
			after.edit(r, paths[r.IntN(len(paths))], kind)
		}
		bound := rapid.Bool().Draw(t, "bound")
		was, _ := before.findings()
		now, _ := after.findings()
		known := make([]*Gap, 0, len(was))
		for _, f := range was {
			known = append(known, f.Gap)
		}
		r.Shuffle(len(known), func(i, j int) { known[i], known[j] = known[j], known[i] })
		in := matching{
			known: known, found: now,
			left: func(*Gap) bool { return !bound },
			gone: func(p string) bool { return after.files[p] == nil },
		}
		partner := match(in)
		seen := make(map[int32]bool)
		for j, p := range partner {
			if p == none {
				continue
			}
			if seen[p] {
				t.Fatalf("gap %d has two partners", p)
			}
			seen[p] = true
			if bound && known[p].Path != now[j].Path {
				t.Fatalf("a gap that may still be at %s was found at %s", known[p].Path, now[j].Path)
			}
		}
		if !slices.Equal(partner, match(in)) {
			t.Fatal("matching is not deterministic")
		}
		if s := compare(before, before); s.kept != s.survivors || s.wrong != 0 {
			t.Fatalf("nothing changed, but %+v", s)
		}
	})
}

func TestMatchCases(t *testing.T) {
	gap := func(path, symbol, msg string, line int, snippet, around uint64) *Gap {
		return &Gap{Rule: "r", Location: Location{Path: path, Line: line, Symbol: symbol}, Keys: Keys{
			Snippet: snippet, Context: around, Before: around * 2, After: around * 3, Message: hash64([]byte(msg)),
		}}
	}
	for name, tt := range map[string]struct {
		known, found []*Gap
		gone         string
		want         []int32
	}{
		"two links in a line, the first one mended without an edit": {
			known: []*Gap{gap("a.md", "", "to x", 1, 5, 9), gap("a.md", "", "to y", 1, 5, 9)},
			found: []*Gap{gap("a.md", "", "to y", 1, 5, 9)},
			want:  []int32{1},
		},
		"another rule never": {
			known: []*Gap{{Rule: "other", Location: Location{Path: "a", Line: 1}, Keys: Keys{Snippet: 5, Context: 9}}},
			found: []*Gap{gap("a", "", "m", 1, 5, 9)},
			want:  []int32{none},
		},
		"one of fifty equals deleted: the nearest stay": {
			known: []*Gap{gap("a", "", "m", 10, 5, 1), gap("a", "", "m", 20, 5, 2), gap("a", "", "m", 30, 5, 3)},
			found: []*Gap{gap("a", "", "m", 10, 5, 7), gap("a", "", "m", 30, 5, 8)},
			want:  []int32{0, 2},
		},
		"a whole file renamed with its only gap": {
			known: []*Gap{gap("old/mod.py", "", "no docstring", 0, 0, 0)},
			found: []*Gap{gap("new/mod.py", "", "no docstring", 0, 0, 0)},
			gone:  "old/mod.py",
			want:  []int32{0},
		},
		"a whole file with another name is another file": {
			known: []*Gap{gap("old/mod.py", "", "no docstring", 0, 0, 0)},
			found: []*Gap{gap("old/other.py", "", "no docstring", 0, 0, 0)},
			gone:  "old/mod.py",
			want:  []int32{none},
		},
		"edited far away, symbol and message different": {
			known: []*Gap{gap("a", "f", "m", 10, 5, 1)},
			found: []*Gap{gap("a", "g", "n", 100, 6, 2)},
			want:  []int32{none},
		},
		"edited in its symbol": {
			known: []*Gap{gap("a", "f", "m", 10, 5, 1)},
			found: []*Gap{gap("a", "f", "n", 12, 6, 2)},
			want:  []int32{0},
		},
	} {
		t.Run(name, func(t *testing.T) {
			in := matching{known: tt.known, left: func(*Gap) bool { return true }, gone: func(p string) bool { return p == tt.gone }}
			for _, g := range tt.found {
				in.found = append(in.found, finding{Gap: g})
			}
			if got := match(in); !slices.Equal(got, tt.want) {
				t.Errorf("match = %v, want %v", got, tt.want)
			}
		})
	}
}

func BenchmarkMatch(b *testing.B) {
	for _, n := range []int{10_000, 100_000} {
		for _, mode := range []string{"edited", "equal", "disjoint"} {
			b.Run(fmt.Sprintf("%d/%s", n, mode), func(b *testing.B) {
				in := benchMatching(n, mode)
				b.ResetTimer()
				for b.Loop() {
					match(in)
				}
			})
		}
	}
}

// benchMatching makes n gaps: edited as people do, all with the same text in a
// few files, or with nothing in common.
func benchMatching(n int, mode string) matching {
	r := rand.New(rand.NewPCG(1, 1))
	before := newTree(r, n/50, 50)
	after := before.clone()
	switch mode {
	case "edited":
		for i, p := range slices.Sorted(maps.Keys(before.files)) {
			after.edit(r, p, i)
		}
	case "disjoint":
		after = newTree(rand.New(rand.NewPCG(2, 2)), n/50, 50)
	}
	was, _ := before.findings()
	now, _ := after.findings()
	in := matching{found: now, left: func(*Gap) bool { return true }, gone: func(p string) bool { return after.files[p] == nil }}
	for i := range was {
		in.known = append(in.known, was[i].Gap)
	}
	if mode == "equal" {
		for i := range was {
			was[i].Keys = Keys{Snippet: 1, Context: 1, Before: 1, After: 1, Message: 1}
			was[i].Path = fmt.Sprint(i % 5)
		}
		for i := range now {
			now[i].Keys = Keys{Snippet: 1, Context: uint64(2 + i%3), Message: 1}
			now[i].Path = fmt.Sprint(i % 7)
		}
	}
	return in
}
