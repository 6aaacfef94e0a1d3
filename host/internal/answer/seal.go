package answer

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

// derive makes a key, or a name, of 32 bytes from the host's key for one
// purpose and some texts.
func derive(key []byte, purpose string, texts ...[]byte) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("sop answer 1 " + purpose + "\x00"))
	for _, t := range texts {
		mac.Write(binary.BigEndian.AppendUint64(nil, uint64(len(t))))
		mac.Write(t)
	}
	return mac.Sum(nil)
}

// seal encrypts an answer for the row that it is stored in.
func seal(key, row, answer []byte) ([]byte, error) {
	gcm, err := newGCM(key)
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, gcm.NonceSize())
	if _, err := rand.Read(nonce); err != nil {
		return nil, err
	}
	return gcm.Seal(nonce, nonce, answer, row), nil
}

// unseal is the reverse of seal.
func unseal(key, row, sealed []byte) ([]byte, error) {
	gcm, err := newGCM(key)
	if err != nil {
		return nil, err
	}
	if len(sealed) < gcm.NonceSize() {
		return nil, fmt.Errorf("stored answer: %d bytes", len(sealed))
	}
	return gcm.Open(nil, sealed[:gcm.NonceSize()], sealed[gcm.NonceSize():], row)
}

func newGCM(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}
