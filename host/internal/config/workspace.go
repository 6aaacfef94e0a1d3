package config

import (
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"strings"
	"time"
)

// A Workspace is a governed tree on disk. That it exists is for whoever opens
// it to check: it may appear after the configuration is loaded.
type Workspace struct {
	Name        string
	Path        string // absolute
	Scan        Scan
	Integration Integration
	Verify      []VerifyStep `json:",omitempty"` // in order; none for what suits the tree
	Protect     []string     `json:",omitempty"` // patterns of files that judge patches, beside the usual ones
	Source      Range
	PathSource  Range // the attribute
}

// Scan says when and how a workspace is looked over for gaps.
type Scan struct {
	OnStart     bool
	Interval    time.Duration // zero: only on start and on request
	Timeout     time.Duration
	Exclude     []string // gitignore-style patterns
	MaxFileSize int64    // bytes; larger files are reported and not read
}

var (
	workspaceAttributes = []string{"path", "protect"}
	workspaceBlocks     = []string{"scan", "integration", "verify"}
	scanAttributes      = []string{"on_start", "interval", "exclude", "timeout", "max_file_size"}

	intervalBounds    = bounds{low: time.Second, high: 366 * 24 * time.Hour, orZero: true}
	scanTimeoutBounds = bounds{low: time.Second, high: 7 * 24 * time.Hour}
)

const (
	defaultMaxFileSize = 4 << 20
	greatestFileSize   = 1 << 30
)

// readWorkspace reads a workspace block that has its one label.
func readWorkspace(r *reporter, b *block, dir string) Workspace {
	s := section{reporter: r, dir: dir}.within(b)
	r.nameLabel(b, 0)
	r.allow(b, workspaceAttributes, workspaceBlocks)
	s.require("path")
	w := Workspace{Name: b.labels[0], Path: s.path("path", ""), Source: publicRange(b.header), PathSource: b.attributeRange("path")}
	scan := r.single(b, "scan")
	if scan != nil {
		r.allow(scan, scanAttributes, nil)
	}
	w.Scan = readScan(s.within(scan))
	w.Verify, w.Protect = s.readVerifySteps(b), s.texts("protect", checkProtect)
	integration := r.single(b, "integration")
	if integration != nil {
		r.allow(integration, integrationAttributes, nil)
	}
	w.Integration = readIntegration(s.within(integration))
	return w
}

func readScan(s section) Scan {
	return Scan{
		OnStart:     s.boolean("on_start", true),
		Interval:    s.duration("interval", 0, intervalBounds),
		Timeout:     s.duration("timeout", 15*time.Minute, scanTimeoutBounds),
		Exclude:     s.texts("exclude", checkPattern),
		MaxFileSize: s.size("max_file_size", defaultMaxFileSize, greatestFileSize),
	}
}

// checkPattern refuses a gitignore-style pattern that can match nothing.
func checkPattern(pattern string) error {
	body := strings.Trim(strings.TrimPrefix(pattern, "!"), "/")
	switch {
	case strings.TrimSpace(body) == "":
		return errors.New("a pattern must not be empty")
	case strings.ContainsAny(pattern, "\r\n"):
		return errors.New("a pattern must be on one line")
	}
	for part := range strings.SplitSeq(body, "/") {
		if _, err := path.Match(part, ""); err != nil {
			return fmt.Errorf("%q is not a pattern: a bracket or a backslash is left open", pattern)
		}
	}
	return nil
}

// samePath returns what two paths to one directory have in common: the path
// without symbolic links, as far as it exists.
func samePath(path string) string {
	if resolved, err := filepath.EvalSymlinks(path); err == nil {
		return resolved
	}
	return path
}
