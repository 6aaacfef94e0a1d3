package sandbox

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/sop-host/sop/host/internal/scratch"
)

// A LevelProbe says whether runs at a level are possible here and now.
type LevelProbe struct {
	Level    Level         `json:"level"`
	Works    bool          `json:"works"`
	Refusal  *Refusal      `json:"refusal,omitempty"` // set if and only if it does not
	Landlock int           `json:"landlock_abi,omitempty"`
	OwnID    bool          `json:"root_id,omitempty"`
	Took     time.Duration `json:"took_ns,omitempty"`
}

// probeWord is what the probes' command writes and nothing else does.
const probeWord = "inside"

// Probe runs a small command at every level. What the kernel says about itself
// proves nothing: an administrator, a container or another security module may
// have closed what it offers.
func (r *Runner) Probe(ctx context.Context) (levels []LevelProbe, err error) {
	dir, err := scratch.New("probe")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	for _, level := range Levels {
		probe, err := r.probe(ctx, level, dir.Path())
		if err != nil {
			return nil, err
		}
		levels = append(levels, probe)
	}
	return levels, nil
}

func (r *Runner) probe(ctx context.Context, level Level, dir string) (p LevelProbe, err error) {
	profile := DefaultProfile
	profile.Level = level
	profile.Limits.Wall = 10 * time.Second
	out, err := r.Run(ctx, Spec{Profile: profile, Workspace: dir, Argv: []string{"/bin/sh", "-c", "echo " + probeWord + " > word && cat word"}})
	if err != nil {
		return p, err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	p = LevelProbe{Level: level, Refusal: out.Refusal, Landlock: out.LandlockABI, OwnID: out.OwnID, Took: out.Phases["command"]}
	p.Works = out.Status == Exited && out.Exit == 0 && strings.TrimSpace(out.Stdout.Text) == probeWord
	if !p.Works && p.Refusal == nil {
		p.Refusal = &Refusal{Stage: "probe", Detail: "its command ended as " + out.Status.String() + ": " + strings.TrimSpace(out.Stderr.Text)}
	}
	return p, nil
}
