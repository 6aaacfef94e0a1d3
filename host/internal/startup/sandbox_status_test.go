package startup

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/sop-host/sop/host/internal/config"
	"github.com/sop-host/sop/host/internal/sandbox"
)

func TestSandboxStatus(t *testing.T) {
	cfg := &config.Config{SandboxProfiles: []config.SandboxProfile{{Name: "boxed", Level: "strict"}, {Name: "plain", Level: "none"}}}
	var s sandboxLevels
	if s.status(new(config.Config)) != nil {
		t.Error("a host that needs no sandbox speaks of one")
	}
	if got := s.status(cfg); got.GetProblem() == "" {
		t.Errorf("before it is known: %v", got)
	}
	s.probe(t.Context(), func(context.Context) ([]sandbox.LevelProbe, error) { return nil, errors.New("no launcher") })
	if got := s.status(cfg); got.GetProblem() != "no launcher" {
		t.Errorf("%v", got)
	}
	s.probe(t.Context(), func(context.Context) ([]sandbox.LevelProbe, error) {
		return []sandbox.LevelProbe{{Level: sandbox.LevelStrict, Refusal: &sandbox.Refusal{Stage: "proc", Errno: 1, Detail: "not permitted"}}, {Level: sandbox.LevelNone, Works: true}}, nil
	})
	got := s.status(cfg)
	if len(got.GetLevels()) != 2 || len(got.GetProfiles()) != 3 {
		t.Fatalf("%v", got)
	}
	if reasons := sandboxReasons(cfg, got); len(reasons) != 1 || !strings.Contains(reasons[0], "boxed") || !strings.Contains(reasons[0], "proc: not permitted (errno 1)") {
		t.Errorf("%v", reasons)
	}
}
