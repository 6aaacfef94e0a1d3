package plugin

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
)

// Callbacks serves what one plugin asks of the host, on connections that have
// proved to come from it. It returns when l is closed, with every connection
// closed.
type Callbacks func(l net.Listener, id string) error

// callback is the host's side of one generation's way back.
type callback struct {
	listener net.Listener
	done     chan struct{} // closed when serving has ended
	once     sync.Once
}

// openCallback begins to serve the plugin through go-plugin's broker and returns
// the id under which it finds the host; 0 when it is not served. Only a holder
// of the key of the plugin's certificate gets in.
func (g *generation) openCallback(serve Callbacks) (uint32, error) {
	if serve == nil || g.runner.view != nil && !g.runner.view.hasWayBack() {
		return 0, nil
	}
	config := g.tls.Clone()
	if config.ClientCAs == nil {
		return 0, nil // never so: a plugin without certificate is refused at its handshake
	}
	config.NextProtos = []string{"h2"}
	id := g.broker.NextId()
	l, err := g.broker.Accept(id)
	if err != nil {
		return 0, fmt.Errorf("listen for the plugin: %w", err)
	}
	if g.runner.view != nil {
		if err := letIn(l.Addr().String()); err != nil {
			return 0, errors.Join(err, l.Close())
		}
	}
	c := &callback{listener: tls.NewListener(l, config), done: make(chan struct{})}
	g.callback = c
	go func() {
		defer close(c.done)
		if err := serve(c.listener, g.spec.ID()); err != nil && !errors.Is(err, net.ErrClosed) {
			g.logger.Error("serve the plugin's requests", "error", err)
		}
	}()
	return id, nil
}

// close ends serving and waits for it. A nil callback has ended.
func (c *callback) close() {
	if c == nil {
		return
	}
	c.once.Do(func() { _ = c.listener.Close() }) // whether or not its file is still there
	<-c.done
}
