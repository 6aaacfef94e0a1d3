package cli

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/sop-host/sop/host/internal/cli/term"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

func (a *app) newBackupCommand() *cobra.Command {
	return a.newGroup("backup", "Save, compare, verify and restore",
		`Backup plugins keep snapshots of workspaces and of the host's own state. The host remembers each of them with the
hash that proves it: one that is gone, or was changed, is not restored.`,
		a.newBackupCreateCommand(), a.newBackupListCommand(), a.newBackupShowCommand(), a.newBackupDiffCommand(), a.newBackupVerifyCommand(),
		a.newBackupRestoreCommand(), a.newBackupPinCommand(), a.newBackupDeleteCommand(), a.newBackupPruneCommand())
}

// backupTimeout bounds what moves much data.
const backupTimeout = 24 * time.Hour

// maxBackupArguments bounds the paths and ids of one command line.
const maxBackupArguments = 100_000

// sizeText writes a number of bytes with three digits that matter.
func sizeText(n int64) string {
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	value := float64(n)
	for _, unit := range []string{"kB", "MB", "GB"} {
		if value /= 1000; value < 999.5 {
			return fmt.Sprintf("%.3g %s", value, unit)
		}
	}
	return fmt.Sprintf("%.4g TB", value/1000)
}

// backupState is the state of a snapshot in a word or two.
func backupState(b *apiv1.BackupRecord) term.Cell {
	switch {
	case b.GetState() == "lost":
		return term.Styled(term.BoldRed, "lost")
	case b.GetState() == "deleted":
		return term.Styled(term.Faint, "deleted")
	case b.GetFailed() > 0:
		return term.Styled(term.Yellow, "incomplete")
	case b.GetPinned():
		return term.Text("pinned")
	}
	return term.Text("kept")
}

// backupOf says what a snapshot is of.
func backupOf(b *apiv1.BackupRecord) string {
	if b.GetWorkspace() == "" {
		return "(state)"
	}
	return b.GetWorkspace()
}

// printBackup writes what was saved, and what was not.
func (a *app) printBackup(b *apiv1.BackupRecord) {
	a.say("%s  %s of %s, %s, %s new\n", a.palette(a.OutTerminal).Paint(term.Bold, term.Safe(b.GetId())),
		count(b.GetFiles(), "file", "files"), term.Safe(backupOf(b)), sizeText(b.GetBytes()), sizeText(b.GetStored()))
	a.printPathFailures("not saved", b.GetFailures(), b.GetFailed())
}

// printPathFailures lists paths with what is wrong with them.
func (a *app) printPathFailures(what string, failures []*apiv1.BackupPathFailure, total int64) {
	for _, f := range failures {
		a.say("! %s: %s: %s\n", what, term.Safe(string(f.GetPath())), term.Safe(f.GetMessage()))
	}
	if more := total - int64(len(failures)); more > 0 {
		a.say("! and %d more\n", more)
	}
}

// rawPaths are paths as the API takes them.
func rawPaths(paths []string) [][]byte {
	out := make([][]byte, len(paths))
	for i, p := range paths {
		out[i] = []byte(p)
	}
	return out
}
