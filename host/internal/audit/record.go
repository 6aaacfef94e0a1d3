package audit

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Record is one statement of the log. Who writes it fills in everything up to
// Attributes but Seq; [Seal] does the rest.
type Record struct {
	Seq      uint64    // from 1, without gaps
	Time     time.Time // UTC; set when it is zero
	Actor    string    // "uid:1000", "host", "plugin detector.docs" …
	Action   string    // dotted, such as "gap.suppress"; see docs/operations.md
	Resource string    // "gap/<id>", "plugin/<id>" …
	Outcome  Outcome
	Reason   string // one sentence, or the reason of an error
	// RequestID and TraceID tie records of one request together.
	RequestID, TraceID string
	// Token is the accessor of the token it was done under, never its secret.
	Token      string
	Attributes map[string]string // may be nil

	PrevHash Hash // of the record before; zero for the first
	Hash     Hash
}

// Outcome is how it ended.
type Outcome string

// The outcomes.
const (
	Success Outcome = "success"
	Failure Outcome = "failure"
	Denied  Outcome = "denied"
)

// Outcomes returns all outcomes.
func Outcomes() []Outcome { return []Outcome{Success, Failure, Denied} }

// Bounds of a record, in bytes; what is longer is cut and ends in "…".
const (
	maxName      = 256  // actor, action
	maxText      = 1024 // resource, reason, value of an attribute
	maxID        = 128  // request, trace, token, key of an attribute
	maxAttribute = 32   // attributes, beside those of the payload
)

// clean bounds everything and makes it safe to print. It never changes a map
// that the caller holds.
func (r *Record) clean() {
	r.Actor, r.Action = safe(r.Actor, maxName), safe(r.Action, maxName)
	r.Resource, r.Reason = safe(r.Resource, maxText), safe(r.Reason, maxText)
	r.RequestID, r.TraceID, r.Token = safe(r.RequestID, maxID), safe(r.TraceID, maxID), safe(r.Token, maxID)
	switch r.Outcome {
	case Success, Failure, Denied:
	default:
		r.Outcome = Failure
	}
	r.Attributes = cleanAttributes(r.Attributes)
}

// cleanAttributes keeps the first attributes by key and says how many it left
// out.
func cleanAttributes(in map[string]string) map[string]string {
	if len(in) == 0 {
		return nil
	}
	if isClean(in) {
		return in
	}
	out := make(map[string]string, min(len(in), maxAttribute))
	for i, key := range slices.Sorted(maps.Keys(in)) {
		if i == maxAttribute-1 && len(in) > maxAttribute {
			out["left_out"] = fmt.Sprint(len(in) - i)
			break
		}
		out[safe(key, maxID)] = safe(in[key], maxText)
	}
	return out
}

// isClean says that nothing of the attributes would be changed.
func isClean(in map[string]string) bool {
	if len(in) > maxAttribute {
		return false
	}
	for key, value := range in {
		if len(key) > maxID || len(value) > maxText || !isPlain(key) || !isPlain(value) {
			return false
		}
	}
	return true
}

const cut = "…"

// safe writes out what could act on a terminal, hide or reorder text, and bytes
// that are not UTF-8, and bounds the result.
func safe(s string, limit int) string {
	if len(s) <= limit && isPlain(s) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		piece := escaped(r, s[i:i+size])
		if b.Len()+len(piece) > limit-len(cut) && (i+size < len(s) || b.Len()+len(piece) > limit) {
			b.WriteString(cut)
			break
		}
		b.WriteString(piece)
		i += size
	}
	return b.String()
}

// isPlain says that s is printable ASCII; it looks at eight bytes at a time.
func isPlain(s string) bool {
	const each, high = 0x0101010101010101, 0x8080808080808080
	for ; len(s) >= 8; s = s[8:] {
		w := uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 | uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
		// A byte below 0x80 stays there with 1 added unless it is 0x7f, and
		// goes beyond it with 0x60 added unless it is a control character.
		if (w|(w+each))&high != 0 || (w+0x60*each)&high != high {
			return false
		}
	}
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

func escaped(r rune, raw string) string {
	switch {
	case r == utf8.RuneError && len(raw) == 1:
		return fmt.Sprintf(`\x%02x`, raw[0])
	case unicode.IsGraphic(r):
		return raw
	case r <= 0xffff:
		return fmt.Sprintf(`\u%04x`, r)
	}
	return fmt.Sprintf(`\U%08x`, r)
}

// Origin is what ties a record to the request that it belongs to.
type Origin struct {
	RequestID, TraceID string
	Token              string // accessor
}

type originKey struct{}

// WithOrigin returns a context in which records belong to o.
func WithOrigin(ctx context.Context, o Origin) context.Context {
	return context.WithValue(ctx, originKey{}, o)
}

// OriginFrom returns what WithOrigin was given; the zero Origin without it.
func OriginFrom(ctx context.Context) Origin {
	o, _ := ctx.Value(originKey{}).(Origin)
	return o
}

// belong fills in what ctx knows and the record does not say.
func (r *Record) belong(ctx context.Context) {
	o, ok := ctx.Value(originKey{}).(Origin)
	if !ok {
		return
	}
	r.RequestID, r.TraceID, r.Token = cmp.Or(r.RequestID, o.RequestID), cmp.Or(r.TraceID, o.TraceID), cmp.Or(r.Token, o.Token)
}
