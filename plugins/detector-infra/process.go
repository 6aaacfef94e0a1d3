package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strings"

	"github.com/shirou/gopsutil/v4/process"
)

// processBlock is how many processes of a name are expected.
type processBlock struct {
	Name string `json:"name"`
	Min  *int   `json:"min"`
	Max  *int   `json:"max"`
}

func (b processBlock) check(label string) (*check, error) {
	name := b.Name
	if name == "" {
		name = label
	}
	least := 1
	if b.Min != nil {
		least = *b.Min
	}
	if least < 0 || b.Max != nil && *b.Max < least {
		return nil, invalid("min", "Set min to 0 or more, and max to at least min.", "no number of processes is right")
	}
	expected := fmt.Sprintf("at least %d", least)
	if b.Max != nil {
		expected = fmt.Sprintf("%d to %d", least, *b.Max)
	}
	c := &check{expected: expected + " of " + name, remedy: "start the missing processes, or end those too many"}
	c.failing = func(ctx context.Context) (string, error) {
		n, err := countProcesses(ctx, name)
		if err != nil {
			return "", err
		}
		if n < least || b.Max != nil && n > *b.Max {
			return fmt.Sprintf("%s of %s; expected is %s", plural(n, "process", "processes"), name, expected), nil
		}
		return "", nil
	}
	return c, nil
}

// countProcesses counts by the name of the program; a process that ends while
// it is looked at does not count.
func countProcesses(ctx context.Context, name string) (int, error) {
	all, err := process.ProcessesWithContext(ctx)
	if err != nil {
		return 0, err
	}
	n := 0
	for _, p := range all {
		if got, err := p.NameWithContext(ctx); err == nil && got == name {
			n++
		}
	}
	return n, ctx.Err()
}

// unitBlock is the expected state of the systemd unit that the label names.
type unitBlock struct {
	State string `json:"state"`
}

var unitName = regexp.MustCompile(`^[A-Za-z0-9:_.@\\-]{1,255}$`)

func (b unitBlock) check(unit string) (*check, error) {
	if !unitName.MatchString(unit) || strings.HasPrefix(unit, "-") {
		return nil, invalid("", "Label the block with a unit such as nginx.service.", "%q is no unit", unit)
	}
	want := b.State
	if want == "" {
		want = "active"
	}
	c := &check{expected: want, remedy: "see `systemctl status " + unit + "`"}
	c.failing = func(ctx context.Context) (string, error) {
		out, err := exec.CommandContext(ctx, "systemctl", "show", "--property=LoadState,ActiveState", "--", unit).Output()
		if errors.Is(err, exec.ErrNotFound) {
			return "", errors.New("there is no systemctl on this machine")
		}
		if err != nil {
			return "", fmt.Errorf("ask systemd: %w", err)
		}
		return unitFailing(unit, want, string(out)), nil
	}
	return c, nil
}

// unitFailing reads what systemctl show printed.
func unitFailing(unit, want, out string) string {
	properties := make(map[string]string)
	for line := range strings.Lines(out) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		properties[key] = value
	}
	switch state := properties["ActiveState"]; {
	case properties["LoadState"] == "not-found":
		return fmt.Sprintf("there is no unit %s; expected is that it is %s", unit, want)
	case state != want:
		return fmt.Sprintf("unit %s is %s; expected is that it is %s", unit, state, want)
	}
	return ""
}
