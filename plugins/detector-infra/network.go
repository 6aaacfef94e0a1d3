package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"
)

// portBlock is whether something should listen at an address.
type portBlock struct {
	Address string `json:"address"`
	Open    *bool  `json:"open"`
}

func (b portBlock) check(string) (*check, error) {
	if _, _, err := net.SplitHostPort(b.Address); err != nil {
		return nil, invalid("address", "Write host:port, such as 127.0.0.1:5432.", "%q is no address", b.Address)
	}
	open := b.Open == nil || *b.Open
	words := map[bool]string{true: "open", false: "closed"}
	c := &check{expected: b.Address + " " + words[open], remedy: "start, or stop, what listens there"}
	c.failing = func(ctx context.Context) (string, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", b.Address)
		if err == nil {
			_ = conn.Close() // nothing was sent
		}
		var lookup *net.DNSError
		switch {
		case errors.As(err, &lookup):
			return "", err
		case err == nil && !open:
			return b.Address + " is open; expected is that nothing listens there", nil
		case err != nil && open:
			return fmt.Sprintf("%s does not accept connections: %s", b.Address, cause(err)), nil
		}
		return "", nil
	}
	return c, nil
}

// cause is an error without the addresses around it, which may change.
func cause(err error) string {
	var errno syscall.Errno
	switch {
	case errors.As(err, &errno):
		return errno.Error()
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return "no answer in time"
	}
	return err.Error()
}

// certificateBlock is how long a certificate must still be valid.
type certificateBlock struct {
	File    string   `json:"file"`
	Address string   `json:"address"`
	MinDays *float64 `json:"min_days"`
}

const (
	day            = 24 * time.Hour
	defaultMinDays = 21
)

func (b certificateBlock) check(string) (*check, error) {
	if (b.File == "") == (b.Address == "") {
		return nil, invalid("", "Set one of both.", "a certificate is in a file or at an address")
	}
	where, load := b.File, func(context.Context) ([]*x509.Certificate, error) { return fileCertificates(b.File) }
	if b.Address != "" {
		host, _, err := net.SplitHostPort(b.Address)
		if err != nil {
			return nil, invalid("address", "Write host:port, such as example.com:443.", "%q is no address", b.Address)
		}
		where, load = b.Address, func(ctx context.Context) ([]*x509.Certificate, error) {
			return servedCertificates(ctx, b.Address, host)
		}
	}
	days := float64(defaultMinDays)
	if b.MinDays != nil {
		days = *b.MinDays
	}
	c := &check{expected: fmt.Sprintf("%s valid for %g days", where, days), remedy: "renew the certificate"}
	c.failing = func(ctx context.Context) (string, error) {
		chain, err := load(ctx)
		if err != nil {
			return "", err
		}
		return certificateFailing(where, chain, time.Duration(days*float64(day)), time.Now()), nil
	}
	return c, nil
}

// certificateFailing looks at when the certificates of a chain are valid.
func certificateFailing(where string, chain []*x509.Certificate, least time.Duration, now time.Time) string {
	for _, cert := range chain {
		name := cert.Subject.CommonName
		if name == "" && len(cert.DNSNames) > 0 {
			name = cert.DNSNames[0]
		}
		switch left := cert.NotAfter.Sub(now); {
		case now.Before(cert.NotBefore):
			return fmt.Sprintf("the certificate of %s at %s is not valid before %s", name, where, cert.NotBefore.Format(time.DateOnly))
		case left <= 0:
			return fmt.Sprintf("the certificate of %s at %s has expired on %s", name, where, cert.NotAfter.Format(time.DateOnly))
		case left < least:
			return fmt.Sprintf("the certificate of %s at %s expires on %s, in %s", name, where, cert.NotAfter.Format(time.DateOnly), plural(int(left/day), "day", "days"))
		}
	}
	return ""
}

// maxPEM bounds a certificate file, in bytes.
const maxPEM = 1 << 20

func fileCertificates(path string) ([]*x509.Certificate, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	text, err := io.ReadAll(io.LimitReader(f, maxPEM))
	if err != nil {
		return nil, err
	}
	var chain []*x509.Certificate
	for {
		var p *pem.Block
		if p, text = pem.Decode(text); p == nil {
			break
		}
		if p.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(p.Bytes)
		if err != nil {
			return nil, err
		}
		chain = append(chain, cert)
	}
	if len(chain) == 0 {
		return nil, fmt.Errorf("%s holds no certificate", path)
	}
	return chain, nil
}

// servedCertificates returns what a server presents. Who signed it is not
// judged: this check is about time.
func servedCertificates(ctx context.Context, address, host string) ([]*x509.Certificate, error) {
	d := tls.Dialer{Config: &tls.Config{ServerName: host, InsecureSkipVerify: true}} //nolint:gosec // nothing is sent, and an expired one must be seen
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }() // nothing was sent
	served, ok := conn.(*tls.Conn)
	if !ok {
		return nil, errors.New("it does not speak TLS")
	}
	return served.ConnectionState().PeerCertificates, nil
}

// httpBlock is what an HTTP service is expected to answer.
type httpBlock struct {
	URL      string `json:"url"`
	Status   *int   `json:"status"`
	Contains string `json:"contains"`
	Timeout  string `json:"timeout"`
}

// maxBody is how much of an answer is searched, in bytes.
const maxBody = 1 << 20

func (b httpBlock) check(string) (*check, error) {
	u, err := url.Parse(b.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, invalid("url", "Write a URL such as http://127.0.0.1:8080/health.", "%q is no HTTP URL", b.URL)
	}
	timeout, err := duration("timeout", b.Timeout, 5*time.Second)
	if err != nil {
		return nil, err
	}
	status := http.StatusOK
	if b.Status != nil {
		status = *b.Status
	}
	shown := u.Redacted()
	expected := fmt.Sprintf("%s answers %d", shown, status)
	if b.Contains != "" {
		expected += fmt.Sprintf(" with %q", b.Contains)
	}
	client := &http.Client{
		Timeout:       timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	c := &check{expected: expected, remedy: "see why the service answers so"}
	c.failing = func(ctx context.Context) (string, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.URL, nil)
		if err != nil {
			return "", err
		}
		resp, err := client.Do(req)
		if err != nil {
			return fmt.Sprintf("%s does not answer: %s", shown, cause(errors.Unwrap(err))), nil
		}
		defer func() { _ = resp.Body.Close() }() // only read
		if resp.StatusCode != status {
			return fmt.Sprintf("%s answers %d; expected is %d", shown, resp.StatusCode, status), nil
		}
		if b.Contains == "" {
			return "", nil
		}
		body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
		if err != nil {
			return fmt.Sprintf("%s breaks off its answer: %s", shown, cause(err)), nil
		}
		if !strings.Contains(string(body), b.Contains) {
			return fmt.Sprintf("what %s answers does not contain %q", shown, b.Contains), nil
		}
		return "", nil
	}
	return c, nil
}
