package backup

import (
	"strings"
	"time"
	"unicode/utf8"
)

// Snapshot is one saved state, as the host knows it.
type Snapshot struct {
	ID     string // UUIDv7, of the host
	Plugin string // what the configuration calls it
	Ref    string // the plugin's id of it

	Workspace string   // empty: SOP's own state
	Root      string   // the directory that the paths are relative to
	Paths     []string // that were asked for; empty: everything
	Excluded  []string // that were left out
	Reason    Reason
	Task      string
	Patch     string
	Schedule  string

	By        string
	CreatedAt time.Time
	Files     int64
	Bytes     int64
	Stored    int64 // bytes that it added to the repository
	// Failures are the first of Failed paths that could not be saved.
	Failures []PathFailure
	Failed   int

	// Manifest is the SHA-256 that proves the snapshot; empty where the plugin
	// has none.
	Manifest []byte

	Pinned    bool
	State     State
	Why       string // it is in that state
	ChangedAt time.Time
	// StructureAt and DataAt are when it was last found intact; zero: never.
	StructureAt, DataAt time.Time
}

// Whole says that everything that was asked for is in it.
func (s *Snapshot) Whole() bool { return s.Failed == 0 }

// Reason is why a snapshot was made.
type Reason string

// The reasons.
const (
	ForIntegration Reason = "integration" // before a patch replaces something
	ForRequest     Reason = "request"     // somebody asked for it
	ForSchedule    Reason = "schedule"
	ForRestore     Reason = "restore"  // before a restore replaces something
	ForRollback    Reason = "rollback" // before a rollback replaces something
)

// Reasons returns all reasons.
func Reasons() []Reason {
	return []Reason{ForIntegration, ForRequest, ForSchedule, ForRestore, ForRollback}
}

// State is what has become of a snapshot.
type State string

// The states.
const (
	Kept    State = "kept"
	Deleted State = "deleted" // by somebody, or by retention
	// Lost: the repository does not have it, or not as it was saved.
	Lost State = "lost"
)

// States returns all states.
func States() []State { return []State{Kept, Deleted, Lost} }

// PathFailure is a path with what is wrong with it.
type PathFailure struct {
	Path    string // bytes, as on disk
	Message string
}

// maxFailures bounds the failures that are kept with a snapshot, and returned.
const maxFailures = 100

// maxMessage bounds what a plugin says about a path, in bytes.
const maxMessage = 512

// Printable makes text that came from a disk or a plugin safe for one line.
func Printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || r < ' ' || r == 0x7f {
			return '\uFFFD'
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD"))
}

func clip(text string) string {
	text = Printable(text)
	if len(text) <= maxMessage {
		return text
	}
	return strings.ToValidUTF8(text[:maxMessage], "") + "…"
}
