package detector

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"sync"
	"unicode/utf8"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
)

// Scan is one examination of one workspace. Its methods are safe for
// concurrent use.
type Scan struct {
	// ID names the scan in logs.
	ID string
	// Workspace is its name in the host's configuration.
	Workspace string
	// Root is its absolute path. Read through [Scan.Each] or [Scan.Read]: they
	// cannot be led outside by a symbolic link.
	Root string
	// Token covers this scan in calls back to the host; may be empty.
	Token string
	// MaxFileSize in bytes: what is larger is not read.
	MaxFileSize int64

	root        *os.Root
	files       []File
	changed     []File
	removed     []string
	incremental bool
	enabled     map[string]bool // nil: all
	rules       map[string]*pluginv1.Rule
	previous    map[string]any
	next        map[string]any
	nextMu      sync.Mutex
	out         *reporter
}

// Incremental says that only part of the workspace is new to the detector:
// [Scan.Changed] and [Scan.Removed] are relative to the previous scan, whose
// kept values [Scan.Kept] returns.
func (s *Scan) Incremental() bool { return s.incremental }

// Files is the whole manifest, sorted by path. Do not modify it.
func (s *Scan) Files() []File { return s.files }

// Changed is what is new or may have other content than in the previous scan,
// sorted by path; on a first scan it equals Files. Do not modify it.
func (s *Scan) Changed() []File { return s.changed }

// Removed names the paths that are gone since the previous scan.
func (s *Scan) Removed() []string { return s.removed }

// Lookup returns the file at path.
func (s *Scan) Lookup(path string) (File, bool) {
	i, ok := find(s.files, path)
	if !ok {
		return File{}, false
	}
	return s.files[i], true
}

// HasDir says whether the manifest holds a file beneath dir; "." is the root.
func (s *Scan) HasDir(dir string) bool { return hasDir(s.files, dir) }

// Enabled says whether the host wants the rule applied.
func (s *Scan) Enabled(rule string) bool { return s.enabled == nil || s.enabled[rule] }

// Kept returns what the previous scan kept under key, or nil. It is always
// consistent with [Scan.Changed]: when the process is new, or the previous scan
// failed, there is nothing kept and Changed is the whole manifest.
func (s *Scan) Kept(key string) any { return s.previous[key] }

// Keep stores a value for the next scan of this workspace, if this one
// succeeds. What is not kept again is forgotten.
func (s *Scan) Keep(key string, value any) {
	s.nextMu.Lock()
	defer s.nextMu.Unlock()
	s.next[key] = value
}

// Source is a file with its content.
type Source struct {
	File
	// Content is valid until the function that was given the Source returns.
	Content []byte
	// Generated says that the file carries a "Code generated … DO NOT EDIT."
	// line as Go defines it, or another widely used mark, near its top.
	Generated bool
	scan      *Scan
}

// ErrSkipped is returned by [Scan.Read] for a file that is not to be examined;
// the reason has been counted or reported already.
var ErrSkipped = errors.New("file skipped")

// Each reads every changed file for which match is true and calls fn with it,
// on as many goroutines as there are processors. Binary and too large files are
// left out and counted; so are generated ones. A path is covered when fn
// returns nil. An error of fn that wraps [ErrSkipped] leaves the path uncovered
// and goes on; any other ends Each. fn should [Scan.Diagnose] what it cannot
// parse and return ErrSkipped.
func (s *Scan) Each(ctx context.Context, match func(File) bool, fn func(src *Source) error) error {
	return s.EachOf(ctx, s.changed, match, fn)
}

// EachOf is [Scan.Each] over files, which must be of the manifest.
func (s *Scan) EachOf(ctx context.Context, files []File, match func(File) bool, fn func(src *Source) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var (
		next sync.Mutex
		at   int
		wg   sync.WaitGroup
	)
	take := func() (File, bool) {
		next.Lock()
		defer next.Unlock()
		for at < len(files) {
			f := files[at]
			at++
			if match(f) {
				return f, true
			}
		}
		return File{}, false
	}
	for range min(runtime.GOMAXPROCS(0), max(len(files), 1)) {
		wg.Go(func() {
			var buf []byte
			for ctx.Err() == nil {
				f, ok := take()
				if !ok {
					return
				}
				var err error
				if buf, err = s.examine(f, buf, fn); err != nil {
					cancel(err)
					return
				}
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// examine reads f into buf and runs fn on it. It returns the buffer for reuse.
func (s *Scan) examine(f File, buf []byte, fn func(src *Source) error) ([]byte, error) {
	src, buf, err := s.read(f, buf)
	if errors.Is(err, ErrSkipped) {
		return buf, nil
	}
	if err != nil {
		return buf, err
	}
	if src.Generated {
		s.Skip("generated")
		s.Cover(f.Path)
		return buf, nil
	}
	err = fn(src)
	switch {
	case errors.Is(err, ErrSkipped):
		return buf, nil
	case err != nil:
		return buf, fmt.Errorf("%s: %w", f.Path, err)
	}
	s.out.examined()
	s.Cover(f.Path)
	return buf, nil
}

// Read returns one file, generated or not. It returns an error that wraps
// [ErrSkipped] when the file is binary, too large, gone or unreadable.
func (s *Scan) Read(f File) (*Source, error) {
	src, _, err := s.read(f, nil)
	return src, err
}

func (s *Scan) read(f File, buf []byte) (*Source, []byte, error) {
	if f.Size > s.MaxFileSize {
		s.Skip("too_large")
		s.Diagnose(f.Path, 0, "TOO_LARGE", fmt.Sprintf("%d bytes is over the limit of %d bytes; not examined", f.Size, s.MaxFileSize))
		return nil, buf, ErrSkipped
	}
	content, buf, err := s.readFile(f, buf)
	if err != nil {
		reason, what := "UNREADABLE", "cannot be read"
		if errors.Is(err, fs.ErrNotExist) {
			reason, what = "VANISHED", "was there when the workspace was listed and is gone"
		}
		s.Skip("unreadable")
		s.Diagnose(f.Path, 0, reason, what+": "+err.Error())
		return nil, buf, ErrSkipped
	}
	if isBinary(content) {
		s.Skip("binary")
		s.Cover(f.Path)
		return nil, buf, ErrSkipped
	}
	return &Source{File: f, Content: content, Generated: isGenerated(content), scan: s}, buf, nil
}

// readFile reads f through the root, into buf where it fits, and at most one
// byte over the limit.
func (s *Scan) readFile(f File, buf []byte) (content, reuse []byte, err error) {
	file, err := s.root.OpenFile(f.Path, os.O_RDONLY|openFlags, 0)
	if err != nil {
		return nil, buf, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	info, err := file.Stat()
	if err != nil {
		return nil, buf, err
	}
	if !info.Mode().IsRegular() {
		return nil, buf, errors.New("no longer a regular file")
	}
	if info.Size() > s.MaxFileSize {
		return nil, buf, fmt.Errorf("has grown to %d bytes, over the limit of %d", info.Size(), s.MaxFileSize)
	}
	if want := int(info.Size()) + 1; cap(buf) < want {
		buf = make([]byte, max(want, 64<<10))
	}
	buf = buf[:cap(buf)]
	n := 0
	for n < len(buf) {
		m, err := file.Read(buf[n:])
		n += m
		if err == io.EOF {
			return buf[:n], buf, nil
		}
		if err != nil {
			return nil, buf, err
		}
	}
	return nil, buf, errors.New("grew while it was read")
}

// isBinary says what git says: a NUL byte among the first 8000.
func isBinary(content []byte) bool {
	return bytes.IndexByte(content[:min(len(content), 8000)], 0) >= 0
}

var (
	codeGenerated = []byte("Code generated ")
	doNotEdit     = []byte("DO NOT EDIT")
	atGenerated   = []byte("@generated")
)

// isGenerated looks for the mark of a generator in the first 2 KiB.
func isGenerated(content []byte) bool {
	head := content[:min(len(content), 2048)]
	for _, mark := range [][]byte{codeGenerated, atGenerated} {
		i := bytes.Index(head, mark)
		if i < 0 {
			continue
		}
		line := head[bytes.LastIndexByte(head[:i], '\n')+1:]
		if end := bytes.IndexByte(line, '\n'); end >= 0 {
			line = line[:end]
		}
		if isComment(line) && (bytes.Contains(line, doNotEdit) || bytes.Contains(line, atGenerated)) {
			return true
		}
	}
	return false
}

// isComment says whether line starts as comments do in common languages.
func isComment(line []byte) bool {
	line = bytes.TrimLeft(line, " \t\ufeff")
	for _, start := range []string{"//", "#", "/*", "*", "--", ";", "<!--", "\"\"\""} {
		if bytes.HasPrefix(line, []byte(start)) {
			return true
		}
	}
	return false
}

// Cover says that path was examined completely, so that gaps there that were
// not reported are taken as fixed. [Scan.Each] does it for what it reads; call
// it for directories, and for files whose findings depend on others.
func (s *Scan) Cover(path string) { s.out.cover(path) }

// Skip counts a file that was not examined, by reason.
func (s *Scan) Skip(reason string) { s.out.skip(reason) }

// Diagnose reports that something could not be examined. line is 0 for the
// whole file; reason is UPPER_SNAKE_CASE.
func (s *Scan) Diagnose(path string, line int, reason, message string) {
	s.out.diagnose(&pluginv1.ScanDiagnostic{Path: path, Line: int32(line), Reason: reason, Message: toUTF8(message)})
}

// Report reports a finding. Type, severity, rule version and high confidence
// are filled in from the rule where they are not set; a finding of a rule that
// is not enabled is dropped.
func (s *Scan) Report(f *pluginv1.Finding) {
	if !s.Enabled(f.GetRule()) {
		return
	}
	if r := s.rules[f.GetRule()]; r != nil {
		if f.RuleVersion == "" {
			f.RuleVersion = r.GetVersion()
		}
		if f.Type == pluginv1.GapType_GAP_TYPE_UNSPECIFIED {
			f.Type = r.GetType()
		}
		if f.Severity == pluginv1.Severity_SEVERITY_UNSPECIFIED {
			f.Severity = r.GetDefaultSeverity()
		}
	}
	if f.Confidence == pluginv1.Confidence_CONFIDENCE_UNSPECIFIED {
		f.Confidence = pluginv1.Confidence_CONFIDENCE_HIGH
	}
	// One invalid byte would keep the whole batch from being sent.
	f.Message, f.Remedy = toUTF8(f.GetMessage()), toUTF8(f.GetRemedy())
	f.Snippet, f.ContextBefore, f.ContextAfter = toUTF8(f.GetSnippet()), toUTF8(f.GetContextBefore()), toUTF8(f.GetContextAfter())
	if f.Location != nil {
		f.Location.Path, f.Location.Symbol = toUTF8(f.Location.GetPath()), toUTF8(f.Location.GetSymbol())
	}
	s.out.finding(f)
}

// Report reports a finding in the file: it fills in the path and, from the
// lines of the location, snippet and context, then does as [Scan.Report].
// Lines are from 1; a line of 0 is about the whole file.
func (src *Source) Report(f *pluginv1.Finding) {
	if !src.scan.Enabled(f.GetRule()) {
		return
	}
	if f.Location == nil {
		f.Location = &pluginv1.Location{}
	}
	loc := f.Location
	loc.Path = src.Path
	loc.EndLine = max(loc.GetLine(), loc.GetEndLine())
	if loc.GetLine() > 0 {
		f.ContextBefore, f.Snippet, f.ContextAfter = excerpt(src.Content, int(loc.GetLine()), int(loc.GetEndLine()))
	}
	src.scan.Report(f)
}

// Diagnose is [Scan.Diagnose] for the file.
func (src *Source) Diagnose(line int, reason, message string) {
	src.scan.Diagnose(src.Path, line, reason, message)
}

const (
	contextLines = 3
	maxExcerpt   = 2 << 10 // bytes
)

// excerpt returns lines first to last of content and the lines around them.
func excerpt(content []byte, first, last int) (before, snippet, after string) {
	start := lineOffset(content, 0, max(first-1-contextLines, 0))
	first0 := lineOffset(content, start, min(first-1, contextLines))
	end := lineOffset(content, first0, last-first+1)
	stop := lineOffset(content, end, contextLines)
	return clip(content[start:first0]), clip(content[first0:end]), clip(content[end:stop])
}

// lineOffset returns where content continues n lines after from.
func lineOffset(content []byte, from, n int) int {
	for ; n > 0; n-- {
		i := bytes.IndexByte(content[from:], '\n')
		if i < 0 {
			return len(content)
		}
		from += i + 1
	}
	return from
}

// clip makes b a string of at most maxExcerpt bytes of valid UTF-8.
func clip(b []byte) string {
	if len(b) > maxExcerpt {
		b = b[:maxExcerpt]
		for len(b) > 0 && !utf8.RuneStart(b[len(b)-1]) {
			b = b[:len(b)-1]
		}
		if len(b) > 0 && !utf8.Valid(b[len(b)-1:]) {
			b = b[:len(b)-1]
		}
	}
	return toUTF8(string(b))
}
