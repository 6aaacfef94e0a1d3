package scaffold

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
)

// ErrNothing is what [Scaffold.Apply] returns where the gap is closed already.
var ErrNothing = errors.New("there is nothing to do")

// RefusedError is why a scaffold leaves a gap to others: not an error of anybody.
type RefusedError struct{ Reason string }

// Error returns the reason.
func (r *RefusedError) Error() string { return r.Reason }

func refuse(format string, args ...any) error { return &RefusedError{fmt.Sprintf(format, args...)} }

// Input is what a scaffold is applied to.
type Input struct {
	Tree Tree
	Gap  Gap
	// Parameters by name: strings, numbers and bools.
	Parameters map[string]any
	// Previous are SHA-256 hashes, in hexadecimal, of files as they were when
	// links still held, by path; nil where that is not known.
	Previous map[string]string
}

// Change is a file as it should be.
type Change struct {
	Path string
	// Before is nil for a new file.
	Before, Content []byte
}

// Data is what a template is given: facts, of which the place fills in its own.
type Data struct {
	Gap     Gap
	Param   map[string]any
	Go      *GoSymbol
	Package *GoPackage
	Python  *PythonSymbol
	Dir     *Directory
	Link    *Link
}

// place gathers facts, has the template say something about them, and puts that
// where it belongs.
type place func(j *job) ([]Change, error)

// The places.
const (
	placeGoComment      = "go_comment"
	placeGoPackage      = "go_package_comment"
	placeGoTest         = "go_test"
	placePython         = "python_docstring"
	placePythonTest     = "python_test"
	placeReadme         = "readme"
	placeFile           = "file"
	placeMarkdownLink   = "markdown_link"
	placeMarkdownAnchor = "markdown_anchor"
)

// places is filled in by init, for a place runs a scaffold, whose header is
// checked against it.
var places map[string]place

func init() {
	places = map[string]place{
		placeGoComment: goComment, placeGoPackage: goPackageComment, placeGoTest: goTest,
		placePython: pythonDocstring, placePythonTest: pythonTest,
		placeReadme: readme, placeFile: file,
		placeMarkdownLink: markdownLink, placeMarkdownAnchor: markdownAnchor,
	}
}

// PlaceNames lists the places, sorted.
func PlaceNames() []string { return slices.Sorted(maps.Keys(places)) }

// job is one application of a scaffold.
type job struct {
	ctx context.Context //nolint:containedctx // it lives as long as the call
	*Input
	scaffold *Scaffold
	params   map[string]any
	// line is where the place found what the gap is about, if that matters.
	line int
	// link is the destination that the gap is about, of a place that mends links.
	link string
}

// Apply returns what has to change to close the gap, sorted by path, checked as
// the scaffold says. It returns an error that wraps [ErrNothing] where the gap
// is closed, a [RefusedError] where this scaffold cannot close it, and writes
// nothing itself.
func (s *Scaffold) Apply(ctx context.Context, in *Input) ([]Change, error) {
	params, err := s.values(in.Parameters)
	if err != nil {
		return nil, err
	}
	if in.Gap.Path != "" && in.Gap.Path != "." && !isLocal(in.Gap.Path) {
		return nil, refuse("the path %q leads out of the workspace", in.Gap.Path)
	}
	if !s.fits(in.Gap.Path) {
		return nil, refuse("the scaffold %s is not for %s", s.Name, in.Gap.Path)
	}
	j := &job{ctx: ctx, Input: in, scaffold: s, params: params}
	changes, err := places[s.Place](j)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(changes, func(a, b Change) int { return strings.Compare(a.Path, b.Path) })
	if err := j.check(changes); err != nil {
		return nil, err
	}
	return changes, ctx.Err()
}

// isLocal says whether name is a clean path that stays in the tree.
func isLocal(name string) bool {
	return path.Clean(name) == name && !path.IsAbs(name) && name != ".." && !strings.HasPrefix(name, "../") && !strings.ContainsAny(name, "\\\x00")
}

// data is what every template is given.
func (j *job) data() *Data {
	return &Data{Gap: j.Gap, Param: j.params}
}

// marker would open a gap of its own.
var marker = regexp.MustCompile(`\b(TODO|FIXME|XXX|HACK)\b`)

// render runs the template. Its text is trimmed of white space around it.
func (j *job) render(data *Data) (string, error) {
	text, err := j.scaffold.template.run(j.ctx, data)
	if err != nil {
		return "", fmt.Errorf("scaffold %s: %w", j.scaffold.Name, err)
	}
	text = strings.TrimSpace(strings.ReplaceAll(text, "\r\n", "\n"))
	switch m := marker.FindString(text); {
	case text == "":
		return "", refuse("the scaffold %s has nothing to say here", j.scaffold.Name)
	case m != "":
		return "", refuse("the text would hold the marker %s, which is a gap of its own", m)
	}
	return text, nil
}

// read returns the file that the gap is in.
func (j *job) read(name string) ([]byte, error) {
	content, err := j.Tree.Read(name)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if bytes.IndexByte(content[:min(len(content), 8000)], 0) >= 0 {
		return nil, refuse("%s is a binary file", name)
	}
	return content, nil
}

// number is the parameter of a name, or otherwise where it is not set.
func (j *job) number(name string, otherwise int) int {
	if n, ok := j.params[name].(float64); ok && n > 0 && n < 1<<20 {
		return int(n)
	}
	return otherwise
}

func (j *job) check(changes []Change) error {
	if len(changes) == 0 {
		return ErrNothing
	}
	for _, name := range j.scaffold.Checks {
		if name == CheckRuleGone {
			if err := j.again(changes); err != nil {
				return err
			}
			continue
		}
		for _, c := range changes {
			if err := checkFile(name, j, c); err != nil {
				return refuse("the change to %s does not hold: %s: %v", c.Path, name, err)
			}
		}
	}
	return nil
}

// again applies the scaffold to what it made.
func (j *job) again(changes []Change) error {
	in := *j.Input
	in.Tree = newPatched(j.Tree, changes)
	if j.line > 0 {
		in.Gap.Line = j.line
	}
	if j.link != "" { // by then no link is left that the gap's message could mean
		in.Gap.Properties = map[string]string{targetProperty: j.link}
	}
	second := &job{ctx: j.ctx, Input: &in, scaffold: j.scaffold, params: j.params}
	if _, err := places[j.scaffold.Place](second); !errors.Is(err, ErrNothing) {
		if err == nil {
			err = errors.New("it would be changed again")
		}
		return refuse("the change does not close the gap: %v", err)
	}
	return nil
}

// checkFile makes one check of one file; those that are not for its language
// hold.
func checkFile(check string, j *job, c Change) error {
	switch language := languageOf(c.Path); {
	case check == CheckParses && language == "go":
		return goParses(c.Content)
	case check == CheckParses && language == "python":
		return pythonParses(c.Content)
	case check == CheckFormatted && language == "go":
		return goStaysFormatted(c.Before, c.Content)
	case check == CheckCompiles && language == "go":
		return goCompiles(j, c)
	}
	return nil
}

// Hash is how contents are told apart: SHA-256 in hexadecimal.
func Hash(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}
