package scaffold

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strings"
)

// emptyLines are more of them than a page needs.
var emptyLines = regexp.MustCompile(`\n{3,}`)

// readme writes the README of a directory, or what is missing in an empty one.
func readme(j *job) ([]Change, error) {
	dir, existing := j.Gap.Path, ""
	if has(j.Tree, dir) && isReadme(path.Base(dir)) {
		dir, existing = path.Dir(dir), dir
	}
	if !isDir(j.Tree, dir) {
		return nil, refuse("%s is no directory of the workspace", dir)
	}
	for _, base := range beside(j.Tree, dir) {
		if !isReadme(base) {
			continue
		}
		content, err := j.Tree.Read(path.Join(dir, base))
		if err != nil {
			return nil, err
		}
		if !saysNothing(content) {
			return nil, fmt.Errorf("%s says something: %w", path.Join(dir, base), ErrNothing)
		}
		if existing == "" {
			existing = path.Join(dir, base)
		}
	}
	data := j.data()
	data.Dir = survey(j.Tree, dir)
	text, err := j.render(data)
	if err != nil {
		return nil, err
	}
	text = emptyLines.ReplaceAllString(text, "\n\n")
	if existing == "" {
		return []Change{{Path: path.Join(dir, "README.md"), Content: []byte(text + "\n")}}, nil
	}
	return completeReadme(j, existing, text)
}

// completeReadme appends text to a README that holds headings and comments at
// most; where it has a heading, that of text is left out.
func completeReadme(j *job, name, text string) ([]Change, error) {
	before, err := j.read(name)
	if err != nil {
		return nil, err
	}
	if languageOf(name) != "markdown" && path.Ext(name) != "" && path.Ext(name) != ".txt" {
		return nil, refuse("%s is no Markdown", name)
	}
	eol := lineEnd(before)
	head := strings.TrimRight(string(before), " \t\r\n")
	if first, rest, ok := strings.Cut(text, "\n"); ok && strings.Contains(head, "#") && strings.HasPrefix(first, "# ") {
		text = strings.TrimLeft(rest, "\n")
	}
	text = strings.ReplaceAll(text, "\n", eol) + eol
	if strings.Trim(head, "\ufeff") != "" {
		head += eol + eol
	}
	return []Change{{Path: name, Before: before, Content: []byte(head + text)}}, nil
}

// saysNothing says whether content is but white space, headings and comments.
func saysNothing(content []byte) bool {
	text := strings.TrimPrefix(string(content), "\ufeff")
	for {
		from := strings.Index(text, "<!--")
		if from < 0 {
			break
		}
		end := strings.Index(text[from:], "-->")
		if end < 0 {
			break
		}
		text = text[:from] + text[from+end+3:]
	}
	all := strings.Split(text, "\n")
	for i, line := range all {
		line = strings.TrimSpace(line)
		heading := i+1 < len(all) && isUnderline(strings.TrimSpace(all[i+1]))
		asciidoc := strings.HasPrefix(line, "=") && strings.HasPrefix(strings.TrimLeft(line, "="), " ")
		if line != "" && line[0] != '#' && !isUnderline(line) && !heading && !asciidoc {
			return false
		}
	}
	return true
}

func isUnderline(line string) bool {
	return len(line) > 1 && (strings.Trim(line, "=") == "" || strings.Trim(line, "-") == "")
}

// file writes a new file whose path the scaffold's header gives, relative to
// the directory of the gap.
func file(j *job) ([]Change, error) {
	dir := j.Gap.Path
	if dir == "" {
		dir = "."
	}
	if has(j.Tree, dir) {
		dir = path.Dir(dir)
	}
	data := j.data()
	data.Dir = survey(j.Tree, dir)
	rel, err := j.scaffold.file.run(j.ctx, data)
	if err != nil {
		return nil, err
	}
	name := path.Join(dir, strings.TrimSpace(rel))
	if !isLocal(name) || name == "." {
		return nil, refuse("the scaffold names the path %q, which is not in the workspace", rel)
	}
	switch content, err := j.Tree.Read(name); {
	case err == nil && len(bytes.TrimSpace(content)) > 0:
		return nil, fmt.Errorf("there is %s: %w", name, ErrNothing)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, err
	case err == nil:
		return nil, refuse("%s is there and empty; remove it first", name)
	}
	text, err := j.render(data)
	if err != nil {
		return nil, err
	}
	if languageOf(name) == "markdown" {
		text = emptyLines.ReplaceAllString(text, "\n\n")
	}
	return []Change{{Path: name, Content: []byte(text + "\n")}}, nil
}
