package sandbox

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Changes works out what the run has changed, from what the overlay has kept.
// Nothing of the run is alive, so nothing moves underneath; and no link that it
// left is followed.
func (o *Outcome) Changes(limits ChangeLimits) (*ChangeSet, error) {
	if o.upper == nil || o.Status == Refused || o.Status == Lost {
		return nil, errors.New("there is no run whose changes could be trusted")
	}
	lower, err := o.workspace.Open(".")
	if err != nil {
		return nil, err
	}
	defer lower.Close() //nolint:errcheck // only read from
	w := differ{limits: limits, set: new(ChangeSet), links: make(map[string]string), gone: make(map[string]bool), last: make(map[string]Op)}
	if err := w.directory("", tree{int(o.upper.Fd())}, tree{int(lower.Fd())}, o.private != nil); err != nil && !errors.Is(err, errEnough) {
		return nil, err
	}
	w.checkLinks(o.workspace)
	w.set.sort()
	w.set.Flag()
	return w.set, nil
}

// errEnough ends a walk that has found too much.
var errEnough = errors.New("over the limits")

// A differ compares the upper directory of an overlay with the lower one.
type differ struct {
	limits ChangeLimits
	set    *ChangeSet
	bytes  int64
	links  map[string]string // that the run has made
	gone   map[string]bool   // that the run has removed or replaced by something that is no link
	last   map[string]Op     // what was done to a path at the end
	buffer [64 << 10]byte    // what is read goes through it
}

// A tree is a descriptor of a directory, or -1 for one that is not there.
type tree struct{ fd int }

var noTree = tree{-1}

// directory compares one directory. What lies beneath an opaque one replaces
// the lower tree instead of being merged with it.
func (w *differ) directory(name string, upper, lower tree, opaque bool) error {
	opaque = opaque || upper.isOpaque()
	if strings.Count(name, "/") >= w.limits.Depth {
		w.set.reject(name, "it lies deeper than %d directories", w.limits.Depth)
		return errEnough
	}
	names, err := upper.names()
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	present := make(map[string]bool, len(names))
	for _, entry := range names {
		present[entry] = true
		if err := w.entry(path.Join(name, entry), entry, upper, lower, opaque); err != nil {
			return err
		}
	}
	var below []string
	if opaque || w.hasNew(name, names) {
		if below, err = lower.names(); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if opaque {
		for _, entry := range below {
			if present[entry] {
				continue
			}
			if err := w.delete(path.Join(name, entry), entry, lower); err != nil {
				return err
			}
		}
	}
	w.clashes(name, names, below, opaque)
	return nil
}

// entry compares one entry of an upper directory with the one that it covers.
func (w *differ) entry(name, entry string, upper, lower tree, opaque bool) error {
	now, err := upper.stat(entry)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	was, err := lower.stat(entry)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if now.isWhiteout() {
		w.gone[name], w.last[name] = true, OpDelete
		return w.delete(name, entry, lower)
	}
	// Directories pass the bit on in a shared tree, and it is not taken over.
	if now.Mode&(unix.S_ISUID|unix.S_ISGID) != 0 && now.Mode != was.Mode && now.kind() != unix.S_IFDIR {
		w.set.reject(name, "it has a setuid or setgid bit")
		return nil
	}
	if was.kind() != 0 && was.kind() != now.kind() {
		if err := w.delete(name, entry, lower); err != nil {
			return err
		}
		lower, was = noTree, stat{}
	}
	switch now.kind() {
	case unix.S_IFDIR:
		return w.subdirectory(name, entry, upper, lower, opaque, now, was)
	case unix.S_IFREG:
		w.gone[name] = true // as a link
		return w.regular(name, entry, upper, lower, now, was)
	case unix.S_IFLNK:
		return w.symlink(name, entry, upper, lower, was)
	}
	w.set.reject(name, "it is a %s", specialName(now.kind()))
	return nil
}

func specialName(kind uint32) string {
	switch kind {
	case unix.S_IFIFO:
		return "fifo"
	case unix.S_IFSOCK:
		return "socket"
	}
	return "device"
}

func (w *differ) subdirectory(name, entry string, upper, lower tree, opaque bool, now, was stat) error {
	w.gone[name] = true // as a link
	if was.kind() == 0 {
		if err := w.add(Change{Path: name, Op: OpMkdir, Mode: now.Mode & 0o777}); err != nil {
			return err
		}
	} else if now.Mode&0o777 != was.Mode&0o777 {
		if err := w.add(Change{Path: name, Op: OpChmod, Mode: now.Mode & 0o777, OldMode: was.Mode & 0o777, OldDir: true}); err != nil {
			return err
		}
	}
	above, err := upper.sub(entry, now)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	defer above.close()
	below := noTree
	if was.kind() == unix.S_IFDIR {
		if below, err = lower.sub(entry, stat{}); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		defer below.close()
	}
	return w.directory(name, above, below, opaque)
}

func (w *differ) regular(name, entry string, upper, lower tree, now, was stat) error {
	c := Change{Path: name, Op: OpAdd, Mode: now.Mode & 0o777, Size: now.Size}
	var err error
	if c.SHA256, err = upper.hash(entry, now, w.buffer[:]); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if was.kind() == unix.S_IFREG {
		c.Op, c.OldMode = OpModify, was.Mode&0o777
		if c.OldSHA256, err = lower.hash(entry, stat{}, w.buffer[:]); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if c.OldSHA256 == c.SHA256 {
			c.Op = OpChmod
			if c.Mode == c.OldMode {
				return nil // copied up and left as it was
			}
		}
	}
	if w.bytes += now.Size; w.bytes > w.limits.Bytes {
		w.set.reject(name, "with it the new content is over %d bytes", w.limits.Bytes)
		return errEnough
	}
	return w.add(c)
}

func (w *differ) symlink(name, entry string, upper, lower tree, was stat) error {
	target, err := upper.readlink(entry)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	c := Change{Path: name, Op: OpSymlink, Target: target, SHA256: hashOf(target)}
	if was.kind() == unix.S_IFLNK {
		old, err := lower.readlink(entry)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if old == target {
			return nil
		}
		c.OldSHA256 = hashOf(old)
	}
	w.links[name] = target
	return w.add(c)
}

// delete records that an entry of the lower tree is gone, with all beneath it.
func (w *differ) delete(name, entry string, lower tree) error {
	was, err := lower.stat(entry)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	c := Change{Path: name, Op: OpDelete, OldMode: was.Mode & 0o777}
	switch was.kind() {
	case 0:
		return nil // the run had made it itself
	case unix.S_IFREG:
		c.OldSHA256, err = lower.hash(entry, stat{}, w.buffer[:])
	case unix.S_IFLNK:
		var target string
		target, err = lower.readlink(entry)
		c.OldSHA256 = hashOf(target)
	case unix.S_IFDIR:
		c.OldDir = true
		err = w.deleteBeneath(name, entry, lower)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return w.add(c)
}

func (w *differ) deleteBeneath(name, entry string, lower tree) error {
	below, err := lower.sub(entry, stat{})
	if err != nil {
		return err
	}
	defer below.close()
	names, err := below.names()
	if err != nil {
		return err
	}
	for _, each := range names {
		if err := w.delete(path.Join(name, each), each, below); err != nil {
			return err
		}
	}
	return nil
}

// add takes a change in, unless its name forbids that.
func (w *differ) add(c Change) error {
	if why := badPath(c.Path); why != "" {
		w.last[c.Path] = c.Op
		w.set.reject(c.Path, "%s", why)
		return nil
	}
	if len(w.set.Changes) >= w.limits.Count {
		w.set.reject(c.Path, "it is one of more than %d changes", w.limits.Count)
		return errEnough
	}
	w.set.Changes = append(w.set.Changes, c)
	w.last[c.Path] = c.Op
	return nil
}

// clashes rejects names of one directory that some file systems cannot tell
// apart. What the workspace has of these already is its own affair.
func (w *differ) clashes(dir string, above, below []string, opaque bool) {
	seen := make(map[string]string, len(above))
	for _, name := range above {
		if w.deleted(path.Join(dir, name)) {
			continue
		}
		key := fold(name)
		if other, taken := seen[key]; taken && (w.new(path.Join(dir, name)) || w.new(path.Join(dir, other))) {
			w.set.reject(path.Join(dir, name), "only the case or the form of its letters tells it from %q", other)
		}
		seen[key] = name
	}
	if opaque {
		return
	}
	for _, name := range below {
		other, taken := seen[fold(name)]
		if taken && other != name && w.new(path.Join(dir, other)) && !w.deleted(path.Join(dir, name)) {
			w.set.reject(path.Join(dir, other), "only the case or the form of its letters tells it from %q", name)
		}
	}
}

// hasNew says whether a directory has got a name that it may not have had.
func (w *differ) hasNew(dir string, names []string) bool {
	return slices.ContainsFunc(names, func(name string) bool { return w.new(path.Join(dir, name)) })
}

// new says whether the run has put something at a path where nothing may have
// been, wanted or not.
func (w *differ) new(name string) bool {
	op, known := w.last[name]
	return known && op != OpDelete && op != OpModify && op != OpChmod
}

// deleted says whether the last word about a path is that it is gone.
func (w *differ) deleted(name string) bool { return w.last[name] == OpDelete }

// checkLinks rejects links that lead out of the tree as it will be.
func (w *differ) checkLinks(workspace *os.Root) {
	readlink := func(name string) (string, bool) {
		if target, made := w.links[name]; made {
			return target, true
		}
		if w.gone[name] {
			return "", false
		}
		target, err := workspace.Readlink(name)
		return target, err == nil
	}
	for name, target := range w.links {
		if !staysInside(name, target, readlink) {
			w.set.reject(name, "it is a link that leads outside: %q", target)
		}
	}
}

func hashOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

func hashFrom(r io.Reader) (string, error) {
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
