package sandbox

import (
	"path"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// badPath says why a path cannot be in a change set; "" if it can.
func badPath(name string) string {
	for part := range strings.SplitSeq(name, "/") {
		if why := badName(part); why != "" {
			return why
		}
	}
	return ""
}

// badName is badPath for one element.
func badName(name string) string {
	if !utf8.ValidString(name) {
		return "its name is not UTF-8"
	}
	for _, r := range name {
		switch {
		case unicode.Is(unicode.Bidi_Control, r):
			return "its name has a bidirectional control character"
		case unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp):
			return "its name has a control or an invisible character"
		}
	}
	switch {
	case strings.Contains(name, `\`):
		return "its name has a backslash, which separates directories elsewhere"
	case len(name) > 255:
		return "its name is too long"
	}
	return reserved(name)
}

// hostDir is where the journal of integrations is in a workspace without git.
const hostDir = ".sop-integration"

// reserved recognises what is git's or the host's however some file system may spell
// it: in any case, with trailing dots and spaces, as a stream or by its short name.
func reserved(name string) string {
	name, _, _ = strings.Cut(name, ":")
	switch fold(strings.TrimRight(name, " .")) {
	case ".git", "git~1":
		return "it is git's own"
	case hostDir:
		return "it is the host's own"
	}
	return ""
}

// fold makes names equal that a file system may take for one.
func fold(name string) string { return norm.NFC.String(cases.Fold().String(norm.NFC.String(name))) }

// flagged are paths that make somebody's tool do something when it next looks
// at the tree. A name that ends in a slash is that of a directory.
var flagged = []struct{ why, names string }{
	{"continuous integration", ".github/ .gitlab/ .gitlab-ci.yml .circleci/ .buildkite/ .drone.yml .woodpecker/ .woodpecker.yml .travis.yml .forgejo/ .gitea/ Jenkinsfile azure-pipelines.yml bitbucket-pipelines.yml appveyor.yml .cirrus.yml"},
	{"editor configuration", ".vscode/ .idea/ .devcontainer/ .devcontainer.json .vim/ .nvim/ .exrc .vimrc .nvimrc .nvim.lua .zed/ .fleet/ .dir-locals.el .project .editorconfig"},
	{"agent configuration", "CLAUDE.md CLAUDE.local.md AGENTS.md AGENT.md GEMINI.md .claude/ .cursor/ .cursorrules .codex/ .gemini/ .windsurf/ .windsurfrules .aider.conf.yml .aiderignore .continue/ .roo/ .clinerules .mcp.json .sop/ sop.lock.hcl"},
	{"git configuration", ".gitattributes .gitmodules .gitconfig .husky/ .githooks/ .pre-commit-config.yaml lefthook.yml .lefthook.yml HEAD"},
	{"shell environment", ".envrc .env .bashrc .profile .tool-versions mise.toml .mise.toml .npmrc .yarnrc.yml pip.conf .bazelrc"},
}

// Flag says of each change why it needs an approval of its own.
func (s *ChangeSet) Flag() {
	for i := range s.Changes {
		s.Changes[i].Flag = flagOf(s.Changes[i].Path)
	}
}

// flagOf says why a change to a path needs an approval of its own.
func flagOf(name string) string {
	parts := strings.Split(fold(name), "/")
	for _, group := range flagged {
		for pattern := range strings.FieldsSeq(group.names) {
			dir, isDir := strings.CutSuffix(fold(pattern), "/")
			if isDir && slices.Contains(parts, dir) || parts[len(parts)-1] == dir {
				return group.why
			}
		}
	}
	if strings.HasSuffix(parts[len(parts)-1], ".code-workspace") {
		return "editor configuration"
	}
	return ""
}

// linkBudget bounds how many links are followed, as the kernel does.
const linkBudget = 40

// staysInside says whether a link at name leads to a place within the tree, by
// way of whatever other links the tree will have. readlink answers for those.
func staysInside(name, target string, readlink func(name string) (target string, isLink bool)) bool {
	at, rest := path.Dir(name), target
	for budget := linkBudget; ; {
		if path.IsAbs(rest) {
			return false
		}
		var part string
		part, rest, _ = strings.Cut(rest, "/")
		switch part {
		case "..":
			if at == "." {
				return false
			}
			at = path.Dir(at)
		case "", ".":
		default:
			next := path.Join(at, part)
			to, isLink := readlink(next)
			if !isLink {
				at = next
				break
			}
			if budget--; budget == 0 {
				return false
			}
			if path.IsAbs(to) {
				return false
			}
			rest = to + "/" + rest
		}
		if rest == "" {
			return true
		}
	}
}
