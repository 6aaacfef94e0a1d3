package cgroup

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Options configure a tree.
type Options struct {
	// Owner is what the tree belongs to, such as a data directory; one process
	// at a time may open the tree of an owner. What an earlier one left is ended
	// and removed.
	Owner string
	// Record is a file that keeps where the tree is, so that it is found again
	// by a process that was started in another cgroup. It is there while the
	// tree is.
	Record string
	// Keep picks groups, by name, that an earlier process left and that are not to
	// be ended: [Tree.Kept] returns them. nil keeps none.
	Keep func(name string) bool
}

// Tree holds the groups of one owner: in each hierarchy a cgroup named for the
// owner, and the groups in it. Its methods may be called from any goroutine.
type Tree struct {
	sys         system
	name        string
	nonce       string // makes names of groups unlike those of earlier trees
	record      string
	version     Version
	refused     error              // why there are no groups; nil when there are
	missing     map[Resource]error // why a resource cannot be limited
	hierarchies []hierarchy        // in use
	keep        func(name string) bool
	kept        map[string]*Group // by name
	keptParents []string
}

// treePrefix begins the names of all trees.
const treePrefix = "sop-"

// Open finds what the kernel offers, ends and removes what an earlier process
// left of the same owner, and makes the tree. That no cgroups can be had is no
// error: [Tree.Refused] says why. The error tells what could not be removed or
// recorded; the tree is usable all the same.
func Open(opt Options) (*Tree, error) { return open(kernel(), opt) }

func open(sys system, opt Options) (*Tree, error) {
	sum := sha256.Sum256([]byte(opt.Owner))
	nonce := make([]byte, 4)
	_, _ = rand.Read(nonce) // never fails
	t := &Tree{
		sys: sys, name: treePrefix + hex.EncodeToString(sum[:6]), nonce: hex.EncodeToString(nonce),
		record: opt.Record, missing: make(map[Resource]error), keep: opt.Keep, kept: make(map[string]*Group),
	}
	found, reasons, err := discover(sys.proc)
	if err != nil {
		t.refuse(err)
		return t, nil
	}
	left := t.sweep(found)
	t.choose(found, reasons)
	return t, errors.Join(left, t.writeRecord())
}

func (t *Tree) refuse(err error) {
	t.version, t.refused, t.hierarchies = None, err, nil
	for _, r := range Resources() {
		t.missing[r] = err
	}
}

// candidate is one version's tree, made and tried.
type candidate struct {
	version     Version
	hierarchies []hierarchy
	missing     map[Resource]error
}

// choose takes the version that can limit more; v2 when they are equal.
func (t *Tree) choose(found []hierarchy, reasons map[string]error) {
	v2, err2 := t.prepareV2(found, reasons)
	if err2 == nil && len(v2.missing) == 0 {
		t.use(v2)
		return
	}
	v1, err1 := t.prepareV1(found, reasons)
	switch {
	case err2 != nil && err1 != nil:
		t.refuse(fmt.Errorf("%w; %w", err2, err1))
	case err2 != nil:
		t.use(v1)
	case err1 != nil:
		t.use(v2)
	case len(v1.missing) < len(v2.missing):
		_ = t.removeParents(v2.hierarchies) // empty: nothing was started in it
		t.use(v1)
	default:
		_ = t.removeParents(v1.hierarchies)
		t.use(v2)
	}
}

func (t *Tree) use(c *candidate) {
	t.version, t.hierarchies, t.missing = c.version, c.hierarchies, c.missing
}

// prepareV1 makes the tree's cgroup in every hierarchy that can be written to.
func (t *Tree) prepareV1(found []hierarchy, reasons map[string]error) (*candidate, error) {
	c := &candidate{version: V1, missing: make(map[Resource]error)}
	why := make(map[string]error)
	for name, err := range reasons {
		why[name] = err
	}
	for _, h := range found {
		if h.v2 {
			continue
		}
		if err := t.prepare(V1, h); err != nil {
			for _, name := range h.controllers {
				why[name] = err
			}
			continue
		}
		c.hierarchies = append(c.hierarchies, h)
	}
	for _, r := range Resources() {
		if err := why[string(r)]; err != nil {
			c.missing[r] = err
		}
	}
	if len(c.hierarchies) == 0 {
		return nil, fmt.Errorf("cgroup v1: %w", why["pids"])
	}
	return c, nil
}

// prepare makes the tree's cgroup in one hierarchy and tries whether a process
// can be started beneath it. It leaves nothing behind when it fails.
func (t *Tree) prepare(version Version, h hierarchy) error {
	parent := filepath.Join(h.base, t.name)
	if err := t.sys.mkdir(parent); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	probe, err := t.make(version, []hierarchy{h}, "probe-"+t.nonce)
	if err == nil {
		err = errors.Join(t.sys.try(probe), probe.Remove())
	}
	if err != nil {
		_ = t.sys.rmdir(parent) // it is the first failure that counts
	}
	return err
}

// Version says what groups are made of; [None] when there are none.
func (t *Tree) Version() Version { return t.version }

// Refused says why there are no groups; nil when there are.
func (t *Tree) Refused() error { return t.refused }

// Missing says why groups cannot be limited in r; nil when they can.
func (t *Tree) Missing(r Resource) error { return t.missing[r] }

// LimitError says that a limit cannot be put in force.
type LimitError struct {
	Resource Resource
	Err      error
}

// Error names the resource and the cause.
func (e *LimitError) Error() string { return fmt.Sprintf("limit %s: %v", e.Resource, e.Err) }

// Unwrap returns the cause.
func (e *LimitError) Unwrap() error { return e.Err }

// Kept returns the group of that name that an earlier process left and
// [Options.Keep] picked; nil when there is none. The caller calls its Remove.
func (t *Tree) Kept(name string) *Group { return t.kept[name] }

// New makes a group with limits. The caller calls its Remove. Its name is one
// that no group has had: a group that was killed is never used again. A process
// that is started in it while the kill is under way dies with the old ones; what
// cannot die yet stays in it; and its counters, from which the cause of an exit
// is told, are those of the dead.
//
// The error is a [*LimitError] when a limit cannot be put in force.
func (t *Tree) New(name string, limits Limits) (*Group, error) {
	if t.refused != nil {
		return nil, t.refused
	}
	for _, r := range Resources() {
		if limits.Has(r) && t.missing[r] != nil {
			return nil, &LimitError{r, t.missing[r]}
		}
	}
	g, err := t.make(t.version, t.hierarchies, fileName(name)+"-"+t.nonce)
	if err != nil {
		return nil, err
	}
	if err := g.limit(limits); err != nil {
		return nil, errors.Join(err, g.Remove())
	}
	return g, nil
}

// make makes an unlimited group.
func (t *Tree) make(version Version, in []hierarchy, name string) (*Group, error) {
	g := &Group{sys: t.sys, name: name, version: version}
	for _, h := range in {
		dir := groupDir{path: filepath.Join(h.base, t.name, name), own: h.own, controllers: h.controllers}
		if err := t.sys.mkdir(dir.path); err != nil {
			return nil, errors.Join(err, g.Remove())
		}
		g.dirs = append(g.dirs, dir)
	}
	return g, nil
}

// fileName makes name fit to be that of a cgroup, and unlike any that the
// kernel has given.
func fileName(name string) string {
	const longest = 120
	safe := strings.Map(func(r rune) rune {
		if r < 0x80 && (r == '.' || r == '-' || r == '_' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z') {
			return r
		}
		return '_'
	}, name)
	return "g-" + safe[:min(len(safe), longest)]
}

// Close removes the tree; the groups must have been removed. It may be called
// twice.
func (t *Tree) Close() error {
	err := t.removeParents(t.hierarchies)
	if err == nil && t.record != "" {
		err = os.Remove(t.record)
	}
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

func (t *Tree) removeParents(of []hierarchy) error {
	var failed []error
	for _, h := range of {
		if err := t.sys.rmdir(filepath.Join(h.base, t.name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}
