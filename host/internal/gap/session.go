package gap

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"strings"
	"sync"

	"github.com/sop-host/sop/host/internal/workspace"
	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
)

// session is what is remembered of a workspace between scans. Whoever has taken
// its turn owns the rest.
type session struct {
	turn       chan struct{} // holds one value while nobody scans
	detectors  map[string]*held
	configured []string // as of the last scan; gaps of others are resolved
}

// held is what one detector holds since its last completed scan.
type held struct {
	generation string
	rules      string              // digest of the rules, and of which were asked for
	revision   string              // of the manifest, as it was told
	base       *workspace.Manifest // to compare the next one with
	retry      []string            // paths that could not be read then
	// What the scans so far said about files that have not changed since.
	diagnostics diagnostics
	skipped     map[string]int64
}

// sessions holds the session of every workspace, by name.
type sessions struct {
	mu sync.Mutex
	by map[string]*session
}

func (s *sessions) get(workspace string) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.by == nil {
		s.by = make(map[string]*session)
	}
	if s.by[workspace] == nil {
		s.by[workspace] = &session{turn: make(chan struct{}, 1), detectors: make(map[string]*held)}
		s.by[workspace].turn <- struct{}{}
	}
	return s.by[workspace]
}

func (s *sessions) forget(workspace string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.by, workspace)
}

// plan is what a detector is sent.
type plan struct {
	base    string           // revision that it is relative to; empty: the whole manifest
	changed []workspace.File // sorted by path
	removed []string         // sorted
}

func (p *plan) whole() bool { return p.base == "" }

// nothing says that the detector need not be asked.
func (p *plan) nothing() bool { return !p.whole() && len(p.changed) == 0 && len(p.removed) == 0 }

// planFor compares what the detector holds, nil for nothing, with the manifest.
func planFor(h *held, now *workspace.Manifest) plan {
	if h == nil {
		return plan{changed: now.Files}
	}
	p := plan{base: h.revision}
	if h.base.Revision != now.Revision {
		changes := workspace.Compare(h.base, now)
		p.removed = changes.Removed
		p.addFiles(now, changes.Added)
		p.addFiles(now, changes.Modified)
	}
	p.addFiles(now, h.retry)
	slices.SortFunc(p.changed, func(a, b workspace.File) int { return cmp.Compare(a.Path, b.Path) })
	p.changed = slices.CompactFunc(p.changed, func(a, b workspace.File) bool { return a.Path == b.Path })
	return p
}

func (p *plan) addFiles(m *workspace.Manifest, paths []string) {
	for _, path := range paths {
		if f, ok := m.File(path); ok {
			p.changed = append(p.changed, f)
		}
	}
}

// gone returns what the plan removed: files, and directories that have no file
// any more.
func (p *plan) gone(now *workspace.Manifest) []string {
	var out []string
	seen := make(map[string]bool)
	for _, file := range p.removed {
		out = append(out, file)
		for dir := parent(file); dir != "." && !seen[dir]; dir = parent(dir) {
			seen[dir] = true
			if !isThere(now, dir) {
				out = append(out, dir)
			}
		}
	}
	return out
}

func parent(p string) string {
	i := strings.LastIndexByte(p, '/')
	if i < 0 {
		return "."
	}
	return p[:i]
}

// isThere says whether path is a file of the workspace, or a directory with
// one. The root always is.
func isThere(m *workspace.Manifest, path string) bool {
	return path == "." || m.Has(path) || len(m.Under(path)) > 0
}

// digest identifies a list of rules and the choice among them.
func digest(rules []*pluginv1.Rule, chosen []string) string {
	h := sha256.New()
	write := func(s string) {
		var size [8]byte
		binary.LittleEndian.PutUint64(size[:], uint64(len(s)))
		h.Write(size[:])
		h.Write([]byte(s))
	}
	for _, r := range rules {
		write(r.GetId())
		write(r.GetVersion())
	}
	write("chosen")
	for _, id := range chosen {
		write(id)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// carry keeps of what was held whatever is about files that were not sent.
func (h *held) carry(p *plan, exists func(string) bool) diagnostics {
	var kept diagnostics
	if h == nil || p.whole() {
		return kept
	}
	sent := make(map[string]bool, len(p.changed))
	for _, f := range p.changed {
		sent[f.Path] = true
	}
	for _, d := range h.diagnostics.list {
		if d.Path == "" || !sent[d.Path] && exists(d.Path) {
			kept.add(d)
		}
	}
	kept.omitted += h.diagnostics.omitted
	return kept
}
