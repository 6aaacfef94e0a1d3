package tree

import (
	"context"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// readers is how many files are read at once.
const readers = 8

// Describer makes the entries of a scan.
type Describer struct {
	Scan *Scan
	// File describes a regular file and stores its content.
	File func(*Node) (Entry, error)
	// Fatal says which errors end everything; the others are failures of their
	// paths.
	Fatal func(error) bool
	// Count is told of what is done, by one goroutine at a time; its error ends
	// everything.
	Count func(files, bytes int64) error

	mu       sync.Mutex // guards the following
	failures []Failure
}

// Run describes every node, several at once, and returns the entries of those
// that could be, in the order of the scan, with the failures of the others.
func (d *Describer) Run(ctx context.Context) ([]*Entry, []Failure, error) {
	d.failures = d.Scan.Failures
	nodes := d.Scan.Nodes
	entries := make([]*Entry, len(nodes))
	first, later := d.links()
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(readers)
	for i := range nodes {
		if _, linked := later[i]; linked {
			continue
		}
		group.Go(func() (err error) {
			if err := gctx.Err(); err != nil {
				return err
			}
			entries[i], err = d.node(&nodes[i])
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, nil, err
	}
	var all []*Entry
	for i := range nodes {
		if id, linked := later[i]; linked {
			e, err := d.linked(&nodes[i], entries[first[id]])
			if err != nil {
				return nil, nil, err
			}
			entries[i] = e
		}
		if entries[i] != nil {
			all = append(all, entries[i])
		}
	}
	all, failed := Orphans(all, d.failures)
	return all, failed, nil
}

// links finds regular files with several names: the first node of each, and
// which later nodes are names of it.
func (d *Describer) links() (first map[Inode]int, later map[int]Inode) {
	first, later = make(map[Inode]int), make(map[int]Inode)
	for i := range d.Scan.Nodes {
		st := &d.Scan.Nodes[i].Stat
		if st.Nlink < 2 || st.Mode&unix.S_IFMT != unix.S_IFREG {
			continue
		}
		id := Inode{st.Dev, st.Ino}
		if _, known := first[id]; known {
			later[i] = id
		} else {
			first[id] = i
		}
	}
	return first, later
}

// linked describes a further name of a file. If it is not that any more, it is
// read as a file of its own.
func (d *Describer) linked(n *Node, original *Entry) (*Entry, error) {
	st, err := d.Scan.tree.stat(n.Path)
	if original == nil || err != nil || st.Ino != n.Stat.Ino || st.Dev != n.Stat.Dev {
		return d.node(n)
	}
	e := *original
	e.Path, e.HardLink = n.Path, original.Path
	return &e, d.count(1, 0)
}

// node describes one node. The entry is nil if that failed and was noted; an
// error ends everything.
func (d *Describer) node(n *Node) (*Entry, error) {
	describe := d.special
	regular := n.Stat.Mode&unix.S_IFMT == unix.S_IFREG
	if regular {
		describe = d.File
	}
	e, err := describe(n)
	if err != nil {
		if d.Fatal(err) {
			return nil, err
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		d.failures = append(d.failures, Failure{n.Path, Reason(err)})
		return nil, nil
	}
	if !regular {
		return &e, d.count(0, 0)
	}
	return &e, d.count(1, e.Stored())
}

// special describes what is no regular file; it is not opened but for the
// attributes of a directory.
func (d *Describer) special(n *Node) (Entry, error) {
	e := EntryOf(n.Path, &n.Stat)
	e.Ancestor = n.Ancestor
	var err error
	switch e.Type {
	case TypeSymlink:
		e.Target, err = d.Scan.tree.ReadLink(n.Path)
	case TypeDir:
		e.Xattrs, err = d.Scan.tree.dirXattrs(n.Path)
	}
	return e, err
}

func (d *Describer) count(files, bytes int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.Count(files, bytes)
}
