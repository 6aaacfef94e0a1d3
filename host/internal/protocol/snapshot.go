package protocol

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
)

// snapshots keeps payloads and results as files: one directory for each protocol,
// in it one for each day, in it request-id.request.json and
// request-id.result.json. All are readable by the owner only. nil keeps none.
type snapshots struct {
	root   *os.Root
	logger hclog.Logger
}

// pruneEvery is how often what is too old, or too much, is removed.
const pruneEvery = 10 * time.Minute

func newSnapshots(dir string) (*snapshots, error) {
	if dir == "" {
		return nil, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make directory for payloads: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open directory for payloads: %w", err)
	}
	return &snapshots{root: root}, nil
}

func (s *snapshots) close() error {
	if s == nil {
		return nil
	}
	return s.root.Close()
}

// keep stores the payload of a call where the configuration asks for it and
// returns where: the name without ".request.json". A payload that cannot be kept
// does not hold up the call: it is reported.
func (s *Service) keep(set *Settings, c *Call) string {
	if s.shots == nil || set.Snapshots == nil || len(set.Snapshots.Operations) > 0 && !slices.Contains(set.Snapshots.Operations, c.Operation) {
		return ""
	}
	name := path.Join(set.Name, time.Now().UTC().Format(time.DateOnly), c.RequestID)
	err := s.shots.write(name+".request.json", c.Payload)
	if err != nil {
		s.snapshotFailed(set.Name, err)
		return ""
	}
	return name
}

func (s *Service) snapshotFailed(name string, err error) {
	s.opt.Logger.Error("a payload could not be kept", "protocol", name, "error", err)
	if s.opt.Maintenance == nil {
		return
	}
	ctx, cancel := context.WithTimeout(s.ctx, statusTimeout)
	defer cancel()
	err = s.opt.Maintenance.File(ctx, Subsystem(name)+".payloads", "Payloads of protocol "+name+" cannot be kept: "+err.Error(),
		"make room on the file system, or take the payloads block out of the protocol", "medium")
	if err != nil {
		s.opt.Logger.Error("maintenance of payload snapshots could not be asked for", "error", err)
	}
}

// answer stores the result beside the payload at name, if there is one.
func (s *snapshots) answer(name string, result []byte) {
	if s == nil || name == "" {
		return
	}
	if err := s.write(name+".result.json", result); err != nil && s.logger != nil {
		s.logger.Error("a result could not be kept", "snapshot", name, "error", err)
	}
}

// write makes a file that was not there.
func (s *snapshots) write(name string, content []byte) error {
	if err := s.root.MkdirAll(path.Dir(name), 0o700); err != nil {
		return err
	}
	f, err := s.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Close())
}

// keepSnapshots removes what is too old or too much, until ctx is done.
func (s *Service) keepSnapshots(ctx context.Context) {
	if s.shots == nil {
		return
	}
	s.shots.logger = s.opt.Logger
	tick := time.NewTicker(pruneEvery)
	defer tick.Stop()
	for {
		s.pruneSnapshots(time.Now())
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// pruneSnapshots keeps every protocol to its bounds, oldest first. What is there
// of a protocol that is no longer configured stays.
func (s *Service) pruneSnapshots(now time.Time) {
	s.mu.RLock()
	var bounds []*Settings
	for _, p := range s.peers {
		if set := p.set.Load(); set.Snapshots != nil {
			bounds = append(bounds, set)
		}
	}
	s.mu.RUnlock()
	for _, set := range bounds {
		if err := s.shots.prune(set.Name, set.Snapshots, now); err != nil {
			s.opt.Logger.Error("payloads could not be removed", "protocol", set.Name, "error", err)
		}
	}
}

type snapshotFile struct {
	name string
	at   time.Time
	size int64
}

func (s *snapshots) prune(protocol string, keep *Snapshots, now time.Time) error {
	files, total, err := s.files(protocol)
	if err != nil {
		return err
	}
	slices.SortFunc(files, func(a, b snapshotFile) int { return cmp.Or(a.at.Compare(b.at), strings.Compare(a.name, b.name)) })
	var failed []error
	for _, f := range files {
		if now.Sub(f.at) < keep.Keep && total <= keep.MaxTotal {
			break
		}
		total -= f.size
		failed = append(failed, s.root.Remove(f.name))
	}
	return errors.Join(append(failed, s.removeEmpty(protocol))...)
}

func (s *snapshots) files(protocol string) (files []snapshotFile, total int64, err error) {
	err = fs.WalkDir(s.root.FS(), protocol, func(name string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		files = append(files, snapshotFile{name, info.ModTime(), info.Size()})
		total += info.Size()
		return nil
	})
	return files, total, err
}

// removeEmpty removes the directories of days of which nothing is left.
func (s *snapshots) removeEmpty(protocol string) error {
	days, err := fs.ReadDir(s.root.FS(), protocol)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	today := time.Now().UTC().Format(time.DateOnly)
	for _, d := range days {
		if d.Name() >= today {
			continue
		}
		if rest, readErr := fs.ReadDir(s.root.FS(), path.Join(protocol, d.Name())); readErr == nil && len(rest) == 0 {
			err = errors.Join(err, s.root.Remove(path.Join(protocol, d.Name())))
		}
	}
	return err
}
