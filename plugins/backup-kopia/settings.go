package main

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/kopia/kopia/repo/compression"

	"github.com/sop-host/sop/plugins/internal/limits"
	"github.com/sop-host/sop/sdk"
)

const (
	defaultCompression = "zstd-fastest"
	defaultKeepLast    = 60
	defaultKeepWithin  = "720h"
	defaultRehash      = "168h"
	defaultMinFree     = "16MiB"
	defaultMaxFileSize = "1TiB"
	defaultMaxSize     = "16TiB"
	defaultMaxFiles    = 5_000_000
)

// schema of the plugin's `config { }` block.
var schema = sdk.Schema{
	Attributes: []sdk.Attribute{
		{Name: "directory", Type: sdk.String, Description: "Absolute directory of the repository; `repository` in the plugin's lasting directory unless said otherwise or `s3` stands."},
		{Name: "password_file", Type: sdk.String, Description: "Absolute path of a file that holds the password, readable by nobody else. Without the password nothing can be restored: keep a copy elsewhere."},
		{Name: "password", Type: sdk.String, Sensitive: true, Description: "The password itself; `password_file` is better."},
		{Name: "host_name", Type: sdk.String, Description: "What the kopia client shows as the host of snapshots; that of this machine unless said otherwise."},
		{Name: "compression", Type: sdk.String, Default: defaultCompression, Description: "A compression of kopia, such as zstd-fastest, zstd, s2-default, or none. It concerns what is saved from now on."},
		{Name: "rehash", Type: sdk.String, Default: defaultRehash, Description: "How often all files are read, also those that seem not to have changed; 0s: always."},
		{Name: "keep_last", Type: sdk.Number, Default: defaultKeepLast, Description: "Snapshots that are kept whatever their age; 0: none."},
		{Name: "keep_within", Type: sdk.String, Default: defaultKeepWithin, Description: "Snapshots younger than this are kept, such as 720h; with 0s and keep_last 0 everything is."},
		{Name: "group_by", Type: sdk.StringList, Default: []string{"workspace"}, Description: "Labels whose values, with the root, make a set; the last good snapshot of each set is kept."},
		{Name: "min_free", Type: sdk.String, Default: defaultMinFree, Description: "Space that a save must leave free on the disk of the repository."},
		{Name: "max_file_size", Type: sdk.String, Default: defaultMaxFileSize, Description: "Greatest file, holes not counted; a larger one is a failure of its path."},
		{Name: "max_size", Type: sdk.String, Default: defaultMaxSize, Description: "Greatest snapshot, holes not counted; a larger one is refused."},
		{Name: "max_files", Type: sdk.Number, Default: defaultMaxFiles, Description: "Most paths in a snapshot; one with more is refused."},
	},
	Blocks: []sdk.Block{{Name: "s3", Nesting: sdk.Single, Schema: sdk.Schema{Attributes: []sdk.Attribute{
		{Name: "bucket", Type: sdk.String, Required: true, Description: "Bucket, which must exist."},
		{Name: "prefix", Type: sdk.String, Description: "What the names of objects begin with."},
		{Name: "endpoint", Type: sdk.String, Default: "s3.amazonaws.com", Description: "Host and port of the server."},
		{Name: "region", Type: sdk.String, Description: "Region of the bucket, where the server wants it."},
		{Name: "access_key", Type: sdk.String, Required: true, Description: "Access key."},
		{Name: "secret_key_file", Type: sdk.String, Description: "Absolute path of a file that holds the secret key."},
		{Name: "secret_key", Type: sdk.String, Sensitive: true, Description: "The secret key itself; `secret_key_file` is better."},
		{Name: "ca_file", Type: sdk.String, Description: "Absolute path of the certificates, in PEM, that the server's is checked with; those of the system unless said otherwise."},
		{Name: "insecure", Type: sdk.Bool, Default: false, Description: "Speak without TLS."},
	}}}},
}

// settings is the configuration in use.
type settings struct {
	stateDir    string
	directory   string // empty: s3
	s3          *s3Settings
	password    string
	hostName    string
	compression compression.Name
	rehash      time.Duration
	retention   limits.Retention
	minFree     int64 // bytes, as the following
	maxFileSize int64
	maxSize     int64
	maxFiles    int
}

// s3Settings is where a bucket is.
type s3Settings struct {
	Bucket        string `json:"bucket"`
	Prefix        string `json:"prefix"`
	Endpoint      string `json:"endpoint"`
	Region        string `json:"region"`
	AccessKey     string `json:"access_key"`
	SecretKeyFile string `json:"secret_key_file"`
	SecretKey     string `json:"secret_key"`
	CAFile        string `json:"ca_file"`
	Insecure      bool   `json:"insecure"`

	ca []byte
}

// block is the decoded `config { }`.
type block struct {
	Directory    string      `json:"directory"`
	PasswordFile string      `json:"password_file"`
	Password     string      `json:"password"`
	HostName     string      `json:"host_name"`
	Compression  string      `json:"compression"`
	Rehash       string      `json:"rehash"`
	KeepLast     int         `json:"keep_last"`
	KeepWithin   string      `json:"keep_within"`
	GroupBy      []string    `json:"group_by"`
	MinFree      string      `json:"min_free"`
	MaxFileSize  string      `json:"max_file_size"`
	MaxSize      string      `json:"max_size"`
	MaxFiles     int         `json:"max_files"`
	S3           *s3Settings `json:"s3"`
}

// decode reads a configuration. What is wrong with it comes as one or more
// [sdk.ConfigError]; none of them tells a secret.
func decode(c *sdk.Config) (*settings, error) {
	b := block{
		Compression: defaultCompression, Rehash: defaultRehash, KeepLast: defaultKeepLast, KeepWithin: defaultKeepWithin, GroupBy: []string{"workspace"},
		MinFree: defaultMinFree, MaxFileSize: defaultMaxFileSize, MaxSize: defaultMaxSize, MaxFiles: defaultMaxFiles,
	}
	if err := c.Decode(&b); err != nil {
		return nil, &sdk.ConfigError{Summary: err.Error()}
	}
	s := &settings{
		stateDir: c.StateDir, directory: b.Directory, s3: b.S3, hostName: b.HostName, compression: compression.Name(b.Compression), maxFiles: b.MaxFiles,
		retention: limits.Retention{KeepLast: b.KeepLast, GroupBy: b.GroupBy},
	}
	if s.directory == "" && s.s3 == nil {
		s.directory = filepath.Join(c.StateDir, "repository")
	}
	return s, errors.Join(b.check(s), b.measures(s), b.secrets(s), s.source())
}

// check looks at what needs no conversion.
func (b *block) check(s *settings) error {
	var failed []error
	if b.Directory != "" && b.S3 != nil {
		failed = append(failed, limits.Invalid("directory", "Leave one of them out.", "there is a directory and a bucket"))
	}
	if b.S3 == nil && !filepath.IsAbs(s.directory) {
		failed = append(failed, limits.Invalid("directory", "Write a path that begins with a slash.", "%q is no absolute path", s.directory))
	}
	if s.compression == "none" {
		s.compression = ""
	} else if _, known := compression.ByName[s.compression]; !known {
		failed = append(failed, limits.Invalid("compression", "Set it to none or to one of "+strings.Join(compressions(), ", ")+".", "%q is no compression", b.Compression))
	}
	if b.KeepLast < 0 {
		failed = append(failed, limits.Invalid("keep_last", "Set it to 0 or more.", "%d is no number of snapshots", b.KeepLast))
	}
	if b.MaxFiles < 1 {
		failed = append(failed, limits.Invalid("max_files", "Set it to 1 or more.", "%d is no number of paths", b.MaxFiles))
	}
	return errors.Join(failed...)
}

// compressions are the names that can be configured.
func compressions() (names []string) {
	for name := range compression.ByName {
		names = append(names, string(name))
	}
	slices.Sort(names)
	return names
}

// measures converts times and sizes.
func (b *block) measures(s *settings) error {
	var failed []error
	for _, m := range []struct {
		name, text string
		to         *time.Duration
	}{{"keep_within", b.KeepWithin, &s.retention.KeepWithin}, {"rehash", b.Rehash, &s.rehash}} {
		var err error
		if *m.to, err = limits.Time(m.name, m.text); err != nil {
			failed = append(failed, err)
		}
	}
	for _, m := range []struct {
		name, text string
		to         *int64
	}{{"min_free", b.MinFree, &s.minFree}, {"max_file_size", b.MaxFileSize, &s.maxFileSize}, {"max_size", b.MaxSize, &s.maxSize}} {
		var err error
		if *m.to, err = limits.Size(m.name, m.text); err != nil {
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}

// secrets reads what stands in files.
func (b *block) secrets(s *settings) (err error) {
	var failed []error
	if s.password, err = secret("", "password", b.Password, b.PasswordFile); err != nil {
		failed = append(failed, err)
	}
	if s.s3 == nil {
		return errors.Join(failed...)
	}
	if s.s3.SecretKey, err = secret("s3", "secret_key", s.s3.SecretKey, s.s3.SecretKeyFile); err != nil {
		failed = append(failed, err)
	}
	if s.s3.CAFile != "" {
		if s.s3.ca, err = os.ReadFile(s.s3.CAFile); err != nil {
			failed = append(failed, &sdk.ConfigError{Block: "s3", Attribute: "ca_file", Summary: err.Error()})
		}
	}
	return errors.Join(failed...)
}

// secret is one that stands in the configuration or in a file, whose last line
// break does not count.
func secret(inBlock, name, text, file string) (string, error) {
	invalid := func(attribute, detail, summary string) error {
		return &sdk.ConfigError{Block: inBlock, Attribute: attribute, Summary: summary, Detail: detail}
	}
	switch {
	case text != "" && file != "":
		return "", invalid(name, "Leave one of them out.", "there are "+name+" and "+name+"_file")
	case text != "":
		return text, nil
	case file == "":
		return "", invalid(name+"_file", "Name a file that holds it, such as one made by `openssl rand -base64 32`.", name+"_file is missing")
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return "", invalid(name+"_file", "Let the user that the host runs as read it.", err.Error())
	}
	text = strings.TrimSuffix(strings.TrimSuffix(string(raw), "\n"), "\r")
	if text == "" {
		return "", invalid(name+"_file", "Write it into that file.", file+" is empty")
	}
	return text, nil
}

// source finds out what the host of snapshots is called.
func (s *settings) source() error {
	if s.hostName != "" {
		return nil
	}
	name, err := os.Hostname()
	if err != nil || name == "" {
		return limits.Invalid("host_name", "Write one.", "this machine has no name: %v", err)
	}
	s.hostName = strings.ToLower(name)
	return nil
}
