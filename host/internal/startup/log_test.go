package startup

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"gopkg.in/natefinch/lumberjack.v2"
)

// Who moves or removes the log of a running host, or the directory that it is in,
// finds what comes then in a new one.
func TestLogFileIsFollowed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "logs")
	path := filepath.Join(dir, "host.log")
	l := &logFile{Logger: lumberjack.Logger{Filename: path}}
	defer func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}()
	write := func(line string) {
		t.Helper()
		l.looked = time.Time{} // it is time to look
		if _, err := l.Write([]byte(line)); err != nil {
			t.Fatal(err)
		}
	}
	holds := func(path, want string) {
		t.Helper()
		if got, err := os.ReadFile(path); err != nil || string(got) != want {
			t.Errorf("%s holds %q, want %q: %v", path, got, want, err)
		}
	}
	write("1\n")
	write("2\n")
	holds(path, "1\n2\n")
	if err := os.Rename(path, path+".old"); err != nil {
		t.Fatal(err)
	}
	write("3\n")
	holds(path+".old", "1\n2\n")
	holds(path, "3\n")
	if err := os.Rename(path+".old", path); err != nil { // another is put in its place
		t.Fatal(err)
	}
	write("4\n")
	holds(path, "1\n2\n4\n")
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	write("5\n")
	holds(path, "5\n")
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the directory is made anew with %v, %v", info.Mode(), err)
	}
}
