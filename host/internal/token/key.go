package token

import (
	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/secret"
	"github.com/sop-host/sop/sdk"
)

// Key is the host's key under which tokens are hashed.
type Key = secret.Key

// purpose is what the key is used for here.
const purpose = "sop token 1"

// NewKey returns a random key.
func NewKey() (Key, error) { return secret.NewKey() }

// LoadKey reads the key in a file, which it makes where there is none; see
// [secret.LoadKey].
func LoadKey(path string) (Key, error) {
	k, err := secret.LoadKey(path)
	if err != nil {
		return Key{}, sdk.Errorf(codes.FailedPrecondition, "TOKEN_KEY", "token key %s: %w", path, err).
			WithRemedy("restore the file from a backup with mode 0600; deleting it makes every token worthless")
	}
	return k, nil
}
