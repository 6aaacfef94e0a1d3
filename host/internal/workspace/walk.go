package workspace

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// Options say how to walk. The zero value is ready to use and sees no configuration of git outside the repository.
type Options struct {
	// Exclude are patterns as in a .gitignore at the root. They go before every ignore file and, unlike those,
	// also hold for tracked files; "!pattern" lists what an ignore file would hide.
	Exclude []string
	// Vendored asks for vendored trees as well.
	Vendored bool
	// Home is the home directory for ~/.gitconfig and the like; none are read when it is empty.
	Home string
	// XDGConfigHome replaces Home/.config.
	XDGConfigHome string
	// GlobalConfig is the user's configuration file, as GIT_CONFIG_GLOBAL names it: it stands for ~/.gitconfig and
	// the like, but not for the ignore file beside them. Those are read when it is empty.
	GlobalConfig string
	// SystemConfig is git's system-wide configuration file, usually /etc/gitconfig; none when it is empty.
	SystemConfig string
	// MaxFiles bounds the files listed; 0 for DefaultMaxFiles.
	MaxFiles int
	// MaxDepth bounds how many directories are nested, the root not counted; 0 for DefaultMaxDepth. A walk keeps
	// a descriptor open for each.
	MaxDepth int
}

// Bounds that hold unless Options say otherwise.
const (
	DefaultMaxFiles = 2_000_000
	DefaultMaxDepth = 512
)

// Walker walks one root, again and again; it remembers git's index between walks. It may be used concurrently and
// holds no resources.
type Walker struct {
	root  string
	opt   Options
	sys   system
	index indexCache
	files atomic.Int64 // listed by the last walk
}

// NewWalker returns a Walker for the directory root. Nothing is read yet.
func NewWalker(root string, opt Options) (*Walker, error) {
	abs, err := filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("workspace %q: %w", root, err)
	}
	if opt.MaxFiles <= 0 {
		opt.MaxFiles = DefaultMaxFiles
	}
	if opt.MaxDepth <= 0 {
		opt.MaxDepth = DefaultMaxDepth
	}
	opt.Exclude = slices.Clone(opt.Exclude)
	return &Walker{root: abs, opt: opt, sys: linux()}, nil
}

// Walk walks root once. See Walker.Walk.
func Walk(ctx context.Context, root string, opt Options) (*Manifest, error) {
	w, err := NewWalker(root, opt)
	if err != nil {
		return nil, err
	}
	return w.Walk(ctx)
}

// Walk lists the files that git would see. It fails only when the root cannot be read, or with ctx's error; whatever
// else goes wrong is in the manifest's Diagnostics and Incomplete. The root itself may be a symbolic link.
func (w *Walker) Walk(ctx context.Context) (*Manifest, error) {
	m, err := w.walk(ctx)
	if err != nil {
		return nil, fmt.Errorf("workspace %q: %w", w.root, err)
	}
	return m, nil
}

func (w *Walker) walk(ctx context.Context) (*Manifest, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	began := time.Now()
	fd, err := openat(unix.AT_FDCWD, w.root, unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	m := &Manifest{Root: w.root, WalkedAt: began.UnixNano()}
	if n := w.files.Load(); n > 0 {
		m.Files = make([]File, 0, n+n/32)
	}
	t := &traversal{
		sys: w.sys, opt: w.opt, m: m, index: &w.index,
		dents: make([]byte, 64<<10),
	}
	t.view = newView(w.root, w.opt, t.reportGit)
	t.exclude = parseRules([]byte(strings.Join(w.opt.Exclude, "\n")), t.view.conf.ignoreCase)
	t.rootLen = len(t.view.prefix())
	err = t.directory(ctx, dir{fd: fd, path: t.view.prefix(), rules: t.view.rules})
	if errors.Is(err, errFull) {
		t.lose("", CodeTooMany, fmt.Sprintf("the workspace holds more than %d files; the rest is not covered", w.opt.MaxFiles))
		err = nil
	}
	if err != nil {
		return nil, err
	}
	m.Took = time.Since(began)
	m.seal()
	w.files.Store(int64(len(m.Files)))
	return m, nil
}

// integrationDir is where the host keeps what it is about to integrate, and what
// it has replaced.
const integrationDir = ".sop-integration"

// errFull ends a traversal that has reached MaxFiles.
var errFull = errors.New("too many files")

// traversal is the state of one walk. Its paths start at the top of the repository around the root, where there is
// one, and those of directories end in a slash; only the manifest has them relative to the root.
type traversal struct {
	sys     system
	opt     Options
	m       *Manifest
	view    *view
	index   *indexCache
	exclude *ruleList
	rootLen int // of the root's own path

	tracked       trackedPaths
	trackedLoaded bool

	// Used by one directory at a time, before its children are visited.
	dents []byte
	names []byte
	spans []span
	st    unix.Stat_t

	levels [][]entry // by depth; reused
}

// span is an entry as it was read: its path in traversal.names.
type span struct {
	from, to int
	kind     uint8
}

// entry is something to list or to enter.
type entry struct {
	path        string
	kind        uint8
	trackedOnly bool // an ignored directory that holds tracked files
}

// dir is a directory under way. Whoever is given one closes fd.
type dir struct {
	fd          int
	path        string
	depth       int
	rules       *scope
	testdata    bool
	trackedOnly bool // it is ignored, but holds tracked files
}

// marks are the names in a directory that say something about it.
type marks struct {
	git, gitignore, virtualenv bool
}

// directory lists what is in d and below it. It returns errFull, ctx's error, or why the root could not be read.
func (t *traversal) directory(ctx context.Context, d dir) (err error) {
	defer func() {
		if cerr := unix.Close(d.fd); err == nil && cerr != nil {
			err = fmt.Errorf("close %q: %w", t.rel(d.path), cerr)
		}
	}()
	found, err := t.read(ctx, d)
	if err != nil {
		return err
	}
	if d.depth > 0 && t.skipMarked(d, found) {
		return nil
	}
	if found.gitignore && !d.trackedOnly {
		d.rules = d.rules.below(t.readIgnore(d), len(d.path))
	}
	return t.visit(ctx, d, t.choose(d))
}

// read fills names and spans. A directory below the root that cannot be read, or not to the end, is reported.
func (t *traversal) read(ctx context.Context, d dir) (found marks, err error) {
	t.names, t.spans = t.names[:0], t.spans[:0]
	for {
		if err := ctx.Err(); err != nil {
			return found, err
		}
		n, err := t.sys.getdents(d.fd, t.dents)
		if err != nil {
			return found, t.unreadable(d.path, d.depth, err)
		}
		if n == 0 {
			return found, nil
		}
		if len(t.spans) > t.opt.MaxFiles {
			t.lose(d.path, CodeTooMany, fmt.Sprintf("the directory has more than %d entries; the rest is not covered", t.opt.MaxFiles))
			return found, nil
		}
		dirents(t.dents[:n], func(name []byte, kind uint8) { t.note(d, name, kind, &found) })
	}
}

// note takes down one entry of d.
func (t *traversal) note(d dir, name []byte, kind uint8, found *marks) {
	switch string(name) {
	case ".git":
		found.git = true
		return
	case integrationDir:
		return
	case ".gitignore":
		found.gitignore = true
	case virtualenvMark:
		found.virtualenv = true
	}
	if kind == unix.DT_UNKNOWN {
		if err := t.sys.stat(d.fd, string(name), &t.st); err != nil {
			t.statFailed(d, err)
			return
		}
		kind = kindOf(t.st.Mode)
	}
	from := len(t.names)
	t.names = append(append(t.names, d.path...), name...)
	if kind == unix.DT_DIR {
		t.names = append(t.names, '/')
	}
	t.spans = append(t.spans, span{from, len(t.names), kind})
}

// skipMarked counts d when what is in it says that it is none of ours.
func (t *traversal) skipMarked(d dir, found marks) bool {
	switch {
	case found.git:
		t.m.Skipped.NestedRepos++
		return true
	case found.virtualenv && !t.opt.Vendored && maybeVirtualenv(base(d.path)):
		t.skipVendored(d.path)
		return true
	default:
		return false
	}
}

func (t *traversal) skipVendored(path string) {
	t.m.Skipped.VendoredDirs++
	if len(t.m.Skipped.Vendored) < MaxVendored {
		t.m.Skipped.Vendored = append(t.m.Skipped.Vendored, strings.Clone(t.rel(path)))
	}
}

// base is the last name of the path of a directory.
func base(path string) string {
	path = strings.TrimSuffix(path, "/")
	return path[strings.LastIndexByte(path, '/')+1:]
}

// readIgnore compiles the .gitignore in d. Like git it does not follow a link there.
func (t *traversal) readIgnore(d dir) *ruleList {
	const name = ".gitignore"
	fd, err := t.sys.openFile(d.fd, name)
	var data []byte
	if err == nil {
		data, err = readAndClose(os.NewFile(uintptr(fd), name), maxIgnoreFile)
	}
	if ignoreMissing(err) != nil {
		t.report(t.rel(d.path+name), CodeGit, "the ignore file cannot be read and is not applied: "+err.Error())
	}
	return parseRules(data, t.view.conf.ignoreCase)
}

// choose decides on what was read and returns, sorted, what is to be visited. The paths share one string.
func (t *traversal) choose(d dir) []entry {
	for len(t.levels) <= d.depth {
		t.levels = append(t.levels, nil)
	}
	entries := t.levels[d.depth][:0]
	all := string(t.names)
	size := 0
	for _, s := range t.spans {
		e := entry{path: all[s.from:s.to], kind: s.kind}
		if t.wanted(d, &e) {
			entries = append(entries, e)
			size += len(e.path)
		}
	}
	if size < len(all)/2 {
		repack(entries, size)
	}
	n := len(d.path)
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.path[n:], b.path[n:]) })
	t.levels[d.depth] = entries
	return entries
}

// repack moves the paths to a string of their own, so that the one they were cut from can go.
func repack(entries []entry, size int) {
	var b strings.Builder
	b.Grow(size)
	for _, e := range entries {
		b.WriteString(e.path)
	}
	rest := b.String()
	for i := range entries {
		n := len(entries[i].path)
		entries[i].path, rest = rest[:n], rest[n:]
	}
}

// wanted reports whether e, in d, is to be visited, and counts it otherwise. It sets e.trackedOnly.
func (t *traversal) wanted(d dir, e *entry) bool {
	isDir := e.kind == unix.DT_DIR
	path := strings.TrimSuffix(e.path, "/")
	name := path[len(d.path):]
	switch {
	case t.hidden(d, e, path):
		if isDir {
			t.m.Skipped.IgnoredDirs++
		} else {
			t.m.Skipped.IgnoredFiles++
		}
	case isDir && !t.opt.Vendored && vendored(name):
		t.skipVendored(e.path)
	case e.kind == unix.DT_LNK:
		t.m.Skipped.Symlinks++
		t.checkLink(d, path, name)
	case !printable(name):
		t.m.Skipped.BadNames++
		t.report(strconv.Quote(t.rel(e.path)), CodeBadName, "the name is not printable UTF-8; it is not listed")
	case !isDir && e.kind != unix.DT_REG:
		t.m.Skipped.Special++
		t.report(t.rel(e.path), CodeSpecial, "neither a file, a directory nor a link; it is not listed")
	default:
		return true
	}
	return false
}

// checkLink reports a link that leads in circles: to itself, by way of other links or not, or to a directory that it lies
// in. No link is followed, so this is for whoever's programs do.
func (t *traversal) checkLink(d dir, path, name string) {
	if !printable(name) {
		return
	}
	var st unix.Stat_t
	if err := unix.Fstatat(d.fd, name, &st, 0); errors.Is(err, unix.ELOOP) {
		t.report(t.rel(path), CodeLoop, "a link that leads back to itself; it is not followed")
		return
	}
	var target [unix.PathMax]byte
	n, err := unix.Readlinkat(d.fd, name, target[:])
	if err != nil || filepath.IsAbs(string(target[:n])) {
		return // gone, or away from here
	}
	here := filepath.Join("/", t.rel(d.path))
	to := filepath.Join(here, string(target[:n]))
	if to == here || strings.HasPrefix(here, strings.TrimSuffix(to, "/")+"/") {
		t.report(t.rel(path), CodeLoop, "a link to a directory that it lies in; it is not followed")
	}
}

// hidden decides by exclusions, ignore files and index; path is that of e without a directory's slash.
func (t *traversal) hidden(d dir, e *entry, path string) bool {
	isDir := e.kind == unix.DT_DIR
	v := undecided
	if t.exclude != nil {
		v = t.exclude.match(path[t.rootLen:], path[len(d.path):], isDir)
	}
	switch {
	case v == ignored:
		return true
	case d.trackedOnly:
		// Nothing below an ignored directory can be had back but by the index.
	case v == kept || d.rules.match(path, len(d.path), isDir) != ignored:
		return false
	}
	e.trackedOnly = true
	return !t.isTracked(e.path, isDir)
}

// isTracked reports whether path is in git's index or, for a directory, has something in it.
func (t *traversal) isTracked(path string, isDir bool) bool {
	if !t.trackedLoaded {
		t.trackedLoaded = true
		var err error
		if t.tracked, err = t.index.load(t.view); err != nil {
			t.reportGit(".git/index", err)
		}
	}
	if isDir {
		return t.tracked.hasBelow(path)
	}
	return t.tracked.has(path)
}

func printable(name string) bool {
	for i := range len(name) {
		if c := name[i]; c < ' ' || c >= 0x7f {
			return utf8.ValidString(name) && !strings.ContainsFunc(name, unicode.IsControl)
		}
	}
	return true
}

// visit lists the files among entries and enters the directories.
func (t *traversal) visit(ctx context.Context, d dir, entries []entry) error {
	for i, e := range entries {
		if i&0xff == 0xff {
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		if e.kind == unix.DT_DIR {
			if err := t.enter(ctx, d, e); err != nil {
				return err
			}
		} else if err := t.list(d, e); err != nil {
			return err
		}
	}
	return nil
}

// list adds a file. One that has gone since the directory was read is simply not there.
func (t *traversal) list(d dir, e entry) error {
	if err := t.sys.stat(d.fd, e.path[len(d.path):], &t.st); err != nil {
		t.statFailed(d, err)
		return nil
	}
	if kindOf(t.st.Mode) != unix.DT_REG {
		t.lose(e.path, CodeVanished, "it became something else during the walk")
		return nil
	}
	if len(t.m.Files) == t.opt.MaxFiles {
		return errFull
	}
	t.m.Files = append(t.m.Files, File{
		Path:     t.rel(e.path),
		Size:     t.st.Size,
		ModTime:  t.st.Mtim.Nano(),
		CTime:    t.st.Ctim.Nano(),
		Inode:    t.st.Ino,
		Mode:     t.st.Mode,
		Testdata: d.testdata,
	})
	return nil
}

// enter walks the directory e of d.
func (t *traversal) enter(ctx context.Context, d dir, e entry) error {
	if d.depth == t.opt.MaxDepth {
		t.lose(e.path, CodeTooDeep, fmt.Sprintf("directories are nested more than %d deep; it is not covered", t.opt.MaxDepth))
		return nil
	}
	name := e.path[len(d.path) : len(e.path)-1]
	fd, err := t.sys.openDir(d.fd, name)
	if err != nil {
		return t.unreadable(e.path, d.depth+1, err)
	}
	return t.directory(ctx, dir{
		fd: fd, path: e.path, depth: d.depth + 1, rules: d.rules,
		testdata:    d.testdata || name == "testdata",
		trackedOnly: e.trackedOnly,
	})
}

// unreadable takes note that a directory could not be read; for the root it is the error of the walk.
func (t *traversal) unreadable(path string, depth int, err error) error {
	if depth == 0 {
		return &fs.PathError{Op: "read directory", Path: ".", Err: err}
	}
	if gone(err) || errors.Is(err, unix.ELOOP) {
		t.lose(path, CodeVanished, "the directory vanished or was replaced during the walk; it is not covered")
	} else {
		t.lose(path, CodeUnreadable, "the directory cannot be read, what is below it is not covered: "+err.Error())
	}
	return nil
}

// statFailed takes note, once for a directory, that something in it could not be looked at.
func (t *traversal) statFailed(d dir, err error) {
	path := t.rel(d.path)
	if gone(err) || len(t.m.Incomplete) > 0 && t.m.Incomplete[len(t.m.Incomplete)-1] == path {
		return
	}
	t.lose(d.path, CodeUnreadable, "files in the directory cannot be examined, it is not covered: "+err.Error())
}

// lose marks what is at and below path as not covered.
func (t *traversal) lose(path string, code Code, message string) {
	rel := strings.Clone(t.rel(path))
	t.m.Incomplete = append(t.m.Incomplete, rel)
	t.report(rel, code, message)
}

// rel is path as the manifest has it.
func (t *traversal) rel(path string) string {
	if len(path) <= t.rootLen {
		return "."
	}
	return strings.TrimSuffix(path[t.rootLen:], "/")
}

func (t *traversal) report(path string, code Code, message string) {
	if len(t.m.Diagnostics) == MaxDiagnostics {
		t.m.DiagnosticsOmitted++
		return
	}
	t.m.Diagnostics = append(t.m.Diagnostics, Diagnostic{Path: strings.Clone(path), Code: code, Message: message})
}

func (t *traversal) reportGit(path string, err error) {
	t.report(path, CodeGit, err.Error())
}
