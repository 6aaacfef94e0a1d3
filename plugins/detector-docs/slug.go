package main

import (
	"hash/maphash"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// anchors are the fragments that a document provides, as sorted hashes: a
// manifest may hold very many of them.
type anchors []uint64

var anchorSeed = maphash.MakeSeed()

// anchorHash is blind to case, as browsers on GitHub are, and to the invisible
// selectors that emoji leave behind.
func anchorHash(fragment string) uint64 {
	return maphash.String(anchorSeed, strings.Map(func(r rune) rune {
		if r == '\uFE0F' || r == '\u200D' {
			return -1
		}
		return unicode.ToLower(r)
	}, fragment))
}

// looseHash is blind to everything but letters and digits: site generators
// differ in how they make a slug of a heading.
func looseHash(fragment string) uint64 {
	return maphash.String(anchorSeed, "\x00"+strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			return unicode.ToLower(r)
		}
		return -1
	}, fragment))
}

// has says whether fragment is provided; loose accepts other slugs of the same
// heading.
func (a anchors) has(fragment string, loose bool) bool {
	if _, ok := slices.BinarySearch(a, anchorHash(fragment)); ok {
		return true
	}
	if !loose {
		return false
	}
	_, ok := slices.BinarySearch(a, looseHash(fragment))
	return ok
}

// anchorMaker gathers the anchors of one document.
type anchorMaker struct {
	hashes []uint64
	seen   map[string]int // how often a slug was asked for
}

func newAnchorMaker() *anchorMaker { return &anchorMaker{seen: make(map[string]int)} }

// id adds an anchor that is spelled out.
func (m *anchorMaker) id(id string) {
	if id != "" {
		m.hashes = append(m.hashes, anchorHash(id), looseHash(id))
	}
}

// heading adds the slug of a heading's text. Repeated slugs are numbered, past
// those that another heading has already.
func (m *anchorMaker) heading(text string) {
	base := slug(text)
	unique := base
	for {
		if _, taken := m.seen[unique]; !taken {
			break
		}
		m.seen[base]++
		unique = base + "-" + strconv.Itoa(m.seen[base])
	}
	m.seen[unique] = 0
	m.id(unique)
}

func (m *anchorMaker) anchors() anchors {
	slices.Sort(m.hashes)
	return slices.Clip(slices.Compact(m.hashes))
}

// slug is what GitHub makes of a heading: lower case, without punctuation, and
// with a hyphen for every space.
func slug(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case r == '-', r == '_', unicode.IsLetter(r), unicode.Is(unicode.M, r),
			unicode.In(r, unicode.Nd, unicode.Nl, unicode.Pc, unicode.Other_Alphabetic):
			return unicode.ToLower(r)
		}
		return -1
	}, strings.TrimSpace(text))
}

// conventional says whether a fragment means something without an anchor of
// its name: the top of a page, lines of a source, text to look for, routes of
// single-page sites, footnotes.
func conventional(fragment string) bool {
	switch {
	case fragment == "", strings.EqualFold(fragment, "top"), fragment == "readme", fragment == "readme-ov-file":
		return true
	case strings.HasPrefix(fragment, "/"), strings.HasPrefix(fragment, "!"),
		strings.Contains(fragment, ":~:"), strings.HasPrefix(fragment, "fn:"), strings.HasPrefix(fragment, "fnref"):
		return true
	}
	return isLineRange(fragment)
}

// isLineRange recognises L10, L10-L20 and L10C3-L20C5.
func isLineRange(fragment string) bool {
	rest, ok := strings.CutPrefix(fragment, "L")
	return ok && rest != "" && rest[0] >= '0' && rest[0] <= '9' && strings.Trim(rest, "0123456789LC-") == ""
}

// decode undoes percent encoding; what is malformed stays.
func decode(s string) string {
	if d, err := url.PathUnescape(s); err == nil {
		return d
	}
	return s
}
