package startup

import (
	"encoding/json"
	"path/filepath"
	"sync"

	"github.com/sop-host/sop/host/internal/task"
	"github.com/sop-host/sop/host/internal/verify"
	"github.com/sop-host/sop/sdk/scaffold"
)

// packagedSteps are the steps that verification of a patch will take, as task
// packages have them.
func (h *host) packagedSteps(workspace string, names []string, gaps bool) ([]task.VerifyStep, error) {
	spec, err := verifySpec(h.loaded.Load().config, workspace, names)
	if err != nil {
		return nil, err
	}
	if len(spec.Steps) == 0 && !gaps {
		return nil, nil // there is nothing by which it could be verified
	}
	out := []task.VerifyStep{{Name: verify.StepProtected, Runner: verify.StepProtected}}
	for i := range spec.Steps {
		s := &spec.Steps[i]
		step := task.VerifyStep{Name: s.Name, Runner: s.Runner, Command: s.Command, Dir: s.Dir, TimeoutSeconds: s.Timeout.Seconds()}
		if step.Runner == "" {
			step.Runner = verify.RunnerCommand
		}
		if step.Runner == verify.RunnerGoTest {
			step.Packages = s.Tested()
		}
		out = append(out, step)
	}
	if gaps {
		out = append(out, task.VerifyStep{Name: verify.StepGap, Runner: verify.StepGap})
	}
	return out, nil
}

// scaffoldSets are the scaffolds of plugins as they were when the configuration was
// taken over, which is when plugins read them.
type scaffoldSets struct {
	mu   sync.Mutex
	of   *loaded
	sets map[string]*scaffold.Set // by directory; empty: the bundled ones alone
}

// packagedScaffolds are the scaffolds that a sandbox plugin has: the bundled ones,
// with those of the directory that its configuration names.
func (h *host) packagedScaffolds(sandbox string) *scaffold.Set {
	now := h.loaded.Load()
	var settings struct {
		Scaffolds string `json:"scaffolds"`
	}
	for _, spec := range now.specs {
		if spec.ID() != sandboxID(sandbox) {
			continue
		}
		// Of a plugin whose setting of that name is another thing, nothing is read.
		if err := json.Unmarshal(spec.Config, &settings); err != nil || !filepath.IsAbs(settings.Scaffolds) {
			settings.Scaffolds = ""
		}
	}
	set, err := h.scaffolds.load(now, settings.Scaffolds)
	if err != nil {
		h.logger.Warn("read the scaffolds of a plugin; task packages name the bundled ones", "plugin", sandbox, "error", err)
	}
	return set
}

// load reads the scaffolds of a directory, once for each configuration. With an
// error it returns the bundled ones.
func (s *scaffoldSets) load(now *loaded, dir string) (*scaffold.Set, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.of != now {
		s.of, s.sets = now, make(map[string]*scaffold.Set)
	}
	if set := s.sets[dir]; set != nil {
		return set, nil
	}
	set, err := Scaffolds(dir)
	if err != nil {
		bundled, bundledErr := Scaffolds("")
		if bundledErr != nil {
			return nil, bundledErr
		}
		set = bundled
	}
	s.sets[dir] = set
	return set, err
}
