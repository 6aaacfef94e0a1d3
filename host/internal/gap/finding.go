package gap

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
)

// Bounds on what is kept of a finding, in bytes.
const (
	maxPath     = 4096
	maxRule     = 128
	maxSymbol   = 512
	maxText     = 1024 // message and remedy, each
	maxEvidence = 1024
	maxExcerpt  = 2048 // snippet and each context, for matching
)

// ruleForm is what people can name in rules, filters and policies.
var ruleForm = regexp.MustCompile(fmt.Sprintf(`^[A-Za-z0-9][A-Za-z0-9._-]{0,%d}$`, maxRule-1))

// finding is what one scan saw at one place: a gap that has no id, state or
// dates yet.
type finding struct {
	*Gap
	// weak says that the snippet is too short, or too common a shape, to
	// recognise the gap by in another file.
	weak bool
}

// checker makes findings of what one detector sends. It trusts nothing.
type checker struct {
	workspace       string
	detector        string
	detectorVersion string
	rules           map[string]*pluginv1.Rule
	exists          func(path string) bool // in the workspace, as file or directory
	scratch         []byte
}

// check returns f checked, clipped, hashed and redacted, or says why not.
func (c *checker) check(f *pluginv1.Finding) (finding, error) {
	rule := c.rules[f.GetRule()]
	if rule == nil {
		return finding{}, fmt.Errorf("rule %q is not among the detector's rules", clip(f.GetRule(), 100))
	}
	if !ruleForm.MatchString(rule.GetId()) {
		return finding{}, fmt.Errorf("rule %q has no dotted id of at most %d letters, digits, . _ and -", clip(rule.GetId(), 100), maxRule)
	}
	loc := f.GetLocation()
	if err := c.checkPath(loc.GetPath()); err != nil {
		return finding{}, err
	}
	line := max(int(loc.GetLine()), 0)
	g := &Gap{
		Workspace: c.workspace, Detector: c.detector, DetectorVersion: c.detectorVersion,
		Rule: rule.GetId(), RuleVersion: rule.GetVersion(),
		Type:       cmp.Or(typeOf(f.GetType()), typeOf(rule.GetType()), CodeQuality),
		Severity:   cmp.Or(severityOf(f.GetSeverity()), severityOf(rule.GetDefaultSeverity()), SeverityInfo),
		Confidence: cmp.Or(confidenceOf(f.GetConfidence()), ConfidenceMedium),
		Location: Location{
			Path: loc.GetPath(), Line: line, EndLine: max(int(loc.GetEndLine()), line),
			Column: max(int(loc.GetColumn()), 0), Symbol: oneLine(loc.GetSymbol(), maxSymbol),
		},
		Message:  cmp.Or(said(f.GetMessage()), said(rule.GetSummary()), rule.GetId()),
		Remedy:   oneLine(f.GetRemedy(), maxText),
		Evidence: clip(Redact(printable(clip(f.GetSnippet(), maxExcerpt))), maxEvidence),
	}
	weak := c.hash(g, f)
	return finding{Gap: g, weak: weak}, nil
}

// said is text on one line; empty where it says nothing.
func said(text string) string {
	if strings.TrimSpace(text) == "" {
		return ""
	}
	return oneLine(text, maxText)
}

func (c *checker) checkPath(p string) error {
	if err := checkPath(p); err != nil {
		return err
	}
	if !c.exists(p) {
		return fmt.Errorf("path %q is not in the workspace as it was listed", p)
	}
	return nil
}

// checkPath accepts slash-separated relative paths in their shortest form that
// stay inside.
func checkPath(p string) error {
	switch {
	case p == "":
		return fmt.Errorf("path is empty")
	case len(p) > maxPath:
		return fmt.Errorf("path of %d bytes is longer than %d", len(p), maxPath)
	case !utf8.ValidString(p):
		return fmt.Errorf("path %q is not UTF-8", p)
	case path.IsAbs(p), p == "..", strings.HasPrefix(p, "../"):
		return fmt.Errorf("path %q leads outside the workspace", p)
	case path.Clean(p) != p, strings.ContainsFunc(p, unicode.IsControl):
		return fmt.Errorf("path %q is not in its plain form", p)
	}
	return nil
}

// hash fills in the keys and says whether the snippet is weak.
func (c *checker) hash(g *Gap, f *pluginv1.Finding) (weak bool) {
	const enough = 16 // bytes without white space
	before := clip(f.GetContextBefore(), maxExcerpt)
	snippet := clip(f.GetSnippet(), maxExcerpt)
	after := clip(f.GetContextAfter(), maxExcerpt)

	buf := appendDense(c.scratch[:0], before)
	atSnippet := len(buf)
	buf = appendDense(append(buf, '\n'), snippet)
	atAfter := len(buf)
	buf = appendDense(append(buf, '\n'), after)
	c.scratch = buf

	g.Keys.Message = hash64([]byte(g.Message))
	size := atAfter - atSnippet - 1
	if size == 0 {
		return true
	}
	g.Keys.Snippet = hash64(buf[atSnippet+1 : atAfter])
	g.Keys.Before = hash64(buf[:atAfter])
	g.Keys.After = hash64(buf[atSnippet:])
	if len(buf)-size-2 >= enough {
		g.Keys.Context = hash64(buf)
	}
	return size < enough
}

// appendDense appends text without its white space.
func appendDense(buf []byte, text string) []byte {
	for i := range len(text) {
		switch text[i] {
		case ' ', '\t', '\n', '\r', '\v', '\f':
		default:
			buf = append(buf, text[i])
		}
	}
	return buf
}

// hash64 is never zero: that stands for nothing to hash.
func hash64(b []byte) uint64 {
	sum := sha256.Sum256(b)
	return max(binary.BigEndian.Uint64(sum[:]), 1)
}

// contentHash identifies the content at the place of g, for suppressions.
func (g *Gap) contentHash() string { return fmt.Sprintf("c1:%016x", g.Keys.Snippet) }

// fingerprintAll gives every finding its fingerprint and puts them in order of
// place. Equal ones in one file are told apart by their number.
func fingerprintAll(found []finding) {
	slices.SortStableFunc(found, func(a, b finding) int { return comparePlace(a.Gap, b.Gap) })
	count := make(map[string]int, len(found))
	for i := range found {
		content := fingerprintContent(found[i].Gap)
		ordinal := count[content]
		count[content]++
		found[i].Fingerprint = fingerprint(content, ordinal)
	}
}

// fingerprintContent is what the fingerprint of g is made of but for the
// ordinal: rule, path, scope, and the evidence without white space. Evidence is
// redacted, so a fingerprint tells nothing about a secret, and does not change
// when the secret does.
func fingerprintContent(g *Gap) string {
	buf := make([]byte, 0, len(g.Rule)+len(g.Path)+len(g.Symbol)+len(g.Evidence)+3)
	buf = append(append(buf, g.Rule...), 0)
	buf = append(append(buf, g.Path...), 0)
	buf = append(append(buf, g.Symbol...), 0)
	return string(appendDense(buf, g.Evidence))
}

// fingerprint is version 1 of the published fingerprint.
func fingerprint(content string, ordinal int) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%d", content, ordinal))
	return "g1:" + hex.EncodeToString(sum[:16])
}

// comparePlace orders by path, rule and position.
func comparePlace(a, b *Gap) int {
	return cmp.Or(
		strings.Compare(a.Path, b.Path), strings.Compare(a.Rule, b.Rule),
		a.Line-b.Line, a.Column-b.Column, strings.Compare(a.Symbol, b.Symbol),
		strings.Compare(a.Message, b.Message),
	)
}

// oneLine makes text fit to be shown in one line of a terminal: redacted,
// clipped, without control characters.
func oneLine(text string, limit int) string {
	text = strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' {
			return ' '
		}
		return r
	}, clip(text, limit))
	return clip(Redact(printable(text)), limit)
}

// printable replaces what would act on a terminal or reverse the direction of
// writing. Line feeds and tabs stay.
func printable(text string) string {
	odd := func(r rune) bool {
		return r != '\n' && r != '\t' && (unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == utf8.RuneError)
	}
	if !strings.ContainsFunc(text, odd) {
		return text
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\r':
			return -1
		case odd(r):
			return utf8.RuneError
		}
		return r
	}, text)
}

// clip returns at most limit bytes of text, whole characters.
func clip(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	for limit > 0 && !utf8.RuneStart(text[limit]) {
		limit--
	}
	return text[:limit]
}

func typeOf(t pluginv1.GapType) Type {
	switch t {
	case pluginv1.GapType_GAP_TYPE_FUNCTIONALITY_MISSING:
		return FunctionalityMissing
	case pluginv1.GapType_GAP_TYPE_PERFORMANCE_DEGRADATION:
		return PerformanceDegradation
	case pluginv1.GapType_GAP_TYPE_SECURITY_VULNERABILITY:
		return SecurityVulnerability
	case pluginv1.GapType_GAP_TYPE_CODE_QUALITY:
		return CodeQuality
	case pluginv1.GapType_GAP_TYPE_DOCUMENTATION_INCOMPLETE:
		return DocumentationIncomplete
	case pluginv1.GapType_GAP_TYPE_TEST_COVERAGE:
		return TestCoverage
	case pluginv1.GapType_GAP_TYPE_INFRASTRUCTURE:
		return Infrastructure
	}
	return ""
}

// severityOf returns zero for what is unspecified or not known here.
func severityOf(s pluginv1.Severity) Severity {
	if s < pluginv1.Severity_SEVERITY_INFO || s > pluginv1.Severity_SEVERITY_CRITICAL {
		return 0
	}
	return Severity(s)
}

// confidenceOf returns zero for what is unspecified or not known here.
func confidenceOf(c pluginv1.Confidence) Confidence {
	if c < pluginv1.Confidence_CONFIDENCE_LOW || c > pluginv1.Confidence_CONFIDENCE_HIGH {
		return 0
	}
	return Confidence(c)
}
