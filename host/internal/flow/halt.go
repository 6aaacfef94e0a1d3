package flow

import "context"

// work is something under way that [Engine.Halt] ends.
type work struct {
	cancel context.CancelCauseFunc
	done   chan struct{}
}

// begin returns a context for work that Halt can end. end says, once or more
// often, that it is to end, or with nil that it is over.
func (e *Engine) begin(ctx context.Context) (_ context.Context, end context.CancelCauseFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	w := &work{cancel, make(chan struct{})}
	e.busy.Lock()
	e.works[w] = struct{}{}
	e.busy.Unlock()
	if err := e.opt.Halted(); err != nil { // Halt may have looked before it was there
		cancel(&stoppedError{plain(err)})
	}
	return ctx, func(cause error) {
		cancel(cause)
		if cause != nil {
			return
		}
		e.busy.Lock()
		defer e.busy.Unlock()
		if _, under := e.works[w]; under {
			delete(e.works, w)
			close(w.done)
		}
	}
}

// Halt ends all work under way and returns when none of it runs any more, or ctx
// is done. Options.Halted must say why before: otherwise other work is begun.
func (e *Engine) Halt(ctx context.Context) error {
	e.busy.Lock()
	var ending []*work
	for w := range e.works {
		w.cancel(&stoppedError{"everything is halted"})
		ending = append(ending, w)
	}
	e.busy.Unlock()
	for _, w := range ending {
		select {
		case <-w.done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
