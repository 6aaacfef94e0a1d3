package startup

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sop-host/sop/host/internal/api"
)

// serviceManager is told how the host stands, by sd_notify(3). Its zero value is
// of a host that no service manager has started: nothing is told.
type serviceManager struct {
	socket   string        // a path, or an abstract name after @
	watchdog time.Duration // it wants to hear that the host lives this often; 0: not
}

// newServiceManager reads what a service manager says in the environment.
func newServiceManager(env func(string) string) serviceManager {
	m := serviceManager{socket: env("NOTIFY_SOCKET")}
	if pid := env("WATCHDOG_PID"); pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return m // it is meant for another process
	}
	if usec, err := strconv.ParseInt(env("WATCHDOG_USEC"), 10, 64); err == nil && usec > 0 && m.socket != "" {
		m.watchdog = time.Duration(usec) * time.Microsecond
	}
	return m
}

// tell sends assignments in one message.
func (m serviceManager) tell(assignments ...string) error {
	if m.socket == "" {
		return nil
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: m.socket, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("tell the service manager: %w", err)
	}
	_, err = conn.Write([]byte(strings.Join(assignments, "\n")))
	return errors.Join(err, conn.Close())
}

// notify tells the service manager, and the log where that fails.
func (h *host) notify(assignments ...string) {
	if err := h.manager.tell(assignments...); err != nil {
		h.logger.Warn("the service manager could not be told", "what", assignments[0], "error", err)
	}
}

// notifyReady says that the host is in service, and how.
func (h *host) notifyReady() {
	status := "STATUS=in service"
	if reasons := h.degraded(); len(reasons) > 0 {
		status = "STATUS=degraded: " + strings.ReplaceAll(reasons[0], "\n", " ")
	}
	h.notify("READY=1", status)
}

// notifyReloading says that the configuration is being read, as of which moment.
func (h *host) notifyReloading() {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		h.logger.Warn("read the monotonic clock", "error", err)
		return
	}
	h.notify("RELOADING=1", "MONOTONIC_USEC="+strconv.FormatInt(now.Nano()/int64(time.Microsecond/time.Nanosecond), 10), "STATUS=reloading")
}

// feedWatchdog says that the host lives, twice as often as is wanted, and only
// while it does.
func (h *host) feedWatchdog(ctx context.Context) {
	if h.manager.watchdog == 0 {
		return
	}
	feedWhile(ctx, h.manager.watchdog/2, h.alive, func() { h.notify("WATCHDOG=1") }, func(err error) {
		h.logger.Error("the host does not answer itself; the service manager is not told that it lives", "error", err)
	})
}

// feedWhile feeds as often as alive returns nil within the time, until ctx is done,
// and tells what is wrong otherwise.
func feedWhile(ctx context.Context, every time.Duration, alive func(ctx context.Context, within time.Duration) error, feed func(), wrong func(error)) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		if err := alive(ctx, every); err == nil {
			feed()
		} else if ctx.Err() == nil {
			wrong(err)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// mainLoop is asked whether it still turns.
type mainLoop struct {
	asked     chan struct{}             // received from at each turn
	reloading atomic.Pointer[time.Time] // since when; nil: it does not
}

// longestReload is how long a reload may hold up the main loop before the loop
// counts as hanging: plugins and drains have deadlines that are shorter.
const longestReload = 10 * time.Minute

// reload has the loop reload, which may take long.
func (l *mainLoop) reload(work func()) {
	now := time.Now()
	l.reloading.Store(&now)
	defer l.reloading.Store(nil)
	work()
}

// turns says that the loop turns, or why it is thought to hang when ctx is done.
func (l *mainLoop) turns(ctx context.Context) error {
	if since := l.reloading.Load(); since != nil && time.Since(*since) < longestReload {
		return nil
	}
	select {
	case l.asked <- struct{}{}:
		return nil
	case <-ctx.Done():
		return errors.New("the main loop does not answer")
	}
}

// alive finds out whether the host still answers: its main loop, its API, as anybody
// would ask, and whether the store and the supervisors do. What they answer does not
// matter: a full disk is not mended by a restart.
func (h *host) alive(ctx context.Context, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	if err := h.loop.turns(ctx); err != nil {
		return err
	}
	if err := h.askHealth(ctx); err != nil {
		return err
	}
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		_ = h.store.Writable(ctx) // that there is an answer counts
		h.pool.Status()
		h.components.Status()
	}()
	select {
	case <-answered:
		return ctx.Err()
	case <-ctx.Done():
		return errors.New("the store or a supervisor does not answer")
	}
}

func (h *host) askHealth(ctx context.Context) error {
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return api.Dial(ctx, h.dir.socket())
	}}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://sop/healthz", nil)
	if err != nil {
		return err
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return fmt.Errorf("the API does not answer: %w", err)
	}
	return resp.Body.Close()
}
