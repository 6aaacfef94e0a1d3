package gap

import (
	"fmt"
	"slices"
	"strings"
)

// Severity orders gaps by urgency. Its text form is lower case.
type Severity int

// The severities. The numbers are stored and on the wire.
const (
	SeverityInfo     Severity = 1
	SeverityLow      Severity = 2
	SeverityMedium   Severity = 3
	SeverityHigh     Severity = 4
	SeverityCritical Severity = 5
)

var severities = []string{"unspecified", "info", "low", "medium", "high", "critical"}

// String returns the lower-case name.
func (s Severity) String() string { return name(severities, int(s)) }

// MarshalText implements [encoding.TextMarshaler].
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (s *Severity) UnmarshalText(text []byte) error {
	v, err := ParseSeverity(string(text))
	*s = v
	return err
}

// ParseSeverity reads a name such as "high", in any case.
func ParseSeverity(text string) (Severity, error) {
	i, err := parse("severity", severities, text)
	return Severity(i), err
}

// Confidence says how sure the detector is. Its text form is lower case.
type Confidence int

// The confidences. The numbers are stored and on the wire.
const (
	ConfidenceLow    Confidence = 1
	ConfidenceMedium Confidence = 2
	ConfidenceHigh   Confidence = 3
)

var confidences = []string{"unspecified", "low", "medium", "high"}

// String returns the lower-case name.
func (c Confidence) String() string { return name(confidences, int(c)) }

// MarshalText implements [encoding.TextMarshaler].
func (c Confidence) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (c *Confidence) UnmarshalText(text []byte) error {
	i, err := parse("confidence", confidences, string(text))
	*c = Confidence(i)
	return err
}

func name(names []string, i int) string {
	if i < 0 || i >= len(names) {
		return names[0]
	}
	return names[i]
}

func parse(what string, names []string, text string) (int, error) {
	i := slices.Index(names[1:], strings.ToLower(text))
	if i < 0 {
		return 0, fmt.Errorf("%s %q: want one of %s", what, text, strings.Join(names[1:], ", "))
	}
	return i + 1, nil
}
