package sdk

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"strings"
	"time"
)

// clientCertEnv carries the host's certificate to the plugin as PEM; the
// plugin's own travels back in the sixth field of the handshake line. Both are
// go-plugin's AutoMTLS conventions, so that a plugin built with bare go-plugin,
// or in another language, authenticates in the same way.
const clientCertEnv = "PLUGIN_CLIENT_CERT"

// NewIdentity makes the certificate with which one side of a plugin connection
// proves, for the life of one process, that it is the one the other side
// started. Host and plugin each make their own and trust only the other's.
//
// go-plugin makes P-521 certificates, at 20 ms and more a side; P-256 has the
// same place in TLS 1.3 and costs well under 1 ms.
func NewIdentity() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make identity: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make identity: %w", err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "localhost", Organization: []string{"SOP"}},
		DNSNames:              []string{"localhost"},
		NotBefore:             now.Add(-time.Hour), // tolerates a clock that steps back
		NotAfter:              now.AddDate(30, 0, 0),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make identity: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// serverIdentity prepares mutual TLS on the plugin's side: it returns what
// go-plugin asks for its TLS configuration, or nil when the host sent no
// certificate. It stands between go-plugin and standard output for one line, to
// put the plugin's certificate into the handshake: go-plugin announces a
// certificate only when it has made it itself.
func serverIdentity() (func() (*tls.Config, error), error) {
	clientPEM := os.Getenv(clientCertEnv)
	if clientPEM == "" {
		return nil, nil
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(clientPEM)) {
		return nil, errors.New(clientCertEnv + " holds no certificate")
	}
	cert, err := NewIdentity()
	if err != nil {
		return nil, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("prepare handshake: %w", err)
	}
	stdout := os.Stdout
	os.Stdout = w
	go announce(r, stdout, cert.Certificate[0])
	return func() (*tls.Config, error) {
		return &tls.Config{
			Certificates: []tls.Certificate{cert},
			ClientAuth:   tls.RequireAndVerifyClientCert,
			ClientCAs:    pool,
			RootCAs:      pool,
			ServerName:   "localhost",
			MinVersion:   tls.VersionTLS13,
		}, nil
	}, nil
}

// announce copies the handshake line from r to stdout with the certificate in
// its sixth field, then whatever else is printed.
func announce(r io.Reader, stdout io.Writer, cert []byte) {
	in := bufio.NewReader(r)
	line, err := in.ReadString('\n')
	if err != nil {
		return
	}
	fields := strings.Split(strings.TrimRight(line, "\n"), "|")
	const certField = 5
	if len(fields) > certField {
		fields[certField] = base64.RawStdEncoding.EncodeToString(cert)
	}
	if _, err := io.WriteString(stdout, strings.Join(fields, "|")+"\n"); err != nil {
		fmt.Fprintf(os.Stderr, "announce plugin: %v\n", err)
		return
	}
	if _, err := io.Copy(stdout, in); err != nil {
		fmt.Fprintf(os.Stderr, "forward standard output: %v\n", err)
	}
}
