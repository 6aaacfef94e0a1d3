package secret

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
)

// Key is the host's key under which secrets are hashed: who reads the database
// without it can neither use a secret nor test a guess. It does not show when it
// is printed.
type Key struct {
	bytes []byte
	macs  *sync.Pool // of *macState
}

// macState hashes under one key, again and again.
type macState struct {
	hash.Hash
	text []byte // that is hashed, with what it is followed by
}

func newKey(bytes []byte) Key {
	return Key{bytes, &sync.Pool{New: func() any { return &macState{Hash: hmac.New(sha256.New, bytes)} }}}
}

// keySize is in bytes.
const keySize = 32

// String implements fmt.Stringer.
func (Key) String() string { return "[redacted key]" }

// Format implements fmt.Formatter, for every verb.
func (Key) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "[redacted key]") }

// Hash is what is kept of a secret. The purpose separates what the key is used
// for: a hash of one purpose proves nothing for another.
func (k Key) Hash(purpose string, s Secret) []byte {
	mac := k.macs.Get().(*macState) //nolint:forcetypeassert // it holds nothing else
	defer k.macs.Put(mac)
	mac.text = append(append(append(mac.text[:0], purpose...), 0), s.text...)
	mac.Reset()
	mac.Write(mac.text)
	clear(mac.text)
	return mac.Sum(nil)
}

// Proves says, in constant time, whether the secret is the one with the hash.
func (k Key) Proves(purpose string, s Secret, hash []byte) bool {
	return hmac.Equal(k.Hash(purpose, s), hash)
}

// Valid says that there is a key.
func (k Key) Valid() bool { return len(k.bytes) == keySize }

// Derive returns a key of 32 bytes for another purpose, from which
// neither this key nor that of another purpose can be found.
func (k Key) Derive(purpose string) []byte {
	mac := hmac.New(sha256.New, k.bytes)
	mac.Write([]byte("sop derive 1\x00" + purpose))
	return mac.Sum(nil)
}

// NewKey returns a random key.
func NewKey() (Key, error) {
	k := newKey(make([]byte, keySize))
	_, err := rand.Read(k.bytes)
	return k, err
}

// LoadKey reads the key in a file, which it makes where there is none. A file
// that others may read, and one that holds no key, is refused: with another
// key every secret that was given out is worthless.
func LoadKey(path string) (Key, error) {
	k, err := readKey(path)
	if errors.Is(err, os.ErrNotExist) {
		if err = createKey(path); err == nil {
			k, err = readKey(path)
		}
	}
	return k, err
}

func readKey(path string) (k Key, err error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return Key{}, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return Key{}, err
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o077 != 0 {
		return Key{}, fmt.Errorf("its mode is %v: it must be a file of the host's user alone", info.Mode())
	}
	text, err := io.ReadAll(io.LimitReader(f, 4*keySize))
	if err != nil {
		return Key{}, err
	}
	bytes, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(bytes) != keySize {
		return Key{}, errors.New("it does not hold a key") // and what it holds is not told
	}
	return newKey(bytes), nil
}

// createKey writes a new key to disk before it is used. Of two hosts that do so
// at once one wins.
func createKey(path string) (err error) {
	k, err := NewKey()
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".key-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(f.Name())) }()
	_, err = f.WriteString(hex.EncodeToString(k.bytes) + "\n")
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
