package secret

import (
	"crypto/rand"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"math/big"
	"math/bits"
	"strings"
	"time"
)

// The form of a secret, which docs/operations.md gives to secret scanners:
//
//	<prefix><accessor: 16>_<256 random bits: 43><CRC-32 of all before it: 6>
//
// The three parts are base 62, digits first, then lower, then upper case. An
// accessor is the time, in milliseconds since the Unix epoch, and 53 random bits:
// those that were made together stand together in an index, as in RFC 9562.
const (
	accessorLen = 16
	timeLen     = 7 // until 2081
	randomLen   = 43
	checkLen    = 6
	randomAt    = accessorLen + 1 // after the prefix
	checkAt     = randomAt + randomLen
	bodyLen     = checkAt + checkLen
)

const alphabet = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

// digits maps a byte to its value in base 62; -1: it is none.
var digits = func() (table [256]int8) {
	for i := range table {
		table[i] = int8(strings.IndexByte(alphabet, byte(i)))
	}
	return table
}()

// Redacted stands where a secret would.
const Redacted = "[redacted secret]"

// Secret proves something about who holds it. It shows nothing of itself
// however it is printed or marshalled, except through Reveal. Secrets can be
// compared for tests; what is presented is compared with [Key.Proves].
type Secret struct {
	text   string
	prefix int // its length
}

// New makes a secret with a fresh accessor.
func New(prefix string) (Secret, error) {
	accessor, err := newAccessor(time.Now())
	if err != nil {
		return Secret{}, err
	}
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		return Secret{}, fmt.Errorf("make secret: %w", err)
	}
	body := prefix + accessor + "_" + base62(new(big.Int).SetBytes(key), randomLen)
	return Secret{body + checksum(body), len(prefix)}, nil
}

// Parse reads a secret that begins with a prefix. It takes exactly what Reveal
// returned for some secret.
func Parse(prefix, text string) (Secret, bool) {
	rest, ok := strings.CutPrefix(text, prefix)
	if !ok || len(rest) != bodyLen || rest[accessorLen] != '_' || !allDigits(rest[:accessorLen]) ||
		!fits256(rest[randomAt:checkAt]) || checksum(text[:len(prefix)+checkAt]) != rest[checkAt:] {
		return Secret{}, false
	}
	return Secret{text, len(prefix)}, true
}

// IsAccessor says that text has the form of an accessor.
func IsAccessor(text string) bool { return len(text) == accessorLen && allDigits(text) }

// Reveal returns the secret itself. Only the answer that gives it out, and what
// writes it where its owner asked for it, call it.
func (s Secret) Reveal() string { return s.text }

// Accessor is the public part.
func (s Secret) Accessor() string {
	if s.text == "" {
		return ""
	}
	return s.text[s.prefix : s.prefix+accessorLen]
}

// String implements fmt.Stringer.
func (Secret) String() string { return Redacted }

// GoString implements fmt.GoStringer.
func (Secret) GoString() string { return Redacted }

// Format implements fmt.Formatter, for every verb.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, Redacted) }

// MarshalJSON implements json.Marshaler.
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + Redacted + `"`), nil }

// MarshalText implements encoding.TextMarshaler.
func (Secret) MarshalText() ([]byte, error) { return []byte(Redacted), nil }

// LogValue implements slog.LogValuer.
func (Secret) LogValue() slog.Value { return slog.StringValue(Redacted) }

// newAccessor makes an accessor at a time.
func newAccessor(now time.Time) (string, error) {
	random, err := randomDigits(accessorLen - timeLen)
	if err != nil {
		return "", err
	}
	var at [timeLen]byte
	for i, rest := timeLen-1, uint64(now.UnixMilli()); i >= 0; i-- {
		at[i] = alphabet[rest%62]
		rest /= 62
	}
	return string(at[:]) + random, nil
}

// randomDigits returns n digits, each as likely as the other.
func randomDigits(n int) (string, error) {
	v, err := rand.Int(rand.Reader, new(big.Int).Exp(big.NewInt(62), big.NewInt(int64(n)), nil))
	if err != nil {
		return "", fmt.Errorf("make accessor: %w", err)
	}
	return base62(v, n), nil
}

func base62(v *big.Int, width int) string {
	text := v.Text(62)
	return strings.Repeat("0", width-len(text)) + text
}

func checksum(body string) string {
	sum := crc32.ChecksumIEEE([]byte(body))
	var out [checkLen]byte
	for i := checkLen - 1; i >= 0; i-- {
		out[i] = alphabet[sum%62]
		sum /= 62
	}
	return string(out[:])
}

func allDigits(text string) bool {
	for i := range len(text) {
		if digits[text[i]] < 0 {
			return false
		}
	}
	return true
}

// fits256 says that text is a number of at most 256 bits.
func fits256(text string) bool {
	var words [4]uint64
	for i := range len(text) {
		d := digits[text[i]]
		if d < 0 {
			return false
		}
		carry := uint64(d)
		for w := range words {
			hi, lo := bits.Mul64(words[w], 62)
			sum, over := bits.Add64(lo, carry, 0)
			words[w], carry = sum, hi+over
		}
		if carry > 0 {
			return false
		}
	}
	return true
}
