package e2e_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// machine is a systemd that runs as the first process of namespaces of its own, with
// no unit but those that it is given. It ends with the test.
type machine struct {
	t       *testing.T
	unit    string
	pid     int // of systemd, from outside
	console string
}

// bootScript makes the file systems of a machine in a mount namespace of its own, and
// becomes its systemd. $1 has its units, $2 is systemd.
const bootScript = `set -e
mount --make-rprivate /
mount -t proc proc /proc
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/lib
mount -t tmpfs tmpfs /etc/systemd/system
if test -d /usr/lib/systemd/system-generators; then mount -t tmpfs tmpfs /usr/lib/systemd/system-generators; fi
mount --bind "$1" /usr/lib/systemd/system
umount -l /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup
mkdir -p /run/lock
exec env -i container=test PATH="$PATH" "$2" --system --unit=multi-user.target --log-target=console --log-color=no
`

// boot starts a machine that has a unit.
func boot(t *testing.T, name, unit string) *machine {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root can start a systemd of its own")
	}
	const systemd = "/usr/lib/systemd/systemd"
	for _, program := range []string{systemd, "systemctl", "nsenter", "mount"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("no systemd can be started: %v", err)
		}
	}
	dir := t.TempDir()
	units := filepath.Join(dir, "units")
	if err := os.Mkdir(units, 0o755); err != nil {
		t.Fatal(err)
	}
	files := map[string]string{name: unit}
	for _, target := range []string{"basic", "sysinit", "multi-user", "shutdown", "network", "local-fs", "umount", "final", "default"} {
		files[target+".target"] = "[Unit]\nDescription=" + target + "\nDefaultDependencies=no\n"
	}
	files["system.slice"] = "[Unit]\nDescription=system\nDefaultDependencies=no\n"
	for file, text := range files {
		if err := os.WriteFile(filepath.Join(units, file), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	m := &machine{t: t, unit: name, console: filepath.Join(dir, "console")}
	console, err := os.Create(m.console)
	if err != nil {
		t.Fatal(err)
	}
	defer console.Close() // systemd has its own
	cmd := exec.Command("sh", "-c", bootScript, "sh", units, systemd)
	cmd.Stdout, cmd.Stderr = console, console
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC | syscall.CLONE_NEWCGROUP,
		Setsid:     true,
	}
	if err := cmd.Start(); err != nil {
		t.Skipf("no systemd can be started here: %v", err)
	}
	m.pid = cmd.Process.Pid
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // it is killed
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // and all in its namespace
		<-ended
	})
	running := eventually(patience, func() bool {
		state, _ := m.run("systemctl", "is-system-running")
		select {
		case <-ended:
			return true
		default:
			return state == "running\n" || state == "degraded\n"
		}
	})
	select {
	case <-ended:
		t.Skipf("no systemd can be started here: %s", tail(m.console, 5))
	default:
	}
	if !running {
		t.Fatalf("systemd does not come up: %s", tail(m.console, 20))
	}
	return m
}

// run runs a program in the machine and returns what it says.
func (m *machine) run(args ...string) (string, error) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	enter := []string{"-t", strconv.Itoa(m.pid), "-p", "-m", "-u", "-i", "-C", "env", "SYSTEMD_IGNORE_CHROOT=1", "SYSTEMD_PAGER=", "SYSTEMD_COLORS=0"}
	cmd := exec.CommandContext(ctx, "nsenter", append(enter, args...)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, stderr.String())
	}
	return stdout.String(), nil
}

// must runs a program that succeeds.
func (m *machine) must(args ...string) string {
	m.t.Helper()
	out, err := m.run(args...)
	if err != nil {
		m.t.Fatalf("%v\nconsole:\n%s", err, tail(m.console, 20))
	}
	return out
}

// show returns a property of the unit.
func (m *machine) show(property string) string {
	m.t.Helper()
	return strings.TrimSpace(m.must("systemctl", "show", m.unit, "--property", property, "--value"))
}
