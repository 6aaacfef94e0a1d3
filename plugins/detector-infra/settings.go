package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sop-host/sop/sdk"
)

func attribute(name, kind, description string) sdk.Attribute {
	return sdk.Attribute{Name: name, Type: kind, Description: description}
}

func required(name, kind, description string) sdk.Attribute {
	return sdk.Attribute{Name: name, Type: kind, Description: description, Required: true}
}

func labelled(name string, attributes ...sdk.Attribute) sdk.Block {
	return sdk.Block{Name: name, Nesting: sdk.Labelled, Schema: sdk.Schema{Attributes: attributes}}
}

func single(name string, attributes ...sdk.Attribute) sdk.Block {
	return sdk.Block{Name: name, Nesting: sdk.Single, Schema: sdk.Schema{Attributes: attributes}}
}

// schema of the plugin's `config { }` block.
var schema = sdk.Schema{
	Attributes: []sdk.Attribute{
		required("workspace", sdk.String, "Workspace whose gaps they are."),
		{Name: "open_after", Type: sdk.Number, Default: defaultPatience, Description: "Scans in a row that must fail before a gap opens."},
		{Name: "close_after", Type: sdk.Number, Default: defaultPatience, Description: "Scans in a row that must hold before a gap closes."},
	},
	Blocks: []sdk.Block{
		labelled("disk", attribute("max_used", sdk.Number, "Percent of the space that may be used."),
			attribute("min_free", sdk.String, "Space that must be free, such as 5GiB."),
			attribute("max_inodes", sdk.Number, "Percent of the inodes that may be used.")),
		single("memory", attribute("max_used", sdk.Number, "Percent of the memory that may be in use."),
			attribute("max_swap", sdk.Number, "Percent of the swap that may be in use.")),
		single("load", required("max_per_cpu", sdk.Number, "Greatest 5 minute load for each processor.")),
		single("clock", required("server", sdk.String, "NTP server, host or host:port."),
			attribute("max_skew", sdk.String, "Greatest difference, such as 500ms; 1s unless said otherwise.")),
		labelled("port", required("address", sdk.String, "TCP address, host:port."),
			attribute("open", sdk.Bool, "Whether something should listen there; true unless said otherwise.")),
		labelled("process", attribute("name", sdk.String, "Name of the program; the label unless said otherwise."),
			attribute("min", sdk.Number, "How many should run at least; 1 unless said otherwise."),
			attribute("max", sdk.Number, "How many may run; any number unless said otherwise.")),
		labelled("unit", attribute("state", sdk.String, "Expected ActiveState; active unless said otherwise.")),
		labelled("certificate", attribute("file", sdk.String, "PEM file."),
			attribute("address", sdk.String, "Address of a TLS server, host:port, instead."),
			attribute("min_days", sdk.Number, "Days that it must still be valid; 21 unless said otherwise.")),
		labelled("file", attribute("mode", sdk.String, "Permission bits in octal, such as 0640."),
			attribute("owner", sdk.String, "User, by name or number."), attribute("group", sdk.String, "Group, by name or number."),
			attribute("sha256", sdk.String, "Checksum of its content, in hex.")),
		labelled("http", required("url", sdk.String, "What to get."),
			attribute("status", sdk.Number, "Expected status; 200 unless said otherwise."),
			attribute("contains", sdk.String, "Text that the answer must contain."),
			attribute("timeout", sdk.String, "Longest time to wait, such as 3s; 5s unless said otherwise.")),
	},
}

const defaultPatience = 2

// settings is the configuration in use.
type settings struct {
	workspace string
	patience  patience
	checks    []*check
}

// block is the decoded `config { }`.
type block struct {
	Workspace   string                      `json:"workspace"`
	OpenAfter   int                         `json:"open_after"`
	CloseAfter  int                         `json:"close_after"`
	Disk        map[string]diskBlock        `json:"disk"`
	Memory      *memoryBlock                `json:"memory"`
	Load        *loadBlock                  `json:"load"`
	Clock       *clockBlock                 `json:"clock"`
	Port        map[string]portBlock        `json:"port"`
	Process     map[string]processBlock     `json:"process"`
	Unit        map[string]unitBlock        `json:"unit"`
	Certificate map[string]certificateBlock `json:"certificate"`
	File        map[string]fileBlock        `json:"file"`
	HTTP        map[string]httpBlock        `json:"http"`
}

// decode reads a configuration. What is wrong with it comes as one or more
// [sdk.ConfigError].
func decode(c *sdk.Config) (*settings, error) {
	b := block{OpenAfter: defaultPatience, CloseAfter: defaultPatience}
	if err := c.Decode(&b); err != nil {
		return nil, &sdk.ConfigError{Summary: err.Error()}
	}
	s := &settings{workspace: b.Workspace, patience: patience{b.OpenAfter, b.CloseAfter}}
	var failed []error
	if b.OpenAfter < 1 || b.CloseAfter < 1 {
		failed = append(failed, &sdk.ConfigError{Summary: "open_after and close_after count scans", Detail: "Set each to 1 or more."})
	}
	add := func(block, label string, c *check, err error) {
		if ce := (*sdk.ConfigError)(nil); errors.As(err, &ce) {
			ce.Block, ce.Label = block, label
			failed = append(failed, ce)
			return
		}
		c.rule = "infra." + block
		c.subject = strings.TrimSpace(block + " " + label)
		s.checks = append(s.checks, c)
	}
	if b.Memory != nil {
		c, err := b.Memory.check()
		add("memory", "", c, err)
	}
	if b.Load != nil {
		c, err := b.Load.check()
		add("load", "", c, err)
	}
	if b.Clock != nil {
		c, err := b.Clock.check()
		add("clock", "", c, err)
	}
	each(b.Disk, "disk", add)
	each(b.Port, "port", add)
	each(b.Process, "process", add)
	each(b.Unit, "unit", add)
	each(b.Certificate, "certificate", add)
	each(b.File, "file", add)
	each(b.HTTP, "http", add)
	return s, errors.Join(failed...)
}

// each makes the checks of labelled blocks, in the order of their labels.
func each[B interface {
	check(label string) (*check, error)
}](blocks map[string]B, name string, add func(block, label string, c *check, err error)) {
	for _, label := range slices.Sorted(maps.Keys(blocks)) {
		c, err := blocks[label].check(label)
		add(name, label, c, err)
	}
}

// invalid is what is wrong with one attribute.
func invalid(attribute, detail, format string, args ...any) error {
	return &sdk.ConfigError{Attribute: attribute, Summary: fmt.Sprintf(format, args...), Detail: detail}
}

// percent checks a share; nil is none.
func percent(attribute string, p *float64) error {
	if p != nil && (*p <= 0 || *p > 100) {
		return invalid(attribute, "Set it to more than 0 and at most 100.", "%g is no percentage", *p)
	}
	return nil
}

// duration reads a time such as "5s"; empty is def.
func duration(attribute, text string, def time.Duration) (time.Duration, error) {
	if text == "" {
		return def, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		return 0, invalid(attribute, "Write a time such as 500ms, 5s or 1m.", "%q is no time", text)
	}
	return d, nil
}

var units = []struct {
	suffix string
	bytes  float64
}{
	{"KiB", 1 << 10},
	{"MiB", 1 << 20},
	{"GiB", 1 << 30},
	{"TiB", 1 << 40},
	{"kB", 1e3},
	{"MB", 1e6},
	{"GB", 1e9},
	{"TB", 1e12},
	{"B", 1},
}

// size reads a number of bytes such as "5GiB".
func size(attribute, text string) (uint64, error) {
	for _, u := range units {
		number, ok := strings.CutSuffix(text, u.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		if err == nil && n >= 0 && n*u.bytes < 1<<62 {
			return uint64(n * u.bytes), nil
		}
	}
	return 0, invalid(attribute, "Write a number of bytes with its unit, such as 500MiB or 5GiB.", "%q is no size", text)
}

// sizeText is a size for people.
func sizeText(n uint64) string {
	for _, u := range slices.Backward(units[:4]) {
		if float64(n) >= u.bytes {
			return strconv.FormatFloat(float64(n)/u.bytes, 'f', 1, 64) + " " + u.suffix
		}
	}
	return strconv.FormatUint(n, 10) + " B"
}
