package integration

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/sdk"
)

// Reasons why something was not integrated or not taken back.
const (
	// ReasonBaseMoved: what is to be replaced is not what the changes were worked
	// out against. Nothing was changed.
	ReasonBaseMoved = "INTEGRATION_BASE_MOVED"
	// ReasonDirty: a file has edits that nobody has committed. Nothing was changed.
	ReasonDirty = "INTEGRATION_DIRTY"
	// ReasonConflict: the tree is neither what the journal knows as old nor as new.
	// Nothing more was changed, and a person has to look.
	ReasonConflict = "INTEGRATION_CONFLICT"
	ReasonNoSpace  = "INTEGRATION_NO_SPACE"
	ReasonReadOnly = "INTEGRATION_READ_ONLY"
	ReasonRefused  = "INTEGRATION_REFUSED"
	// ReasonBusy: another process integrates in the workspace.
	ReasonBusy = "INTEGRATION_BUSY"
	// ReasonAway: the workspace is not there. Nothing was looked at or changed.
	ReasonAway = "INTEGRATION_WORKSPACE_AWAY"
	// ReasonFilesChanged: somebody has changed files since they were integrated.
	ReasonFilesChanged = "PATCH_FILES_CHANGED"
	// ReasonNoRecord: there is nothing on disk to take back with.
	ReasonNoRecord = "INTEGRATION_NO_RECORD"
	// ReasonCopies: no copy of what was replaced is what was replaced. Nothing was
	// changed.
	ReasonCopies = "INTEGRATION_COPIES_DAMAGED"
	// ReasonNoOpenat2: the kernel, or a filter around the host, does not let files be
	// opened beneath a directory only.
	ReasonNoOpenat2 = "INTEGRATION_NO_OPENAT2"
	// ReasonGit: git is not there, or has failed.
	ReasonGit = "INTEGRATION_GIT"
)

// A Conflict is a path whose state nobody knows.
type Conflict struct {
	Path string `json:"path"`
	Why  string `json:"why"`
}

// String implements fmt.Stringer.
func (c Conflict) String() string { return c.Path + ": " + c.Why }

func refused(format string, args ...any) *sdk.Error {
	return sdk.Errorf(codes.FailedPrecondition, ReasonRefused, format, args...).
		WithRemedy("nothing was changed; make the change by hand, or have it proposed in another form")
}

// away says why a workspace cannot be opened.
func away(err error) error {
	if !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("workspace: %w", err)
	}
	return sdk.Errorf(codes.Unavailable, ReasonAway, "the workspace is not there: %w", err).
		WithRemedy("nothing was changed; bring it back, or mount what it is on")
}

func baseMoved(path string, now entry) *sdk.Error {
	return sdk.Errorf(codes.Aborted, ReasonBaseMoved, "%s has changed since the patch was made: it is %s now", path, now).
		WithRemedy("nothing was changed; the patch has to be rebased or made anew")
}

// conflictf says why the record of an integration can be neither completed nor
// undone.
func conflictf(id string, conflicts []Conflict, format string, args ...any) *sdk.Error {
	text := fmt.Sprintf(format, args...)
	if len(conflicts) > 0 {
		text += ": " + list(conflicts)
	}
	return sdk.Errorf(codes.Aborted, ReasonConflict, "integration %s: %s", id, text).
		WithRemedy("nothing is touched until somebody has looked: give the files the content that they should have, and remove the record's directory; what was replaced lies in it")
}

// named puts the path before what is wrong with it.
func named(name string, err error) error {
	var own *sdk.Error
	if !errors.As(err, &own) {
		return fmt.Errorf("%s: %w", name, err)
	}
	if own.Reason == ReasonBaseMoved || own.Reason == ReasonConflict {
		return err // they name it
	}
	told := *own
	told.Message, told.Cause = name+": "+own.Message, err
	return &told
}

const listed = 10

func list[T fmt.Stringer](all []T) string {
	words := make([]string, 0, listed)
	for i, one := range all {
		if i == listed {
			words = append(words, fmt.Sprintf("and %d more", len(all)-i))
			break
		}
		words = append(words, one.String())
	}
	return strings.Join(words, "; ")
}

// explain gives errors of the system the host's vocabulary.
func explain(err error) error {
	var own *sdk.Error
	switch {
	case err == nil, errors.As(err, &own):
		return err
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return sdk.Errorf(codes.ResourceExhausted, ReasonNoSpace, "no room on the workspace's file system: %w", err).
			WithRemedy("nothing was changed; make room there")
	case errors.Is(err, unix.EROFS), errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return sdk.Errorf(codes.FailedPrecondition, ReasonReadOnly, "the workspace cannot be written: %w", err).
			WithRemedy("nothing was changed; make the directories of the changed files writable for the user that runs sop")
	case errors.Is(err, unix.ELOOP):
		return refused("a link is in the way: %w", err)
	case errors.Is(err, unix.EXDEV):
		return refused("it lies on another file system than the workspace: %w", err)
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS):
		return refused("the workspace's file system cannot exchange files: %w", err)
	}
	return err
}
