package startup

import (
	"context"
	"os"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sop-host/sop/host/internal/api"
	"github.com/sop-host/sop/host/internal/backup"
	"github.com/sop-host/sop/host/internal/machine"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

// reasons says that the log is not intact.
func (v *verified) reasons() []string {
	if last := v.last.Load(); last != nil && last.Outcome == outcomeFault {
		return []string{"the audit log is not intact: `sop audit verify` names the first record that was changed"}
	}
	return nil
}

// addStandings adds to a status what is counted and measured.
func (h *host) addStandings(ctx context.Context, s *apiv1.Status) error {
	for _, p := range h.protocols.Standings() {
		s.Protocols = append(s.Protocols, api.ProtocolStatus(p))
	}
	tokens, err := h.countTokens(ctx)
	if err != nil {
		return err
	}
	for _, t := range tokens {
		s.Tokens = append(s.Tokens, &apiv1.TokenCount{Type: string(t.Type), State: string(t.State), Tokens: int64(t.Tokens)})
	}
	if err := h.addTasks(ctx, s); err != nil {
		return err
	}
	head, err := h.store.Audit().Head(ctx)
	if err != nil {
		return err
	}
	s.Audit = &apiv1.AuditStanding{Records: int64(head.Size)}
	if last := h.verified.last.Load(); last != nil {
		s.Audit.VerifiedAt, s.Audit.Verified = timestamppb.New(last.At), last.Outcome
	}
	page, err := h.store.Backups().List(ctx, backup.Filter{States: []backup.State{backup.Kept}, Limit: 1})
	if err != nil {
		return err
	}
	if len(page.Snapshots) > 0 {
		s.LastBackup = timestamppb.New(page.Snapshots[0].CreatedAt)
	}
	s.Resources = resourceUse(h.meter.Latest())
	return nil
}

// addTasks adds up over workspaces and kinds.
func (h *host) addTasks(ctx context.Context, s *apiv1.Status) error {
	counts, err := h.countTasks(ctx)
	if err != nil {
		return err
	}
	at := make(map[string]*apiv1.TaskCount)
	for _, c := range counts {
		sum := at[string(c.State)]
		if sum == nil {
			sum = &apiv1.TaskCount{State: string(c.State)}
			at[sum.GetState()] = sum
			s.Tasks = append(s.Tasks, sum)
		}
		sum.Tasks += int64(c.Tasks)
	}
	return nil
}

// started are the processes of plugins and components.
func (h *host) started() []int {
	var pids []int
	for _, p := range h.pool.Status() {
		if p.PID != 0 {
			pids = append(pids, p.PID)
		}
	}
	for _, c := range h.components.Status() {
		if c.PID != 0 {
			pids = append(pids, c.PID)
		}
	}
	return pids
}

// newMeter returns what measures for the status.
func (h *host) newMeter() *machine.Meter {
	return &machine.Meter{Dir: string(h.dir), Started: h.started, Failed: func(err error) {
		h.logger.Warn("the machine cannot be measured in full", "pid", os.Getpid(), "error", err)
	}}
}

func resourceUse(s *machine.Sample) *apiv1.ResourceUse {
	if s == nil {
		return nil
	}
	use := func(u machine.Use) *apiv1.ProcessUse {
		return &apiv1.ProcessUse{Processes: int32(u.Processes), CpuPercent: u.CPUPercent, Memory: int64(u.Memory), Threads: int32(u.Threads), OpenFiles: int32(u.OpenFiles)}
	}
	return &apiv1.ResourceUse{At: timestamppb.New(s.At), Host: use(s.Host), Started: use(s.Started), Machine: &apiv1.MachineUse{
		Cpus: int32(s.CPUs), CpuPercent: s.CPUPercent, Load1: s.Load1, MemoryTotal: int64(s.MemoryTotal), MemoryAvailable: int64(s.Available),
		Processes: int32(s.Processes), DiskTotal: int64(s.DiskTotal), DiskFree: int64(s.DiskFree), InodesTotal: int64(s.InodesTotal), InodesFree: int64(s.InodesFree),
	}}
}
