package api

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/sop-host/sop/host/internal/socket"
)

// Dial connects to the host's socket.
func Dial(ctx context.Context, path string) (net.Conn, error) { return socket.Dial(ctx, path) }

// Listen binds the host's socket, for the owner alone, in place of one that a
// killed host left. The caller makes sure that no other host serves there.
func Listen(path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove old socket: %w", err)
	}
	l, err := socket.Reach(path, func(addr string) (net.Listener, error) {
		return (&net.ListenConfig{}).Listen(context.Background(), "unix", addr)
	})
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	if u, ok := l.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false) // the address may be relative to a closed descriptor
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("restrict socket: %w", err), l.Close())
	}
	return l, nil
}

// Restrict gives the host's socket to those whom the mode names; group is a group
// id, or -1 for none.
func Restrict(path string, mode os.FileMode, group int) error {
	if err := os.Chmod(path, 0o600); err != nil { // nobody else, while it changes hands
		return fmt.Errorf("restrict socket: %w", err)
	}
	if group < 0 {
		group = os.Getegid()
	}
	if err := os.Lchown(path, -1, group); err != nil {
		return fmt.Errorf("give socket to its group: %w", err)
	}
	if err := os.Chmod(path, mode); err != nil {
		return fmt.Errorf("restrict socket: %w", err)
	}
	return nil
}
