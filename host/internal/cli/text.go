package cli

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sop-host/sop/host/internal/cli/term"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

// severities, worst first.
var severities = []string{"critical", "high", "medium", "low", "info"}

// severityRank is 0 for the worst; what is unknown comes last.
func severityRank(severity string) int {
	if i := slices.Index(severities, severity); i >= 0 {
		return i
	}
	return len(severities)
}

func severityStyle(severity string) term.Style {
	switch severity {
	case "critical":
		return term.BoldRed
	case "high":
		return term.Red
	case "medium":
		return term.Yellow
	case "low":
		return term.Cyan
	}
	return term.Faint
}

// stateStyle colours the state of a host, a plugin or a step.
func stateStyle(state string) term.Style {
	switch state {
	case "ok", "ready", "idle", "in service":
		return term.Green
	case "degraded", "failed", "refused", "unready":
		return term.Red
	case "starting", "stopping", "backoff", "scanning", "waiting", "queued", "blocked":
		return term.Yellow
	}
	return term.Plain
}

// place is where a gap is, as editors and terminals understand it.
func place(path string, line int32) string {
	if line <= 0 {
		return path
	}
	return path + ":" + strconv.Itoa(int(line))
}

// bySeverity orders gaps worst first, then by place.
func bySeverity(x, y *apiv1.GapRecord) int {
	if d := severityRank(x.GetSeverity()) - severityRank(y.GetSeverity()); d != 0 {
		return d
	}
	if d := strings.Compare(x.GetPath(), y.GetPath()); d != 0 {
		return d
	}
	if d := int(x.GetLine() - y.GetLine()); d != 0 {
		return d
	}
	return strings.Compare(x.GetRule(), y.GetRule())
}

// ago says how long before now a time was.
func ago(now time.Time, t *timestamppb.Timestamp) string {
	if t == nil {
		return "-"
	}
	return age(now.Sub(t.AsTime())) + " ago"
}

// since says how long something has lasted.
func since(now time.Time, t *timestamppb.Timestamp) string {
	if t == nil {
		return "-"
	}
	return age(now.Sub(t.AsTime()))
}

func age(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < time.Second:
		return "0s"
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return twoUnits(d, time.Minute, "m", time.Second, "s")
	case d < day:
		return twoUnits(d, time.Hour, "h", time.Minute, "m")
	}
	return twoUnits(d, day, "d", time.Hour, "h")
}

func twoUnits(d, large time.Duration, largeName string, small time.Duration, smallName string) string {
	text := fmt.Sprintf("%d%s", d/large, largeName)
	if rest := d % large / small; rest > 0 {
		text += fmt.Sprintf("%d%s", rest, smallName)
	}
	return text
}

// took is a duration with the digits that matter.
func took(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return d.Round(time.Microsecond).String()
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	}
	return d.Round(10 * time.Millisecond).String()
}

// count writes 1 gap, 2 gaps.
func count(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.FormatInt(n, 10) + " " + many
}

// countsOf says how many gaps stand open, worst first.
func (a *app) countsOf(c *apiv1.GapCounts) string {
	palette := a.palette(a.OutTerminal)
	numbers := []int64{c.GetCritical(), c.GetHigh(), c.GetMedium(), c.GetLow(), c.GetInfo()}
	var total int64
	var parts []string
	for i, n := range numbers {
		total += n
		if n > 0 {
			parts = append(parts, palette.Paint(severityStyle(severities[i]), fmt.Sprintf("%d %s", n, severities[i])))
		}
	}
	if total == 0 {
		return "none open"
	}
	return fmt.Sprintf("%d open: %s", total, strings.Join(parts, ", "))
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}
