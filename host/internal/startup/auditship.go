package startup

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/mod/sumdb/note"
	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/audit"
	"github.com/sop-host/sop/host/internal/audit/ship"
	"github.com/sop-host/sop/host/internal/config"
	"github.com/sop-host/sop/sdk"
)

// archives is where archived segments of the audit log are.
func (d dataDir) archives() string { return d.join("logs", "audit") }

// openShip makes what carries the log away; it begins when it is applied.
func (h *host) openShip() {
	logger := h.logger.Named("audit")
	name, err := os.Hostname()
	if err != nil {
		logger.Warn("the host has no name for syslog", "error", err)
	}
	h.ship = ship.New(ship.Options{
		Trail:    audit.Trail{Store: h.store.Audit(), Dir: h.dir.archives()},
		Record:   func(r audit.Record) { h.facts.Record(r) },
		Warn:     func(name string, err error) { logger.Warn("audit log not carried away", "to", name, "error", err) },
		Hostname: name,
	})
}

// shipSpecs converts the configuration.
func shipSpecs(c *config.Audit) []ship.Spec {
	var out []ship.Spec
	for _, part := range []struct {
		sinks  []config.AuditSink
		mirror bool
	}{{c.Checkpoints, false}, {c.Mirrors, true}} {
		for i := range part.sinks {
			s := &part.sinks[i]
			spec := ship.Spec{
				Mirror: part.mirror, Kind: s.Kind, Target: s.Path + s.Address + s.URL, Shown: s.Target(), Format: s.Format,
				HeaderEnv: s.HeaderEnv, CAFile: s.CAFile, MaxSize: s.MaxSize, Files: s.Files,
			}
			spec.Version = fmt.Sprintf("%q", []any{spec.Target, spec.Format, spec.HeaderEnv, spec.CAFile, spec.MaxSize, spec.Files})
			out = append(out, spec)
		}
	}
	return out
}

// retention is what the configuration in force says.
func (h *host) retention() (keep time.Duration, segment uint64) {
	a := &h.loaded.Load().config.Audit
	if a.Segment == 0 {
		return a.Keep, audit.DefaultSegment
	}
	return a.Keep, uint64(a.Segment)
}

// sinkReasons says which carriers fail, one sentence each.
func sinkReasons(sinks []audit.SinkStatus) []string {
	var reasons []string
	for i := range sinks {
		if s := &sinks[i]; s.Failures > 0 {
			reasons = append(reasons, fmt.Sprintf("audit %s has failed since %s: see sop audit sinks", s.Name, s.FailingSince.Format(time.RFC3339)))
		}
	}
	return reasons
}

// verifyFile verifies an export, or an archived segment by itself.
func verifyFile(f io.Reader, notes []string, key note.Verifier) (*audit.Report, error) {
	in := bufio.NewReader(f)
	magic, err := in.Peek(2)
	if err == nil && magic[0] == 0x1f && magic[1] == 0x8b {
		return audit.VerifySegment(in, notes, key)
	}
	return audit.VerifyExport(in, notes, key)
}

// maxCheckpoints is more than a file of checkpoints has in years, in bytes.
const maxCheckpoints = 256 << 20

// ReadCheckpoints reads files with one or more signed checkpoints each.
func ReadCheckpoints(paths []string) ([]string, error) {
	var notes []string
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		if info.Size() > maxCheckpoints {
			return nil, sdk.Errorf(codes.InvalidArgument, "AUDIT_CHECKPOINT", "%s is no file of checkpoints: it is too large", path).
				WithRemedy("give what `sop audit checkpoint`, or a checkpoint \"file\" block, wrote")
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		notes = append(notes, audit.SplitCheckpoints(string(text))...)
	}
	return notes, nil
}
