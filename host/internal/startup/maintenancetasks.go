package startup

import (
	"context"
	"strings"

	"github.com/sop-host/sop/host/internal/maintenance"
	"github.com/sop-host/sop/host/internal/task"
)

// maintenanceTasks makes tasks of maintenance requests. It implements
// [maintenance.Tasks].
type maintenanceTasks struct{ host *host }

// maintenanceKey is what there is one open task for.
func maintenanceKey(id string) string { return "maintenance/" + id }

const (
	propertySubsystem = "subsystem"
	propertyRequest   = "maintenance_request"
	mostTitle         = 200 // bytes
)

// Open implements [maintenance.Tasks].
func (m maintenanceTasks) Open(ctx context.Context, r *maintenance.Record) (string, error) {
	goal := r.Description
	if r.Remedy != "" {
		goal = sentence(goal) + " " + sentence(capital(r.Remedy))
	}
	t, err := m.host.tasks.Ensure(ctx, task.New{
		Kind: task.KindMaintenance, Type: task.TypeMaintenance, Title: maintenanceTitle(r), Severity: r.Severity.String(), Workspace: r.Workspace,
		Key: maintenanceKey(r.ID), By: r.FiledBy, Why: "maintenance request " + r.ID,
		Spec: task.Spec{
			Goal: goal, Criteria: []string{"The subsystem " + r.Subsystem + " is healthy again."}, Owner: r.Owner,
			Properties: map[string]string{propertySubsystem: r.Subsystem, propertyRequest: r.ID},
		},
	})
	if err != nil {
		return "", err
	}
	return t.ID, nil
}

// maintenanceTitle is one line that names the subsystem and what is wrong with it.
func maintenanceTitle(r *maintenance.Record) string {
	title := r.Subsystem + ": " + strings.Join(strings.Fields(r.Description), " ")
	if len(title) > mostTitle {
		title = strings.ToValidUTF8(title[:mostTitle], "") + "…"
	}
	return title
}

// Close implements [maintenance.Tasks].
func (m maintenanceTasks) Close(ctx context.Context, r *maintenance.Record) error {
	_, err := m.host.tasks.Close(ctx, maintenanceKey(r.ID), r.ClosedBy, r.CloseReason)
	return err
}

// settleMaintenance ends the tasks of requests that were closed just before the
// host was killed.
func (h *host) settleMaintenance(ctx context.Context) error {
	filter := task.Filter{Kinds: []task.Kind{task.KindMaintenance}, States: task.OpenStates()}
	for {
		page, err := h.tasks.List(ctx, filter)
		if err != nil {
			return err
		}
		for _, t := range page.Tasks {
			id := t.Spec.Properties[propertyRequest]
			if id == "" {
				continue
			}
			r, err := h.maintenance.Get(ctx, id)
			if err != nil {
				return err
			}
			if r.State != maintenance.Closed {
				continue
			}
			if err := (maintenanceTasks{h}).Close(ctx, r); err != nil {
				return err
			}
		}
		if page.Next == "" {
			return nil
		}
		filter.Token = page.Next
	}
}
