package socket

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDial(t *testing.T) {
	for _, depth := range []int{0, 30} {
		dir := filepath.Join(t.TempDir(), strings.Repeat("long/", depth))
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "s")
		l, err := Reach(path, func(addr string) (net.Listener, error) { return net.Listen("unix", addr) })
		if err != nil {
			t.Fatalf("listen at a path of %d bytes: %v", len(path), err)
		}
		conn, err := Dial(t.Context(), path)
		if err != nil {
			t.Fatalf("dial a path of %d bytes: %v", len(path), err)
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if _, err := Dial(t.Context(), path+"-not"); err == nil {
			t.Error("nobody listens, and somebody was reached")
		}
	}
}
