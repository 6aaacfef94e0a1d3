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
	"strings"
	"time"

	"github.com/sop-host/sop/sdk"
)

var schema = sdk.Schema{Attributes: []sdk.Attribute{
	{Name: "url", Type: sdk.String, Required: true, Description: "Where the service is; an operation is posted to this, a slash and its name."},
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
	case u.Scheme == "http" && !isLoopback(u.Hostname()) && (s.CredentialFile != "" || len(s.Headers) > 0):
		problem("url", "a credential would go over the network unprotected", "Use https, or a service on this machine.")
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
			DialContext: (&net.Dialer{Timeout: dialTimeout}).DialContext,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // a credential goes where it was meant to
	}
	return errors.Join(wrong...)
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
