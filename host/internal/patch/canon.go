package patch

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"slices"

	"github.com/sop-host/sop/host/internal/sandbox"
)

// Hash is the name of a content: SHA-256, in hexadecimal, over the changes, sorted
// by path and operation, each as one line of quoted fields. What has the same
// hash makes the same of the same.
func Hash(set *sandbox.ChangeSet) string {
	return digest(set, func(c *sandbox.Change) string {
		return fmt.Sprintf("%q %q %o %q %q %q %o %t\n", c.Path, c.Op, c.Mode, c.SHA256, c.Target, c.OldSHA256, c.OldMode, c.OldDir)
	})
}

// baseOf is the hash of what the changes replace.
func baseOf(set *sandbox.ChangeSet) string {
	return digest(set, func(c *sandbox.Change) string {
		return fmt.Sprintf("%q %q %o %t\n", c.Path, c.OldSHA256, c.OldMode, c.OldDir)
	})
}

func digest(set *sandbox.ChangeSet, line func(*sandbox.Change) string) string {
	sorted := slices.Clone(set.Changes)
	slices.SortStableFunc(sorted, func(a, b sandbox.Change) int { return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Op, b.Op)) })
	h := sha256.New()
	for i := range sorted {
		h.Write([]byte(line(&sorted[i])))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// HashOf is the hash of a content, as change sets have it.
func HashOf(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

func hashFrom(r io.Reader) (string, error) {
	h := sha256.New()
	_, err := io.Copy(h, r)
	return hex.EncodeToString(h.Sum(nil)), err
}
