package maintenance

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/sdk"
)

// Severity says how bad it is; later ones are worse.
type Severity int

// The severities.
const (
	Low Severity = iota + 1
	Medium
	High
	Critical
)

var severities = []string{"low", "medium", "high", "critical"}

// Severities returns the words for them, ascending.
func Severities() []string { return slices.Clone(severities) }

// String returns the word for it.
func (s Severity) String() string {
	if s < Low || s > Critical {
		return fmt.Sprintf("severity %d", int(s))
	}
	return severities[s-1]
}

// ParseSeverity reads a word; the empty one is Medium.
func ParseSeverity(word string) (Severity, error) {
	if word == "" {
		return Medium, nil
	}
	if i := slices.Index(severities, word); i >= 0 {
		return Severity(i + 1), nil
	}
	return 0, invalid("severity", "there is no severity %q", clip(word)).WithRemedy("it is one of %s", strings.Join(severities, ", "))
}

// State is how a request stands.
type State string

// The states.
const (
	Open   State = "open"
	Closed State = "closed"
)

// States returns all states.
func States() []State { return []State{Open, Closed} }

// Request says that a subsystem fails.
type Request struct {
	Subsystem   string // such as "component.scp"
	Description string
	Remedy      string // may be empty
	Severity    Severity
	Workspace   string // may be empty
	By          string
}

// Record is one request with what became of it.
type Record struct {
	ID, Subsystem, Workspace string
	State                    State
	Severity                 Severity // the worst that it was filed with
	Description, Remedy      string   // of the latest
	FiledBy                  string   // the first
	Owner                    string   // "operator/NAME" or "protocol/NAME"
	TaskID                   string   // made of it; empty: none
	Count                    int      // how often it was filed while open
	FirstSeen, LastSeen      time.Time
	ClosedAt                 time.Time
	ClosedBy, CloseReason    string
	History                  []Change // of Get only
}

// Action is what happened to a request.
type Action string

// The actions. That it was filed again is counted, and no action.
const (
	Filed  Action = "filed"
	Raised Action = "raised" // in its severity
	Routed Action = "routed" // to another owner
	Ended  Action = "closed"
)

// Change is one thing that happened to a request.
type Change struct {
	ID, Subsystem string
	Action        Action
	At            time.Time
	By, Why       string
	Severity      Severity
	Owner         string
}

const (
	maxText   = 2048 // bytes
	maxReason = 1024
)

var subsystemPattern = regexp.MustCompile(`^[a-z0-9][a-z0-9._/-]{0,127}$`)

// check says what is wrong with a request, and completes it.
func (r *Request) check() error {
	switch {
	case !subsystemPattern.MatchString(r.Subsystem):
		return invalid("subsystem", "%q cannot be the name of a subsystem", clip(r.Subsystem)).
			WithRemedy("give lower-case letters, digits and . _ - / only, such as component.scp")
	case strings.TrimSpace(r.Description) == "":
		return invalid("description", "a request says what fails").WithRemedy("describe it in one or two sentences")
	case len(r.Description) > maxText || len(r.Remedy) > maxText:
		return invalid("description", "description and remedy have at most %d bytes each", maxText).WithRemedy("say it in fewer words; details belong into the log")
	case len(r.Workspace) > 256:
		return invalid("workspace", "the name of the workspace is too long").WithRemedy("name a configured workspace")
	case r.By == "":
		return invalid("by", "nobody files it").WithRemedy("name who asks")
	}
	if r.Severity == 0 {
		r.Severity = Medium
	}
	if r.Severity < Low || r.Severity > Critical {
		return invalid("severity", "there is no such severity").WithRemedy("it is one of %s", strings.Join(severities, ", "))
	}
	r.Description, r.Remedy = printable(r.Description), printable(r.Remedy)
	return nil
}

// printable makes text from outside fit for terminals and records.
func printable(s string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r == '\n' || unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, strings.ToValidUTF8(s, "?")))
}

func clip(s string) string {
	const most = 100
	if len(s) > most {
		s = s[:most]
	}
	return strings.ToValidUTF8(s, "?")
}

func invalid(field, format string, args ...any) *sdk.Error {
	return sdk.Errorf(codes.InvalidArgument, "MAINTENANCE_REQUEST", format, args...).WithField(field, "")
}

// NotFound says that there is no such request.
func NotFound(ref string) *sdk.Error {
	return sdk.Errorf(codes.NotFound, "MAINTENANCE_NOT_FOUND", "there is no maintenance request %q", clip(ref)).
		WithRemedy("`sop maintenance list` names those that are open")
}

// Ambiguous says that a reference is the beginning of more than one id.
func Ambiguous(ref string) *sdk.Error {
	return sdk.Errorf(codes.InvalidArgument, "MAINTENANCE_AMBIGUOUS", "%q begins the id of more than one maintenance request", clip(ref)).
		WithRemedy("give more of it").WithField("id", "")
}
