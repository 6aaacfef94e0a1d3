package config

import (
	"net/url"

	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// Telemetry says where the host sends what can be seen of its work.
type Telemetry struct {
	Traces Traces
	Source Range // the block; zero when there is none
}

// Traces says where spans go. The zero value is nowhere.
type Traces struct {
	Endpoint    string  // base URL of an OTLP collector; empty: traces are off
	SampleRatio float64 // of the traces that begin here, from 0 to 1
	// HeadersEnv names for each header the environment variable that holds its
	// value, so that no secret stands in the configuration.
	HeadersEnv map[string]string
	Source     Range // the block
}

var (
	telemetryBlocks  = []string{"traces"}
	tracesAttributes = []string{"endpoint", "sample_ratio", "headers_env"}
)

// defaultSampleRatio is one trace in ten.
const defaultSampleRatio = 0.1

// readTelemetries reads the telemetry blocks, of which there may be one.
func (l *loader) readTelemetries(blocks []*hclsyntax.Block, s *scope) Telemetry {
	var out Telemetry
	for i, b := range blocks {
		read := readTelemetry(&l.reporter, l.evaluateBlock(b, s))
		if i == 0 {
			out = read
			continue
		}
		l.duplicate(b, "telemetry", out.Source)
	}
	return out
}

func readTelemetry(r *reporter, b *block) Telemetry {
	r.wantLabels(b)
	r.allow(b, nil, telemetryBlocks)
	t := Telemetry{Source: publicRange(b.header)}
	traces := r.single(b, "traces")
	if traces == nil {
		return t
	}
	r.allow(traces, tracesAttributes, nil)
	s := section{reporter: r}.within(traces)
	s.require("endpoint")
	t.Traces = Traces{
		Endpoint: s.url("endpoint"), SampleRatio: s.ratio("sample_ratio", defaultSampleRatio),
		HeadersEnv: s.headers("headers_env"), Source: publicRange(traces.header),
	}
	return t
}

// url reads the URL of an HTTP server, without secrets in it.
func (s section) url(name string) string {
	attr, value, ok := s.get(name, cty.String)
	if !ok {
		return ""
	}
	u, err := url.Parse(value.AsString())
	var detail string
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		detail = `write one such as "http://127.0.0.1:4318"`
	case u.User != nil:
		detail = "a user or a password does not belong in it; give them in a header"
	case u.RawQuery != "" || u.Fragment != "":
		detail = "it has no query and no fragment"
	default:
		return value.AsString()
	}
	diag := problem(attr.expr.Range(), "Invalid value", "%q is not the URL of a collector: %s.", name, detail)
	diag.Extra = sensitive{} // it may hold a password
	s.report(diag)
	return ""
}

// ratio reads a number from 0 to 1.
func (s section) ratio(name string, otherwise float64) float64 {
	attr, value, ok := s.get(name, cty.Number)
	if !ok {
		return otherwise
	}
	f, _ := value.AsBigFloat().Float64()
	if f < 0 || f > 1 {
		s.errorf(attr.expr.Range(), "Invalid value", "%q must be a number from 0 to 1.", name)
		return otherwise
	}
	return f
}

// diffTelemetry returns what changes, if anything does.
func diffTelemetry(old, next *Config) (Change, bool) {
	if old == nil || next == nil {
		return Change{}, false
	}
	was, is := old.Telemetry.Traces, next.Telemetry.Traces
	var why reasons
	why.changed("traces.endpoint", was.Endpoint != is.Endpoint)
	why.changed("traces.sample_ratio", was.SampleRatio != is.SampleRatio)
	for _, header := range keysOfBoth(was.HeadersEnv, is.HeadersEnv) {
		why.changed("traces.headers_env."+header, was.HeadersEnv[header] != is.HeadersEnv[header])
	}
	return Change{Object: ObjectTelemetry, Action: ActionUpdate, Reasons: why}, len(why) > 0
}
