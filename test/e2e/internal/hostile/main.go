// Command hostile is a detector that behaves as it is told: well, or as badly
// as a plugin can. The end-to-end tests start it. HOSTILE_MODE says how the
// process behaves, the file hostile.mode in the workspace how a scan does.
package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
)

// detectorKind serves the raw service: what the sdk's detector package would
// put right on the way goes out as it is.
var detectorKind = sdk.Kind[pluginv1.DetectorServer, any]{Name: "detector", Register: pluginv1.RegisterDetectorServer}

func main() {
	mode, arg, _ := strings.Cut(os.Getenv("HOSTILE_MODE"), ":")
	before(mode, arg)
	sdk.Serve(detectorKind, sdk.Plugin[pluginv1.DetectorServer]{
		Name: "hostile", Version: "1.0.0", Summary: "Behaves as it is told.", Impl: server{},
		Schema: sdk.Schema{Attributes: []sdk.Attribute{
			{Name: "limit", Type: sdk.Number, Default: 1, Description: "At least 0."},
			{Name: "label", Type: sdk.String, Description: "Means nothing."},
		}},
		Configure: configure,
	})
	if mode == "ignore-term" {
		block()
	}
}

func configure(_ context.Context, c *sdk.Config) error {
	caller.Store(c.Host)
	var settings struct {
		Limit int `json:"limit"`
	}
	if err := c.Decode(&settings); err != nil {
		return err
	}
	if settings.Limit < 0 {
		return &sdk.ConfigError{Attribute: "limit", Summary: "the limit is negative", Detail: "Set it to 0 or more."}
	}
	return nil
}

// before is what happens before the plugin serves, or instead.
func before(mode, arg string) {
	switch mode {
	case "print": // what is no handshake
		fmt.Println(arg)
		block()
	case "silent":
		block()
	case "exit":
		fmt.Fprintln(os.Stderr, "panic: the database is on fire")
		os.Exit(3)
	case "contract":
		fmt.Println("1|99|unix|./plugin|grpc|" + strings.Repeat("A", 60))
		block()
	case "deaf":
		fmt.Println("1|1|unix|./nobody|grpc|" + strings.Repeat("A", 60))
		block()
	case "flood-stdout":
		onceServing(func() { flood(os.NewFile(1, "stdout"), line) })
	case "flood-stderr":
		onceServing(func() { flood(os.NewFile(2, "stderr"), line) })
	case "flood-for-ever":
		onceServing(func() {
			for {
				flood(os.NewFile(1, "stdout"), line)
			}
		})
	case "long-line":
		_, _ = os.Stderr.Write(bytes.Repeat([]byte("x"), 100<<20))
		done()
	case "long-stdout":
		onceServing(func() {
			_, _ = os.NewFile(1, "stdout").Write(bytes.Repeat([]byte("y"), 100<<20))
			done()
		})
	case "bad-json":
		fmt.Fprintln(os.Stderr, `{"@message":1}`)
		fmt.Fprintln(os.Stderr, `{"@message":{"a":[1]},"@level":7,"@timestamp":false}`)
		_, _ = os.Stderr.WriteString("\xff\xfe\x00 no utf-8 \x1b[31mred\n")
		done()
	case "fork-bomb": // as many processes as it gets, and then some more
		onceServing(func() {
			for refused := 0; refused < 50; {
				if exec.Command("sleep", "300").Start() != nil {
					refused++
				}
			}
			done()
		})
	case "memory-bomb": // 2 GiB, or as far as it gets
		onceServing(func() {
			var hold [][]byte
			for range 2 << 10 {
				hold = append(hold, bytes.Repeat([]byte{1}, 1<<20))
			}
			fmt.Fprintln(os.Stderr, "has", len(hold), "MiB")
			done()
		})
	case "ignore-term":
		signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	case "grandchild":
		spawn("300", &syscall.SysProcAttr{})
	case "daemon": // leaves group and session, and loses its parent
		cmd := exec.Command("sh", "-c", "setsid sleep 300 & exit 0")
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		if err := cmd.Run(); err != nil {
			panic(err)
		}
	case "orphan": // a grandchild keeps the pipes, the plugin exits
		spawn("300", &syscall.SysProcAttr{Setsid: true})
		fmt.Fprintln(os.Stderr, "panic: gone, and not alone")
		os.Exit(4)
	}
}

// line is long enough for a flood not to be about counting lines.
var line = "a line that means nothing at all" + strings.Repeat(".", 220) + "\n"

func spawn(seconds string, attr *syscall.SysProcAttr) {
	cmd := exec.Command("sleep", seconds)
	cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = os.Stdout, os.Stderr, attr
	if err := cmd.Start(); err != nil {
		panic(err)
	}
}

// serving is closed by the first call that a host makes once it has taken the
// plugin into service.
var serving = make(chan struct{}, 1)

// onceServing runs f on the real descriptors once the plugin is in service.
func onceServing(f func()) {
	go func() {
		<-serving
		f()
	}()
}

func block() {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGUSR2)
	<-c
}

// flood writes 1 GiB.
func flood(w io.Writer, piece string) {
	chunk := bytes.Repeat([]byte(piece), (64<<10)/len(piece))
	for n := 0; n < 1<<30; n += len(chunk) {
		if _, err := w.Write(chunk); err != nil {
			return
		}
	}
	done()
}

// done tells the test that all has been written.
func done() {
	if err := os.WriteFile(os.Getenv("HOSTILE_DONE"), nil, 0o600); err != nil {
		panic(err)
	}
}

// awaitForever waits longer than any test, cancelled or not.
func awaitForever() { time.Sleep(time.Hour) }
