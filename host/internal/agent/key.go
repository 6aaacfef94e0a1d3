package agent

import (
	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/secret"
	"github.com/sop-host/sop/sdk"
)

// Prefix is how every enrolled key begins.
const Prefix = "sopk_"

// purpose is what the host's key is used for here.
const purpose = "sop agent 1"

// Secret is an enrolled key.
type Secret = secret.Secret

// HostKey is the host's key under which enrolled keys are hashed.
type HostKey = secret.Key

// NewHostKey returns a random key.
func NewHostKey() (HostKey, error) { return secret.NewKey() }

// LoadHostKey reads the key in a file, which it makes where there is none; see
// [secret.LoadKey].
func LoadHostKey(path string) (HostKey, error) {
	k, err := secret.LoadKey(path)
	if err != nil {
		return HostKey{}, sdk.Errorf(codes.FailedPrecondition, "AGENT_KEY", "agent key %s: %w", path, err).
			WithRemedy("restore the file from a backup with mode 0600; deleting it makes every enrolled key worthless")
	}
	return k, nil
}

// ParseKey reads an enrolled key. The error says nothing of the text.
func ParseKey(text string) (Secret, error) {
	if s, ok := secret.Parse(Prefix, text); ok {
		return s, nil
	}
	return Secret{}, denial(ReasonMalformed, "that is no key: its form or its checksum is wrong").
		WithRemedy("give the whole key as it was shown when it was enrolled")
}
