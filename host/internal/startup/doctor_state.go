package startup

import (
	"context"
	"time"

	"github.com/sop-host/sop/host/internal/audit"
	"github.com/sop-host/sop/host/internal/backup"
	"github.com/sop-host/sop/host/internal/doctor"
	"github.com/sop-host/sop/host/internal/store"
)

// lookIn opens the store to be read only, and examines what is in it.
func (p *patient) lookIn(ctx context.Context, look func(*store.DB) ([]doctor.Finding, error)) (out []doctor.Finding) {
	if isGone(p.dir.database()) {
		return []doctor.Finding{doctor.Fine("there is no database yet; `sop up` makes it")}
	}
	db, err := store.OpenReadOnly(ctx, p.dir.database())
	if err != nil {
		return []doctor.Finding{doctor.FromError(err, "run this as the user who runs `sop up`")}
	}
	defer func() {
		if err := db.Close(); err != nil {
			out = append(out, doctor.FromError(err, "look at the file system of "+string(p.dir)))
		}
	}()
	if out, err = look(db); err != nil {
		out = append(out, doctor.FromError(err, "look at "+p.dir.log()))
	}
	return out
}

// examineStore reads every page and index of the database.
func (p *patient) examineStore(ctx context.Context) []doctor.Finding {
	if err := p.dir.complete(); err != nil {
		return []doctor.Finding{doctor.FromError(err, "run this as the user who runs `sop up`")}
	}
	return p.lookIn(ctx, func(db *store.DB) ([]doctor.Finding, error) {
		size, err := db.Size()
		if err != nil {
			return nil, err
		}
		if err := db.Examine(ctx); err != nil {
			return nil, err
		}
		return []doctor.Finding{doctor.Fine("every page and index of %s is sound, %s", p.dir.database(), bytesText(uint64(size)))}, nil
	})
}

// examineAudit verifies the log from its beginning.
func (p *patient) examineAudit(ctx context.Context) []doctor.Finding {
	if isGone(p.dir.database()) {
		return []doctor.Finding{doctor.Fine("there is no audit log yet")}
	}
	r, err := VerifyAudit(ctx, AuditVerification{DataDir: string(p.dir)})
	if err != nil {
		return []doctor.Finding{doctor.FromError(err, "run this as the user who runs `sop up`")}
	}
	if f := r.GetFault(); f != nil {
		return []doctor.Finding{doctor.Fail("`sop audit verify` names the place; keep a copy of the data directory before anything else, and compare with a checkpoint that was kept elsewhere",
			"the audit log was changed: %s: %s", f.GetKind(), f.GetDetail())}
	}
	return []doctor.Finding{doctor.Fine("%s intact, signed up to record %d", numbered(int(r.GetRecords()), "record"), r.GetSigned())}
}

// clockTolerance is how far back the clock may be set without anybody minding.
const clockTolerance = 2 * time.Second

// examineClock compares the clock with the times that the host has seen.
func (p *patient) examineClock(ctx context.Context) []doctor.Finding {
	return p.lookIn(ctx, func(db *store.DB) ([]doctor.Finding, error) {
		now := time.Now()
		seen, err := db.Tokens().Clock(ctx)
		if err != nil {
			return nil, err
		}
		page, err := db.Audit().List(ctx, audit.Filter{Limit: 1})
		if err != nil {
			return nil, err
		}
		var out []doctor.Finding
		if len(page.Records) > 0 {
			out = append(out, behind(now, page.Records[0].Time, "the last audit record")...)
		}
		out = append(out, behind(now, seen, "the latest time that tokens have seen")...)
		if len(out) == 0 {
			out = append(out, doctor.Fine("it is %s, later than all that was recorded", now.UTC().Format(time.RFC3339)))
		}
		return out, nil
	})
}

// behind finds a clock that has gone back.
func behind(now, seen time.Time, what string) []doctor.Finding {
	back := seen.Sub(now)
	if back <= clockTolerance {
		return nil
	}
	return []doctor.Finding{doctor.Fail("set the clock, and see that something keeps it (chrony, systemd-timesyncd); tokens live on from the latest time seen",
		"the clock is %s behind %s, which is of %s", back.Round(time.Second), what, seen.UTC().Format(time.RFC3339))}
}

// examineBackups says when what is scheduled was last done.
func (p *patient) examineBackups(ctx context.Context) []doctor.Finding {
	if p.config == nil {
		return []doctor.Finding{doctor.Warn("correct the configuration first", "which backups are scheduled is not known")}
	}
	schedules := schedulesOf(p.config)
	if len(schedules) == 0 {
		return []doctor.Finding{doctor.Warn("add a `backup` block with `state = true`: docs/backup.md", "nothing saves the host's state, or any workspace")}
	}
	return p.lookIn(ctx, func(db *store.DB) ([]doctor.Finding, error) {
		runs, err := db.Backups().LastRuns(ctx)
		if err != nil {
			return nil, err
		}
		var out []doctor.Finding
		for i := range schedules {
			out = append(out, examineSchedule(time.Now(), &schedules[i], runs)...)
		}
		return out, nil
	})
}

// overdueAfter is how many intervals may pass before a work counts as neglected.
const overdueAfter = 2

// examineSchedule says how the works of one schedule stand.
func examineSchedule(now time.Time, s *backup.Schedule, runs []*backup.Run) (out []doctor.Finding) {
	words := map[backup.Work]string{backup.Save: "saved", backup.Structure: "verified", backup.Data: "verified in full", backup.Drill: "restored on trial"}
	for _, w := range backup.Works() {
		interval := s.Every[w]
		if interval <= 0 {
			continue
		}
		last, good := lastRuns(s.Name, w, runs)
		switch {
		case last != nil && last.Reason != "":
			out = append(out, doctor.Fail("`sop status` says when it is tried again; docs/backup.md", "backup %s could not be %s: %s", s.Name, words[w], last.Message))
		case good == nil:
			out = append(out, doctor.Warn("it is done soon after the host is started", "backup %s was never %s", s.Name, words[w]))
		case now.Sub(good.EndedAt) > overdueAfter*interval:
			out = append(out, doctor.Warn("start the host, or see in `sop status` what keeps it from it",
				"backup %s was last %s %s ago, and is to be every %s", s.Name, words[w], now.Sub(good.EndedAt).Round(time.Minute), interval))
		case good.Message != "":
			out = append(out, doctor.Fine("backup %s was %s at %s: %s", s.Name, words[w], good.EndedAt.UTC().Format(time.RFC3339), good.Message))
		default:
			out = append(out, doctor.Fine("backup %s was %s at %s", s.Name, words[w], good.EndedAt.UTC().Format(time.RFC3339)))
		}
	}
	if len(out) == 0 {
		out = append(out, doctor.Fine("backup %s is made on request only", s.Name))
	}
	return out
}

// lastRuns returns the latest run of a work, and the latest that succeeded.
func lastRuns(schedule string, w backup.Work, runs []*backup.Run) (last, good *backup.Run) {
	for _, r := range runs {
		if r.Schedule != schedule || r.Work != w {
			continue
		}
		if last == nil || r.StartedAt.After(last.StartedAt) {
			last = r
		}
		if r.OK() && (good == nil || r.StartedAt.After(good.StartedAt)) {
			good = r
		}
	}
	return last, good
}
