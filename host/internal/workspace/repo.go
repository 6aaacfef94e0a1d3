package workspace

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// repository is the git repository that a walked root is, or is part of.
type repository struct {
	top       string // of the work tree
	prefix    string // from top to the root: "" or "a/b/"
	gitDir    string // holds the index
	commonDir string // holds config and info/exclude; gitDir except in a linked work tree
}

// findRepository looks for the repository of root as git does: upwards, within the file system. It returns nil when
// there is none.
func findRepository(root string) *repository {
	root, err := filepath.EvalSymlinks(root)
	if err != nil {
		return nil
	}
	var first, here unix.Stat_t
	if err := unix.Stat(root, &first); err != nil {
		return nil
	}
	for top := root; ; {
		if gitDir := gitDirOf(top); gitDir != "" {
			r := &repository{top: top, gitDir: gitDir, commonDir: commonDirOf(gitDir)}
			if root != top {
				r.prefix = strings.TrimPrefix(strings.TrimPrefix(root, top), "/") + "/"
			}
			return r
		}
		parent := filepath.Dir(top)
		if err := unix.Stat(parent, &here); parent == top || err != nil || here.Dev != first.Dev {
			return nil
		}
		top = parent
	}
}

// gitDirOf returns the git directory of the work tree at top, "" when there is none.
func gitDirOf(top string) string {
	dir := filepath.Join(top, ".git")
	if data, err := readRegular(dir); err == nil {
		target, ok := strings.CutPrefix(strings.TrimRight(string(data), "\r\n"), "gitdir: ")
		if !ok {
			return ""
		}
		dir = resolve(top, target)
	}
	if _, err := os.Lstat(filepath.Join(dir, "HEAD")); err != nil {
		return ""
	}
	return dir
}

func commonDirOf(gitDir string) string {
	data, err := readRegular(filepath.Join(gitDir, "commondir"))
	if err != nil {
		return gitDir
	}
	return resolve(gitDir, strings.TrimRight(string(data), "\r\n"))
}

func resolve(base, path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(base, path)
}

// view is what git would go by at the root of a walk.
type view struct {
	repo  *repository // nil outside a repository
	conf  gitConfig
	rules *scope // what holds at the root, the root's own .gitignore excepted
}

func (v *view) prefix() string {
	if v.repo == nil {
		return ""
	}
	return v.repo.prefix
}

// newView reads configuration and ignore files. What could not be read is reported and left out.
func newView(root string, opt Options, report func(path string, err error)) *view {
	v := &view{repo: findRepository(root)}
	v.configure(opt, report)
	v.readRules(root, opt, report)
	if v.repo != nil && v.rootIgnored() {
		// Whoever governs a tree that the repository around it ignores means the tree on its own.
		v.repo = nil
		v.conf = gitConfig{}
		v.configure(opt, report)
		v.readRules(root, opt, report)
	}
	return v
}

func (v *view) configure(opt Options, report func(string, error)) {
	files := append([]string{opt.SystemConfig}, opt.userConfigs()...)
	if v.repo != nil {
		files = append(files, filepath.Join(v.repo.commonDir, "config"))
	}
	for _, file := range files {
		if file == "" {
			continue
		}
		if err := v.conf.load(file, opt.Home); err != nil {
			report(file, err)
		}
	}
}

func (v *view) readRules(root string, opt Options, report func(string, error)) {
	top := root
	if v.repo != nil {
		top = v.repo.top
	}
	v.rules = nil
	read := func(file string, base int) {
		data, err := readRegular(file)
		if ignoreMissing(err) != nil {
			report(file, err)
		}
		v.rules = v.rules.below(parseRules(data, v.conf.ignoreCase), base)
	}
	switch {
	case v.conf.excludesFile != "":
		read(resolve(top, v.conf.excludesFile), 0)
	case !v.conf.excludesFileSet && opt.xdgGitDir() != "":
		read(filepath.Join(opt.xdgGitDir(), "ignore"), 0)
	}
	if v.repo == nil {
		return
	}
	read(filepath.Join(v.repo.commonDir, "info", "exclude"), 0)
	for i, c := range v.repo.prefix {
		if i == 0 {
			read(filepath.Join(top, ".gitignore"), 0)
		}
		if above := v.repo.prefix[:i+1]; c == '/' && above != v.repo.prefix {
			read(filepath.Join(top, above, ".gitignore"), len(above))
		}
	}
}

// rootIgnored reports whether the repository around the root ignores it, or a directory it is in.
func (v *view) rootIgnored() bool {
	nameAt := 0
	for i, c := range v.repo.prefix {
		if c != '/' {
			continue
		}
		path := v.repo.prefix[:i]
		if v.rulesAbove(nameAt).match(path, nameAt, true) == ignored {
			return true
		}
		nameAt = i + 1
	}
	return false
}

// rulesAbove are the rules that hold in the directory whose path with its slash is n long.
func (v *view) rulesAbove(n int) *scope {
	s := v.rules
	for s != nil && s.base > n {
		s = s.parent
	}
	return s
}

// userConfigs are the files of the user's configuration, in the order in which git reads them.
func (o Options) userConfigs() []string {
	if o.GlobalConfig != "" {
		return []string{o.GlobalConfig}
	}
	var files []string
	if dir := o.xdgGitDir(); dir != "" {
		files = append(files, filepath.Join(dir, "config"))
	}
	if o.Home != "" {
		files = append(files, filepath.Join(o.Home, ".gitconfig"))
	}
	return files
}

// xdgGitDir is where git keeps its per-user files, "" when Options name no home.
func (o Options) xdgGitDir() string {
	switch {
	case o.XDGConfigHome != "":
		return filepath.Join(o.XDGConfigHome, "git")
	case o.Home != "":
		return filepath.Join(o.Home, ".config", "git")
	default:
		return ""
	}
}

// indexCache keeps the tracked paths for as long as the index file stays the same. It may be used concurrently.
type indexCache struct {
	mu      sync.Mutex
	stamp   indexStamp
	tracked trackedPaths
}

// indexStamp tells index files apart; git replaces the file to change it.
type indexStamp struct {
	path         string
	dev, inode   uint64
	size         int64
	mtime, ctime int64
}

// load returns the paths in the index of v's repository; none when there is no repository or no index yet.
func (c *indexCache) load(v *view) (trackedPaths, error) {
	if v.repo == nil {
		return nil, nil
	}
	path := filepath.Join(v.repo.gitDir, "index")
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return nil, ignoreMissing(&fs.PathError{Op: "stat", Path: path, Err: err})
	}
	stamp := indexStamp{path, st.Dev, st.Ino, st.Size, st.Mtim.Nano(), st.Ctim.Nano()}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stamp == stamp {
		return c.tracked, nil
	}
	data, err := readLimited(path, maxIndexFile)
	if err != nil {
		return nil, ignoreMissing(err)
	}
	hashLen := 20
	if v.conf.sha256 {
		hashLen = 32
	}
	tracked, err := parseIndex(data, hashLen)
	if err != nil {
		return nil, errors.Join(errors.New("tracked files that are ignored will not be listed"), err)
	}
	c.stamp, c.tracked = stamp, tracked
	return tracked, nil
}
