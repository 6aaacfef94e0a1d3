package main

import (
	"errors"
	"path/filepath"

	"github.com/sop-host/sop/plugins/internal/limits"
	"github.com/sop-host/sop/sdk"
)

const (
	defaultKeepLast    = 200
	defaultKeepWithin  = "2160h"
	defaultMinFree     = "16MiB"
	defaultMaxFileSize = "16GiB"
	defaultMaxSize     = "64GiB"
	defaultMaxFiles    = 1_000_000
)

// schema of the plugin's `config { }` block.
var schema = sdk.Schema{
	Attributes: []sdk.Attribute{
		{Name: "directory", Type: sdk.String, Description: "Absolute directory of the repository; `repository` in the plugin's lasting directory unless said otherwise."},
		{Name: "compression", Type: sdk.String, Default: "none", Description: "none or gzip. It concerns what is saved from now on."},
		{Name: "keep_last", Type: sdk.Number, Default: defaultKeepLast, Description: "Snapshots that are kept whatever their age; 0: none."},
		{Name: "keep_within", Type: sdk.String, Default: defaultKeepWithin, Description: "Snapshots younger than this are kept, such as 720h; with 0s and keep_last 0 everything is."},
		{Name: "group_by", Type: sdk.StringList, Default: []string{"workspace"}, Description: "Labels whose values, with the root, make a set; the last good snapshot of each set is kept."},
		{Name: "min_free", Type: sdk.String, Default: defaultMinFree, Description: "Space that a save must leave free on the disk of the repository."},
		{Name: "max_file_size", Type: sdk.String, Default: defaultMaxFileSize, Description: "Greatest file, holes not counted; a larger one is a failure of its path."},
		{Name: "max_size", Type: sdk.String, Default: defaultMaxSize, Description: "Greatest snapshot, holes not counted; a larger one is refused."},
		{Name: "max_files", Type: sdk.Number, Default: defaultMaxFiles, Description: "Most paths in a snapshot; one with more is refused."},
	},
}

// settings is the configuration in use.
type settings struct {
	directory   string
	compress    bool
	retention   limits.Retention
	minFree     int64 // bytes, as the following
	maxFileSize int64
	maxSize     int64
	maxFiles    int
}

// block is the decoded `config { }`.
type block struct {
	Directory   string   `json:"directory"`
	Compression string   `json:"compression"`
	KeepLast    int      `json:"keep_last"`
	KeepWithin  string   `json:"keep_within"`
	GroupBy     []string `json:"group_by"`
	MinFree     string   `json:"min_free"`
	MaxFileSize string   `json:"max_file_size"`
	MaxSize     string   `json:"max_size"`
	MaxFiles    int      `json:"max_files"`
}

// decode reads a configuration. What is wrong with it comes as one or more
// [sdk.ConfigError].
func decode(c *sdk.Config) (*settings, error) {
	b := block{
		Compression: "none", KeepLast: defaultKeepLast, KeepWithin: defaultKeepWithin, GroupBy: []string{"workspace"},
		MinFree: defaultMinFree, MaxFileSize: defaultMaxFileSize, MaxSize: defaultMaxSize, MaxFiles: defaultMaxFiles,
	}
	if err := c.Decode(&b); err != nil {
		return nil, &sdk.ConfigError{Summary: err.Error()}
	}
	s := &settings{
		directory: b.Directory, compress: b.Compression == "gzip", maxFiles: b.MaxFiles,
		retention: limits.Retention{KeepLast: b.KeepLast, GroupBy: b.GroupBy},
	}
	if s.directory == "" {
		s.directory = filepath.Join(c.StateDir, "repository")
	}
	return s, errors.Join(b.check(s), b.measures(s))
}

// check looks at what needs no conversion.
func (b *block) check(s *settings) error {
	var failed []error
	if !filepath.IsAbs(s.directory) {
		failed = append(failed, limits.Invalid("directory", "Write a path that begins with a slash.", "%q is no absolute path", s.directory))
	}
	if b.Compression != "none" && b.Compression != "gzip" {
		failed = append(failed, limits.Invalid("compression", "Set it to none or gzip.", "%q is no compression", b.Compression))
	}
	if b.KeepLast < 0 {
		failed = append(failed, limits.Invalid("keep_last", "Set it to 0 or more.", "%d is no number of snapshots", b.KeepLast))
	}
	if b.MaxFiles < 1 {
		failed = append(failed, limits.Invalid("max_files", "Set it to 1 or more.", "%d is no number of paths", b.MaxFiles))
	}
	return errors.Join(failed...)
}

// measures converts times and sizes.
func (b *block) measures(s *settings) error {
	var failed []error
	var err error
	if s.retention.KeepWithin, err = limits.Time("keep_within", b.KeepWithin); err != nil {
		failed = append(failed, err)
	}
	for _, m := range []struct {
		name, text string
		to         *int64
	}{{"min_free", b.MinFree, &s.minFree}, {"max_file_size", b.MaxFileSize, &s.maxFileSize}, {"max_size", b.MaxSize, &s.maxSize}} {
		if *m.to, err = limits.Size(m.name, m.text); err != nil {
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}
