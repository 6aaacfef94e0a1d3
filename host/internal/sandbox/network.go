package sandbox

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/sop-host/sop/host/internal/sandbox/egress"
	"github.com/sop-host/sop/host/internal/sandbox/launch"
	"github.com/sop-host/sop/host/internal/scratch"
)

// validateNetwork refuses a way out where there is no network of its own to
// lead out of.
func (p Profile) validateNetwork() error {
	if p.Network.Any() && p.Level != LevelStrict && p.Level != LevelNSNoProc {
		return fmt.Errorf("level %s has no network of its own, and so no proxy that it could be led through", p.Level)
	}
	return p.Network.Validate()
}

// A wayOut is the proxy of one run.
type wayOut struct {
	proxy *egress.Proxy
	dir   *scratch.Dir // of its socket, which nobody else can reach
}

// openNetwork puts the run's proxy up and into its plan. One that cannot be had
// is a refusal.
func (a *attempt) openNetwork(ctx context.Context, plan *launch.Plan) (refused bool, err error) {
	rules := &a.spec.Profile.Network
	if !rules.Any() {
		return false, nil
	}
	proxy, err := egress.New(rules)
	if err != nil {
		a.refuse("network", err)
		return true, nil
	}
	dir, err := scratch.New("net")
	if err != nil {
		return false, err
	}
	socket := dir.Join("s")
	listener, err := new(net.ListenConfig).Listen(ctx, "unix", socket)
	if err == nil {
		err = os.Chmod(socket, 0o666) //nolint:gosec // the directory is the host's alone; the sandbox has another id
	}
	if err != nil {
		if listener != nil {
			err = errors.Join(err, listener.Close())
		}
		return false, errors.Join(err, dir.Close())
	}
	proxy.Serve(listener)
	a.way = &wayOut{proxy, dir}
	plan.Proxied = true
	plan.Mounts = append(plan.Mounts, launch.Mount{Tree: launch.Tree{Path: socket}, Target: launch.ProxySocket})
	plan.Env = append(plan.Env, rules.Variables(launch.ProxyPort)...)
	return false, nil
}

// closeNetwork cuts the run off and takes over what the proxy has decided.
func (a *attempt) closeNetwork() error {
	if a.way == nil {
		return nil
	}
	err := a.way.proxy.Close()
	a.out.Network = a.way.proxy.Decisions()
	return errors.Join(err, a.way.dir.Close())
}
