package config

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Integration says how approved patches get into a workspace.
type Integration struct {
	Mode      string // "worktree", "branch" or "patch_file"
	Branch    string // of mode "branch"; {task} and {patch} stand for ids
	Directory string // of mode "patch_file"; "": in the data directory
	Dirty     string // "stop" or "allow": what about files with edits that nobody has committed
	Author    string // of commits: "Name <mail>"
	// Keep is for how long what was replaced is kept beside the tree.
	Keep time.Duration
}

// Modes of integration.
const (
	IntegrationWorkTree  = "worktree"
	IntegrationBranch    = "branch"
	IntegrationPatchFile = "patch_file"
)

// What is done about files with edits that nobody has committed.
const (
	DirtyStop  = "stop"
	DirtyAllow = "allow"
)

var (
	integrationAttributes = []string{"mode", "branch", "directory", "dirty", "author", "keep"}
	integrationModes      = []string{IntegrationWorkTree, IntegrationBranch, IntegrationPatchFile}
	dirtyChoices          = []string{DirtyStop, DirtyAllow}
	keptCopiesBounds      = bounds{low: time.Hour, high: 3650 * 24 * time.Hour}
)

const (
	defaultBranch = "sop/{task}"
	defaultAuthor = "SOP <sop@localhost>"
	defaultKeep   = 30 * 24 * time.Hour
)

func readIntegration(s section) Integration {
	return Integration{
		Mode:      s.choice("mode", IntegrationWorkTree, integrationModes),
		Branch:    s.text("branch", defaultBranch, checkBranch),
		Directory: s.path("directory", ""),
		Dirty:     s.choice("dirty", DirtyStop, dirtyChoices),
		Author:    s.text("author", defaultAuthor, checkAuthor),
		Keep:      s.duration("keep", defaultKeep, keptCopiesBounds),
	}
}

// branchName is what git takes for a branch, as far as it can be said simply.
var branchName = newPattern(`^[A-Za-z0-9_][A-Za-z0-9_./+-]*$`)

func checkBranch(name string) error {
	plain := strings.NewReplacer("{task}", "t", "{patch}", "p").Replace(name)
	for part := range strings.SplitSeq(plain, "/") {
		if part == "" || strings.HasPrefix(part, ".") || strings.HasSuffix(part, ".lock") || strings.HasSuffix(part, ".") {
			return fmt.Errorf("%q cannot name a branch", name)
		}
	}
	if !branchName.MatchString(plain) || strings.Contains(plain, "..") {
		return fmt.Errorf("%q cannot name a branch; {task} and {patch} stand for ids", name)
	}
	return nil
}

var authorForm = newPattern(`^[^<>\x00-\x1f]+ <[^<>\x00-\x20]+>$`)

func checkAuthor(author string) error {
	if !authorForm.MatchString(author) {
		return errors.New("an author is written `Name <mail>`")
	}
	return nil
}
