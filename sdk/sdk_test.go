package sdk

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
)

// An Error arrives on the other side as it was sent, but for its cause.
func TestErrorRoundTrip(t *testing.T) {
	cause := errors.New("the disk is full")
	sent := Errorf(codes.ResourceExhausted, "NO_SPACE", "cannot save: %w", cause).WithRemedy("free %d bytes", 7)
	sent.Metadata = map[string]string{"path": "/x"}
	sent.RetryIn(1500*time.Millisecond).WithField("spec.size", "too large by %d", 3).WithField("name", "")
	if !errors.Is(sent, cause) {
		t.Error("the cause is lost on the side where it arose")
	}
	// What gRPC does: an error becomes a status, the status an error again.
	received := FromError(status.Convert(fmt.Errorf("while saving: %w", sent)).Err())
	if received.Code != sent.Code || received.Reason != sent.Reason || received.Remedy != "free 7 bytes" ||
		!received.Retryable || received.RetryAfter != 1500*time.Millisecond || len(received.Fields) != 2 ||
		received.Fields[0] != (FieldError{Field: "spec.size", Message: "too large by 3"}) || received.Fields[1].Message != sent.Message || received.Metadata["path"] != "/x" || !strings.Contains(received.Message, "the disk is full") {
		t.Errorf("received %+v", received)
	}
}

func TestFromError(t *testing.T) {
	tests := map[string]struct {
		err       error
		code      codes.Code
		retryable bool
	}{
		"deadline":    {fmt.Errorf("call: %w", context.DeadlineExceeded), codes.DeadlineExceeded, true},
		"cancel":      {context.Canceled, codes.Canceled, false},
		"plain":       {errors.New("x"), codes.Unknown, false},
		"unavailable": {status.Error(codes.Unavailable, "gone"), codes.Unavailable, true},
		"wrapped":     {fmt.Errorf("a: %w", Errorf(codes.NotFound, "X", "y")), codes.NotFound, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if e := FromError(tt.err); e.Code != tt.code || e.Retryable != tt.retryable {
				t.Errorf("got %+v", e)
			}
		})
	}
	if FromError(nil) != nil {
		t.Error("no error became one")
	}
}

func TestConfigDiagnostics(t *testing.T) {
	err := errors.Join(
		&ConfigError{Attribute: "limit", Summary: "too small", Detail: "use 1 or more"},
		errors.Join(errors.New("plain"), &ConfigError{Summary: "the block as a whole"}),
		fmt.Errorf("wrapped: %w", &ConfigError{Attribute: "x", Summary: "y"}),
		&ConfigError{Block: "extra", Index: 1, Attribute: "max", Summary: "too small"},
		fmt.Errorf("open: %w", Errorf(codes.NotFound, "NO_DIRECTORY", "it is not there").WithRemedy("make it")),
	)
	got := configDiagnostics(err)
	if len(got) != 6 {
		t.Fatalf("got %v", got)
	}
	if got[0].GetSummary() != "too small" || got[0].GetDetail() != "use 1 or more" || got[0].GetPath()[0].GetName() != "limit" {
		t.Errorf("first: %v", got[0])
	}
	if got[1].GetSummary() != "plain" || len(got[2].GetPath()) != 0 || !strings.HasPrefix(got[3].GetSummary(), "wrapped: ") {
		t.Errorf("others: %v", got[1:])
	}
	if p := got[4].GetPath(); len(p) != 3 || p[0].GetName() != "extra" || p[1].GetIndex() != 1 || p[2].GetName() != "max" {
		t.Errorf("in a list: %v", got[4])
	}
	if got[5].GetSummary() != "open: it is not there (NO_DIRECTORY)" || got[5].GetDetail() != "make it" {
		t.Errorf("an Error: %v", got[5])
	}
	for _, d := range got {
		if d.GetLevel() != pluginv1.ConfigDiagnostic_LEVEL_ERROR {
			t.Errorf("not an error: %v", d)
		}
	}
}

// What does not fit the struct of the plugin is told at its place.
func TestDecodeMisfit(t *testing.T) {
	type part struct {
		Max int `json:"max"`
	}
	for _, tt := range []struct{ block, want string }{
		{`{"max": 40.5}`, "max: 40.5 is no whole number, or is too large"},
		{`{"one": {"max": 1e30}}`, "one.max: 1e30 is no whole number, or is too large"},
		{`{"extra": [{"max": 1}, {"max": 40.5}]}`, "extra[1].max: 40.5 is no whole number, or is too large"},
		{`{"disk": {"a": {"max": 1}, "max": {"max": 40.5}}}`, "disk.max.max: 40.5 is no whole number, or is too large"},
		{`{"max": "x"}`, "max: string cannot be taken as int"},
	} {
		var dst struct {
			Max   int             `json:"max"`
			One   part            `json:"one"`
			Extra []part          `json:"extra"`
			Disk  map[string]part `json:"disk"`
		}
		err := NewConfig([]byte(tt.block), "").Decode(&dst)
		var ce *ConfigError
		if !errors.As(err, &ce) || err.Error() != tt.want {
			t.Errorf("%s: %v, want %s", tt.block, err, tt.want)
		}
	}
}

func TestSchema(t *testing.T) {
	s, err := Schema{
		Attributes: []Attribute{{Name: "words", Type: StringList, Default: []string{"a"}}, {Name: "n", Type: Number, Required: true}},
		Blocks:     []Block{{Name: "disk", Nesting: Labelled, Schema: Schema{Attributes: []Attribute{{Name: "max", Type: Number}}}}},
	}.proto()
	if err != nil || s.GetAttributes()[0].GetDefaultJson() != `["a"]` || s.GetAttributes()[1].GetDefaultJson() != "" || !s.GetAttributes()[1].GetRequired() {
		t.Errorf("got %v, %v", s, err)
	}
	if b := s.GetBlocks()[0]; b.GetName() != "disk" || b.GetNesting() != Labelled || b.GetSchema().GetAttributes()[0].GetName() != "max" {
		t.Errorf("got %v", b)
	}
	bad := Schema{Attributes: []Attribute{{Name: "bad", Default: make(chan int)}}}
	for _, s := range []Schema{bad, {Blocks: []Block{{Name: "nested", Schema: bad}}}} {
		if _, err := s.proto(); err == nil {
			t.Error("a default that is no JSON was accepted")
		}
	}
}

func TestConfigureOnce(t *testing.T) {
	var got struct{ Limit int }
	s := &pluginServer{configure: func(_ context.Context, c *Config) error { return c.Decode(&got) }}
	req := &pluginv1.ConfigureRequest{ConfigJson: []byte(`{"limit": 7}`)}
	if _, err := s.Configure(t.Context(), req); err != nil || got.Limit != 7 {
		t.Fatalf("got %+v, %v", got, err)
	}
	if _, err := s.Configure(t.Context(), req); FromError(err).Code != codes.FailedPrecondition {
		t.Errorf("configured twice: %v", err)
	}
}

func TestIdentity(t *testing.T) {
	a, err := NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(a.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth} {
		if _, err := cert.Verify(x509.VerifyOptions{Roots: pool, DNSName: "localhost", KeyUsages: []x509.ExtKeyUsage{usage}}); err != nil {
			t.Errorf("verify: %v", err)
		}
	}
	if b, err := NewIdentity(); err != nil || bytes.Equal(a.Certificate[0], b.Certificate[0]) {
		t.Errorf("two identities are one: %v", err)
	}
	if cert.NotAfter.Before(time.Now().AddDate(1, 0, 0)) {
		t.Errorf("ends at %v: a host may run for long", cert.NotAfter)
	}
}

func TestAnnounce(t *testing.T) {
	cert := []byte("certificate")
	encoded := base64.RawStdEncoding.EncodeToString(cert)
	for in, want := range map[string]string{
		"1|1|unix|/s|grpc|\n":              "1|1|unix|/s|grpc|" + encoded + "\n",
		"1|1|unix|/s|grpc||true\nand more": "1|1|unix|/s|grpc|" + encoded + "|true\nand more",
		"no newline":                       "",
	} {
		var out bytes.Buffer
		announce(strings.NewReader(in), &out, cert)
		if out.String() != want {
			t.Errorf("%q became %q, want %q", in, out.String(), want)
		}
	}
}
