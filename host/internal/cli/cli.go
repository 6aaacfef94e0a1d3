package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	xterm "golang.org/x/term"

	"github.com/sop-host/sop/host/internal/cli/term"
)

// Streams are where a command reads and writes.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
	// OutTerminal and ErrTerminal say that a person looks at them.
	OutTerminal, ErrTerminal bool
	// Size answers how many columns and rows Out has; nil or 0 stand for no
	// limit.
	Size func() (columns, rows int)
}

// Standard returns the streams of the process.
func Standard() Streams {
	out := int(os.Stdout.Fd())
	return Streams{
		In: os.Stdin, Out: os.Stdout, Err: os.Stderr,
		OutTerminal: xterm.IsTerminal(out),
		ErrTerminal: xterm.IsTerminal(int(os.Stderr.Fd())),
		Size: func() (columns, rows int) {
			columns, rows, err := xterm.GetSize(out)
			if err != nil {
				return 0, 0
			}
			return columns, rows
		},
	}
}

// Main runs the command that args, without the program's name, ask for and
// returns the exit code of the process. The first interrupt ends the command in
// an orderly way, the second ends the process at once.
func Main(ctx context.Context, args []string, streams Streams) int {
	ctx, stop := interruptible(ctx, os.Exit)
	defer stop()
	a := &app{
		Streams: streams,
		own:     newOwn(args),
		env:     os.Getenv,
		now:     time.Now,
		program: programName(os.Args[0]),
	}
	return a.execute(ctx, args)
}

// app is what all commands share.
type app struct {
	Streams
	own
	env    func(string) string
	now    func() time.Time
	global globals
	// outMayEnd says that the command goes on when nobody reads its output.
	outMayEnd bool
	// program is what to type to call this program again; "" is "sop".
	program string
}

// programName is what a person types for the program that was started as arg0:
// its path as far as it was typed, and its name when it lies in PATH.
func programName(arg0 string) string {
	if strings.ContainsRune(arg0, filepath.Separator) {
		return arg0
	}
	return "sop"
}

// globals are the flags that every command takes.
type globals struct {
	config     string
	socket     string
	pluginsDir string
	output     string
	noColor    bool
	timeout    time.Duration
	remote     remote
}

const (
	outputTable = "table"
	outputJSON  = "json"
	outputSARIF = "sarif"
)

// say writes a part of the result. Where that fails, execute reports it.
func (a *app) say(format string, args ...any) { _, _ = fmt.Fprintf(a.Out, format, args...) }

// note writes to people what is no part of the result.
func (a *app) note(format string, args ...any) { _, _ = fmt.Fprintf(a.Err, format, args...) }

// checkedWriter remembers the first error of its writer.
type checkedWriter struct {
	w   io.Writer
	err error
}

// Write implements io.Writer.
func (c *checkedWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	if c.err == nil {
		c.err = err
	}
	return n, err
}

func (a *app) json() bool { return a.global.output == outputJSON }

func (a *app) palette(terminal bool) term.Palette {
	return term.Palette(terminal && !a.global.noColor && a.env("NO_COLOR") == "" && a.env("TERM") != "dumb")
}

// table returns a table that fits the terminal, or one without limit when
// nobody looks.
func (a *app) table(flex int, header ...string) *term.Table {
	return term.NewTable(a.palette(a.OutTerminal), a.width(), flex, header...)
}

func (a *app) width() int {
	columns, _ := a.size()
	return columns
}

// size is that of the terminal, or 0 and 0 where nobody looks.
func (a *app) size() (columns, rows int) {
	if !a.OutTerminal || a.Size == nil {
		return 0, 0
	}
	return a.Size()
}

// bounded limits a call by --timeout, or by usual when that is not given.
// A limit of zero is none.
func (a *app) bounded(ctx context.Context, usual time.Duration) (context.Context, context.CancelFunc) {
	limit := usual
	if a.global.timeout > 0 {
		limit = a.global.timeout
	}
	if limit == 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, limit)
}

// pluginsDir is where the bundled plugins are: beside the program unless told
// otherwise.
func (a *app) pluginsDir() string {
	for _, dir := range []string{a.global.pluginsDir, a.env("SOP_PLUGINS_DIR")} {
		if dir != "" {
			return dir
		}
	}
	program, err := os.Executable()
	if err != nil {
		return "plugins"
	}
	if real, err := filepath.EvalSymlinks(program); err == nil {
		program = real
	}
	return filepath.Join(filepath.Dir(program), "plugins")
}
