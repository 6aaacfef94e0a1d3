package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// patience is how many scans in a row it takes to open and to close a gap.
type patience struct {
	open, close int
}

// state is what is remembered of one check.
type state struct {
	Open bool `json:"open"`
	// Streak counts the scans in a row that speak against Open.
	Streak int `json:"streak"`
	// Message of the last failure.
	Message string `json:"message,omitempty"`
}

// next is the state after one more scan. What could not be found out changes
// nothing: neither opens it a gap nor does it close one.
func (s state) next(r result, p patience) state {
	if r.err != nil {
		return s
	}
	failing := r.failing != ""
	if failing {
		s.Message = r.failing
	}
	if failing == s.Open {
		s.Streak = 0
		return s
	}
	s.Streak++
	needed := p.open
	if s.Open {
		needed = p.close
	}
	if s.Streak >= needed {
		s.Open, s.Streak = failing, 0
	}
	return s
}

// memory holds the states by [check.key]. It outlives the process, so that
// neither a restart nor a reload opens or closes anything.
type memory map[string]state

func loadMemory(path string) (memory, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var m memory
	if err := json.Unmarshal(text, &m); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return m, nil
}

// save replaces the file; a crash leaves the old one or the new one.
func (m memory) save(path string) error {
	text, err := json.MarshalIndent(m, "", "\t")
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "checks-*")
	if err != nil {
		return fmt.Errorf("remember the checks: %w", err)
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("remember the checks: %w", err), os.Remove(f.Name()))
	}
	return nil
}
