package startup

import (
	"io"

	"github.com/hashicorp/go-hclog"
	"gopkg.in/natefinch/lumberjack.v2"
)

// newLogger writes the host's log to the data directory, rotated, and to also.
func newLogger(dir dataDir, level string, also io.Writer) (hclog.Logger, io.Closer) {
	file := &lumberjack.Logger{Filename: dir.log(), MaxSize: 10 /* MB */, MaxBackups: 5}
	var out io.Writer = file
	if also != nil {
		out = io.MultiWriter(file, also)
	}
	return hclog.New(&hclog.LoggerOptions{
		Name: "sop", Level: hclog.LevelFromString(level), Output: out, TimeFormat: "2006-01-02T15:04:05.000Z",
	}), file
}

// setLevel changes the level of a running host's log.
func setLevel(logger hclog.Logger, level string) { logger.SetLevel(hclog.LevelFromString(level)) }
