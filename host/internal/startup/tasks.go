package startup

import (
	"context"

	"github.com/sop-host/sop/host/internal/task"
)

// openTasks makes the task service, takes back what the host held when it ended,
// and has lost leases returned until the host stops.
func (h *host) openTasks(ctx context.Context, undo *closers) error {
	h.tasks = task.NewService(h.store.Tasks(), task.Options{Publisher: h.publisher(), Now: h.tokens.Now})
	n, err := h.tasks.Recover(ctx)
	if err != nil {
		return err
	}
	if n > 0 {
		h.logger.Info("tasks that were under way when the host ended are due again", "tasks", n)
	}
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.tasks.Run(running, func(err error) { h.logger.Warn("sweep tasks", "error", err) })
	}()
	undo.add(func() error {
		cancel()
		<-done
		return nil
	})
	return nil
}
