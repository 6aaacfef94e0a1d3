package sandbox

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/sop-host/sop/host/internal/sandbox/launch"
)

// A Service is a program that its host talks to while it runs, over sockets
// with a path. Who starts it vouches for what it is given: the rules for the
// environment and the program of a command do not hold for it.
type Service struct {
	// Program is executed as it is open, whatever its name has become. A
	// script's interpreter opens it by its name, Argv[0], which is shown.
	Program *os.File
	Script  bool
	// Env is added to what every command has.
	Env func(Places) []string
	// Callback is a directory of the host, shown read-only as [CallbackDir],
	// where the host listens; "" for none. The service cannot reach it at the
	// levels without namespaces.
	Callback string
	// Ready is called once, when the sandbox is in force and before the program
	// begins, with the directory in which the service makes its sockets. It must
	// not block, and closes the directory when it is done with it.
	Ready func(Places, *os.File)
	// Stdout and Stderr are written what the service writes, as it comes; the
	// beginning is kept as of every command.
	Stdout, Stderr io.Writer
}

// CallbackDir is where a service finds its host's sockets.
const CallbackDir = launch.CallbackDir

// Places are where a command finds what is its own.
type Places struct {
	Workspace, Home, Temp string
	Sockets               string // of a service
}

// builtPlaces are those in a root that is built.
var builtPlaces = Places{launch.WorkspaceDir, launch.HomeDir, launch.TempDir, launch.SocketsDir}

// maxSocketsDir leaves room for the name of a socket in its address, which has
// 107 bytes.
const maxSocketsDir = 80

// addService adds to a plan what a service needs beside a command.
func addService(p *launch.Plan, s *Service, own Places) {
	if s == nil {
		return
	}
	p.Serves, p.Script = true, s.Script
	p.Env = append(p.Env, s.Env(own)...)
	p.Writable = append(p.Writable, own.Sockets)
	if s.Script {
		p.Mounts = append(p.Mounts, launch.Mount{Tree: launch.Tree{Path: p.Argv[0]}, Target: p.Argv[0]})
	}
	if s.Callback != "" && own == builtPlaces {
		p.Mounts = append(p.Mounts, launch.Mount{Tree: launch.Tree{Path: s.Callback}, Target: launch.CallbackDir})
	}
}

// ready hands a service's sockets over.
func (a *attempt) ready(m *received) {
	s := a.spec.Service
	if s == nil {
		return
	}
	if a.out.private != nil {
		dir, err := os.Open(a.own.Sockets)
		if err != nil {
			a.lose("sockets: " + err.Error())
			a.kill()
			return
		}
		s.Ready(a.own, dir)
		return
	}
	s.Ready(a.own, os.NewFile(uintptr(m.take()), "sockets"))
}

// OpenSocket opens a socket that a service has made, without following a link
// that may lie in its place. It is reached as /proc/self/fd/N.
func OpenSocket(dir *os.File, name string) (*os.File, error) {
	fd, err := unix.Openat2(int(dir.Fd()), name, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC | unix.O_NOFOLLOW,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
	})
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	var s unix.Stat_t
	err = unix.Fstat(fd, &s)
	if err == nil && s.Mode&unix.S_IFMT != unix.S_IFSOCK {
		err = errors.New("it is no socket")
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", name, err), unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), name), nil
}
