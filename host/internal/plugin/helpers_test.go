package plugin

import (
	"io"
	"os"
	"strconv"
	"strings"
	"testing"
)

func itoa(i int) string { return strconv.Itoa(i) }

// statOf returns pid and parent of a /proc/PID/stat file; zeros when it is gone.
func statOf(path string) (pid, ppid int) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, 0
	}
	head, rest, _ := strings.Cut(string(data), " (")
	_, rest, _ = strings.Cut(rest, ") ")
	fields := strings.Fields(rest)
	if len(fields) < 2 {
		return 0, 0
	}
	pid, _ = strconv.Atoi(head)
	ppid, _ = strconv.Atoi(fields[1])
	return pid, ppid
}

// copyFile copies the test binary to path.
func copyFile(t *testing.T, path string) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	in, err := os.Open(exe)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close() }()
	out, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}
