package workspace

import "strings"

// glob is a compiled wildcard pattern with git's meaning of *, **, ?, [...] and \. It matches bytes, as git does,
// and never takes longer than the product of the lengths of pattern, text and path depth.
type glob []token

type token struct {
	op  op
	lit byte     // opByte
	set *byteSet // opSet
}

type op uint8

const (
	opByte op = iota // exactly lit
	opAny            // one byte that is not a slash
	opSet            // one byte in set; never a slash
	opStar           // bytes that are not slashes, or none
	opDeep           // any bytes, or none
	opDirs           // nothing, or anything that ends in a slash
)

// byteSet is a set of byte values.
type byteSet [4]uint64

func (s *byteSet) add(b byte)      { s[b>>6] |= 1 << (b & 63) }
func (s *byteSet) has(b byte) bool { return s[b>>6]&(1<<(b&63)) != 0 }

// addRange adds lo to hi. With fold, texts have been lowered, so a range that holds an upper-case letter takes its
// lower-case form as well.
func (s *byteSet) addRange(lo, hi byte, fold bool) {
	for b := int(lo); b <= int(hi); b++ {
		s.add(byte(b))
		if fold {
			s.add(lowerByte(byte(b)))
		}
	}
}

// compileGlob compiles a pattern; ok is false for one that git never matches (an unclosed class, an unknown
// [:name:], a trailing backslash). With fold the texts to match must have been lowered with lowerASCII.
func compileGlob(pattern string, fold bool) (g glob, ok bool) {
	for i := 0; i < len(pattern); {
		switch c := pattern[i]; c {
		case '*':
			end := i
			for end < len(pattern) && pattern[end] == '*' {
				end++
			}
			var tok token
			tok, i = compileStars(pattern, i, end)
			g = append(g, tok)
		case '?':
			g = append(g, token{op: opAny})
			i++
		case '[':
			set, n, ok := compileSet(pattern[i:], fold)
			if !ok {
				return nil, false
			}
			g = append(g, token{op: opSet, set: set})
			i += n
		case '\\':
			i++
			if i == len(pattern) {
				return nil, false
			}
			// git folds no escaped letter, so that with fold \A matches nothing.
			g = append(g, token{op: opByte, lit: pattern[i]})
			i++
		default:
			if fold {
				c = lowerByte(c)
			}
			g = append(g, token{op: opByte, lit: c})
			i++
		}
	}
	return g, true
}

// compileStars turns the run of stars pattern[from:to] into a token and says where to go on. Two or more stars are
// deep only when they stand alone between slashes; "**/" is one token, since it may also stand for nothing.
func compileStars(pattern string, from, to int) (token, int) {
	opens := from == 0 || pattern[from-1] == '/'
	rest := pattern[to:]
	switch {
	case to-from < 2 || !opens:
		return token{op: opStar}, to
	case strings.HasPrefix(rest, "/"):
		return token{op: opDirs}, to + 1
	case rest == "" || strings.HasPrefix(rest, `\/`):
		return token{op: opDeep}, to
	default:
		return token{op: opStar}, to
	}
}

// compileSet compiles the class that opens p and returns its length in bytes.
func compileSet(p string, fold bool) (set *byteSet, n int, ok bool) {
	set = new(byteSet)
	i := 1
	negated := i < len(p) && (p[i] == '!' || p[i] == '^')
	if negated {
		i++
	}
	// last is the byte a range may start from; 0 for none.
	var last byte
	for first := true; ; first = false {
		if i >= len(p) {
			return nil, 0, false
		}
		c := p[i]
		switch {
		case c == ']' && !first:
			if negated {
				for k := range set {
					set[k] = ^set[k]
				}
			}
			set['/'>>6] &^= 1 << ('/' & 63)
			return set, i + 1, true
		case c == '-' && last != 0 && i+1 < len(p) && p[i+1] != ']':
			i++
			if p[i] == '\\' {
				if i++; i == len(p) {
					return nil, 0, false
				}
			}
			set.addRange(last, p[i], fold)
			last = 0
			i++
		case c == '[' && i+1 < len(p) && p[i+1] == ':':
			end := strings.IndexByte(p[i+2:], ']')
			if end < 0 {
				return nil, 0, false
			}
			name, isNamed := strings.CutSuffix(p[i+2:i+2+end], ":")
			if !isNamed {
				set.add('[')
				last = '['
				i++
				continue
			}
			if !set.addNamed(name, fold) {
				return nil, 0, false
			}
			last = 0
			i += 2 + end + 1
		default:
			if c == '\\' {
				if i++; i == len(p) {
					return nil, 0, false
				}
				c = p[i]
			}
			set.add(c)
			last = c
			i++
		}
	}
}

// addNamed adds the ASCII bytes of a POSIX class and reports whether there is a class of that name.
func (s *byteSet) addNamed(name string, fold bool) bool {
	member, ok := namedSets[name]
	if !ok {
		return false
	}
	for b := range byte(0x80) {
		if member(b) || fold && name == "upper" && isLower(b) {
			s.add(b)
		}
	}
	return true
}

var namedSets = map[string]func(byte) bool{
	"alnum":  func(b byte) bool { return isAlpha(b) || isDigit(b) },
	"alpha":  isAlpha,
	"blank":  func(b byte) bool { return b == ' ' || b == '\t' },
	"cntrl":  func(b byte) bool { return b < ' ' || b == 0x7f },
	"digit":  isDigit,
	"graph":  isGraph,
	"lower":  isLower,
	"print":  func(b byte) bool { return b == ' ' || isGraph(b) },
	"punct":  func(b byte) bool { return isGraph(b) && !isAlpha(b) && !isDigit(b) },
	"space":  func(b byte) bool { return b == ' ' || b == '\t' || b == '\n' || b == '\r' },
	"upper":  isUpper,
	"xdigit": func(b byte) bool { return isDigit(b) || b|0x20 >= 'a' && b|0x20 <= 'f' },
}

func isUpper(b byte) bool { return b >= 'A' && b <= 'Z' }
func isLower(b byte) bool { return b >= 'a' && b <= 'z' }
func isAlpha(b byte) bool { return isUpper(b) || isLower(b) }
func isDigit(b byte) bool { return b >= '0' && b <= '9' }
func isGraph(b byte) bool { return b > ' ' && b < 0x7f }

func lowerByte(b byte) byte {
	if isUpper(b) {
		return b + 'a' - 'A'
	}
	return b
}

// lowerASCII lowers A to Z and leaves every other byte, as git's case folding does.
func lowerASCII(s string) string {
	for i := range len(s) {
		if isUpper(s[i]) {
			b := []byte(s)
			for k := i; k < len(b); k++ {
				b[k] = lowerByte(b[k])
			}
			return string(b)
		}
	}
	return s
}

func (t token) accepts(b byte) bool {
	switch t.op {
	case opByte:
		return b == t.lit
	case opAny:
		return b != '/'
	case opSet:
		return t.set.has(b)
	default:
		return false
	}
}

// match reports whether g matches all of s.
//
// Two resume points are enough. A star reached early leaves more text to the tokens behind it than one reached late,
// and a deep star can swallow whatever an earlier one left, so only the last of each sort is ever tried again.
func (g glob) match(s string) bool {
	var (
		p, i         int
		starP, starI = -1, 0
		deepP, deepI = -1, 0
	)
	for {
		if p == len(g) {
			if i == len(s) {
				return true
			}
		} else if t := g[p]; t.op == opStar {
			p++
			starP, starI = p, i
			continue
		} else if t.op == opDeep || t.op == opDirs {
			p++
			deepP, deepI, starP = p, i, -1
			continue
		} else if i < len(s) && t.accepts(s[i]) {
			p++
			i++
			continue
		}
		switch {
		case starP >= 0 && starI < len(s) && s[starI] != '/':
			starI++
			p, i = starP, starI
		case deepP >= 0:
			n := 0
			if g[deepP-1].op == opDirs {
				n = strings.IndexByte(s[deepI:], '/')
			}
			if n < 0 || deepI == len(s) {
				return false
			}
			deepI += n + 1
			p, i, starP = deepP, deepI, -1
		default:
			return false
		}
	}
}
