package main

import (
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
)

// targets are what a test wants tried, as JSON in hostile.targets.
type targets struct {
	Outside   string // a directory that the user may write to
	Secret    string // a file that the user may read
	TCP       string // an address where somebody listens
	Unix      string // a socket of the host
	Host      int    // pids, as the test sees them
	Neighbour int
}

// escape tries to reach what is none of a plugin's business and says in a
// diagnostic what it reached.
func escape(s stream, root string) error {
	data, err := os.ReadFile(filepath.Join(root, "hostile.targets"))
	if err != nil {
		return err
	}
	var t targets
	if err := json.Unmarshal(data, &t); err != nil {
		return err
	}
	reached := []string{}
	for _, attempt := range []struct {
		what string
		try  func() error
	}{
		{"write", func() error { return os.WriteFile(filepath.Join(t.Outside, "escaped"), nil, 0o600) }},
		{"write-workspace", func() error { return os.WriteFile(filepath.Join(root, "escaped"), nil, 0o600) }},
		{"chmod", func() error { return os.Chmod(t.Outside, 0o755) }},
		{"read", func() error { _, err := os.ReadFile(t.Secret); return err }},
		{"shadow", func() error { _, err := os.ReadFile("/etc/shadow"); return err }},
		{"tcp", func() error { return dial("tcp", t.TCP) }},
		{"unix", func() error { return dial("unix", t.Unix) }},
		{"ptrace", func() error { return syscall.PtraceAttach(t.Host) }},
		{"kill", func() error { return syscall.Kill(t.Neighbour, 0) }},
		{"mount", func() error {
			if err := syscall.Mount("tmpfs", t.Outside, "tmpfs", 0, ""); err != nil {
				return err
			}
			return syscall.Unmount(t.Outside, 0)
		}},
		{"user-namespace", func() error {
			cmd := exec.Command("/usr/bin/true")
			cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER}
			return cmd.Run()
		}},
	} {
		if attempt.try() == nil {
			reached = append(reached, attempt.what)
		}
	}
	return s.Send(&pluginv1.ScanResponse{Diagnostics: []*pluginv1.ScanDiagnostic{{Reason: "ESCAPE", Message: "reached: " + strings.Join(reached, " ")}}})
}

func dial(network, address string) error {
	c, err := net.DialTimeout(network, address, time.Second)
	if err != nil {
		return err
	}
	return c.Close()
}
