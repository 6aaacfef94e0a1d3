// Package workspace lists the files of a governed tree the way git sees it, and says what changed since the last time.
//
// It is a leaf and knows nothing of the host. The composition root (startup) and the scan code that feeds detector
// plugins may import it.
//
// # What is listed
//
// A Walker yields a Manifest of the regular files that "git ls-files --cached --others --exclude-standard" would name,
// tracked files that an ignore file covers included (git's index is read when something is ignored, and kept for as
// long as it does not change). Ignore rules come, the first decision standing, from Options.Exclude, the .gitignore
// of the directory and of those above it, info/exclude, and core.excludesFile or its default. A root inside a
// repository obeys the rules of that repository, unless it ignores the root; a tree outside any repository is walked
// by its own .gitignore files and the user's. Names are matched as bytes and, with core.ignoreCase, without regard to
// the case of A to Z.
//
// On purpose it differs from git in these: symbolic links, special files, names that are not printable UTF-8, vendored
// trees, anything called .git and nested repositories (any directory with a .git in it) are not listed even when they
// are tracked. Files that are tracked but not on disk are not listed.
//
// Not supported: a split index (tracked files that are ignored are then left out, with a diagnostic), includeIf in
// git's configuration, "~user/" and "%(prefix)/" paths there, and configuration in the environment or in
// config.worktree.
//
// # What is promised
//
// Nothing outside the root is listed, even when directories are swapped for links in mid-walk: every directory is
// opened relative to its parent's descriptor and without following links. File contents are never read, those of
// .gitignore files excepted. Outside the root, git's configuration and excludes files are read, and ignore files and
// index of the repository around the root or of that which its .git file points to.
//
// What could not be read is never mistaken for what is not there: see Manifest.Incomplete, Compare and Baseline.
//
// A walk is one goroutine and about one system call for each file. It keeps a descriptor open for each directory on
// the way down.
package workspace
