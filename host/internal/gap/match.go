package gap

import (
	"cmp"
	"slices"
)

// matching is what match is told: the gaps that are known, what was found, and
// what is proved about the places of the known ones.
type matching struct {
	known []*Gap
	found []finding
	// left says that the gap is proved not to be where it was, unless it is
	// among the findings there; only then is it looked for elsewhere.
	left func(*Gap) bool
	// gone says that a path is no longer in the workspace.
	gone func(path string) bool
	// returning says that the known gaps are resolved ones that may have come
	// back: only what stands in the same place, or is said of the same symbol,
	// is taken for them.
	returning bool
}

// none stands for no partner.
const none int32 = -1

// match says for each finding which known gap it is, as an index into known or
// none. Rules never mix, and nobody gets two partners. Tiers run from the best
// evidence to the weakest, each over what the ones before have left:
//
//  1. same path, same context
//  2. same path and symbol, same snippet
//  3. same path, same snippet
//  4. context that exists once on either side, anywhere
//  5. the file that its gaps say theirs was renamed to, tiers 1 to 3 and 7 again
//  6. snippet that exists once on either side, anywhere, unless it is weak
//  7. edited in place: same path, same symbol or next to where it should be
//
// Equal candidates are told apart by message, half of the context, and in the
// end by order. The cost is a few hash joins.
func match(in matching) []int32 {
	m := newMatcher(in)
	m.samePlace()
	if in.returning {
		m.join(sameSymbol, m.inOrder)
	} else {
		m.elsewhere(byContext)
		m.followRenames(in)
		m.elsewhere(bySnippet)
		m.editedInPlace()
	}
	partner := make([]int32, len(in.found))
	for i := range m.found {
		partner[m.found[i].index] = none
		if mate := m.found[i].mate; mate != none {
			partner[m.found[i].index] = m.known[mate].index
		}
	}
	return partner
}

// spot is what matching looks at of a gap or a finding. Strings are numbered.
type spot struct {
	index              int32 // in known or found of the matching
	mate               int32 // position on the other side, or none
	rule, path, symbol uint32
	line, column       int32
	keys               Keys
	weak               bool
	bound              bool // not to be looked for elsewhere
}

// matcher holds both sides, each sorted by path and position.
type matcher struct {
	known, found []spot
	anchors      map[uint32][]anchor // by path; nil: not built yet
	numbers      map[string]uint32
	next         []int32 // scratch of join: known, then found
}

func newMatcher(in matching) *matcher {
	m := &matcher{
		known: make([]spot, len(in.known)), found: make([]spot, len(in.found)),
		numbers: map[string]uint32{"": 0}, next: make([]int32, len(in.known)+len(in.found)),
	}
	for i, g := range in.known {
		m.known[i] = m.spot(i, g)
		m.known[i].bound = !in.left(g)
	}
	for i, f := range in.found {
		m.found[i] = m.spot(i, f.Gap)
		m.found[i].weak = f.weak
	}
	slices.SortFunc(m.known, compareSpots)
	slices.SortFunc(m.found, compareSpots)
	return m
}

func (m *matcher) spot(i int, g *Gap) spot {
	return spot{
		index: int32(i), mate: none,
		rule: m.number(g.Rule), path: m.number(g.Path), symbol: m.number(g.Symbol),
		line: int32(g.Line), column: int32(g.Column), keys: g.Keys,
	}
}

// number gives equal strings equal numbers; the empty one is 0.
func (m *matcher) number(s string) uint32 {
	n, ok := m.numbers[s]
	if !ok {
		n = uint32(len(m.numbers))
		m.numbers[s] = n
	}
	return n
}

func compareSpots(a, b spot) int {
	return cmp.Or(
		cmp.Compare(a.path, b.path), cmp.Compare(a.line, b.line), cmp.Compare(a.column, b.column),
		cmp.Compare(a.rule, b.rule), cmp.Compare(a.index, b.index),
	)
}

// key is what two spots must share to be joined.
type key struct {
	rule, path, symbol uint32
	content, message   uint64
}

// keyFunc returns the key of a spot; false leaves the spot out.
type keyFunc func(*spot) (key, bool)

func byContext(s *spot) (key, bool) {
	return key{rule: s.rule, content: s.keys.Context}, s.keys.Context != 0
}

func bySnippet(s *spot) (key, bool) {
	return key{rule: s.rule, content: s.keys.Snippet}, s.keys.Snippet != 0
}

// at adds the path to a key by content, and the message if asked.
func at(content func(*Keys) uint64, symbol, message bool) keyFunc {
	return func(s *spot) (key, bool) {
		k := key{rule: s.rule, path: s.path, content: content(&s.keys)}
		if symbol {
			k.symbol = s.symbol
		}
		if message {
			k.message = s.keys.Message
		}
		return k, k.content != 0
	}
}

func around(k *Keys) uint64  { return k.Context }
func before(k *Keys) uint64  { return k.Before }
func after(k *Keys) uint64   { return k.After }
func snippet(k *Keys) uint64 { return k.Snippet }

// samePlace runs tiers 1 to 3.
func (m *matcher) samePlace() {
	m.join(at(around, true, true), m.inOrder)
	m.join(at(around, false, true), m.inOrder)
	m.join(at(around, false, false), m.inOrder)
	m.anchors = nil // the lines around are known now
	m.join(at(before, false, true), m.inOrder)
	m.join(at(after, false, true), m.inOrder)
	m.join(at(snippet, true, true), m.inOrder)
	m.join(at(snippet, true, false), m.inOrder)
	m.join(at(snippet, false, true), m.inOrder)
	m.join(at(snippet, false, false), m.inOrder)
	m.join(wholeFile, m.inOrder)
}

// wholeFile is for gaps without a snippet: they are about the file or a symbol.
func wholeFile(s *spot) (key, bool) {
	return key{rule: s.rule, path: s.path, symbol: s.symbol, message: s.keys.Message}, s.keys.Snippet == 0
}

// sameSymbol is for what is said of the same symbol in other words.
func sameSymbol(s *spot) (key, bool) {
	return key{rule: s.rule, path: s.path, symbol: s.symbol, message: s.keys.Message}, s.symbol != 0
}

// elsewhere pairs what has a key once on either side, matched spots included.
func (m *matcher) elsewhere(of keyFunc) {
	m.joinAll(of, func(known, found []int32) {
		if len(known) != 1 || len(found) != 1 {
			return
		}
		k, f := &m.known[known[0]], &m.found[found[0]]
		if k.mate == none && f.mate == none && !k.bound && (!f.weak || k.keys.Context == f.keys.Context && k.keys.Context != 0) {
			m.pair(known[0], found[0])
		}
	})
}

// Distances, in lines, up to which a gap was edited in place: one that shares
// its symbol or message, and one that shares nothing.
const (
	nearAkin  = 20
	nearAlien = 2
)

// editedInPlace runs tier 7.
func (m *matcher) editedInPlace() {
	m.anchors = nil
	m.join(sameSymbol, m.inOrder)
	m.join(func(s *spot) (key, bool) {
		return key{rule: s.rule, path: s.path, symbol: s.symbol}, s.symbol != 0
	}, m.only)
	m.join(func(s *spot) (key, bool) {
		return key{rule: s.rule, path: s.path, message: s.keys.Message}, true
	}, m.only)
	m.join(func(s *spot) (key, bool) { return key{rule: s.rule, path: s.path}, true }, m.nearest)
}

func (m *matcher) pair(known, found int32) {
	m.known[known].mate, m.found[found].mate = found, known
}

// inOrder pairs one after the other. When one side has more, each of the fewer
// takes the one nearest to where it should be, without crossing.
func (m *matcher) inOrder(known, found []int32) {
	if len(known) == len(found) {
		for i := range known {
			m.pair(known[i], found[i])
		}
		return
	}
	if len(known) < len(found) {
		m.align(len(known), len(found), func(i, j int) int32 { return m.distance(known[i], found[j]) },
			func(i, j int) { m.pair(known[i], found[j]) })
		return
	}
	m.align(len(found), len(known), func(i, j int) int32 { return m.distance(known[j], found[i]) },
		func(i, j int) { m.pair(known[j], found[i]) })
}

// align gives each of few, in order, one of many.
func (m *matcher) align(few, many int, distance func(i, j int) int32, pair func(i, j int)) {
	j := 0
	for i := range few {
		last := many - (few - i) // leave enough for the others
		for j < last && distance(i, j+1) < distance(i, j) {
			j++
		}
		pair(i, j)
		j++
	}
}

// only pairs the only one with the only one when they are near.
func (m *matcher) only(known, found []int32) {
	if len(known) == 1 && len(found) == 1 && m.distance(known[0], found[0]) <= nearAkin {
		m.pair(known[0], found[0])
	}
}

// nearest pairs those that are nearest to each other and very near.
func (m *matcher) nearest(known, found []int32) {
	j := 0
	for i, k := range known {
		for j+1 < len(found) && m.distance(k, found[j+1]) < m.distance(k, found[j]) {
			j++
		}
		if j == len(found) {
			return
		}
		f := found[j]
		d := m.distance(k, f)
		if d > nearAlien || i+1 < len(known) && m.distance(known[i+1], f) < d {
			continue
		}
		m.pair(k, f)
		if j++; j == len(found) {
			return
		}
	}
}
