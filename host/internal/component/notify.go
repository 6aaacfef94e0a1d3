package component

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
)

// notifySocket hears what a component says by sd_notify. It lies in a directory
// of this user alone.
type notifySocket struct {
	conn    *net.UnixConn
	address string        // for NOTIFY_SOCKET
	ready   chan struct{} // closed when it has said that it is ready
	done    chan struct{}
	once    sync.Once
}

// maxNotice bounds a message; systemd's is a page.
const maxNotice = 4 << 10

// longestSocket is how long the path of a socket may be.
const longestSocket = 107

// listenNotify makes the socket anew.
func listenNotify(path string) (*notifySocket, error) {
	if len(path) > longestSocket {
		return nil, fmt.Errorf("the notify socket's path is longer than %d bytes: %s", longestSocket, path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return nil, fmt.Errorf("listen for readiness in %s: %w", filepath.Dir(path), err)
	}
	n := &notifySocket{conn: conn, address: path, ready: make(chan struct{}), done: make(chan struct{})}
	go n.run()
	return n, nil
}

func (n *notifySocket) run() {
	defer close(n.done)
	message := make([]byte, maxNotice)
	said := false
	for {
		size, err := n.conn.Read(message)
		if err != nil {
			return // closed
		}
		for line := range bytes.SplitSeq(message[:size], []byte{'\n'}) {
			if string(line) == "READY=1" && !said {
				said = true
				close(n.ready)
			}
		}
	}
}

// close ends it and removes the socket. A nil one is closed already.
func (n *notifySocket) close() {
	if n == nil {
		return
	}
	n.once.Do(func() {
		_ = n.conn.Close() // removes the socket too; what is left goes with the directory
		<-n.done
	})
}
