package backup

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc/codes"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
)

// Plugins are the configured backup plugins.
type Plugins interface {
	// Names returns what the configuration calls them, in order.
	Names() []string
	// Client returns a client of the plugin of that name, which is configured.
	Client(name string) pluginv1.BackupClient
}

// Grant gives a plugin the secret of a token for one call, which what says in
// words. Who has been given it calls end when the call is over.
type Grant func(ctx context.Context, plugin, workspace, what string) (secret string, end func(), err error)

// Options are what a Service is made of.
type Options struct {
	Store   Store
	Plugins Plugins
	// Root returns the directory of a workspace; the error for an unknown one is
	// the caller's.
	Root func(workspace string) (string, error)
	// Roots returns the directory of each governed workspace by its name.
	Roots func() map[string]string
	// StageState writes a copy of the host's own state into an empty directory.
	StageState func(ctx context.Context, dir string) error
	// Grant may be nil: plugins work without a token.
	Grant Grant
	// DataDir is where the host keeps its state; it is in no snapshot of a
	// workspace.
	DataDir string
	// Scratch is a directory of the service's own, for what is restored to be
	// looked at. It is made, for the owner alone, when it is needed.
	Scratch string
	Logger  hclog.Logger
	Now     func() time.Time // nil: time.Now
}

// Service is what operators and other features do with snapshots. It decides
// nothing about permission: nexus has done so. All methods are safe for
// concurrent use.
type Service struct {
	Options
	under   activities
	staging chan struct{} // has room for the one that stages the host's state
	crowded chan struct{} // told when a plugin was given many snapshots

	mu    sync.Mutex
	saves map[string]int // by plugin, since it was pruned
}

// NewService returns a service.
func NewService(opt Options) *Service {
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.Logger == nil {
		opt.Logger = hclog.NewNullLogger()
	}
	return &Service{Options: opt, staging: make(chan struct{}, 1), crowded: make(chan struct{}, 1), saves: make(map[string]int)}
}

// usual is the plugin for the few files that a change is about to replace.
const usual = "files"

// plugin returns the plugin of that name; without a name, the one that is
// usual, or the only one.
func (s *Service) plugin(name string) (string, pluginv1.BackupClient, error) {
	all := s.Plugins.Names()
	if name == "" {
		switch {
		case slices.Contains(all, usual):
			name = usual
		case len(all) == 1:
			name = all[0]
		case len(all) == 0:
			return "", nil, sdk.Errorf(codes.FailedPrecondition, "BACKUP_NO_PLUGIN", "no backup plugin is configured").
				WithRemedy(`add a plugin "backup" "files" block to the configuration; docs/backup.md shows one`)
		default:
			return "", nil, sdk.Errorf(codes.InvalidArgument, "BACKUP_PLUGIN_UNKNOWN", "there are several backup plugins and none is called %q", usual).
				WithRemedy("name one of %s", strings.Join(all, ", ")).WithField("plugin", "")
		}
	}
	if !slices.Contains(all, name) {
		return "", nil, sdk.Errorf(codes.NotFound, "BACKUP_PLUGIN_UNKNOWN", "there is no backup plugin %q", clip(name)).
			WithRemedy("the configured backup plugins are: %s", strings.Join(all, ", ")).WithField("plugin", "")
	}
	return name, s.Plugins.Client(name), nil
}

// newID makes the id of a snapshot or a run.
func newID() (string, error) {
	id, err := uuid.NewV7()
	return id.String(), err
}

// recordTime is how long the record of what has been done may take, whoever has
// gone away meanwhile.
const recordTime = 15 * time.Second

// record stores what has been done, also when the caller has gone.
func (s *Service) record(ctx context.Context, fn func(ctx context.Context, tx Tx) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTime)
	defer cancel()
	return s.Store.Update(ctx, func(tx Tx) error { return fn(ctx, tx) })
}

// count counts a snapshot, and tells when a plugin was given many.
func (s *Service) count(plugin string) {
	s.mu.Lock()
	s.saves[plugin]++
	many := s.saves[plugin] >= pruneAfter
	s.mu.Unlock()
	if many {
		select {
		case s.crowded <- struct{}{}:
		default: // it was told already
		}
	}
}

// savesOf is how many snapshots a plugin was given since it was pruned.
func (s *Service) savesOf(plugin string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.saves[plugin]
}

// pruned counts from zero again.
func (s *Service) pruned(plugin string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.saves[plugin] = 0
}

// Get returns the snapshot that ref names.
func (s *Service) Get(ctx context.Context, ref string) (*Snapshot, error) {
	return s.Store.Get(ctx, ref)
}

// List returns one page of the snapshots that pass the filter, latest first.
func (s *Service) List(ctx context.Context, f Filter) (Page, error) { return s.Store.List(ctx, f) }

// ForPatch returns the snapshots of a patch that are kept, latest first.
func (s *Service) ForPatch(ctx context.Context, patch string) ([]*Snapshot, error) {
	page, err := s.Store.List(ctx, Filter{Patch: patch, States: []State{Kept}})
	return page.Snapshots, err
}
