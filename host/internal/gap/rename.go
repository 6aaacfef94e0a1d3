package gap

import (
	"cmp"
	"path"
	"slices"
)

// Bounds on how many pairs of files one content may vote for. Content that is
// in more files than that says nothing.
const (
	maxVotesSameName = 1024
	maxVotes         = 256
)

// move is a file that may have been renamed.
type move struct{ from, to uint32 }

// followRenames runs tier 5: a file that is gone was renamed to the new one
// that shares most of its gaps; there the gaps are looked for as in their old
// place.
func (m *matcher) followRenames(in matching) {
	votes, base := m.vote(in)
	if len(votes) == 0 {
		return
	}
	renamed := m.elect(votes, base)
	for i := range m.known {
		k := &m.known[i]
		if to, ok := renamed[k.path]; ok && k.mate == none && !k.bound {
			k.path = to
		}
	}
	slices.SortFunc(m.known, compareSpots)
	for i := range m.known {
		if mate := m.known[i].mate; mate != none {
			m.found[mate].mate = int32(i)
		}
	}
	m.samePlace()
	m.editedInPlace()
}

// vote counts, for pairs of a file that is gone and one without known gaps, how
// many gaps they share. It also returns the base name of every path in it.
func (m *matcher) vote(in matching) (map[move]int, map[uint32]uint32) {
	lost := make(map[uint32]bool)
	old := make(map[uint32]bool)
	base := make(map[uint32]uint32)
	for i := range m.known {
		k := &m.known[i]
		if _, ok := base[k.path]; ok {
			continue
		}
		p := in.known[k.index].Path
		base[k.path] = m.number(path.Base(p))
		old[k.path] = true
		lost[k.path] = !k.bound && in.gone(p)
	}
	for i := range m.found {
		f := &m.found[i]
		if _, ok := base[f.path]; !ok {
			base[f.path] = m.number(path.Base(in.found[f.index].Path))
		}
	}
	// votes only between the two kinds of files
	in0 := func(s *spot) bool { return lost[s.path] || !old[s.path] }

	votes := make(map[move]int)
	for i := range m.known { // tier 4 has voted
		k := &m.known[i]
		if k.mate != none && lost[k.path] && !old[m.found[k.mate].path] {
			votes[move{k.path, m.found[k.mate].path}]++
		}
	}
	count := func(limit int) func(known, found []int32) {
		return func(known, found []int32) { m.countVotes(votes, known, found, limit) }
	}
	m.join(func(s *spot) (key, bool) {
		return key{rule: s.rule, symbol: base[s.path], content: s.keys.Snippet}, s.keys.Snippet != 0 && in0(s)
	}, count(maxVotesSameName))
	m.join(func(s *spot) (key, bool) {
		return key{rule: s.rule, content: s.keys.Snippet}, s.keys.Snippet != 0 && in0(s)
	}, count(maxVotes))
	m.join(func(s *spot) (key, bool) {
		return key{rule: s.rule, symbol: base[s.path], message: s.keys.Message}, s.keys.Snippet == 0 && in0(s)
	}, count(1))
	return votes, base
}

// countVotes adds, for each pair of files among the spots, the gaps they share.
func (m *matcher) countVotes(votes map[move]int, known, found []int32, limit int) {
	from := runs(m.known, known)
	to := runs(m.found, found)
	if len(from)*len(to) > limit {
		return
	}
	for _, f := range from {
		for _, t := range to {
			votes[move{f.path, t.path}] += min(f.count, t.count)
		}
	}
}

// run is a number of spots in one file.
type run struct {
	path  uint32
	count int
}

func runs(spots []spot, list []int32) []run {
	var out []run
	for _, i := range list {
		if n := len(out); n > 0 && out[n-1].path == spots[i].path {
			out[n-1].count++
			continue
		}
		out = append(out, run{spots[i].path, 1})
	}
	return out
}

// elect decides the renames: most votes first, the same base name before
// another, every file at most once, and at least half of the smaller file's
// gaps in favour.
func (m *matcher) elect(votes map[move]int, base map[uint32]uint32) map[uint32]uint32 {
	size := make(map[uint32]int)
	count := func(spots []spot) {
		for i := range spots {
			size[spots[i].path]++
		}
	}
	count(m.known)
	count(m.found)

	moves := make([]move, 0, len(votes))
	for v := range votes {
		moves = append(moves, v)
	}
	otherName := func(v move) int {
		if base[v.from] == base[v.to] {
			return 0
		}
		return 1
	}
	slices.SortFunc(moves, func(a, b move) int {
		return cmp.Or(
			votes[b]-votes[a], otherName(a)-otherName(b),
			cmp.Compare(a.from, b.from), cmp.Compare(a.to, b.to),
		)
	})
	renamed := make(map[uint32]uint32)
	taken := make(map[uint32]bool)
	for _, v := range moves {
		if _, ok := renamed[v.from]; ok || taken[v.to] || votes[v]*2 < min(size[v.from], size[v.to]) {
			continue
		}
		renamed[v.from] = v.to
		taken[v.to] = true
	}
	return renamed
}
