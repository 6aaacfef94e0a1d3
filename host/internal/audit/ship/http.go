package ship

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

// httpSender posts the text of a note. Certificates are always verified, and a
// redirection is not followed: it could lead to where they are not.
type httpSender struct {
	spec   *Spec
	client *http.Client
}

func newHTTP(s *Spec) (*httpSender, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if s.CAFile != "" {
		pem, err := os.ReadFile(s.CAFile)
		if err != nil {
			return nil, cannot("give ca_file a file of certificates in PEM", "%v", err)
		}
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		if !pool.AppendCertsFromPEM(pem) {
			return nil, cannot("give ca_file a file of certificates in PEM", "%s has no certificates", s.CAFile)
		}
		config.RootCAs = pool
	}
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: config, TLSHandshakeTimeout: 10 * time.Second,
		MaxIdleConnsPerHost: 1, IdleConnTimeout: time.Minute, ForceAttemptHTTP2: true,
	}
	return &httpSender{s, &http.Client{
		Transport: transport, Timeout: sendTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// send implements sender.
func (h *httpSender) send(ctx context.Context, messages []message) error {
	for _, m := range messages {
		if err := h.post(ctx, m.note.Note); err != nil {
			return err
		}
	}
	return nil
}

func (h *httpSender) post(ctx context.Context, note string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.spec.Target, strings.NewReader(note))
	if err != nil {
		return h.failed("it is no address")
	}
	req.Header.Set("Content-Type", "text/plain; charset=utf-8")
	for name, variable := range h.spec.HeaderEnv {
		value, set := os.LookupEnv(variable)
		if !set {
			return cannot("set the variable in the environment of the host", "the variable %s, for the header %s, is not set", variable, name)
		}
		req.Header.Set(name, value)
	}
	resp, err := h.client.Do(req)
	if err != nil {
		return h.failed(innermost(err))
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // so that the connection can be used again
	if err := resp.Body.Close(); err != nil {
		return h.failed(innermost(err))
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return h.failed(fmt.Sprintf("it answered %d %s", resp.StatusCode, http.StatusText(resp.StatusCode)))
	}
	return nil
}

func (h *httpSender) failed(why string) error {
	return cannot("make it reachable, and answer 2xx to a POST; the newest checkpoint is sent then", "%s: %s", h.spec.Shown, why)
}

// innermost leaves out what names the URL, which may hold what is secret.
func innermost(err error) string {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err.Error()
		}
		err = inner
	}
}

func (h *httpSender) close() error {
	h.client.CloseIdleConnections()
	return nil
}
