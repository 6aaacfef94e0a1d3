package backup

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
)

// VerifyRequest says what is verified.
type VerifyRequest struct {
	Plugin string // empty: the usual one
	// Snapshots are ids, or unambiguous beginnings, of one plugin; empty: all.
	Snapshots []string
	Data      bool // read every byte, and not only the structure
	Schedule  string
	By        string
	Progress  func(Progress) // nil is fine
}

// Verification is what was found.
type Verification struct {
	Plugin string
	Data   bool
	// Intact says that every snapshot is there, is the one that was saved, and
	// can be restored.
	Intact    bool
	Snapshots int64
	Objects   int64
	Bytes     int64
	// Lost are snapshots that the plugin does not have, or not as they were saved.
	Lost []Loss
	// Damaged are the first of DamagedTotal pieces of the repository.
	Damaged      []Damage
	DamagedTotal int
	// Failures are the first of Failed paths that cannot be restored.
	Failures []PathFailure
	Failed   int
}

// Loss is a snapshot that cannot be relied on.
type Loss struct {
	Snapshot string // id
	Why      string
}

// Damage is a piece of a repository that is not as it was written.
type Damage struct {
	Name, Message string
	// Snapshots that are not whole without it, by the plugin's ids.
	Snapshots []string
}

// Verify has a plugin read its snapshots back, and compares what it has with
// what the host has recorded.
func (s *Service) Verify(ctx context.Context, r VerifyRequest) (*Verification, error) {
	wanted, err := s.wanted(ctx, &r)
	if err != nil {
		return nil, err
	}
	name, client, err := s.plugin(r.Plugin)
	if err != nil {
		return nil, err
	}
	v := &Verification{Plugin: name, Data: r.Data, Intact: true}
	err = s.granted(ctx, name, "", "verify "+name, func(secret string) error {
		if err := s.compareWithRecords(ctx, client, secret, v, wanted); err != nil {
			return err
		}
		return s.readBack(ctx, client, secret, r, v, wanted)
	})
	if recordErr := s.recordVerification(ctx, r, v, wanted, err); err == nil {
		err = recordErr
	}
	if err != nil {
		return nil, err
	}
	return v, nil
}

// wanted are the snapshots that were named; nil: all. Their plugin is the one to
// be asked.
func (s *Service) wanted(ctx context.Context, r *VerifyRequest) (map[string]*Snapshot, error) {
	if len(r.Snapshots) == 0 {
		return nil, nil
	}
	out := make(map[string]*Snapshot)
	for _, ref := range r.Snapshots {
		snap, err := s.Store.Get(ctx, ref)
		if err != nil {
			return nil, err
		}
		if r.Plugin != "" && snap.Plugin != r.Plugin {
			return nil, invalid("snapshots", "snapshot %s is in plugin %s", snap.ID, snap.Plugin).WithRemedy("verify the snapshots of one plugin at a time")
		}
		r.Plugin, out[snap.ID] = snap.Plugin, snap
	}
	return out, nil
}

// compareWithRecords notes the snapshots that the plugin does not have as they
// were saved, and records what has changed about that.
func (s *Service) compareWithRecords(ctx context.Context, client pluginv1.BackupClient, secret string, v *Verification, wanted map[string]*Snapshot) error {
	listed, err := listAll(ctx, client, secret)
	if err != nil {
		return err
	}
	return s.record(ctx, func(ctx context.Context, tx Tx) error {
		v.Lost = nil
		all, err := tx.Of(ctx, v.Plugin)
		if err != nil {
			return err
		}
		for _, snap := range all {
			if wanted != nil && wanted[snap.ID] == nil {
				continue
			}
			to, action, why := Kept, "found", "the repository has it as it was saved"
			if d := differs(snap, listed[snap.Ref]); d != "" {
				to, action, why = Lost, "lost", d
				v.Lost = append(v.Lost, Loss{snap.ID, d})
			}
			if err := s.moved(ctx, tx, snap.ID, to, action, actor, why); err != nil {
				return err
			}
		}
		v.Intact = len(v.Lost) == 0
		return nil
	})
}

// listAll asks for everything that the plugin has, by its ids.
func listAll(ctx context.Context, client pluginv1.BackupClient, secret string) (map[string]*pluginv1.Snapshot, error) {
	all := make(map[string]*pluginv1.Snapshot)
	req := &pluginv1.ListRequest{Token: secret}
	for {
		resp, err := client.List(ctx, req)
		if err != nil {
			return nil, err
		}
		for _, d := range resp.GetSnapshots() {
			all[d.GetId()] = d
		}
		if req.PageToken = resp.GetNextPageToken(); req.PageToken == "" {
			return all, nil
		}
	}
}

// readBack has the plugin read, and takes over what it found.
func (s *Service) readBack(ctx context.Context, client pluginv1.BackupClient, secret string, r VerifyRequest, v *Verification, wanted map[string]*Snapshot) error {
	req := &pluginv1.VerifyRequest{Token: secret, Data: r.Data}
	for _, snap := range wanted {
		if !slices.ContainsFunc(v.Lost, func(l Loss) bool { return l.Snapshot == snap.ID }) {
			req.SnapshotIds = append(req.SnapshotIds, snap.Ref)
		}
	}
	if wanted != nil && len(req.GetSnapshotIds()) == 0 {
		return nil // all of them are lost
	}
	stream, err := client.Verify(ctx, req)
	result, err := follow(stream, err, (*pluginv1.VerifyResponse).GetResult, r.Progress)
	if err != nil {
		return err
	}
	v.take(result)
	return nil
}

func (v *Verification) take(p *pluginv1.VerifyResult) {
	v.Intact = v.Intact && p.GetIntact()
	v.Snapshots, v.Objects, v.Bytes = p.GetSnapshots(), p.GetObjects(), p.GetBytes()
	v.Failures, v.Failed = failuresOf(p.GetFailures()), len(p.GetFailures())
	v.DamagedTotal = len(p.GetDamaged())
	for _, d := range p.GetDamaged()[:min(len(p.GetDamaged()), maxFailures)] {
		v.Damaged = append(v.Damaged, Damage{clip(d.GetName()), clip(d.GetMessage()), d.GetSnapshotIds()})
	}
}

// concerned says whether a snapshot, by the plugin's id, is among what is
// damaged.
func (v *Verification) concerned(ref string) bool {
	return slices.ContainsFunc(v.Damaged, func(d Damage) bool { return slices.Contains(d.Snapshots, ref) })
}

// recordVerification records what was found; failed is why nothing was.
func (s *Service) recordVerification(ctx context.Context, r VerifyRequest, v *Verification, wanted map[string]*Snapshot, failed error) error {
	at := s.Now().UTC()
	d := Deed{At: at, Action: "verify", By: r.By, Plugin: v.Plugin, Attributes: map[string]string{
		"data": strconv.FormatBool(r.Data), "snapshots": strconv.FormatInt(v.Snapshots, 10), "objects": strconv.FormatInt(v.Objects, 10),
	}}
	if r.Schedule != "" {
		d.Attributes["schedule"] = r.Schedule
	}
	switch {
	case failed != nil:
		e := sdk.FromError(failed)
		d.Failed, d.Why = true, firstOf(e.Reason, e.Code.String())
	case !v.Intact:
		d.Failed, d.Why = true, v.Summary()
	}
	return s.record(ctx, func(ctx context.Context, tx Tx) error {
		if failed == nil {
			if err := s.seen(ctx, tx, v, wanted); err != nil {
				return err
			}
		}
		return tx.Record(ctx, d)
	})
}

// seen marks what was found intact. Where more is damaged than is listed, or the
// damage is not said to concern any snapshot, nothing is.
func (s *Service) seen(ctx context.Context, tx Tx, v *Verification, wanted map[string]*Snapshot) error {
	if v.DamagedTotal > len(v.Damaged) || !v.Intact && len(v.Lost) == 0 && len(v.Damaged) == 0 {
		return nil
	}
	all, err := tx.Of(ctx, v.Plugin)
	if err != nil {
		return err
	}
	var ids []string
	for _, snap := range all {
		if named := wanted == nil || wanted[snap.ID] != nil; named && snap.State == Kept && !v.concerned(snap.Ref) {
			ids = append(ids, snap.ID)
		}
	}
	return tx.Seen(ctx, ids, v.Data, s.Now().UTC())
}

// Summary says in one sentence what was found.
func (v *Verification) Summary() string {
	if v.Intact {
		return fmt.Sprintf("%d snapshots are intact", v.Snapshots)
	}
	return fmt.Sprintf("%d snapshots are lost, %d pieces of the repository are damaged, %d paths cannot be restored", len(v.Lost), v.DamagedTotal, v.Failed)
}
