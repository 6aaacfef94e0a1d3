// Package socket knows where a host listens, and reaches unix sockets whose path is
// longer than an address of one holds. It imports nothing of ours.
package socket

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
)

// maxAddress is the longest path that a socket address holds, on Linux.
const maxAddress = 107

// Path is where the host of a data directory serves its API.
func Path(dataDir string) string { return filepath.Join(dataDir, "state", "sop.sock") }

// Reach calls fn with an address for path that a socket address can hold: a
// longer one is reached through a descriptor of its directory, which is open until
// fn returns.
func Reach[T any](path string, fn func(addr string) (T, error)) (T, error) {
	if len(path) <= maxAddress {
		return fn(path)
	}
	var zero T
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return zero, err
	}
	v, err := fn(fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path)))
	return v, errors.Join(err, dir.Close())
}

// Dial connects to the socket at path.
func Dial(ctx context.Context, path string) (net.Conn, error) {
	return Reach(path, func(addr string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", addr)
	})
}
