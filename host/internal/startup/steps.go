package startup

import (
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/sop-host/sop/host/internal/timeline"
)

// steps is the activation timeline: each step is written to a file and told to
// whoever asked for it, in order, without holding up what it reports on.
type steps struct {
	begin  time.Time
	onStep func(Step)
	file   *os.File
	logger hclog.Logger
	queue  chan Step
	done   chan struct{}
	once   sync.Once

	mu      sync.Mutex
	closed  bool
	dropped int
}

// stepQueue is how many steps may wait to be written.
const stepQueue = 1024

func newSteps(dir dataDir, onStep func(Step), logger hclog.Logger) (*steps, error) {
	file, err := newBoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open activation timeline: %w", err)
	}
	s := &steps{
		begin: time.Now(), onStep: onStep, file: file, logger: logger,
		queue: make(chan Step, stepQueue), done: make(chan struct{}),
	}
	go s.run()
	return s, nil
}

// add takes a step; it does not block.
func (s *steps) add(step Step) {
	step.Elapsed = time.Since(s.begin)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	select {
	case s.queue <- step:
	default:
		s.dropped++
	}
}

// close writes what waits and ends.
func (s *steps) close() {
	s.once.Do(func() {
		s.mu.Lock()
		s.closed = true
		close(s.queue)
		s.mu.Unlock()
	})
	<-s.done
}

func (s *steps) run() {
	defer close(s.done)
	out := json.NewEncoder(s.file)
	for step := range s.queue {
		if err := out.Encode(stepRecord(step)); err != nil {
			s.logger.Warn("write activation timeline", "error", err)
		}
		if s.onStep != nil {
			s.onStep(step)
		}
	}
	if s.dropped > 0 {
		s.logger.Warn("steps missing from the activation timeline", "count", s.dropped)
	}
	if err := s.file.Close(); err != nil {
		s.logger.Warn("close activation timeline", "error", err)
	}
}

func stepRecord(s Step) timeline.Step {
	return timeline.Step{
		ElapsedMS: float64(s.Elapsed.Microseconds()) / 1000, Component: s.Component, Phase: s.Phase, Detail: s.Detail, Remedy: s.Remedy,
		Instance: s.Instance, After: s.After,
	}
}
