package startup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sop-host/sop/host/internal/backup"
	"github.com/sop-host/sop/host/internal/config"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

// startSchedules begins to save and verify as configured.
func (h *host) startSchedules(ctx context.Context, undo *closers, first *loaded) error {
	schedules := backup.NewScheduler(backup.SchedulerOptions{Service: h.backups, Maintainer: h.maintained, Changed: h.changed.Tell})
	undo.add(func() error { schedules.Close(); return nil })
	h.schedules.Store(schedules)
	return schedules.Apply(ctx, schedulesOf(first.config))
}

// endSchedule is how long what a schedule does may take to end when the schedule
// has changed.
const endSchedule = 30 * time.Second

// applySchedules takes over the schedules of a configuration.
func (h *host) applySchedules(ctx context.Context, cfg *config.Config) {
	ctx, cancel := context.WithTimeout(ctx, endSchedule)
	defer cancel()
	if err := h.schedules.Load().Apply(ctx, schedulesOf(cfg)); err != nil {
		h.logger.Error("take over the schedules of backups", "error", err)
	}
}

func schedulesOf(cfg *config.Config) []backup.Schedule {
	out := make([]backup.Schedule, len(cfg.Backups))
	for i, b := range cfg.Backups {
		out[i] = backup.Schedule{
			Name: b.Name, Plugin: b.Plugin, Workspace: b.Workspace, Retain: backup.Retention{Last: b.KeepLast, Within: b.KeepWithin},
			Every: map[backup.Work]time.Duration{backup.Save: b.Interval, backup.Structure: b.Structure, backup.Data: b.Data, backup.Drill: b.Drill},
		}
	}
	return out
}

// scheduleStatuses say how the schedules stand.
func (h *host) scheduleStatuses() (out []*apiv1.BackupScheduleStatus) {
	schedules := h.schedules.Load()
	if schedules == nil {
		return nil
	}
	for _, st := range schedules.Standings() {
		s := &apiv1.BackupScheduleStatus{Schedule: st.Schedule, Plugin: st.Plugin, Workspace: st.Workspace}
		for _, w := range st.Works {
			if w.Running {
				s.Running = string(w.Work)
			}
			if problem := w.Problem(); problem != "" {
				s.Problems = append(s.Problems, fmt.Sprintf("%s failed: %s", w.Work, problem))
			}
			if w.Work == backup.Save && !w.Due.IsZero() {
				s.NextSave = timestamppb.New(w.Due)
			}
			if w.LastOK != nil {
				*lastOf(s, w.Work) = timestamppb.New(w.LastOK.EndedAt)
			}
		}
		out = append(out, s)
	}
	return out
}

// lastOf is where a status says when a work was last done.
func lastOf(s *apiv1.BackupScheduleStatus, w backup.Work) **timestamppb.Timestamp {
	switch w {
	case backup.Structure:
		return &s.LastVerification
	case backup.Data:
		return &s.LastDataVerification
	case backup.Drill:
		return &s.LastDrill
	}
	return &s.LastSave
}

// backupReasons says what is wrong with scheduled backups, one sentence each.
func backupReasons(all []*apiv1.BackupScheduleStatus) (reasons []string) {
	for _, s := range all {
		for _, problem := range s.GetProblems() {
			reasons = append(reasons, "backup "+s.GetSchedule()+": "+problem)
		}
	}
	return reasons
}

// stageState writes a copy of the host's own state to a directory: what it takes
// to go on elsewhere, beside the plugins and what they keep.
func (h *host) stageState(ctx context.Context, dir string) error {
	cfg := h.loaded.Load().config
	state, configs := filepath.Join(dir, "state"), filepath.Join(dir, "config")
	if err := errors.Join(os.Mkdir(state, 0o700), os.Mkdir(configs, 0o700)); err != nil {
		return err
	}
	if err := h.store.CopyTo(ctx, filepath.Join(state, filepath.Base(h.dir.database()))); err != nil {
		return err
	}
	entries, err := os.ReadDir(h.dir.join("state"))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Type().IsRegular() && keptInState(e.Name(), filepath.Base(h.dir.database())) {
			err = errors.Join(err, copyFile(filepath.Join(state, e.Name()), h.dir.join("state", e.Name())))
		}
	}
	for _, name := range append([]string{filepath.Join(cfg.Dir, config.LockFileName)}, cfg.Files...) {
		if e := copyFile(filepath.Join(configs, filepath.Base(name)), name); !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}
	return errors.Join(err, copyDir(ctx, filepath.Join(dir, "policies"), cfg.Policy.Dir), copyDir(ctx, filepath.Join(dir, "logs", "audit"), h.dir.join("logs", "audit")))
}

// keptInState says whether a file of the state directory is worth keeping: keys
// and credentials are, the database is copied by itself, with all that lies beside
// it, and locks are of the process.
func keptInState(name, database string) bool {
	ext := filepath.Ext(name)
	return ext != ".lock" && ext != ".sock" && !strings.HasPrefix(name, database)
}

// copyFile copies one file, readable by its owner only.
func copyFile(to, from string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close() //nolint:errcheck // it was read only
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// copyDir copies the regular files in a directory, where there is one.
func copyDir(ctx context.Context, to, from string) error {
	if from == "" {
		return nil
	}
	entries, err := os.ReadDir(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = os.MkdirAll(to, 0o700)
	}
	for _, e := range entries {
		if err != nil || ctx.Err() != nil {
			break
		}
		if e.Type().IsRegular() {
			err = copyFile(filepath.Join(to, e.Name()), filepath.Join(from, e.Name()))
		}
	}
	return errors.Join(err, ctx.Err())
}
