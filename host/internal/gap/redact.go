package gap

import (
	"math"
	"regexp"
	"strings"
)

// redacted stands where a secret stood.
const redacted = "[redacted]"

// secretForm is one way in which a secret is written. The pattern runs only
// over text that holds the hint.
type secretForm struct {
	hint    string
	pattern *regexp.Regexp
	replace string
}

// secretForms are the secrets that can be told by their form alone.
var secretForms = []secretForm{
	// A private key, the end of which may be clipped off; and one whose beginning is.
	form("PRIVATE KEY", `(?s)(-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----).*?(-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----|\z)`, `${1}`+redacted+`${2}`),
	form("PRIVATE KEY", `\A[A-Za-z0-9+/=\s"\\]+(-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----)`, redacted+`${1}`),
	// scheme://user:password@host and scheme://token@host
	form("://", `([A-Za-z][A-Za-z0-9+.-]*://[^\s/:@"'<>]*):[^\s/"'<>]+@`, `${1}:`+redacted+`@`),
	form("://", `([A-Za-z][A-Za-z0-9+.-]*://)[^\s/:@"'<>\[]{12,}@`, `${1}`+redacted+`@`),
	form("earer", `((?i:bearer)[ \t]+)[A-Za-z0-9+/_.~=-]{8,}`, `${1}`+redacted),
	form("asic", `((?i:basic)[ \t]+)[A-Za-z0-9+/_-]{8,}={0,2}`, `${1}`+redacted),
	form("uthorization", `((?i:authorization)["']?[ \t]*[:=][ \t]*["']?(?:(?i:token|digest|apikey)[ \t]+)?)[A-Za-z0-9+/_.~=-]{8,}`, `${1}`+redacted),
	// The issuers' own marks.
	form("AKIA", `AKIA[0-9A-Z]{16}`, redacted),
	form("ASIA", `ASIA[0-9A-Z]{16}`, redacted),
	form("gh", `gh[pousr]_[A-Za-z0-9]{20,}`, redacted),
	form("github_pat_", `github_pat_[A-Za-z0-9_]{20,}`, redacted),
	form("glpat-", `glpat-[A-Za-z0-9_-]{16,}`, redacted),
	form("xox", `xox[a-z]-[A-Za-z0-9-]{8,}`, redacted),
	form("xapp-", `xapp-[A-Za-z0-9-]{8,}`, redacted),
	form("AIza", `AIza[A-Za-z0-9_-]{30,}`, redacted),
	form("ya29.", `ya29\.[A-Za-z0-9_-]{20,}`, redacted),
	form("sk-", `\bsk-[-_A-Za-z0-9]*[A-Za-z0-9]{16,}`, redacted),
	form("k_live_", `[sr]k_live_[A-Za-z0-9]{10,}`, redacted),
	form("k_test_", `[sr]k_test_[A-Za-z0-9]{10,}`, redacted),
	form("npm_", `npm_[A-Za-z0-9]{30,}`, redacted),
	form("pypi-", `pypi-[A-Za-z0-9_-]{30,}`, redacted),
	form("SG.", `SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}`, redacted),
	form("eyJ", `eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]*)?`, redacted),
	form("dop_v1_", `dop_v1_[a-f0-9]{32,}`, redacted),
	form("hvs.", `hvs\.[A-Za-z0-9_-]{20,}`, redacted),
	form("shpat_", `shpat_[a-f0-9]{20,}`, redacted),
	form("AGE-SECRET-KEY-", `AGE-SECRET-KEY-[A-Z0-9]{20,}`, redacted),
}

func form(hint, pattern, replace string) secretForm {
	return secretForm{hint: hint, pattern: regexp.MustCompile(pattern), replace: replace}
}

// Redact returns text with everything that looks like a secret replaced. It
// rather takes too much than too little: what it returns is shown and stored.
func Redact(text string) string {
	for i := range secretForms {
		if f := &secretForms[i]; strings.Contains(text, f.hint) {
			text = f.pattern.ReplaceAllString(text, f.replace)
		}
	}
	return redactRandom(redactAssigned(text))
}

// minRandom is the shortest run of characters that is examined for randomness.
const minRandom = 20

// redactRandom replaces runs that look as if drawn at random: keys without a
// mark of their own.
func redactRandom(text string) string {
	var out strings.Builder
	kept := 0 // text[:kept] is in out
	for i := 0; i < len(text); {
		if !isKeyByte(text[i]) {
			i++
			continue
		}
		start := i
		for i < len(text) && isKeyByte(text[i]) {
			i++
		}
		if i-start >= minRandom && looksRandom(text[start:i]) {
			out.WriteString(text[kept:start])
			out.WriteString(redacted)
			kept = i
		}
	}
	if kept == 0 {
		return text
	}
	out.WriteString(text[kept:])
	return out.String()
}

func isKeyByte(c byte) bool {
	return classOf(c) != 0 || c == '+' || c == '/' || c == '_' || c == '-' || c == '='
}

// classOf returns 1, 2 or 3 for a lower-case letter, an upper-case one and a
// digit, and 0 for anything else.
func classOf(c byte) int {
	switch {
	case 'a' <= c && c <= 'z':
		return 1
	case 'A' <= c && c <= 'Z':
		return 2
	case '0' <= c && c <= '9':
		return 3
	}
	return 0
}

// looksRandom tells a key from a name or a path: a key mixes digits and letters
// all along and spreads over its alphabet, words do not.
func looksRandom(run string) bool {
	var count [256]int
	var classes [4]int
	changes, last, hex := 0, 0, 0
	for i := range len(run) {
		c := run[i]
		count[c]++
		class := classOf(c)
		classes[class]++
		if class != last && i > 0 && class != 0 && last != 0 {
			changes++
		}
		last = class
		if class == 3 || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F' {
			hex++
		}
	}
	n := len(run)
	letters := classes[1] + classes[2]
	entropy := 0.0
	for _, k := range count {
		if k > 0 {
			p := float64(k) / float64(n)
			entropy -= p * math.Log2(p)
		}
	}
	if hex >= 32 && hex == n-classes[0] && classes[3] > 0 && letters > 0 {
		return entropy > 2.8
	}
	return classes[3] >= 2 && letters > 0 && entropy > 3.6 && changes*10 >= n*3
}
