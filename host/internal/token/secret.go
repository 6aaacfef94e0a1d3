package token

import (
	"crypto/rand"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"math/big"
	"math/bits"
	"strings"
)

// The form of a secret, which docs/operations.md gives to secret scanners:
//
//	sop_<type: o, t, i or x>_<accessor: 16>_<256 random bits: 43><CRC-32 of all before it: 6>
//
// The three parts are base 62, digits first, then lower, then upper case.
const (
	secretPrefix = "sop_"
	accessorLen  = 16
	randomLen    = 43
	checkLen     = 6
	accessorAt   = len(secretPrefix) + 2
	randomAt     = accessorAt + accessorLen + 1
	checkAt      = randomAt + randomLen
	secretLen    = checkAt + checkLen
)

const alphabet = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

// digits maps a byte to its value in base 62; -1: it is none.
var digits = func() (table [256]int8) {
	for i := range table {
		table[i] = int8(strings.IndexByte(alphabet, byte(i)))
	}
	return table
}()

const redacted = "[redacted token]"

// Secret proves that somebody holds a token. It shows nothing of itself however
// it is printed or marshalled, except through Reveal.
type Secret struct{ text string }

// Reveal returns the secret itself. Only the answer to an issue calls it.
func (s Secret) Reveal() string { return s.text }

// Accessor is the public part.
func (s Secret) Accessor() string {
	if s.text == "" {
		return ""
	}
	return s.text[accessorAt : accessorAt+accessorLen]
}

// String implements fmt.Stringer.
func (Secret) String() string { return redacted }

// GoString implements fmt.GoStringer.
func (Secret) GoString() string { return redacted }

// Format implements fmt.Formatter, for every verb.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// MarshalJSON implements json.Marshaler.
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// MarshalText implements encoding.TextMarshaler.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue implements slog.LogValuer.
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// newSecret makes a secret with a fresh accessor.
func newSecret(t Type) (Secret, error) {
	accessor, err := randomDigits(accessorLen)
	if err != nil {
		return Secret{}, err
	}
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		return Secret{}, fmt.Errorf("make token secret: %w", err)
	}
	body := secretPrefix + string(t.letter()) + "_" + accessor + "_" + base62(new(big.Int).SetBytes(key), randomLen)
	return Secret{body + checksum(body)}, nil
}

// randomDigits returns n digits, each as likely as the other.
func randomDigits(n int) (string, error) {
	v, err := rand.Int(rand.Reader, new(big.Int).Exp(big.NewInt(62), big.NewInt(int64(n)), nil))
	if err != nil {
		return "", fmt.Errorf("make token accessor: %w", err)
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

// ParseSecret reads a secret. It takes exactly what Reveal returned for some
// secret; the error says nothing of the text.
func ParseSecret(text string) (Secret, error) {
	if len(text) != secretLen || !strings.HasPrefix(text, secretPrefix) ||
		strings.IndexByte(letters, text[accessorAt-2]) < 0 || text[accessorAt-1] != '_' || text[randomAt-1] != '_' ||
		!allDigits(text[accessorAt:randomAt-1]) || !fits256(text[randomAt:checkAt]) || checksum(text[:checkAt]) != text[checkAt:] {
		return Secret{}, denial(ReasonMalformed, "that is no token: its form or its checksum is wrong").
			WithRemedy("give the whole token as it was shown when it was issued")
	}
	return Secret{text}, nil
}

// IsAccessor says that text has the form of an accessor.
func IsAccessor(text string) bool { return len(text) == accessorLen && allDigits(text) }

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
