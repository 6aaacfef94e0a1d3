package main

import (
	"bufio"
	"container/list"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/sdk"
)

const (
	writeQueue  = 256  // messages that wait to be written
	ahead       = 256  // pieces of a result that the program may be ahead of who takes them
	latest      = 4096 // requests nobody waits for whose late answers are known
	logInterval = time.Second
	killWait    = 5 * time.Second
)

// program is one run of the program, from its start to its end.
type program struct {
	set      *settings
	count    *counters
	logger   hclog.Logger
	cmd      *exec.Cmd
	in       *os.File // its standard input
	messages chan []byte
	exited   chan struct{} // closed when it has ended; err says how
	err      error
	quiet    rarely

	mu       sync.Mutex
	ended    bool
	why      error // why it is being ended; nil: by itself
	waiting  map[string]*request
	order    *list.List // of *request, as they were sent
	late     map[string]bool
	lateness []string // the keys of late, oldest first
	next     uint64
}

// request is one that is on its way.
type request struct {
	id      string
	place   *list.Element
	answers chan *answer  // closed by nobody; the last has a result, an error or an end
	overrun chan struct{} // closed when they came faster than they were taken
}

// launches start programs on a thread that lasts, since a program is killed with
// the thread that started it.
var launches = sync.OnceValue(func() chan<- func() {
	work := make(chan func())
	go launch(work)
	return work
})

func launch(work <-chan func()) {
	runtime.LockOSThread()
	for f := range work {
		f()
	}
}

// start runs the program.
func start(set *settings, count *counters, logger hclog.Logger) (*program, error) {
	childIn, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	out, childOut, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, childIn.Close(), in.Close())
	}
	complaints, childErr, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, childIn.Close(), in.Close(), out.Close(), childOut.Close())
	}
	cmd := exec.Command(set.Command[0], set.Command[1:]...) //nolint:noctx // it lives as long as the plugin
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = set.Directory, childIn, childOut, childErr
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LANG=C.UTF-8"}
	for name, value := range set.Env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started := make(chan error, 1)
	launches() <- func() { started <- cmd.Start() }
	err = errors.Join(<-started, childIn.Close(), childOut.Close(), childErr.Close())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", set.Command[0], err), in.Close(), out.Close(), complaints.Close())
	}
	p := &program{
		set: set, count: count, logger: logger, cmd: cmd, in: in, messages: make(chan []byte, writeQueue), exited: make(chan struct{}),
		waiting: make(map[string]*request), order: list.New(), late: make(map[string]bool),
	}
	go p.write()
	go p.log(complaints)
	go p.run(out)
	return p, nil
}

// run reads what the program says until it ends.
func (p *program) run(out *os.File) {
	read := make(chan error, 1)
	go func() { read <- p.read(out) }()
	waited := make(chan error, 1)
	go func() { waited <- p.cmd.Wait() }()
	var err error
	select {
	case err = <-read: // it has closed its output, or is not to be understood
		p.end(err)
		p.kill(p.set.stopGrace)
		<-waited //nolint:errcheck // it is going away
	case err = <-waited:
		p.kill(0) // what it has left
		_ = out.SetReadDeadline(time.Now().Add(logInterval))
		<-read //nolint:errcheck // it is going away
	}
	p.mu.Lock()
	p.ended = true
	switch {
	case p.why != nil:
		p.err = p.why
	case err == nil || errors.Is(err, io.EOF):
		p.err = errors.New("the program has ended: " + p.cmd.ProcessState.String())
	default:
		p.err = fmt.Errorf("the program has ended: %w", err)
	}
	p.mu.Unlock()
	close(p.exited)
	_ = out.Close() // it has been read to the end
	_ = p.in.Close()
}

// end says why the program is to end, once.
func (p *program) end(why error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.why == nil && why != nil && !errors.Is(why, io.EOF) {
		p.why = why
	}
}

// kill ends the program and all that it started: its input ends first, then it is
// asked, each for half the grace, and then it is killed.
func (p *program) kill(grace time.Duration) {
	group := -p.cmd.Process.Pid
	if grace > 0 {
		_ = p.in.Close() // it may be closed already
		if p.gone(grace / 2) {
			_ = syscall.Kill(group, syscall.SIGKILL) // what it left behind
			return
		}
		_ = syscall.Kill(group, syscall.SIGTERM)
		p.gone(grace / 2)
	}
	_ = syscall.Kill(group, syscall.SIGKILL) // nobody is there, or nobody is left
}

// gone waits until the program's process is no more.
func (p *program) gone(within time.Duration) bool {
	timer := time.NewTimer(within)
	defer timer.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-p.exited:
			return true
		case <-timer.C:
			return false
		case <-tick.C:
			if syscall.Kill(p.cmd.Process.Pid, 0) != nil {
				return true
			}
		}
	}
}

// stop ends the program and waits for it.
func (p *program) stop() {
	p.end(errStopped)
	p.kill(p.set.stopGrace)
	timer := time.NewTimer(killWait)
	defer timer.Stop()
	select {
	case <-p.exited:
	case <-timer.C:
		p.logger.Error("the program still runs after SIGKILL", "pid", p.cmd.Process.Pid)
	}
}

var errStopped = errors.New("the program was stopped")

// write writes messages. One that the program leaves unread for too long ends it.
func (p *program) write() {
	for {
		select {
		case <-p.exited:
			return
		case message := <-p.messages:
			if err := p.in.SetWriteDeadline(time.Now().Add(p.set.stall)); err != nil {
				p.end(err)
			}
			if _, err := p.in.Write(message); err != nil {
				if errors.Is(err, os.ErrDeadlineExceeded) {
					p.count.add("stalled")
					err = fmt.Errorf("the program has left its input unread for %s", p.set.stall)
				}
				p.end(err)
				p.kill(0)
				return
			}
		}
	}
}

// log passes on what the program complains about, at most maxComplaint bytes a
// line, and reads on whatever it is.
func (p *program) log(complaints *os.File) {
	const maxComplaint = 4096
	defer func() { _ = complaints.Close() }()
	r := bufio.NewReaderSize(complaints, maxComplaint)
	for {
		line, err := r.ReadSlice('\n')
		if len(line) > 0 {
			p.logger.Info("program", "says", clipLine(line))
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return
		}
	}
}

// read hands out answers until the stream ends, or cannot be followed any more.
func (p *program) read(out io.Reader) error {
	r := bufio.NewReaderSize(out, 64<<10)
	frames := framingOf(p.set.Framing)
	for {
		message, err := frames.read(r, p.set.MaxMessage)
		switch {
		case errors.Is(err, errTooLong) && p.set.Framing == framingLines:
			p.count.add("oversize")
			p.complain("an answer is longer than max_message and was left out")
			continue
		case err != nil:
			if !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrDeadlineExceeded) {
				p.count.add("invalid")
			}
			return err
		}
		var a answer
		if err := json.Unmarshal(message, &a); err != nil || a.id() == "" || a.id() == "null" {
			p.count.add("invalid")
			p.complain("what is no answer was left out: " + clip(string(message)))
			continue
		}
		p.dispatch(&a)
	}
}

// complain logs, now and then.
func (p *program) complain(what string) {
	if left := p.quiet.due(time.Now()); left >= 0 {
		p.logger.Warn(what, "and_more", left)
	}
}

// dispatch gives an answer to whoever waits for it.
func (p *program) dispatch(a *answer) {
	id := a.id()
	p.mu.Lock()
	r := p.waiting[id]
	late := p.late[id]
	if r == nil {
		p.mu.Unlock()
		if late {
			p.count.add("late")
		} else {
			p.count.add("unknown_id")
			p.complain("an answer to what nobody asked was left out, id " + clip(id))
		}
		return
	}
	final := a.Error != nil || a.End || a.Chunk == nil
	if final {
		if p.order.Front() != r.place {
			p.count.add("out_of_order")
		}
		p.forgetLocked(r)
	}
	p.mu.Unlock()
	select {
	case r.answers <- a:
	default: // who is slow does not hold up the others
		p.count.add("overrun")
		p.mu.Lock()
		p.giveUpLocked(r)
		p.mu.Unlock()
		close(r.overrun)
	}
}

func (p *program) forgetLocked(r *request) {
	if p.waiting[r.id] == r {
		delete(p.waiting, r.id)
		p.order.Remove(r.place)
	}
}

func (p *program) hasEnded() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ended
}

// begin makes a request known; it returns nil when the program has ended.
func (p *program) begin() *request {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return nil
	}
	p.next++
	r := &request{id: fmt.Sprint(p.next), answers: make(chan *answer, ahead), overrun: make(chan struct{})}
	p.waiting[r.id] = r
	r.place = p.order.PushBack(r)
	return r
}

// abandon ends a request, answered or not. A late answer is known as such.
func (p *program) abandon(r *request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waiting[r.id] == r {
		p.giveUpLocked(r)
	}
}

// giveUpLocked forgets a request, but that answers to it are late.
func (p *program) giveUpLocked(r *request) {
	p.forgetLocked(r)
	p.late[r.id] = true
	p.lateness = append(p.lateness, r.id)
	if len(p.lateness) > latest {
		delete(p.late, p.lateness[0])
		p.lateness = p.lateness[1:]
	}
}

// down says that the program has ended.
func (p *program) down() *sdk.Error {
	e := sdk.Errorf(codes.Unavailable, "PEER_ENDED", "%w", p.err).WithRemedy("see the log of the plugin; the program is started again")
	e.Retryable = true
	return e
}

// rarely lets one thing through at a time.
type rarely struct {
	mu   sync.Mutex
	last time.Time
	left int
}

// due returns how many were left out since the last, or -1 for this one too.
func (r *rarely) due(now time.Time) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.Sub(r.last) < logInterval {
		r.left++
		return -1
	}
	left := r.left
	r.last, r.left = now, 0
	return left
}
