package gap

import "sort"

// bucket is what shares a key: two linked lists through matcher.next.
type bucket struct {
	knownHead, knownTail, knownCount int32
	foundHead, foundTail, foundCount int32
}

// join calls pair with the unmatched spots of each key that both sides have, in
// order of place.
func (m *matcher) join(of keyFunc, pair func(known, found []int32)) {
	m.joinSpots(of, pair, false)
}

// joinAll is join over matched spots too.
func (m *matcher) joinAll(of keyFunc, pair func(known, found []int32)) {
	m.joinSpots(of, pair, true)
}

func (m *matcher) joinSpots(of keyFunc, pair func(known, found []int32), matched bool) {
	index := make(map[key]int32)
	var buckets []bucket
	for i := range m.known {
		s := &m.known[i]
		if s.mate != none && !matched {
			continue
		}
		k, ok := of(s)
		if !ok {
			continue
		}
		n, ok := index[k]
		if !ok {
			n = int32(len(buckets))
			index[k] = n
			buckets = append(buckets, bucket{knownHead: none, foundHead: none})
		}
		b := &buckets[n]
		m.link(&b.knownHead, &b.knownTail, &b.knownCount, int32(i), 0)
	}
	if len(buckets) == 0 {
		return
	}
	for i := range m.found {
		s := &m.found[i]
		if s.mate != none && !matched {
			continue
		}
		k, ok := of(s)
		if !ok {
			continue
		}
		if n, ok := index[k]; ok {
			b := &buckets[n]
			m.link(&b.foundHead, &b.foundTail, &b.foundCount, int32(i), int32(len(m.known)))
		}
	}
	var known, found []int32
	for i := range buckets {
		b := &buckets[i]
		if b.foundCount == 0 {
			continue
		}
		known = m.list(known[:0], b.knownHead, b.knownCount, 0)
		found = m.list(found[:0], b.foundHead, b.foundCount, int32(len(m.known)))
		pair(known, found)
	}
}

// link appends i to a list; offset is where its side begins in next.
func (m *matcher) link(head, tail, count *int32, i, offset int32) {
	if *count == 0 {
		*head = i
	} else {
		m.next[*tail+offset] = i
	}
	*tail = i
	*count++
}

func (m *matcher) list(out []int32, head, count, offset int32) []int32 {
	for i := head; count > 0; count-- {
		out = append(out, i)
		i = m.next[i+offset]
	}
	return out
}

// anchor is a line that is known on both sides.
type anchor struct{ known, found int32 }

// distance says how many lines the finding is from where the known gap should
// be by now: lines move with the nearest matched gap before them.
func (m *matcher) distance(known, found int32) int32 {
	k, f := &m.known[known], &m.found[found]
	d := f.line - m.expected(k)
	if d < 0 {
		return -d
	}
	return d
}

func (m *matcher) expected(k *spot) int32 {
	if m.anchors == nil {
		m.buildAnchors()
	}
	anchors := m.anchors[k.path]
	i := sort.Search(len(anchors), func(i int) bool { return anchors[i].known > k.line })
	switch {
	case len(anchors) == 0:
		return k.line
	case i == 0:
		return k.line + anchors[0].found - anchors[0].known
	case i < len(anchors) && anchors[i].known-k.line < k.line-anchors[i-1].known:
		return k.line + anchors[i].found - anchors[i].known
	}
	return k.line + anchors[i-1].found - anchors[i-1].known
}

// buildAnchors takes down the pairs that stayed in their file; known is sorted,
// so every list is.
func (m *matcher) buildAnchors() {
	m.anchors = make(map[uint32][]anchor)
	for i := range m.known {
		k := &m.known[i]
		if k.mate == none || k.line == 0 || m.found[k.mate].path != k.path {
			continue
		}
		m.anchors[k.path] = append(m.anchors[k.path], anchor{k.line, m.found[k.mate].line})
	}
}
