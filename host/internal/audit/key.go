package audit

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/sdk"
)

// The files of the key in the state directory.
const (
	KeyFile       = "audit.key" // private; its owner's alone
	PublicKeyFile = "audit.pub" // what verifies; take it away from the host
)

// Key signs checkpoints.
type Key struct {
	note.Signer
	// Public is the key that verifies, in one line.
	Public string
}

// LoadKey reads the host's key in dir, and makes it where there never was one.
// A key that has been there and is gone is an error: a new one would make every
// checkpoint before it unverifiable, in silence.
func LoadKey(dir string) (*Key, error) {
	private := filepath.Join(dir, KeyFile)
	secret, err := os.ReadFile(private)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if _, err := os.Stat(filepath.Join(dir, PublicKeyFile)); err == nil {
			return nil, sdk.Errorf(codes.FailedPrecondition, "AUDIT_KEY_MISSING", "the key of the audit log is gone: %s", private).
				WithRemedy("restore it from a backup; or move %s away to begin with a new key, under which older checkpoints do not verify", PublicKeyFile)
		}
		return makeKey(dir)
	case err != nil:
		return nil, fmt.Errorf("read audit key: %w", err)
	}
	return openKey(dir, secret)
}

func openKey(dir string, secret []byte) (*Key, error) {
	signer, err := note.NewSigner(string(bytes.TrimSpace(secret)))
	if err != nil { // the error says nothing of the key
		return nil, sdk.Errorf(codes.FailedPrecondition, "AUDIT_KEY", "%s is no key of an audit log", filepath.Join(dir, KeyFile)).
			WithRemedy("restore it from a backup")
	}
	public, err := os.ReadFile(filepath.Join(dir, PublicKeyFile))
	if errors.Is(err, fs.ErrNotExist) { // nothing is lost with it
		public, err = rewritePublic(dir, signer.Name(), secret)
	}
	if err != nil {
		return nil, fmt.Errorf("read public audit key: %w", err)
	}
	verifier, err := ParseKey(public)
	if err != nil {
		return nil, err
	}
	if verifier.Name() != signer.Name() || verifier.KeyHash() != signer.KeyHash() {
		return nil, sdk.Errorf(codes.FailedPrecondition, "AUDIT_KEY", "%s and %s in %s are not of one key", KeyFile, PublicKeyFile, dir).
			WithRemedy("restore both from one backup")
	}
	if err := os.Chmod(filepath.Join(dir, KeyFile), 0o600); err != nil {
		return nil, fmt.Errorf("restrict audit key: %w", err)
	}
	return &Key{Signer: signer, Public: string(bytes.TrimSpace(public))}, nil
}

// rewritePublic writes the public part of a key that has been opened, and returns it.
func rewritePublic(dir, name string, secret []byte) ([]byte, error) {
	fields := strings.SplitN(string(bytes.TrimSpace(secret)), "+", 5) // PRIVATE, KEY, name, hash, data: note.NewSigner has read it
	data, err := base64.StdEncoding.DecodeString(fields[4])           // an algorithm, and a seed
	if err != nil || len(data) != 1+ed25519.SeedSize {
		return nil, errors.New("the private key has no seed")
	}
	private := ed25519.NewKeyFromSeed(data[1:]) // the seed, and then the public key
	public, err := note.NewEd25519VerifierKey(name, ed25519.PublicKey(private[ed25519.SeedSize:]))
	if err != nil {
		return nil, err
	}
	return []byte(public), errors.Join(writeNew(filepath.Join(dir, PublicKeyFile), public), syncDir(dir))
}

// makeKey writes the public part first: a crash in between leaves an error that
// says what to do, and never a key that nobody knows.
func makeKey(dir string) (*Key, error) {
	id := make([]byte, 8)
	if _, err := rand.Read(id); err != nil {
		return nil, fmt.Errorf("make audit key: %w", err)
	}
	secret, public, err := note.GenerateKey(rand.Reader, "sop-audit-"+hex.EncodeToString(id))
	if err != nil {
		return nil, fmt.Errorf("make audit key: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make audit key: %w", err)
	}
	err = errors.Join(writeNew(filepath.Join(dir, PublicKeyFile), public), writeNew(filepath.Join(dir, KeyFile), secret), syncDir(dir))
	if err != nil {
		return nil, fmt.Errorf("write audit key: %w", err)
	}
	return openKey(dir, []byte(secret))
}

func writeNew(path, line string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(line + "\n")
	return errors.Join(err, f.Sync(), f.Close())
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
