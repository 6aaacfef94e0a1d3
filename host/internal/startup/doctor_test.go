package startup

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sop-host/sop/host/internal/backup"
	"github.com/sop-host/sop/host/internal/doctor"
	"github.com/sop-host/sop/host/internal/store"
	"github.com/sop-host/sop/host/internal/token"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

// found returns what a check says.
func found(t *testing.T, r *doctor.Report, check string) doctor.Result {
	t.Helper()
	for _, c := range r.Checks {
		if c.Check == check {
			return c
		}
	}
	t.Fatalf("nothing was examined as %s", check)
	return doctor.Result{}
}

// A clock that has gone back behind what the store has seen is found.
func TestDoctorClock(t *testing.T) {
	dir := t.TempDir()
	if err := dataDir(dir).create(); err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(t.Context(), dataDir(dir).database())
	if err != nil {
		t.Fatal(err)
	}
	ahead := time.Now().Add(3 * time.Hour)
	err = db.Tokens().Update(t.Context(), func(tx token.Tx) error { return tx.SetClock(t.Context(), ahead) })
	if err = errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	report := Doctor(t.Context(), Examination{ConfigPath: filepath.Join(dir, "config.hcl"), DataDir: dir})
	clock := found(t, report, "clock")
	if clock.State != doctor.Failed || len(clock.Findings) != 1 || !strings.Contains(clock.Findings[0].Message, "the clock is 3h0m0s behind the latest time") {
		t.Errorf("%+v", clock)
	}
	if c := found(t, report, "config"); c.State != doctor.Failed || report.State != doctor.Failed {
		t.Errorf("a configuration that is missing: %+v", c)
	}
	if c := found(t, report, "store"); c.State != doctor.OK {
		t.Errorf("%+v", c)
	}
}

// What is heard of a host decides what is said of it.
func TestDoctorHost(t *testing.T) {
	status := func(state, version string, reasons ...string) *apiv1.Status {
		return &apiv1.Status{State: state, Version: version, Pid: 7, StartedAt: timestamppb.New(time.Unix(0, 0)), Reasons: reasons}
	}
	for name, tt := range map[string]struct {
		status  *apiv1.Status
		running bool
		err     error
		want    doctor.State
		says    string
	}{
		"none":      {nil, false, errors.New("nothing listens"), doctor.OK, "no host runs"},
		"hangs":     {nil, true, context.DeadlineExceeded, doctor.Failed, "does not say how it stands"},
		"well":      {status("ok", "1"), true, nil, doctor.OK, "version 1 runs, pid 7"},
		"degraded":  {status("degraded", "1", "plugin x has failed"), true, nil, doctor.Warning, "plugin x has failed"},
		"failed":    {status("failed", "1", "component x has failed"), true, nil, doctor.Failed, "component x has failed"},
		"out of it": {status("ok", "0"), true, nil, doctor.Warning, "the host is version 0, this program is 1"},
	} {
		t.Run(name, func(t *testing.T) {
			p := &patient{dir: dataDir(t.TempDir()), Examination: Examination{Version: "1", Host: func(context.Context) (*apiv1.Status, bool, error) { return tt.status, tt.running, tt.err }}}
			got := doctor.Run(t.Context(), []doctor.Check{{Name: "host", Limit: time.Minute, Examine: p.examineHost}})
			var text string
			for _, f := range got.Checks[0].Findings {
				text += f.Message + "\n"
			}
			if got.State != tt.want || !strings.Contains(text, tt.says) {
				t.Errorf("%s: %s", got.State, text)
			}
		})
	}
}

// Backups that failed, are overdue, or were never made are told apart.
func TestDoctorBackups(t *testing.T) {
	now := time.Now()
	s := &backup.Schedule{Name: "nightly", Every: map[backup.Work]time.Duration{backup.Save: 24 * time.Hour}}
	run := func(ago time.Duration, reason string) *backup.Run {
		return &backup.Run{Schedule: "nightly", Work: backup.Save, StartedAt: now.Add(-ago), EndedAt: now.Add(-ago), Reason: reason, Message: reason}
	}
	less := run(time.Hour, "")
	less.Message = "not compared"
	for _, tt := range []struct {
		runs []*backup.Run
		want doctor.State
		says string
	}{
		{nil, doctor.Warning, "never saved"},
		{[]*backup.Run{run(time.Hour, "")}, doctor.OK, "was saved at"},
		{[]*backup.Run{less}, doctor.OK, ": not compared"},
		{[]*backup.Run{run(50*time.Hour, "")}, doctor.Warning, "50h0m0s ago, and is to be every 24h0m0s"},
		{[]*backup.Run{run(25*time.Hour, ""), run(time.Hour, "DISK_FULL")}, doctor.Failed, "could not be saved: DISK_FULL"},
	} {
		got := examineSchedule(now, s, tt.runs)
		if len(got) != 1 || got[0].State != tt.want || !strings.Contains(got[0].Message, tt.says) {
			t.Errorf("%+v, want %s: %s", got, tt.want, tt.says)
		}
	}
}

// A directory of somebody else's, and files that others may read, are found;
// what is nobody's secret is not.
func TestDoctorPermissions(t *testing.T) {
	dir := t.TempDir()
	if err := dataDir(dir).create(); err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]os.FileMode{"audit.pub": 0o644, "audit.key": 0o600, "agent.key": 0o604} {
		path := filepath.Join(dir, "state", name)
		if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	p := &patient{dir: dataDir(dir)}
	got := p.examinePermissions(t.Context())
	if len(got) != 1 || got[0].State != doctor.Failed || got[0].Remedy != "chmod 0600 "+filepath.Join(dir, "state", "agent.key") {
		t.Errorf("%+v", got)
	}
}
