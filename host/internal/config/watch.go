package config

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

// A Watcher signals when the configuration may have changed: when the content
// of its files, or of the lock file beside them, is different from the last
// time it looked. It follows symbolic links and renames, so an editor that
// saves by renaming, a file that is deleted and comes back, and a Kubernetes
// ConfigMap that swaps its ..data link are noticed.
//
// Files that are read by the file function are not watched.
type Watcher struct {
	path     string // absolute
	debounce time.Duration
	changes  chan struct{}
	last     fingerprint
	follows  followed
}

// recheckEvery is how often the files are looked at without an event, for file
// systems that send none.
const recheckEvery = time.Minute

// NewWatcher returns a Watcher for the configuration file or directory at
// path, which need not exist. It holds nothing open until Run. A change is
// signalled once the files have been quiet for debounce, or after ten times as
// long when they never are.
//
// What is there now counts as known: create the Watcher before calling Load,
// and no change in between is lost.
func NewWatcher(path string, debounce time.Duration) (*Watcher, error) {
	if path == "" {
		return nil, errors.New("watch configuration: no path was given")
	}
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("watch configuration: %w", err)
	}
	w := &Watcher{
		path: absolute, debounce: max(debounce, time.Millisecond),
		changes: make(chan struct{}, 1),
		follows: followed{changed: make(chan struct{}, 1)},
	}
	w.last = fingerprintOf(absolute)
	return w, nil
}

// Changes returns the channel of signals, which is never closed. One signal
// stands for any number of changes since the last was received.
func (w *Watcher) Changes() <-chan struct{} { return w.changes }

// Run watches until ctx is done, then returns nil with everything it started
// ended. It returns an error when nothing can be watched, as when the system
// is out of inotify instances. It must not run twice at once, but may be run
// again.
func (w *Watcher) Run(ctx context.Context) error {
	if err := watchRoute(ctx, w.route, w.debounce, w.follows.changed, w.check); err != nil {
		return fmt.Errorf("watch configuration: %w", err)
	}
	return nil
}

// WatchFiles calls look at once, and whenever the files may have changed: once
// they have been quiet for debounce, and every minute. It follows symbolic links
// and renames as a [Watcher] does. It runs until ctx is done; an error says that
// nothing can be watched.
func WatchFiles(ctx context.Context, files []string, debounce time.Duration, look func()) error {
	paths := make([]string, len(files))
	for i, file := range files {
		var err error
		if paths[i], err = filepath.Abs(file); err != nil {
			return fmt.Errorf("watch files: %w", err)
		}
	}
	to := func() route {
		r := route{dirs: make(map[string]bool), entries: make(map[string]bool)}
		for _, path := range paths {
			r.follow(path)
		}
		return r
	}
	if err := watchRoute(ctx, to, debounce, nil, look); err != nil {
		return fmt.Errorf("watch files: %w", err)
	}
	return nil
}

// watchRoute calls look at once, and whenever something on the way may have
// changed, or other tells so. The way is found anew each time.
func watchRoute(ctx context.Context, to func() route, debounce time.Duration, other <-chan struct{}, look func()) (err error) {
	events, err := fsnotify.NewWatcher()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, events.Close()) }()
	on, err := arm(events, to)
	if err != nil {
		return err
	}
	look()

	quiet := newQuietTimer(debounce)
	defer quiet.stop()
	recheck := time.NewTicker(recheckEvery)
	defer recheck.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case event, open := <-events.Events:
			if !open {
				return errSourceEnded
			}
			if on.relevant(event.Name) {
				quiet.start()
			}
		case _, open := <-events.Errors: // an overflow: events were lost, so look
			if !open {
				return errSourceEnded
			}
			quiet.start()
		case <-recheck.C:
			quiet.start()
		case <-other:
			quiet.start()
		case <-quiet.timer.C:
			quiet.fired()
			// What cannot be watched any more is still looked at.
			if next, err := arm(events, to); err == nil {
				on = next
			}
			look()
		}
	}
}

var errSourceEnded = errors.New("the event source ended")

// check signals if the files differ from the last time.
func (w *Watcher) check() {
	now := fingerprintOf(w.path)
	if beside := w.follows.check(); now == w.last && !beside {
		return
	}
	w.last = now
	select {
	case w.changes <- struct{}{}:
	default: // one is waiting already
	}
}

// arm watches every directory on the way to the files. The way may change
// while it is followed, so it is followed until it stays the same. Watching a
// directory again does nothing, or replaces a watch on one that was deleted.
func arm(events *fsnotify.Watcher, to func() route) (route, error) {
	const mostRounds = 8
	current := to()
	for range mostRounds {
		failed := 0
		var failure error
		for _, dir := range sortedKeys(current.dirs) {
			if err := events.Add(dir); err != nil {
				failed++
				failure = err
			}
		}
		if failed == len(current.dirs) {
			return current, failure
		}
		next := to()
		if failed == 0 && next.equal(current) {
			break
		}
		current = next
	}
	for _, dir := range events.WatchList() {
		if !current.dirs[dir] {
			_ = events.Remove(dir) // it may have gone by itself
		}
	}
	return current, nil
}

// quietTimer fires when nothing has started it for a while, and at the latest
// ten times that after the first start.
type quietTimer struct {
	timer *time.Timer
	quiet time.Duration
	first time.Time // of the starts since it last fired
}

func newQuietTimer(quiet time.Duration) *quietTimer {
	q := &quietTimer{timer: time.NewTimer(time.Hour), quiet: quiet}
	q.timer.Stop()
	return q
}

func (q *quietTimer) start() {
	now := time.Now()
	if q.first.IsZero() {
		q.first = now
	}
	latest := q.first.Add(10 * q.quiet)
	q.timer.Reset(max(0, min(q.quiet, latest.Sub(now))))
}

func (q *quietTimer) fired() { q.first = time.Time{} }

func (q *quietTimer) stop() { q.timer.Stop() }

// A route is the way through the file system to the configuration: the
// directories to watch, and the entries in them whose change matters.
type route struct {
	dirs      map[string]bool
	entries   map[string]bool
	extension string // of files beside the configuration that matter too
}

// route is the way to everything that is watched.
func (w *Watcher) route() route {
	r := routeTo(w.path)
	w.follows.extend(&r)
	return r
}

// routeTo follows path, and what it finds there, through every symbolic link.
// Where something is missing, the route ends at what does exist, so that its
// creation is seen.
func routeTo(path string) route {
	r := route{dirs: make(map[string]bool), entries: make(map[string]bool)}
	files, isDir, err := configFiles(path)
	if err == nil && isDir {
		r.follow(filepath.Join(path, LockFileName))
		for _, file := range files[:min(len(files), maxFileCount)] {
			r.follow(file)
		}
	}
	r.follow(path)
	return r
}

// follow adds the way to path. Directories are watched by their real paths.
func (r route) follow(path string) {
	const mostLinks = 40
	rest := split(path)
	current, links := "/", 0
	for len(rest) > 0 {
		next := filepath.Join(current, rest[0])
		info, err := os.Lstat(next)
		if err != nil || len(rest) == 1 || info.Mode()&os.ModeSymlink != 0 {
			r.dirs[current], r.entries[next] = true, true
		}
		if err != nil {
			return
		}
		if info.Mode()&os.ModeSymlink == 0 {
			current, rest = next, rest[1:]
			continue
		}
		target, err := os.Readlink(next)
		if links++; err != nil || links > mostLinks {
			return
		}
		if filepath.IsAbs(target) {
			current = "/"
		}
		rest = append(split(target), rest[1:]...)
	}
	if info, err := os.Lstat(current); err == nil && info.IsDir() {
		r.dirs[current] = true
	}
}

// split returns the elements of a path.
func split(path string) []string {
	return strings.FieldsFunc(path, func(c rune) bool { return c == '/' })
}

func (r route) equal(other route) bool {
	return fmt.Sprint(r) == fmt.Sprint(other) // maps print in order
}

// relevant reports whether an event for this path can mean a change: it is on
// the route, could be a configuration file, or is a ConfigMap's link.
func (r route) relevant(path string) bool {
	name := filepath.Base(path)
	if r.extension != "" && strings.HasSuffix(name, r.extension) {
		return true
	}
	return r.entries[path] || isConfigName(name) || name == LockFileName || strings.HasPrefix(name, "..")
}

// A fingerprint is a hash over the names and contents of the files.
type fingerprint [sha256.Size]byte

// fingerprintOf reads what Load would read, and the lock file. That something
// cannot be read is part of the fingerprint too.
func fingerprintOf(path string) fingerprint {
	hash := sha256.New()
	add := func(parts ...string) {
		for _, part := range parts {
			_, _ = fmt.Fprintf(hash, "%d:%s", len(part), part) // a hash never fails
		}
	}
	files, isDir, err := configFiles(path)
	if err != nil {
		add("error", err.Error())
	}
	dir := filepath.Dir(path)
	if isDir {
		dir = path
	}
	files = append(files[:min(len(files), maxFileCount):len(files)], filepath.Join(dir, LockFileName))
	for _, file := range files {
		content, err := readRegular(file, maxFileSize)
		if err != nil {
			add(file, "error", err.Error())
			continue
		}
		add(file, "content", string(content))
	}
	return fingerprint(hash.Sum(nil))
}
