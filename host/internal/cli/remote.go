package cli

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/pflag"
	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/sdk/fault"
)

// remote is how to reach a host, and as whom, where that is not by its socket as
// the user of this process.
type remote struct {
	address        string
	ca             string
	cert, certKey  string
	credentialFile string
}

func (a *app) addRemote(flags *pflag.FlagSet) {
	r := &a.global.remote
	flags.StringVar(&r.address, "address", "", "`address` of the host, https://host:port (default $SOP_ADDRESS, or its socket)")
	flags.StringVar(&r.ca, "ca", "", "`file` of the authorities that vouch for the host (default $SOP_CA, or the system's)")
	flags.StringVar(&r.cert, "cert", "", "`file` of the client certificate to show (default $SOP_CERT)")
	flags.StringVar(&r.certKey, "cert-key", "", "`file` of its key (default $SOP_CERT_KEY)")
	flags.StringVar(&r.credentialFile, "credential-file", "", "`file` with the key or token that says who calls (default: the value of $SOP_CREDENTIAL)")
}

// failing is a client of which no call succeeds.
type failing struct{ err error }

// Do implements connect.HTTPClient.
func (f failing) Do(*http.Request) (*http.Response, error) { return nil, f.err }

func (a *app) or(flag, variable string) string {
	if flag != "" {
		return flag
	}
	return a.env(variable)
}

// isRemote says whether the host is reached by an address and not by its socket.
func (a *app) isRemote() bool {
	return a.global.remote.address != "" || a.global.socket == "" && a.env("SOP_ADDRESS") != ""
}

// dialer returns how to call the host, and its address.
func (a *app) dialer() (*http.Client, *http.Transport, string, error) {
	credential, err := a.credential()
	if err != nil {
		return nil, nil, "", err
	}
	address := a.or(a.global.remote.address, "SOP_ADDRESS")
	if a.global.socket != "" && a.global.remote.address == "" {
		address = "" // the flag was meant, whatever the environment says
	}
	if address == "" {
		transport := socketTransport(a.socket())
		return httpClient(transport, credential), transport, baseURL, nil
	}
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.User != nil {
		return nil, nil, "", usagef("--address must be https://host:port").WithRemedy("a host is reached by TCP with TLS only")
	}
	config, err := a.clientTLS()
	if err != nil {
		return nil, nil, "", err
	}
	transport := &http.Transport{
		TLSClientConfig: config, ForceAttemptHTTP2: true,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, addr)
			if err != nil {
				return nil, &dialError{socket: addr, cause: err}
			}
			return conn, nil
		},
	}
	return httpClient(transport, credential), transport, "https://" + u.Host, nil
}

// httpClient follows no redirection: a credential goes to the host that was
// named and nowhere else.
func httpClient(transport *http.Transport, credential string) *http.Client {
	c := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	if credential != "" {
		c.Transport = bearer{transport, credential}
	}
	return c
}

// bearer sends a credential with every request.
type bearer struct {
	next       http.RoundTripper
	credential string
}

// RoundTrip implements http.RoundTripper.
func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+b.credential)
	return b.next.RoundTrip(r)
}

func (a *app) clientTLS() (*tls.Config, error) {
	r := &a.global.remote
	config := &tls.Config{MinVersion: tls.VersionTLS13}
	if path := a.or(r.ca, "SOP_CA"); path != "" {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return nil, usagef("%s holds no certificate in PEM form", path)
		}
	}
	cert, key := a.or(r.cert, "SOP_CERT"), a.or(r.certKey, "SOP_CERT_KEY")
	if (cert == "") != (key == "") {
		return nil, usagef("--cert and --cert-key go together")
	}
	if cert == "" {
		return config, nil
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, fault.Errorf(codes.InvalidArgument, "CLIENT_CERTIFICATE", "the client certificate cannot be used: %w", err)
	}
	config.Certificates = []tls.Certificate{pair}
	return config, nil
}

// maxCredentialFile is in bytes.
const maxCredentialFile = 16 << 10

// credential is what the file or the environment holds; empty: nothing. It is
// never an argument.
func (a *app) credential() (text string, err error) {
	path := a.global.remote.credentialFile
	if path == "" {
		text = strings.TrimSpace(a.env("SOP_CREDENTIAL"))
		if _, err := os.Stat(text); err == nil {
			return "", usagef("SOP_CREDENTIAL holds the name of a file, and not a credential").WithRemedy("name the file with --credential-file, or: SOP_CREDENTIAL=$(cat FILE)")
		}
		return text, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	content, err := io.ReadAll(io.LimitReader(f, maxCredentialFile+1))
	if err != nil {
		return "", err
	}
	content = bytes.TrimSpace(content)
	if len(content) == 0 || len(content) > maxCredentialFile || bytes.ContainsAny(content, " \t\r\n") {
		return "", usagef("%s does not hold one credential", path).WithRemedy("put the key alone into the file, as `sop agent enroll` printed it")
	}
	return string(content), nil
}

// untrusted explains why a host's certificate was not believed, or returns nil.
func untrusted(err error) *fault.Error {
	var authority x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	var remedy string
	switch {
	case errors.As(err, &authority):
		remedy = "name who vouches for the host with --ca"
	case errors.As(err, &name):
		remedy = "call it by a name that stands in its certificate"
	case errors.As(err, &invalid):
		remedy = "have the host's certificate renewed, and compare the clocks"
	default:
		return nil
	}
	return fault.Errorf(codes.FailedPrecondition, "HOST_UNTRUSTED", "the host's certificate is not to be believed: %w", err).WithRemedy("%s", remedy)
}
