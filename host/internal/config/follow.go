package config

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// followed is a directory beside the configuration whose files with one
// extension are watched too.
type followed struct {
	mu        sync.Mutex
	dir       string // empty: none
	extension string
	last      fingerprint
	changed   chan struct{} // tells Run that there is another
}

// Follow watches the files of dir whose names end in extension as well, instead
// of those of the last call; an empty dir is none. It says whether dir is another
// than before. What is there now counts as known: load what was loaded before
// again when it says so, and no change in between is lost.
func (w *Watcher) Follow(dir, extension string) bool {
	f := &w.follows
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dir == dir && f.extension == extension {
		return false
	}
	f.dir, f.extension = dir, extension
	f.last = directoryFingerprint(dir, extension)
	select {
	case f.changed <- struct{}{}:
	default: // Run will look anyway
	}
	return true
}

// target returns what is followed.
func (f *followed) target() (dir, extension string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.dir, f.extension
}

// check says whether the files differ from the last time.
func (f *followed) check() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := directoryFingerprint(f.dir, f.extension)
	changed := now != f.last
	f.last = now
	return changed
}

// extend adds the way to the files to a route.
func (f *followed) extend(r *route) {
	dir, extension := f.target()
	if dir == "" {
		return
	}
	r.extension = extension
	for _, file := range filesIn(dir, extension) {
		r.follow(file)
	}
	r.follow(dir)
}

// filesIn lists the files of a directory with an extension, without hidden ones.
func filesIn(dir, extension string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var files []string
	for _, entry := range entries {
		name := entry.Name()
		if strings.HasSuffix(name, extension) && !strings.HasPrefix(name, ".") && len(files) < maxFileCount {
			files = append(files, filepath.Join(dir, name))
		}
	}
	return files
}

// directoryFingerprint is a hash over the names and contents of the files. That
// something cannot be read is part of it too.
func directoryFingerprint(dir, extension string) fingerprint {
	if dir == "" {
		return fingerprint{}
	}
	hash := sha256.New()
	if _, err := os.Stat(dir); err != nil {
		_, _ = fmt.Fprintf(hash, "error %v", err) // a hash never fails
	}
	for _, file := range filesIn(dir, extension) {
		content, err := readRegular(file, maxFileSize)
		_, _ = fmt.Fprintf(hash, "%q %v %d:", file, err, len(content))
		_, _ = hash.Write(content)
	}
	return fingerprint(hash.Sum(nil))
}
