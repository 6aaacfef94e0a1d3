// Package nexus is the one door of the host: every request, whatever it came
// in by, is authenticated, authorised and recorded here and then falls to the
// feature that serves it.
//
// It may be imported by api and startup. It declares what it calls; startup
// passes it in.
package nexus

import (
	"context"
	"os"
	"strconv"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/sop-host/sop/host/internal/gap"
	"github.com/sop-host/sop/host/internal/plugin"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
)

// Host is the resident process as the nexus sees it.
type Host interface {
	// Status says how everything stands.
	Status(ctx context.Context) (*apiv1.Status, error)
	// Changed returns a channel that is closed when the status has changed.
	Changed() <-chan struct{}
	// Reload takes the configuration over, or leaves everything as it is; a
	// configuration that is refused is a verdict and no error.
	Reload(ctx context.Context) (*apiv1.ReloadVerdict, error)
	// CheckReload says what Reload would come to.
	CheckReload(ctx context.Context) (*apiv1.ReloadVerdict, error)
	// Plan says what Reload would do.
	Plan(ctx context.Context) (*apiv1.PlanResponse, error)
}

// Plugins are the configured plugins.
type Plugins interface {
	Status() []plugin.Status
	Restart(ctx context.Context, id string) error
}

// Workspaces are the governed trees.
type Workspaces interface {
	List(ctx context.Context) ([]*apiv1.WorkspaceStatus, error)
	// Scan has the tree scanned from now on: a scan that began before may have passed
	// by what has changed.
	Scan(ctx context.Context, workspace string) (*apiv1.ScanReport, error)
	// Report takes in what an agent, a detector, found outside of a scan.
	Report(ctx context.Context, agent, workspace string, found *pluginv1.Finding) (*gap.Gap, error)
}

// Gaps are what detectors found.
type Gaps interface {
	List(ctx context.Context, filter gap.Filter) (gap.Page, error)
	Counts(ctx context.Context, workspace string) ([]gap.Count, error)
	Get(ctx context.Context, ref string) (*gap.Gap, error)
	Suppress(ctx context.Context, ref, by, reason string, until *time.Time) (*gap.Gap, error)
	Acknowledge(ctx context.Context, ref, by, note string) (*gap.Gap, error)
	Reopen(ctx context.Context, ref, by, reason string) (*gap.Gap, error)
	// CheckSuppress, CheckAcknowledge and CheckReopen change nothing and return the gap as it would be.
	CheckSuppress(ctx context.Context, ref, by, reason string, until *time.Time) (*gap.Gap, error)
	CheckAcknowledge(ctx context.Context, ref, by, note string) (*gap.Gap, error)
	CheckReopen(ctx context.Context, ref, by, reason string) (*gap.Gap, error)
}

// Nexus is the door. Fill in every field but those that say otherwise.
type Nexus struct {
	Host       Host
	Plugins    Plugins
	Components Components
	Emergency  Emergency
	Workspaces Workspaces
	Gaps       Gaps
	Patches    Patches
	Tasks      Tasks
	Tokens     Tokens
	Agents     Agents
	Backups    Backups
	Audit      Audit
	Events     Events
	Protocols  Protocols
	Runs       Runs
	Sinks      Sinks
	Scaffolds  Scaffolds
	// Looks puts leave to look on record; nil: it is not recorded.
	Looks *Looks
	// Maintenance keeps what is asked for when subsystems fail.
	Maintenance Maintenance
	// Retention is how long audit records stay in the database, 0 for good, and
	// how many an archived segment has.
	Retention func() (keep time.Duration, segment uint64)
	// Policy decides; nil stands for the default policies.
	Policy Policy
	Logger hclog.Logger
	// OnDenied is told why each request that is not let in is refused; it must
	// not block. nil is fine.
	OnDenied func(reason string)
}

// Trust says how far an agent is trusted.
type Trust string

const (
	// System agents are trusted in full.
	System Trust = "system"
	// Exterior agents may do what policy lets them.
	Exterior Trust = "exterior"
)

// Method is what an identity was proven by.
type Method string

// MethodPeer is proof by the kernel: the credentials of the process at the
// other end of a unix socket.
const MethodPeer Method = "peer"

// Caller is who asks, as far as the transport has proven it.
type Caller struct {
	// Name for people and records, such as "uid:1000".
	Name   string
	Trust  Trust
	Method Method
	// UID and PID of the process, by MethodPeer only.
	UID uint32
	PID int32
	// Groups that the configuration, or whoever vouches for the identity, puts
	// the caller in.
	Groups []string
	// Source is where the call comes from, for those who count by it: "uid:1000"
	// or an address, whatever the name.
	Source string
}

// PeerCaller is the process at the other end of a unix socket. The owner of the
// host and root are system agents, anybody else is an exterior one.
func PeerCaller(uid uint32, pid int32) Caller {
	c := Caller{Name: "uid:" + strconv.FormatUint(uint64(uid), 10), Trust: Exterior, Method: MethodPeer, UID: uid, PID: pid}
	c.Source = c.Name
	if uid == 0 || int(uid) == os.Geteuid() {
		c.Trust = System
	}
	return c
}

// System says that the caller is trusted in full.
func (c Caller) System() bool { return c.Trust == System }

type callerKey struct{}

// WithCaller returns a context in which c asks.
func WithCaller(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// CallerFrom returns who asks, and false when nobody has been authenticated.
func CallerFrom(ctx context.Context) (Caller, bool) {
	c, ok := ctx.Value(callerKey{}).(Caller)
	return c, ok
}
