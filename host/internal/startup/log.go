package startup

import (
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"gopkg.in/natefinch/lumberjack.v2"
)

// newLogger writes the host's log to the data directory, rotated, and to also.
func newLogger(dir dataDir, level string, also io.Writer) (hclog.Logger, io.Closer) {
	file := &logFile{Logger: lumberjack.Logger{Filename: dir.log(), MaxSize: 10 /* MB */, MaxBackups: 5}}
	var out io.Writer = file
	if also != nil {
		out = io.MultiWriter(file, also)
	}
	return hclog.New(&hclog.LoggerOptions{
		Name: "sop", Level: hclog.LevelFromString(level), Output: out, TimeFormat: "2006-01-02T15:04:05.000Z",
	}), file
}

// logFile is the host's log. Who moves or removes it, as logrotate does, or the
// directory that it is in, has the next lines in a new one.
type logFile struct {
	lumberjack.Logger
	mu     sync.Mutex
	file   os.FileInfo // that is written to; nil: it is not known
	looked time.Time   // when it was there
}

// logLook is how long lines may go to a file that is there no more.
const logLook = time.Second

// Write implements [io.Writer].
func (l *logFile) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := time.Now(); now.Sub(l.looked) >= logLook {
		l.looked = now
		if info, err := os.Stat(l.Filename); err != nil || !os.SameFile(info, l.file) {
			_ = l.Close() // each line was written as it came; the next opens what is there, or a new one
			l.file = nil
			_ = os.MkdirAll(filepath.Dir(l.Filename), 0o700) // where it cannot be made the line cannot be written, which is said
		}
	}
	n, err := l.Logger.Write(line)
	if l.file == nil {
		l.file, _ = os.Stat(l.Filename) // or the next line looks again
	}
	return n, err
}

// setLevel changes the level of a running host's log.
func setLevel(logger hclog.Logger, level string) { logger.SetLevel(hclog.LevelFromString(level)) }
