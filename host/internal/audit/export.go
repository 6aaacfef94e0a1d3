package audit

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/sdk"
)

// Format is a form of export.
type Format string

// The formats.
const (
	JSONL Format = "jsonl" // complete: [Verify] works on it
	CEF   Format = "cef"   // ArcSight Common Event Format, for collectors
)

// ParseFormat reads the name of a format; empty is JSONL.
func ParseFormat(name string) (Format, error) {
	switch f := Format(name); f {
	case "":
		return JSONL, nil
	case JSONL, CEF:
		return f, nil
	}
	return "", sdk.Errorf(codes.InvalidArgument, "AUDIT_FORMAT", "there is no export format %q", name).WithRemedy("use jsonl or cef")
}

// Write writes one record as one line.
func (f Format) Write(w io.Writer, r *Record) error {
	var line []byte
	var err error
	if f == CEF {
		line = appendCEF(nil, r)
	} else if line, err = appendJSON(nil, r); err != nil {
		return err
	}
	_, err = w.Write(append(line, '\n'))
	return err
}

// wire is a record in JSON. The order and the names are a contract.
type wire struct {
	Version    int               `json:"v"`
	Seq        uint64            `json:"seq"`
	Time       time.Time         `json:"time"`
	Actor      string            `json:"actor"`
	Action     string            `json:"action"`
	Resource   string            `json:"resource,omitempty"`
	Outcome    Outcome           `json:"outcome"`
	Reason     string            `json:"reason,omitempty"`
	RequestID  string            `json:"request_id,omitempty"`
	TraceID    string            `json:"trace_id,omitempty"`
	Token      string            `json:"token,omitempty"`
	Attributes map[string]string `json:"attributes,omitempty"`
	PrevHash   Hash              `json:"prev_hash"`
	Hash       Hash              `json:"hash"`
}

func appendJSON(b []byte, r *Record) ([]byte, error) {
	buf := bytes.NewBuffer(b)
	enc := json.NewEncoder(buf)
	enc.SetEscapeHTML(false)
	err := enc.Encode(wire{
		version1, r.Seq, r.Time, r.Actor, r.Action, r.Resource, r.Outcome, r.Reason, r.RequestID, r.TraceID, r.Token, r.Attributes, r.PrevHash, r.Hash,
	})
	return bytes.TrimSuffix(buf.Bytes(), []byte{'\n'}), err
}

var (
	cefHeader = strings.NewReplacer(`\`, `\\`, `|`, `\|`, "\n", " ", "\r", " ")
	cefValue  = strings.NewReplacer(`\`, `\\`, `=`, `\=`, "\n", `\n`, "\r", `\r`)
)

// appendCEF writes what CEF has names for, and the rest as custom strings.
func appendCEF(b []byte, r *Record) []byte {
	severity := map[Outcome]string{Success: "2", Failure: "5", Denied: "7"}[r.Outcome]
	if severity == "" {
		severity = "5"
	}
	for _, part := range []string{"CEF:0", "SOP", "sop", "1", r.Action, r.Action + " " + string(r.Outcome), severity} {
		b = append(append(b, cefHeader.Replace(part)...), '|')
	}
	fields := [][2]string{
		{"rt", strconv.FormatInt(r.Time.UnixMilli(), 10)},
		{"externalId", strconv.FormatUint(r.Seq, 10)},
		{"suser", r.Actor},
		{"act", r.Action},
		{"outcome", string(r.Outcome)},
		{"reason", r.Reason},
		{"cs1Label", "resource"},
		{"cs1", r.Resource},
		{"cs2Label", "request"},
		{"cs2", r.RequestID},
		{"cs3Label", "trace"},
		{"cs3", r.TraceID},
		{"cs4Label", "token"},
		{"cs4", r.Token},
		{"cs5Label", "hash"},
		{"cs5", r.Hash.String()},
		{"cs6Label", "attributes"},
		{"cs6", attributesText(r.Attributes)},
	}
	first := true
	for i, f := range fields {
		label := strings.HasSuffix(f[0], "Label")
		if f[1] == "" || label && fields[i+1][1] == "" {
			continue
		}
		if !first {
			b = append(b, ' ')
		}
		first = false
		b = append(append(append(b, f[0]...), '='), cefValue.Replace(f[1])...)
	}
	return b
}

// attributesText writes attributes as JSON, which cannot be misread.
func attributesText(attributes map[string]string) string {
	if len(attributes) == 0 {
		return ""
	}
	var b strings.Builder
	for i, key := range slices.Sorted(maps.Keys(attributes)) {
		b.WriteString(map[bool]string{true: "{", false: ","}[i == 0])
		b.WriteString(strconv.Quote(key) + ":" + strconv.Quote(attributes[key]))
	}
	return b.String() + "}"
}
