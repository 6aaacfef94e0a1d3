package startup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/timeline"
	"github.com/sop-host/sop/sdk"
)

// keptBoots is how many activation timelines are kept.
const keptBoots = 20

func (d dataDir) boots() string { return d.join("logs", "boots") }

// newBoot opens the timeline of this boot and forgets those of long ago. What
// logs/activation.jsonl names is always the latest.
func newBoot(dir dataDir) (*os.File, error) {
	if err := os.MkdirAll(dir.boots(), 0o700); err != nil {
		return nil, err
	}
	name := time.Now().UTC().Format("20060102T150405.000Z") + ".jsonl"
	file, err := os.OpenFile(filepath.Join(dir.boots(), name), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	link := dir.timeline()
	if err := os.Remove(link); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, errors.Join(err, file.Close())
	}
	if err := os.Symlink(filepath.Join("boots", name), link); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	all, err := bootFiles(dir)
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	for _, old := range all[:max(0, len(all)-keptBoots)] {
		if err := os.Remove(old); err != nil {
			return nil, errors.Join(err, file.Close())
		}
	}
	return file, nil
}

// bootFiles returns the timelines that are kept, oldest first.
func bootFiles(dir dataDir) ([]string, error) {
	all, err := filepath.Glob(filepath.Join(dir.boots(), "*.jsonl"))
	slices.Sort(all)
	return all, err
}

// Boot is the activation timeline of one boot.
type Boot struct {
	Name  string          `json:"name"`
	Steps []timeline.Step `json:"-"`
}

// ReadBoot reads one: which is a name, the beginning of one, a file, or a number
// that counts back from 0, the latest.
func ReadBoot(dir, which string) (*Boot, error) {
	path, err := findBoot(dataDir(dir), which)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	steps, err := timeline.Read(f)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &Boot{Name: bootName(path), Steps: steps}, nil
}

func bootName(path string) string { return strings.TrimSuffix(filepath.Base(path), ".jsonl") }

func findBoot(dir dataDir, which string) (string, error) {
	if strings.ContainsRune(which, filepath.Separator) {
		return which, nil
	}
	all, err := bootFiles(dir)
	if err != nil {
		return "", err
	}
	slices.Reverse(all)
	var back int
	if n, err := fmt.Sscanf(which, "%d", &back); n == 1 && err == nil && len(which) < 4 && back >= 0 && back < len(all) {
		return all[back], nil
	}
	var names []string
	for _, path := range all {
		if which != "" && strings.HasPrefix(bootName(path), which) {
			return path, nil
		}
		names = append(names, bootName(path))
	}
	return "", sdk.Errorf(codes.NotFound, "BOOT_UNKNOWN", "there is no boot %q in %s", which, dir.boots()).
		WithRemedy("the boots that are kept, latest first: %s", strings.Join(names, ", "))
}
