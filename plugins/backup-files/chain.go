package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// The files of the directory of snapshots.
const (
	manifestSuffix = ".manifest"
	goneSuffix     = ".gone"
	// headFile names the newest snapshot, so that the loss of it shows.
	headFile = "HEAD"
)

// gone stands for snapshots that were deleted, so that the chain does not break:
// those from the parent, which is not one of them, up to the one it names.
type gone struct {
	link
	// Parent is that of the oldest; nil if it is the first ever, or unknown.
	Parent *link `json:"parent,omitempty"`
	// Unknown says that the parent could not be read any more.
	Unknown   bool      `json:"unknown,omitempty"`
	DeletedAt time.Time `json:"deleted_at"`
}

// checked is a small file with a checksum: what it says, and a last line that is
// the end of a manifest.
func checked(what any) ([]byte, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	if err := enc.Encode(what); err != nil {
		return nil, err
	}
	err := enc.Encode(line{End: &end{digestOf(out.Bytes())}})
	return out.Bytes(), err
}

// readChecked reads such a file of the repository.
func (r *repository) readChecked(name string, what any) error {
	text, err := os.ReadFile(r.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return damagedf(name, "it is missing")
	}
	if err != nil {
		return damagedf(name, "%v", err)
	}
	body, last, err := splitEnd(text)
	if err != nil {
		return damagedf(name, "%v", err)
	}
	if digestOf(body) != last.SHA256 {
		return damagedf(name, "its checksum does not match")
	}
	if err := json.Unmarshal(body, what); err != nil {
		return damagedf(name, "%v", err)
	}
	return nil
}

// listing is what the directory of snapshots holds: ids, oldest first.
type listing struct {
	live []string
	gone []string
}

func (r *repository) list() (listing, error) {
	var l listing
	entries, err := os.ReadDir(r.path(snapshotDir))
	if err != nil {
		return l, ioError("read the list of snapshots", err)
	}
	deleted := make(map[string]bool)
	for _, e := range entries {
		if id, ok := strings.CutSuffix(e.Name(), goneSuffix); ok && seqOf(id) > 0 {
			l.gone, deleted[id] = append(l.gone, id), true
		}
	}
	for _, e := range entries {
		if id, ok := strings.CutSuffix(e.Name(), manifestSuffix); ok && seqOf(id) > 0 && !deleted[id] {
			l.live = append(l.live, id)
		}
	}
	byNumber := func(a, b string) int { return cmp.Or(cmp.Compare(seqOf(a), seqOf(b)), strings.Compare(a, b)) }
	slices.SortFunc(l.live, byNumber)
	slices.SortFunc(l.gone, byNumber)
	return l, nil
}

func manifestName(id string) string { return filepath.Join(snapshotDir, id+manifestSuffix) }
func goneName(id string) string     { return filepath.Join(snapshotDir, id+goneSuffix) }

// load reads and checks a manifest. One that is not whole is a [damaged].
func (r *repository) load(id string) (*manifest, error) {
	name := manifestName(id)
	text, err := os.ReadFile(r.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, notFound(id)
	}
	if err != nil {
		return nil, damagedf(name, "%v", err)
	}
	m, err := parseManifest(text)
	if err == nil && m.ID != id {
		err = errors.New("it is that of another snapshot")
	}
	if err != nil {
		return nil, damagedf(name, "%v", err)
	}
	return m, nil
}

// live says that a snapshot exists; it may be damaged.
func (r *repository) live(id string) error {
	if seqOf(id) == 0 || !exists(r.path(manifestName(id))) || exists(r.path(goneName(id))) {
		return notFound(id)
	}
	return nil
}

// last is the newest snapshot there has been; nil if there was none. Where the
// head is lost, or older than what a killed process has still made, the files
// say.
func (r *repository) last() (*link, error) {
	var head *link
	if err := r.readChecked(filepath.Join(snapshotDir, headFile), &head); err != nil {
		head = nil
	}
	l, err := r.list()
	if err != nil {
		return nil, err
	}
	for _, id := range slices.Backward(l.live) {
		if head != nil && seqOf(id) <= seqOf(head.ID) {
			break
		}
		if m, err := r.load(id); err == nil {
			return &link{id, m.sum}, nil
		}
	}
	if head == nil && len(l.gone) > 0 {
		var g gone
		if err := r.readChecked(goneName(l.gone[len(l.gone)-1]), &g); err == nil {
			return &g.link, nil
		}
	}
	return head, nil
}

// highest is the greatest number that any file of a snapshot has.
func (l listing) highest() (seq uint64) {
	for _, ids := range [][]string{l.live, l.gone} {
		if len(ids) > 0 {
			seq = max(seq, seqOf(ids[len(ids)-1]))
		}
	}
	return seq
}

// commit appends a snapshot to the chain, durably; the commit lock is held.
// The names of its objects are made durable by publish, beside the files that
// are written here: the manifest gets its name when all of that is done.
func (r *repository) commit(m *manifest, publish func() error) error {
	if err := r.enchain(m); err != nil {
		return err
	}
	text, err := m.encode()
	if err != nil {
		return err
	}
	head, err := checked(link{m.ID, m.sum})
	if err != nil {
		return err
	}
	var all errgroup.Group
	var manifestTemp, headTemp string
	all.Go(publish)
	all.Go(func() (err error) { manifestTemp, err = writeTemp(r.path(tempDir), text); return err })
	all.Go(func() (err error) { headTemp, err = writeTemp(r.path(tempDir), head); return err })
	err = all.Wait()
	if err == nil {
		err = os.Rename(manifestTemp, r.path(manifestName(m.ID)))
	}
	if err == nil {
		err = os.Rename(headTemp, r.path(snapshotDir, headFile))
	}
	if err != nil {
		_ = os.Remove(manifestTemp) // what remains is swept later
		_ = os.Remove(headTemp)
		return err
	}
	return syncDir(r.path(snapshotDir))
}

// enchain gives a snapshot its number, id and parent.
func (r *repository) enchain(m *manifest) error {
	parent, err := r.last()
	if err != nil {
		return err
	}
	l, err := r.list()
	if err != nil {
		return err
	}
	m.Parent, m.Seq = parent, l.highest()+1
	if parent != nil {
		m.Seq = max(m.Seq, seqOf(parent.ID)+1)
	}
	m.ID = newID(m.Seq)
	return nil
}

// expectation is what the chain says must come next, going back in time.
type expectation struct {
	link *link
	// open says that nothing is known: what told it is damaged.
	open bool
}

// walkChain goes from the head back to the beginning and reports every snapshot
// that is missing or is not the one that was saved. loaded holds the manifests
// that could be read.
func (r *repository) walkChain(loaded map[string]*manifest, report func(name, why string)) error {
	l, err := r.list()
	if err != nil {
		return err
	}
	deleted := make(map[string]bool)
	for _, id := range l.gone {
		deleted[id] = true
	}
	ids := slices.Concat(l.live, l.gone)
	slices.SortFunc(ids, func(a, b string) int { return cmp.Compare(seqOf(b), seqOf(a)) })
	want := r.expectHead(l, report)
	for _, id := range ids {
		if deleted[id] && !want.open && (want.link == nil || seqOf(id) > seqOf(want.link.ID)) {
			continue // covered by what stands for several that were deleted
		}
		want = r.step(id, want, loaded, report)
	}
	if want.link != nil {
		report(manifestName(want.link.ID), "it is missing")
	}
	return nil
}

// expectHead reads the head. Snapshots of a process that was killed before it
// could write the head are newer than it and count as well.
func (r *repository) expectHead(l listing, report func(name, why string)) expectation {
	name := filepath.Join(snapshotDir, headFile)
	if l.highest() == 0 && !exists(r.path(name)) {
		return expectation{}
	}
	var head link
	if err := r.readChecked(name, &head); err != nil {
		report(name, reason(err))
		return expectation{open: true}
	}
	if len(l.live) > 0 && seqOf(l.live[len(l.live)-1]) > seqOf(head.ID) {
		return expectation{open: true}
	}
	return expectation{link: &head}
}

// step compares one snapshot with what was expected and says what comes next.
func (r *repository) step(id string, want expectation, loaded map[string]*manifest, report func(name, why string)) expectation {
	if want.link != nil && want.link.ID != id {
		report(manifestName(want.link.ID), "it is missing")
		want = expectation{open: true}
	}
	if !want.open && want.link == nil {
		report(manifestName(id), "the chain does not lead to it")
	}
	if m := loaded[id]; m != nil {
		if want.link != nil && want.link.SHA256 != m.sum {
			report(manifestName(id), "it is not the one that was saved")
		}
		return expectation{link: m.Parent}
	}
	if !exists(r.path(goneName(id))) {
		return expectation{open: true} // reported as unreadable already
	}
	var g gone
	if err := r.readChecked(goneName(id), &g); err != nil {
		report(goneName(id), reason(err))
		return expectation{open: true}
	}
	if want.link != nil && want.link.SHA256 != g.SHA256 {
		report(goneName(id), "it does not stand for the one that was saved")
	}
	return expectation{link: g.Parent, open: g.Unknown}
}

// reason is what an error says, without the name.
func reason(err error) string {
	var d *damaged
	if errors.As(err, &d) {
		return d.why
	}
	return err.Error()
}
