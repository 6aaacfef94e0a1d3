package token

import (
	"strings"

	"github.com/sop-host/sop/host/internal/secret"
)

// A token's secret begins with sop_ and the letter of its type: o, t, i or x.
const (
	secretPrefix = "sop_"
	prefixLen    = len(secretPrefix) + 2
	maxPresented = 320 // bytes; what is longer is no token with a slip of the pen
)

const redacted = secret.Redacted

// Secret proves that somebody holds a token.
type Secret = secret.Secret

// newSecret makes a secret with a fresh accessor.
func newSecret(t Type) (Secret, error) { return secret.New(secretPrefix + string(t.letter()) + "_") }

// ParseSecret reads a secret. It takes exactly what Reveal returned for some
// secret; the error says nothing of the text.
func ParseSecret(text string) (Secret, error) {
	if len(text) > maxPresented {
		return Secret{}, denial(ReasonOversize, "that is no token: it is longer than any").
			WithRemedy("give the token alone, as it was shown when it was issued")
	}
	if len(text) > prefixLen && strings.HasPrefix(text, secretPrefix) && strings.IndexByte(letters, text[prefixLen-2]) >= 0 && text[prefixLen-1] == '_' {
		if s, ok := secret.Parse(text[:prefixLen], text); ok {
			return s, nil
		}
	}
	return Secret{}, denial(ReasonMalformed, "that is no token: its form or its checksum is wrong").
		WithRemedy("give the whole token as it was shown when it was issued")
}

// IsAccessor says that text has the form of an accessor.
func IsAccessor(text string) bool { return secret.IsAccessor(text) }
