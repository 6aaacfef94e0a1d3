package backup_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/backup"
	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
)

// requests are what a maintainer was asked for.
type requests struct {
	mu  sync.Mutex
	all []string
}

// File implements [backup.Maintainer].
func (r *requests) File(_ context.Context, subsystem, description, _, _ string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, subsystem+" "+description)
	return nil
}

// Healthy implements [backup.Maintainer].
func (r *requests) Healthy(_ context.Context, subsystem string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, subsystem+" is well")
	return nil
}

// told says whether something was asked for or told.
func (r *requests) told(what string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Contains(r.all, what)
}

// scheduler runs schedules of a site. changed is told of every change.
func (s *site) scheduler(m backup.Maintainer) (x *backup.Scheduler, changed chan struct{}) {
	s.Helper()
	changed = make(chan struct{}, 1)
	x = backup.NewScheduler(backup.SchedulerOptions{
		Service: s.Service, Maintainer: m, Jitter: func(time.Duration) time.Duration { return 0 },
		Changed: func() {
			select {
			case changed <- struct{}{}:
			default:
			}
		},
	})
	s.Cleanup(x.Close)
	return x, changed
}

// await waits until a work of the one schedule stands as wanted.
func await(t *testing.T, x *backup.Scheduler, changed <-chan struct{}, w backup.Work, want func(backup.WorkStanding) bool) backup.WorkStanding {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		for _, st := range x.Standings() {
			for _, at := range st.Works {
				if at.Work == w && want(at) {
					return at
				}
			}
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("%s does not come to stand as wanted: %+v", w, x.Standings())
		}
	}
}

func succeeded(w backup.WorkStanding) bool { return w.LastOK != nil && !w.Running }
func failed(w backup.WorkStanding) bool    { return w.Problem() != "" && !w.Running }

func nightly(every map[backup.Work]time.Duration) []backup.Schedule {
	return []backup.Schedule{{Name: "nightly", Plugin: "files", Workspace: "w", Every: every}}
}

// All works are done in turn, those that need a snapshot after the first.
func TestScheduleDoesItsWorks(t *testing.T) {
	s := newSite(t)
	s.write("a", "one")
	x, changed := s.scheduler(nil)
	every := make(map[backup.Work]time.Duration)
	for _, w := range backup.Works() {
		every[w] = time.Hour
	}
	if err := x.Apply(t.Context(), nightly(every)); err != nil {
		t.Fatal(err)
	}
	for _, w := range backup.Works() {
		at := await(t, x, changed, w, succeeded)
		if at.Due.Before(time.Now().Add(50 * time.Minute)) {
			t.Errorf("%s is due again at %v", w, at.Due)
		}
	}
	page, err := s.List(t.Context(), backup.Filter{Schedule: "nightly"})
	if err != nil || len(page.Snapshots) != 1 || page.Snapshots[0].Reason != backup.ForSchedule || page.Snapshots[0].DataAt.IsZero() {
		t.Errorf("%+v, %v", page.Snapshots, err)
	}
	if left, err := os.ReadDir(s.Scratch); err != nil || len(left) != 0 {
		t.Errorf("the drill has left %v, %v", left, err)
	}
}

// What came due while the host was down is done once, and what did not is not.
func TestMissedRunIsCaughtUp(t *testing.T) {
	for name, tt := range map[string]struct {
		ago     time.Duration
		ended   bool
		caught  bool
		snapped int
	}{
		"due meanwhile":    {ago: 30 * time.Hour, ended: true, caught: true},
		"due tonight":      {ago: time.Hour, ended: true},
		"cut off":          {ago: time.Minute, caught: true},
		"in a wrong clock": {ago: -400 * 24 * time.Hour, ended: true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			s.write("a", "one")
			run := &backup.Run{ID: "r", Schedule: "nightly", Work: backup.Save, StartedAt: time.Now().Add(-tt.ago)}
			if tt.ended {
				run.EndedAt = run.StartedAt.Add(time.Second)
			}
			if err := s.db.Backups().Update(t.Context(), func(tx backup.Tx) error { return tx.PutRun(t.Context(), run) }); err != nil {
				t.Fatal(err)
			}
			x, changed := s.scheduler(nil)
			if err := x.Apply(t.Context(), nightly(map[backup.Work]time.Duration{backup.Save: 24 * time.Hour})); err != nil {
				t.Fatal(err)
			}
			if tt.caught {
				at := await(t, x, changed, backup.Save, func(w backup.WorkStanding) bool { return succeeded(w) && w.LastOK.ID != "r" })
				if at.Due.Before(time.Now().Add(23 * time.Hour)) {
					t.Errorf("it is due again at %v", at.Due)
				}
				return
			}
			if due := x.Standings()[0].Works[0].Due; due.Before(time.Now().Add(22*time.Hour)) || due.After(time.Now().Add(25*time.Hour)) {
				t.Errorf("it is due at %v", due)
			}
		})
	}
}

// A failure is told: in the standing, to the maintainer and in the audit log. It
// is tried again, and forgotten when that goes well.
func TestFailureIsTold(t *testing.T) {
	s := newSite(t)
	s.write("a", "one")
	s.plugin.fail = sdk.Errorf(codes.ResourceExhausted, "NO_SPACE", "it is full")
	asked := &requests{}
	x, changed := s.scheduler(asked)
	if err := x.Apply(t.Context(), nightly(map[backup.Work]time.Duration{backup.Save: time.Hour})); err != nil {
		t.Fatal(err)
	}
	at := await(t, x, changed, backup.Save, failed)
	if !strings.HasPrefix(at.Problem(), "NO_SPACE: ") || at.Due.After(time.Now().Add(11*time.Minute)) {
		t.Errorf("%s, due at %v", at.Problem(), at.Due)
	}
	if !asked.told("backup.nightly scheduled save failed: NO_SPACE: it is full") {
		t.Errorf("maintenance was requested for %v", asked.all)
	}
	if want := []string{"backup.save failure NO_SPACE", "backup.scheduled failure NO_SPACE"}; !slices.Equal(s.records(), want) {
		t.Errorf("records are %v", s.records())
	}
	s.plugin.mu.Lock()
	s.plugin.fail = nil
	s.plugin.mu.Unlock()
	if err := x.Apply(t.Context(), nightly(map[backup.Work]time.Duration{backup.Save: time.Hour})); err != nil { // something else was mended
		t.Fatal(err)
	}
	if at := await(t, x, changed, backup.Save, succeeded); at.Problem() != "" {
		t.Errorf("it went well, and yet: %s", at.Problem())
	}
	x.Close()
	if !asked.told("backup.nightly is well") {
		t.Errorf("that it is well again was not told: %v", asked.all)
	}
}

// A verification that finds something fails, and so does a drill.
func TestDamageIsFailure(t *testing.T) {
	s := newSite(t)
	s.write("a", "one")
	if _, err := s.Save(t.Context(), backup.SaveRequest{Workspace: "w", Schedule: "nightly", By: "me"}); err != nil {
		t.Fatal(err)
	}
	s.plugin.damaged = []*pluginv1.DamagedObject{{Name: "objects/x", Message: "gone", SnapshotIds: []string{"ref0"}}}
	s.plugin.lossy = true
	x, changed := s.scheduler(nil)
	if err := x.Apply(t.Context(), nightly(map[backup.Work]time.Duration{backup.Data: time.Hour, backup.Drill: time.Hour})); err != nil {
		t.Fatal(err)
	}
	if at := await(t, x, changed, backup.Data, failed); !strings.HasPrefix(at.Problem(), "BACKUP_DAMAGED: ") {
		t.Error(at.Problem())
	}
	if at := await(t, x, changed, backup.Drill, failed); !strings.HasPrefix(at.Problem(), "BACKUP_DRILL: ") {
		t.Error(at.Problem())
	}
}

// What a plugin restores that cannot list it is compared as far as can be, and how
// far that is is told.
func TestDrillWithoutList(t *testing.T) {
	for name, tt := range map[string]struct {
		lossy, loud, changed bool
		want                 string // begins the reason, or is in what is told
	}{
		"as it was":                    {want: "1 files have the content that they have in the workspace, of 0"},
		"of another size":              {lossy: true, want: "BACKUP_DRILL"},
		"of another content":           {loud: true, want: "BACKUP_DRILL"},
		"of a file that changed since": {loud: true, changed: true, want: "0 files have the content that they have in the workspace, of 1"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			s.write("a", "one")
			snap, err := s.Save(t.Context(), backup.SaveRequest{Workspace: "w", Schedule: "nightly", By: "me"})
			if err != nil {
				t.Fatal(err)
			}
			if !tt.changed { // a snapshot of later finds the file as it is
				snap.ID, snap.CreatedAt = "7fffffff-ffff-7000-8000-000000000000", snap.CreatedAt.Add(time.Second)
				if err := s.db.Backups().Update(t.Context(), func(tx backup.Tx) error { return tx.Put(t.Context(), snap) }); err != nil {
					t.Fatal(err)
				}
			}
			s.plugin.mute, s.plugin.lossy, s.plugin.loud = true, tt.lossy, tt.loud
			_, left, err := s.Drill(t.Context(), "nightly", "me")
			if strings.HasPrefix(tt.want, "BACKUP_") {
				wantReason(t, err, tt.want)
				return
			}
			if err != nil || !strings.Contains(left, tt.want) {
				t.Errorf("%q, %v", left, err)
			}
		})
	}
}

// A drill waits for a snapshot that it can try out.
func TestDrillWaitsForASnapshot(t *testing.T) {
	s := newSite(t)
	s.write("a", "one")
	asked := &requests{}
	x, changed := s.scheduler(asked)
	drills := nightly(map[backup.Work]time.Duration{backup.Drill: time.Hour}) // saves are made on request
	if err := x.Apply(t.Context(), drills); err != nil {
		t.Fatal(err)
	}
	at := await(t, x, changed, backup.Drill, func(w backup.WorkStanding) bool { return w.Last != nil || w.Due.After(time.Now().Add(time.Minute)) })
	if at.Last != nil || len(asked.all) != 0 || len(s.records()) != 0 {
		t.Errorf("%+v, asked for %v, recorded %v", at, asked.all, s.records())
	}
	if _, err := s.Save(t.Context(), backup.SaveRequest{Workspace: "w", Schedule: "nightly", By: "me"}); err != nil {
		t.Fatal(err)
	}
	if err := x.Apply(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if err := x.Apply(t.Context(), drills); err != nil {
		t.Fatal(err)
	}
	await(t, x, changed, backup.Drill, succeeded)
}

// A schedule that is gone does nothing more.
func TestScheduleIsTakenAway(t *testing.T) {
	s := newSite(t)
	s.write("a", "one")
	x, changed := s.scheduler(nil)
	if err := x.Apply(t.Context(), nightly(map[backup.Work]time.Duration{backup.Save: time.Hour})); err != nil {
		t.Fatal(err)
	}
	await(t, x, changed, backup.Save, succeeded)
	if err := x.Apply(t.Context(), nil); err != nil || len(x.Standings()) != 0 {
		t.Errorf("%v, %v", x.Standings(), err)
	}
}

func TestState(t *testing.T) {
	s := newSite(t)
	s.StageState = func(_ context.Context, dir string) error {
		return os.WriteFile(filepath.Join(dir, "sop.db"), []byte("state"), 0o600)
	}
	snap, err := s.SaveState(t.Context(), backup.SaveRequest{Reason: backup.ForRequest, By: "me"})
	if err != nil || snap.Workspace != "" || snap.Files != 1 {
		t.Fatalf("%+v, %v", snap, err)
	}
	if left, err := os.ReadDir(s.Scratch); err != nil || len(left) != 0 {
		t.Errorf("the stage is left: %v, %v", left, err)
	}
	_, err = s.Restore(t.Context(), backup.RestoreRequest{Snapshot: snap.ID})
	wantReason(t, err, "BACKUP_TARGET")
	_, err = s.Restore(t.Context(), backup.RestoreRequest{Snapshot: snap.ID, Target: filepath.Join(s.root, ".sop", "state")})
	wantReason(t, err, "BACKUP_INTO_STATE")
	s.Roots = func() map[string]string { return map[string]string{"w": s.root} }
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(s.root, link); err != nil {
		t.Fatal(err)
	}
	_, err = s.Restore(t.Context(), backup.RestoreRequest{Snapshot: snap.ID, Target: filepath.Join(link, "new")})
	wantReason(t, err, "BACKUP_INTO_WORKSPACE")
	out, err := s.Restore(t.Context(), backup.RestoreRequest{Snapshot: snap.ID, Target: filepath.Join(link, "new"), InPlace: true})
	if err != nil || out.Files != 1 {
		t.Errorf("%+v, %v", out, err)
	}
}

// Whoever watches a call by its key sees how far it is, and that it ends.
func TestWatch(t *testing.T) {
	s := newSite(t)
	s.write("a", "one")
	watching, seen := make(chan error, 1), make(chan backup.Activity, 10)
	go func() {
		watching <- s.Watch(t.Context(), "key", func(a backup.Activity) error {
			seen <- a
			return nil
		})
	}()
	hold := make(chan struct{})
	s.plugin.hold = hold
	saved := make(chan error, 1)
	go func() {
		_, err := s.Save(t.Context(), backup.SaveRequest{Workspace: "w", By: "me", Key: "key"})
		saved <- err
	}()
	<-seen
	close(hold)
	if err := <-saved; err != nil {
		t.Fatal(err)
	}
	if err := <-watching; err != nil {
		t.Error(err)
	}
}
