package trace

import (
	"encoding/json"
	"errors"
	"fmt"
)

const (
	// Header is the metadata of a call that says which trace it belongs to, in
	// the form of W3C Trace Context.
	Header = "traceparent"
	// Trailer is the metadata of an answer that holds a [Report] in JSON, at
	// most [MaxReport] bytes. A plugin in any language may send one.
	Trailer = "sop-spans-bin"
	// MaxReport bounds a report, in bytes; the headers of an answer hold no more.
	MaxReport = 16 << 10
)

// Report is what a plugin tells of a call that was traced.
type Report struct {
	Spans   []Record `json:"spans"`
	Dropped int      `json:"dropped,omitempty"` // spans for which there was no room
}

// Record is a span that has ended.
type Record struct {
	// ID and Parent are 16 lower-case hexadecimal digits. The parent is another
	// span of the report, or the one that the header names.
	ID         string            `json:"id"`
	Parent     string            `json:"parent"`
	Name       string            `json:"name"`
	Start      int64             `json:"start"` // nanoseconds since 1970, as End
	End        int64             `json:"end"`
	Failed     bool              `json:"failed,omitempty"`
	Error      string            `json:"error,omitempty"`
	Attributes map[string]string `json:"attributes,omitempty"`
}

// encode returns the report within [MaxReport], the last spans left out where
// they do not fit.
func (r Report) encode() (string, error) {
	for {
		text, err := json.Marshal(r)
		if err != nil {
			return "", fmt.Errorf("encode spans: %w", err)
		}
		if len(text) <= MaxReport {
			return string(text), nil
		}
		if len(r.Spans) == 1 {
			return "", errors.New("encode spans: the first is too large")
		}
		kept := max(1, min(len(r.Spans)*MaxReport/len(text), len(r.Spans)-1))
		r.Dropped += len(r.Spans) - kept
		r.Spans = r.Spans[:kept]
	}
}

// ParseReport reads what a plugin reported. It checks the form and nothing
// else: what is said in it is what an untrusted program says.
func ParseReport(text string) (Report, error) {
	var r Report
	if len(text) > MaxReport {
		return r, fmt.Errorf("report of spans: %d bytes, at most %d are read", len(text), MaxReport)
	}
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return Report{}, fmt.Errorf("report of spans: %w", err)
	}
	if len(r.Spans) > maxSpans || r.Dropped < 0 {
		return Report{}, errors.New("report of spans: too many of them")
	}
	for i := range r.Spans {
		s := &r.Spans[i]
		if len(s.Name) > maxText || len(s.Error) > maxText || len(s.Attributes) > maxAttributes || s.End < s.Start {
			return Report{}, fmt.Errorf("report of spans: span %d is not of the form", i)
		}
	}
	return r, nil
}
