package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// Audit says where the audit log is carried to, how long its records stay in the
// database, and how often it is verified. The zero value carries it nowhere, keeps
// all and verifies nothing.
type Audit struct {
	Checkpoints []AuditSink   // sorted by ID
	Mirrors     []AuditSink   // sorted by ID
	Keep        time.Duration // older records are archived; zero: none are
	Segment     int           // records of an archived segment
	Verify      time.Duration // between two verifications; zero: only when asked
	Source      Range
}

// An AuditSink is one place that checkpoints, or records, are sent to.
type AuditSink struct {
	Kind    string // file, syslog or http
	Path    string // file: absolute
	Address string // syslog: udp://host:port, tcp://host:port or unix:///path
	URL     string // http
	// HeaderEnv names the environment variable that each header's value is in.
	HeaderEnv map[string]string
	CAFile    string // http: certificates to trust beside the system's; may be empty
	Format    string // mirror of kind syslog: cef or json
	MaxSize   int64  // mirror of kind file: bytes, after which another file is begun
	Files     int    // mirror of kind file: how many finished files are kept
	Source    Range
}

// Target is where it is sent to, without the query of a URL, which may be secret.
func (s *AuditSink) Target() string {
	public, _, _ := strings.Cut(s.URL, "?")
	return s.Path + s.Address + public
}

// ID tells sinks of one sort apart.
func (s *AuditSink) ID() string { return s.Kind + " " + s.Target() }

var (
	auditAttributes     = []string{"verify_interval"}
	auditBlocks         = []string{"checkpoint", "mirror", "retention"}
	retentionAttributes = []string{"keep", "segment"}
	checkpointKinds     = map[string][]string{"file": {"path"}, "syslog": {"address"}, "http": {"url", "header_env", "ca_file"}}
	mirrorKinds         = map[string][]string{"file": {"path", "max_size", "files"}, "syslog": {"address", "format"}}
	syslogFormats       = []string{"cef", "json"}
	headerName          = newPattern("^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}$")

	auditVerifyBounds = bounds{low: time.Minute, high: 366 * 24 * time.Hour, orZero: true}
	keepBounds        = bounds{low: time.Hour, high: 100 * 366 * 24 * time.Hour}
)

const (
	defaultVerify     = 24 * time.Hour
	defaultSegment    = 100_000
	leastSegment      = 1000
	greatestSegment   = 1_000_000
	defaultMirrorSize = 100 << 20
	greatestMirror    = 1 << 40
	defaultMirrors    = 10
)

// readAudit reads an audit block.
func readAudit(r *reporter, b *block, dir string) Audit {
	r.wantLabels(b)
	r.allow(b, auditAttributes, auditBlocks)
	a := Audit{Segment: defaultSegment, Source: publicRange(b.header)}
	a.Verify = section{reporter: r, dir: dir}.within(b).duration("verify_interval", defaultVerify, auditVerifyBounds)
	a.Checkpoints = readSinks(r, b.body.ofKind("checkpoint"), dir, checkpointKinds)
	a.Mirrors = readSinks(r, b.body.ofKind("mirror"), dir, mirrorKinds)
	if retention := r.single(b, "retention"); retention != nil {
		r.allow(retention, retentionAttributes, nil)
		s := section{reporter: r, dir: dir}.within(retention)
		s.require("keep")
		a.Keep = s.days("keep", keepBounds)
		a.Segment = s.integer("segment", defaultSegment, leastSegment, greatestSegment)
	}
	return a
}

func readSinks(r *reporter, blocks []*block, dir string, kinds map[string][]string) []AuditSink {
	var out []AuditSink
	seen := make(map[string]Range)
	for _, b := range blocks {
		if !r.wantLabels(b, "kind") {
			continue
		}
		attributes, known := kinds[b.labels[0]]
		if !known {
			names := sortedKeys(kinds)
			r.errorf(b.labelRanges[0], "Unknown kind", "There is no %s of kind %q.%s It is one of %s.",
				b.kind, b.labels[0], r.didYouMean(b.labels[0], names), strings.Join(names, ", "))
			continue
		}
		r.allow(b, attributes, nil)
		sink := section{reporter: r, dir: dir}.within(b).sink(b.labels[0], b.kind == "mirror")
		if first, taken := seen[sink.ID()]; taken && sink.Target() != "" {
			r.errorf(b.header, "Duplicate block", "%s is named already, at %s.", capital(sink.ID()), first)
			continue
		}
		seen[sink.ID()] = sink.Source
		out = append(out, sink)
	}
	slices.SortFunc(out, func(x, y AuditSink) int { return strings.Compare(x.ID(), y.ID()) })
	return out
}

func (s section) sink(kind string, mirror bool) AuditSink {
	out := AuditSink{Kind: kind, Source: publicRange(s.header)}
	switch kind {
	case "file":
		s.require("path")
		out.Path = s.path("path", "")
		if mirror {
			out.MaxSize = s.size("max_size", defaultMirrorSize, greatestMirror)
			out.Files = s.integer("files", defaultMirrors, 1, 100_000)
		}
	case "syslog":
		s.require("address")
		out.Address = s.checked("address", checkSyslog)
		if mirror {
			out.Format = s.choice("format", "cef", syslogFormats)
		}
	case "http":
		s.require("url")
		out.URL = s.checked("url", checkCheckpointURL)
		out.CAFile = s.path("ca_file", "")
		out.HeaderEnv = s.headers("header_env")
	}
	return out
}

// checked reads a text that check, whose errors are sentences, accepts.
func (s section) checked(name string, check func(string) error) string {
	attr, value, ok := s.get(name, cty.String)
	if !ok {
		return ""
	}
	if err := check(value.AsString()); err != nil {
		s.errorf(attr.expr.Range(), "Invalid value", "%s", capital(err.Error()))
		return ""
	}
	return value.AsString()
}

// headers reads which environment variable has the value of each header.
func (s section) headers(name string) map[string]string {
	out := make(map[string]string)
	for at, text := range s.elements(name, cty.Map(cty.String)) {
		expr := s.body.attributes[name].expr
		key, _ := keyName(at[0])
		if !headerName.MatchString(key) {
			s.errorf(keyRange(expr, nil, key), "Invalid name", "%q cannot be the name of a header.", key)
			continue
		}
		if err := checkEnvironmentName(text); err != nil {
			s.errorf(partRange(expr, at), "Invalid name", "%s.", capital(err.Error()))
			continue
		}
		out[key] = text
	}
	return out
}

// days reads a duration that may be in days, such as "90d".
func (s section) days(name string, within bounds) time.Duration {
	attr, value, ok := s.get(name, cty.String)
	if !ok {
		return 0
	}
	text := strings.TrimSpace(value.AsString())
	number, inDays := strings.CutSuffix(text, "d")
	if !inDays {
		return s.duration(name, 0, within)
	}
	n, err := strconv.Atoi(number)
	d := time.Duration(n) * 24 * time.Hour
	if err != nil || n < 1 || n > 36600 || d < within.low || d > within.high {
		s.errorf(attr.expr.Range(), "Invalid duration", "%q is no number of days from 1 to 36600. Write \"90d\", or hours such as \"36h\".", text)
		return 0
	}
	return d
}

func checkSyslog(text string) error {
	u, err := url.Parse(text)
	if err != nil {
		return errors.New("this is no address: write udp://host:514, tcp://host:601 or unix:///dev/log")
	}
	switch {
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return errors.New("an address has a scheme, a host and a port, and nothing else")
	case u.Scheme == "unix":
		if u.Host != "" || !strings.HasPrefix(u.Path, "/") || len(u.Path) > 100 {
			return errors.New("write unix:// and an absolute path of at most 100 bytes, such as unix:///dev/log")
		}
		return nil
	case u.Scheme != "udp" && u.Scheme != "tcp":
		return fmt.Errorf("%q is no way to send to syslog: it is one of udp, tcp and unix", u.Scheme)
	case u.Path != "":
		return errors.New("an address has no path")
	}
	host, port, err := net.SplitHostPort(u.Host)
	n, portErr := strconv.Atoi(port)
	if err != nil || portErr != nil || host == "" || n < 1 || n > 65535 {
		return errors.New("an address needs a host and a port, such as udp://collector:514")
	}
	return nil
}

// checkCheckpointURL accepts what nobody on the way can change.
func checkCheckpointURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "":
		return errors.New("this is no URL: write https://host/path")
	case u.User != nil:
		return errors.New("a URL must not carry a password: put it in a variable and name that in header_env")
	case u.Scheme == "https":
		return nil
	case u.Scheme != "http":
		return fmt.Errorf("%q is no way to send a checkpoint: write https://", u.Scheme)
	}
	address, err := netip.ParseAddr(u.Hostname())
	if u.Hostname() != "localhost" && (err != nil || !address.IsLoopback()) {
		return errors.New("plain http is for this host only: write https://")
	}
	return nil
}

// readAudits reads the audit block, if there is one.
func (l *loader) readAudits(blocks []*hclsyntax.Block, s *scope) Audit {
	out := Audit{Verify: defaultVerify}
	for i, b := range blocks {
		read := readAudit(&l.reporter, l.evaluateBlock(b, s), l.dir)
		if i == 0 {
			out = read
			continue
		}
		l.duplicate(b, "audit", out.Source)
	}
	return out
}

// ObjectAudit is where the audit log is carried to.
const ObjectAudit Object = "audit"

// diffAudit says what changes about the audit log, if either has a block.
func diffAudit(old, next *Config) []Change {
	if next == nil || next.Audit.Source == (Range{}) && (old == nil || old.Audit.Source == (Range{})) {
		return nil
	}
	var before Audit
	action := ActionUpdate
	if old == nil {
		action = ActionStart
	} else {
		before = old.Audit
	}
	var why reasons
	why.sinks("checkpoint", before.Checkpoints, next.Audit.Checkpoints)
	why.sinks("mirror", before.Mirrors, next.Audit.Mirrors)
	if old != nil {
		why.changed("retention.keep", before.Keep != next.Audit.Keep)
		why.changed("retention.segment", before.Segment != next.Audit.Segment)
		why.changed("verify_interval", before.Verify != next.Audit.Verify)
		if len(why) == 0 {
			action = ActionUnchanged
		}
	}
	return []Change{{Object: ObjectAudit, Action: action, Reasons: why}}
}

func (r *reasons) sinks(name string, old, next []AuditSink) {
	index := func(sinks []AuditSink) map[string]*AuditSink {
		out := make(map[string]*AuditSink)
		for i := range sinks {
			out[sinks[i].ID()] = &sinks[i]
		}
		return out
	}
	from, to := index(old), index(next)
	for _, id := range keysOfBoth(from, to) {
		was, is := from[id], to[id]
		r.presence(name+" "+id, was != nil, is != nil)
		r.changed(name+" "+id, was != nil && is != nil && !was.Equal(is))
	}
}

// Equal says whether two sinks are the same but for their place.
func (s *AuditSink) Equal(o *AuditSink) bool {
	same := s.ID() == o.ID() && s.CAFile == o.CAFile && s.Format == o.Format && s.MaxSize == o.MaxSize && s.Files == o.Files && len(s.HeaderEnv) == len(o.HeaderEnv)
	for name, variable := range s.HeaderEnv {
		same = same && o.HeaderEnv[name] == variable
	}
	return same
}
