package component

import (
	"context"
	"slices"
	"strings"

	"github.com/sop-host/sop/sdk"
)

// dependsOn says whether it depends on the component of that name.
func (u *unit) dependsOn(name string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Contains(u.spec.DependsOn, name)
}

// ready says whether requests may be sent to it: its instance is ready and the
// one that is wanted, and where it requires so, what it depends on is ready too.
func (u *unit) ready() bool {
	u.mu.Lock()
	ready, spec := u.state == StateReady && !u.renew && u.instance != nil && !u.instance.ended(), u.spec
	u.mu.Unlock()
	return ready && (!spec.RequiresReady || u.missing(spec) == "")
}

// missing names what spec depends on and is not ready; empty for nothing.
func (u *unit) missing(spec *Spec) string {
	var names []string
	for _, name := range spec.DependsOn {
		if !u.s.dependencyReady(name) {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}

// dependencyReady says whether a component or plugin is ready.
func (s *Supervisor) dependencyReady(name string) bool {
	if id, plugin := strings.CutPrefix(name, PluginPrefix); plugin {
		return s.opt.Plugins != nil && s.opt.Plugins.InService(id)
	}
	u := s.unit(name)
	return u != nil && (u.ready() || u.completed())
}

// completed says whether it has ended as it may: what it was to do is done.
func (u *unit) completed() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.state == StateCompleted && u.lastErr == nil
}

// blockedByFailureLocked names a dependency that has failed for good while the
// unit waits for it; empty for none. u.mu is held, and of those that it depends
// on, which never depend on it, the locks are taken.
func (u *unit) blockedByFailureLocked() string {
	if u.state != StateQueued {
		return ""
	}
	for _, name := range u.spec.DependsOn {
		other := u.s.unit(name)
		if other == nil {
			continue
		}
		other.mu.Lock()
		failed := other.state == StateFailed || other.state == StateStopped || other.state == StateCompleted && other.lastErr != nil || other.blockedByFailureLocked() != ""
		other.mu.Unlock()
		if failed {
			return name
		}
	}
	return ""
}

func (u *unit) blocked() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.blockedByFailureLocked() != ""
}

// hold makes everything that spec depends on stay up, and starts what is on
// demand; the function that it returns lets go.
func (u *unit) hold(spec *Spec) (release func()) {
	var held []*unit
	for _, name := range spec.DependsOn {
		if other := u.s.unit(name); other != nil {
			other.use()
			held = append(held, other)
		}
	}
	return func() {
		for _, other := range held {
			other.leave()
		}
	}
}

// awaitDependencies waits until all that spec depends on is ready, or ctx is
// done. On a restart it waits for them again where the spec requires it.
func (u *unit) awaitDependencies(ctx context.Context, spec *Spec, restart bool) error {
	if restart && !spec.RequiresReady {
		return nil
	}
	for _, name := range spec.DependsOn {
		if err := u.awaitDependency(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

func (u *unit) awaitDependency(ctx context.Context, name string) error {
	if id, plugin := strings.CutPrefix(name, PluginPrefix); plugin && u.s.opt.Plugins != nil {
		if !u.s.opt.Plugins.InService(id) {
			u.set(StateQueued, "waits for "+name)
		}
		return u.s.opt.Plugins.AwaitService(ctx, id)
	}
	for told := false; ; told = true {
		changed := u.s.changed.Wait()
		if u.s.dependencyReady(name) {
			return nil
		}
		if !told {
			u.set(StateQueued, "waits for "+name)
			continue // our own word has closed changed
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// dependants returns the names of those that depend on a component and have a
// process, sorted.
func (s *Supervisor) dependants(name string) []string {
	var names []string
	for _, u := range s.all() {
		u.mu.Lock()
		if u.instance != nil && slices.Contains(u.spec.DependsOn, name) {
			names = append(names, u.name)
		}
		u.mu.Unlock()
	}
	slices.Sort(names)
	return names
}

// failure is an error as it is shown, with what it was about.
func failure(err error) *sdk.Error { return sdk.FromError(err) }
