package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sop-host/sop/sdk"
)

var schema = sdk.Schema{Attributes: []sdk.Attribute{
	{Name: "url", Type: sdk.String, Required: true, Description: "Where the service is; an operation is posted to this, a slash and its name."},
	{Name: "socket", Type: sdk.String, Default: "", Description: "The unix socket of a service on this machine; it is asked in place of the host in url."},
	{Name: "operations", Type: sdk.StringList, Default: []string{}, Description: "What it can do; all else is refused. Empty: it decides."},
	{Name: "safe", Type: sdk.StringList, Default: []string{}, Description: "Operations that may be sent again after a failure."},
	{Name: "retries", Type: sdk.Number, Default: 2, Description: "How often a request is sent again that may be."},
	{Name: "health", Type: sdk.String, Default: "", Description: "A path that answers with 2xx when the service is well; asked on activation."},
	{Name: "ca_file", Type: sdk.String, Default: "", Description: "PEM file of the authorities that vouch for the service; the system's unless it is set."},
	{Name: "credential_file", Type: sdk.String, Default: "", Description: "File with a bearer credential; read for each request."},
	{Name: "headers", Type: sdk.StringMap, Default: map[string]string{}, Description: "Further headers.", Sensitive: true},
	{Name: "max_answer", Type: sdk.Number, Default: 8 << 20, Description: "Most bytes of an answer, or of a piece of one."},
}}

type settings struct {
	URL            string            `json:"url"`
	Socket         string            `json:"socket"`
	Operations     []string          `json:"operations"`
	Safe           []string          `json:"safe"`
	Retries        int               `json:"retries"`
	Health         string            `json:"health"`
	CAFile         string            `json:"ca_file"`
	CredentialFile string            `json:"credential_file"`
	Headers        map[string]string `json:"headers"`
	MaxAnswer      int64             `json:"max_answer"`
}

const (
	maxRetries    = 10
	maxAnswer     = 15 << 20
	maxCredential = 16 << 10
	dialTimeout   = 5 * time.Second
	maxIdle       = 64
	// maxSocketAddress is the longest path that a socket address holds. A longer one
	// is reached through a descriptor of its directory.
	maxSocketAddress = 107
)

// configure takes the configuration over.
func (p *peer) configure(_ context.Context, c *sdk.Config) error {
	s := settings{Retries: 2, MaxAnswer: 8 << 20}
	if err := c.Decode(&s); err != nil {
		return err
	}
	var wrong []error
	problem := func(attribute, summary, detail string) {
		wrong = append(wrong, &sdk.ConfigError{Attribute: attribute, Summary: summary, Detail: detail})
	}
	u, err := url.Parse(s.URL)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		problem("url", "it is no http or https URL", "Write it as \"https://scp.example:8443/v1\".")
	case u.User != nil:
		problem("url", "it has a credential in it, which logs would show", "Put the credential into a file and name that in credential_file.")
	case u.Scheme == "http" && s.Socket == "" && !isLoopback(u.Hostname()) && (s.CredentialFile != "" || len(s.Headers) > 0):
		problem("url", "a credential would go over the network unprotected", "Use https, or a service on this machine.")
	}
	if s.Socket != "" && !filepath.IsAbs(s.Socket) {
		problem("socket", "it is no absolute path", "Write it as \"${path.data}/scp.sock\".")
	}
	if s.Retries < 0 || s.Retries > maxRetries {
		problem("retries", "it is out of range", fmt.Sprintf("Give a number from 0 to %d.", maxRetries))
	}
	if s.MaxAnswer < 1024 || s.MaxAnswer > maxAnswer {
		problem("max_answer", "it is out of range", fmt.Sprintf("Give a number of bytes from 1024 to %d.", maxAnswer))
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if s.CAFile != "" {
		if config.RootCAs, err = authorities(s.CAFile); err != nil {
			problem("ca_file", err.Error(), "Name a file with certificates in PEM form.")
		}
	}
	if s.CredentialFile != "" {
		if _, err := credential(s.CredentialFile); err != nil {
			problem("credential_file", err.Error(), "Name a file that holds one credential and nothing else.")
		}
	}
	p.set = s
	p.client = &http.Client{
		Transport: &http.Transport{
			TLSClientConfig: config, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: maxIdle, IdleConnTimeout: time.Minute,
			DialContext: s.dial,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // a credential goes where it was meant to
	}
	return errors.Join(wrong...)
}

// dial connects to the service: at its socket, if it has one.
func (s *settings) dial(ctx context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{Timeout: dialTimeout}
	if s.Socket == "" {
		return d.DialContext(ctx, network, address)
	}
	if len(s.Socket) <= maxSocketAddress {
		return d.DialContext(ctx, "unix", s.Socket)
	}
	dir, err := os.Open(filepath.Dir(s.Socket))
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: "unix", Err: err}
	}
	conn, err := d.DialContext(ctx, "unix", fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(s.Socket)))
	return conn, errors.Join(err, dir.Close())
}

// where says for people where the service is.
func (s *settings) where() string {
	if s.Socket == "" {
		return s.URL
	}
	return s.URL + " at " + s.Socket
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func authorities(file string) (*x509.CertPool, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, errors.New("it holds no certificate")
	}
	return pool, nil
}

// credential reads a credential. What it is stands in no error.
func credential(file string) (text string, err error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	content, err := io.ReadAll(io.LimitReader(f, maxCredential+1))
	if err != nil {
		return "", err
	}
	content = bytes.TrimSpace(content)
	if len(content) == 0 || len(content) > maxCredential || bytes.ContainsAny(content, " \t\r\n") {
		return "", errors.New("it does not hold one credential")
	}
	return string(content), nil
}

// join returns the URL of an operation.
func (s *settings) join(path string) string {
	return strings.TrimSuffix(s.URL, "/") + "/" + strings.TrimPrefix(path, "/")
}
