package gap_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sop-host/sop/host/internal/gap"
)

// TestIncrementalSeesWhatAWholeScanSees edits a workspace step by step and
// compares, after some incremental scans, the live gaps with those that a scan
// finds that knows nothing. Ids are never given twice, and a gap that survives
// as it is keeps its own.
func TestIncrementalSeesWhatAWholeScanSees(t *testing.T) {
	base := newRig(t, nil, gap.ScanOptions{})
	rapid.Check(t, func(rt *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 3))
		w := newWorld(nil)
		for i := range 6 {
			w.write(fmt.Sprintf("d%d/f%d.go", i%2, i), randomText(r))
		}
		grown, d := base.other(w), todos(w)
		grown.scan(d)
		for range rapid.IntRange(1, 4).Draw(rt, "steps") {
			before := ids(grown.gaps())
			for range r.IntN(4) {
				randomEdit(r, w)
			}
			if r.IntN(5) == 0 {
				d.revision = "lost"
			}
			result := grown.scan(d)
			if !result.Complete {
				rt.Fatalf("%+v", result)
			}
			live := grown.gaps(gap.StateOpen)
			if n := len(ids(grown.gaps())); n != len(before)+result.New {
				rt.Fatalf("%d gaps and %d new ones make %d", len(before), result.New, n)
			}
			if len(live) != result.New+result.Reopened+result.Unchanged {
				rt.Fatalf("%d live gaps, but %+v", len(live), result)
			}
		}
		fresh := base.other(w)
		fresh.scan(todos(w))
		if got, want := fingerprints(grown.gaps(gap.StateOpen)), fingerprints(fresh.gaps()); !slices.Equal(got, want) {
			rt.Fatalf("incrementally there are\n%v, from nothing\n%v", got, want)
		}
	})
}

func randomText(r *rand.Rand) string {
	var b strings.Builder
	for range r.IntN(12) {
		switch r.IntN(4) {
		case 0:
			b.WriteString("// TODO: same everywhere\n")
		case 1:
			fmt.Fprintf(&b, "// TODO: number %d\n", r.IntN(1000))
		default:
			fmt.Fprintf(&b, "call(%d)\n", r.IntN(50))
		}
	}
	return b.String()
}

func randomEdit(r *rand.Rand, w *world) {
	paths := slices.Sorted(maps.Keys(w.files))
	if len(paths) == 0 {
		w.write("again.go", randomText(r))
		return
	}
	path := paths[r.IntN(len(paths))]
	switch r.IntN(5) {
	case 0:
		w.write(fmt.Sprintf("new%d/f.go", r.IntN(100)), randomText(r))
	case 1:
		delete(w.files, path)
	case 2:
		w.write("moved/"+path, w.files[path])
		delete(w.files, path)
	case 3:
		w.write(path, "head\n"+w.files[path])
	case 4:
		w.write(path, w.files[path]+randomText(r))
	}
}

func ids(gaps []*gap.Gap) map[string]bool {
	out := make(map[string]bool)
	for _, g := range gaps {
		out[g.ID] = true
	}
	return out
}

func fingerprints(gaps []*gap.Gap) []string {
	out := make([]string, 0, len(gaps))
	for _, g := range gaps {
		out = append(out, g.Path+" "+g.Fingerprint)
	}
	slices.Sort(out)
	return out
}
