package api

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sop-host/sop/host/internal/config"
)

// Certificates are those by which the API shows itself on TCP, and those of the
// authorities whose client certificates it believes. They are read again when
// their files change.
type Certificates struct {
	cfg     config.TLS
	current atomic.Pointer[loadedTLS]

	mu   sync.Mutex
	last [3][]byte // the files as they were last read, good or not
	bad  error     // why what was read last is not in force
}

// loadedTLS does not change.
type loadedTLS struct {
	server *tls.Config
	roots  *x509.CertPool // nil: no client_ca
}

// LoadCertificates reads the certificates.
func LoadCertificates(cfg config.TLS) (*Certificates, error) {
	c := &Certificates{cfg: cfg}
	if _, err := c.Reread(); err != nil {
		return nil, err
	}
	return c, nil
}

// Reread reads the files and takes them over where they have changed and are
// good; bad ones leave the old ones in force. It says whether anything was taken
// over. An error is returned once for what is the same.
func (c *Certificates) Reread() (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	files, err := c.read()
	if err == nil && c.current.Load() != nil && sameFiles(files, c.last) {
		return false, nil
	}
	var next *loadedTLS
	if err == nil {
		c.last = files
		next, err = parseTLS(&c.cfg, files)
	}
	if err != nil {
		repeated := c.bad != nil && c.bad.Error() == err.Error()
		if c.bad = err; repeated {
			return false, nil
		}
		return false, err
	}
	c.bad = nil
	c.current.Store(next)
	return true, nil
}

func sameFiles(a, b [3][]byte) bool {
	return bytes.Equal(a[0], b[0]) && bytes.Equal(a[1], b[1]) && bytes.Equal(a[2], b[2])
}

func (c *Certificates) read() (files [3][]byte, err error) {
	for i, path := range []string{c.cfg.Cert, c.cfg.Key, c.cfg.ClientCA} {
		if path == "" {
			continue
		}
		if files[i], err = readSmall(path); err != nil {
			return files, err
		}
	}
	info, err := os.Stat(c.cfg.Key)
	if err == nil && info.Mode().Perm()&0o007 != 0 {
		err = fmt.Errorf("%s can be read by everybody: its mode is %v", c.cfg.Key, info.Mode().Perm())
	}
	return files, err
}

func parseTLS(cfg *config.TLS, files [3][]byte) (*loadedTLS, error) {
	pair, err := tls.X509KeyPair(files[0], files[1])
	if err != nil {
		return nil, fmt.Errorf("%s and %s are not a certificate and its key: %w", cfg.Cert, cfg.Key, err)
	}
	out := &loadedTLS{server: &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2", "http/1.1"},
	}}
	if files[2] == nil {
		return out, nil
	}
	out.roots = x509.NewCertPool()
	if !out.roots.AppendCertsFromPEM(files[2]) {
		return nil, fmt.Errorf("%s holds no certificate in PEM form", cfg.ClientCA)
	}
	// A client certificate is asked for and its possession proven here. Who vouches
	// for it is looked at for every call, where a refusal can be explained.
	out.server.ClientAuth, out.server.ClientCAs = tls.RequestClientCert, out.roots
	return out, nil
}

// For says that these are the certificates that cfg names.
func (c *Certificates) For(cfg *config.TLS) bool {
	return c.cfg.Cert == cfg.Cert && c.cfg.Key == cfg.Key && c.cfg.ClientCA == cfg.ClientCA
}

// Roots are the authorities whose client certificates are believed; nil: there
// are none.
func (c *Certificates) Roots() *x509.CertPool { return c.current.Load().roots }

// Problem returns why what the files hold now is not in force, or nil.
func (c *Certificates) Problem() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bad == nil {
		return nil
	}
	return fmt.Errorf("the certificates as they lie there are not in force, those before are: %w", c.bad)
}

// ServeTLS serves with TLS on the connections of l, each with the certificates
// of that moment, until Shutdown; it closes l.
func (s *Server) ServeTLS(l net.Listener, certificates func() *Certificates) error {
	return s.serve(tls.NewListener(s.tcp.of(l), &tls.Config{
		MinVersion: tls.VersionTLS13,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return certificates().current.Load().server, nil
		},
	}))
}

// rereadEvery is how often the files are looked at where the system does not tell
// of changes.
const rereadEvery = 10 * time.Second

// rereadQuiet is how long the files must have been quiet before they are read:
// a certificate and its key are two.
const rereadQuiet = 100 * time.Millisecond

// Watch rereads the files when they change until ctx is done, and tells changed
// what came of it where something did. Where the system does not tell of changes
// it says so to unwatched, and looks now and then.
func (c *Certificates) Watch(ctx context.Context, changed, unwatched func(error)) {
	look := func() {
		if taken, err := c.Reread(); taken || err != nil {
			changed(err)
		}
	}
	files := slices.DeleteFunc([]string{c.cfg.Cert, c.cfg.Key, c.cfg.ClientCA}, func(path string) bool { return path == "" })
	err := config.WatchFiles(ctx, files, rereadQuiet, look)
	if err == nil { // ctx is done
		return
	}
	unwatched(err)
	tick := time.NewTicker(rereadEvery)
	defer tick.Stop()
	for {
		look()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// clientTLS is how the host calls others.
func clientTLS(roots *x509.CertPool) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}
}

const maxSmall = 1 << 20 // bytes

// readSmall reads a regular file of at most 1 MiB.
func readSmall(path string) (text []byte, err error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxSmall {
		return nil, fmt.Errorf("%s is not a regular file of at most 1 MiB", path)
	}
	return io.ReadAll(io.LimitReader(f, maxSmall))
}
