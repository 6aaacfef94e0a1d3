package startup

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/api"
	"github.com/sop-host/sop/host/internal/config"
	"github.com/sop-host/sop/host/internal/gap"
	"github.com/sop-host/sop/host/internal/plugin"
	"github.com/sop-host/sop/host/internal/scratch"
	"github.com/sop-host/sop/host/internal/store"
	"github.com/sop-host/sop/host/internal/workspace"
	"github.com/sop-host/sop/sdk"
	"github.com/sop-host/sop/sdk/detector"
)

// defaultScanTimeout bounds a scan without a host.
const defaultScanTimeout = 15 * time.Minute

// ScanOnce scans a tree with the bundled detectors, without configuration,
// without a host and without leaving anything behind. The detectors are the
// programs beside this one and trusted as such.
func ScanOnce(ctx context.Context, opt ScanOptions) (out *ScanOutcome, err error) {
	path, err := filepath.Abs(opt.Path)
	if err != nil {
		return nil, err
	}
	switch info, err := os.Stat(path); {
	case err != nil:
		return nil, sdk.Errorf(codes.InvalidArgument, "SCAN_PATH", "scan: %w", err).WithRemedy("name a directory that exists and can be read")
	case !info.IsDir():
		return nil, sdk.Errorf(codes.InvalidArgument, "SCAN_PATH", "%s is not a directory", path).WithRemedy("name the directory that holds it")
	}
	if opt.Timeout <= 0 {
		opt.Timeout = defaultScanTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, opt.Timeout)
	defer cancel()
	var undo closers
	defer func() { err = errors.Join(err, undo.close()) }()

	tmp, err := scratch.New("scan")
	if err != nil {
		return nil, err
	}
	undo.add(tmp.Close)
	pool, err := bundledDetectors(ctx, opt, tmp.Path())
	if err != nil {
		return nil, err
	}
	undo.add(pool.Close)
	db, err := store.OpenMemory(ctx)
	if err != nil {
		return nil, err
	}
	undo.add(db.Close)
	return scanOnce(ctx, opt, path, pool, db.Gaps())
}

// bundledDetectors starts every detector in the plugins directory.
func bundledDetectors(ctx context.Context, opt ScanOptions, tmp string) (*plugin.Pool, error) {
	programs, err := filepath.Glob(filepath.Join(opt.PluginsDir, detector.Kind.Name+"-*"))
	if err != nil {
		return nil, err
	}
	if len(programs) == 0 {
		return nil, sdk.Errorf(codes.FailedPrecondition, "NO_DETECTORS", "there are no detectors in %s", opt.PluginsDir).
			WithRemedy("install sop with its plugins, or build it with `make build`")
	}
	var specs []*plugin.Spec
	for _, program := range programs {
		hash, err := plugin.HashFile(program)
		if err != nil {
			return nil, err
		}
		name := filepath.Base(program)[len(detector.Kind.Name)+1:]
		specs = append(specs, &plugin.Spec{
			Kind: detector.Kind.Name, Name: name, Command: program, Hash: hash, Config: []byte("{}"),
			StateDir: filepath.Join(tmp, "state", name), StartTimeout: 10 * time.Second, CallTimeout: opt.Timeout,
			StopGrace: time.Second, DrainTimeout: time.Second, Restart: plugin.DefaultRestartPolicy,
		})
	}
	logger := hclog.NewNullLogger()
	if opt.LogWriter != nil {
		logger = hclog.New(&hclog.LoggerOptions{Name: "sop", Level: hclog.Debug, Output: opt.LogWriter})
	}
	pool, err := plugin.New(plugin.Options{RunDir: filepath.Join(tmp, "run"), Logger: logger, HostVersion: opt.Version})
	if err != nil {
		return nil, err
	}
	if err := pool.Start(ctx, specs); err != nil {
		return nil, errors.Join(err, pool.Close())
	}
	return pool, nil
}

// onceWorkspace names the scanned tree where there is no configuration to.
const onceWorkspace = "scan"

func scanOnce(ctx context.Context, opt ScanOptions, path string, pool *plugin.Pool, db gap.Store) (*ScanOutcome, error) {
	walker, err := workspace.NewWalker(path, walkOptions(&config.Workspace{Path: path, Scan: config.Scan{Exclude: opt.Exclude}}, ""))
	if err != nil {
		return nil, err
	}
	detectors := detectorsOf(pool)
	result, err := gap.NewScanner(db, nil, gap.ScanOptions{Timeout: opt.Timeout}).Scan(ctx, gap.Target{
		Workspace: onceWorkspace, Walker: walker, Detectors: detectors,
	})
	if err != nil {
		return nil, err
	}
	out := &ScanOutcome{Scan: api.ScanReport(result, nil)}
	for filter := (gap.Filter{Workspace: onceWorkspace}); ; {
		page, err := db.List(ctx, filter)
		if err != nil {
			return nil, err
		}
		for _, g := range page.Gaps {
			out.Gaps = append(out.Gaps, api.GapRecord(g))
		}
		if filter.Token = page.Next; filter.Token == "" {
			break
		}
	}
	out.Rules, err = rulesOf(ctx, detectors)
	return out, err
}

// rulesOf lists what was looked for; a detector that has failed is in the
// scan's diagnostics and has no rules.
func rulesOf(ctx context.Context, detectors []gap.Detector) ([]Rule, error) {
	var rules []Rule
	for _, d := range detectors {
		all, err := d.Rules(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			continue
		}
		for _, r := range all {
			rules = append(rules, Rule{
				ID: r.GetId(), Version: r.GetVersion(), Summary: r.GetSummary(), HelpURI: r.GetHelpUri(),
				Type:     strings.ToLower(strings.TrimPrefix(r.GetType().String(), "GAP_TYPE_")),
				Severity: gap.Severity(r.GetDefaultSeverity()).String(), Detector: d.Name(),
			})
		}
	}
	return rules, nil
}
