package sandbox

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// LauncherName is the program that starts sandboxes. It lies beside sop.
const LauncherName = "sop-sandbox"

// CheckLauncher refuses a launcher that anybody but root and this user could
// have put there or changed.
func CheckLauncher(path string) error {
	resolved, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	info, err := os.Lstat(resolved)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
		return fmt.Errorf("%s is not a program", resolved)
	}
	for name := resolved; ; name = filepath.Dir(name) {
		if err := trusted(name); err != nil {
			return err
		}
		if name == filepath.Dir(name) {
			return nil
		}
	}
}

// trusted refuses what others may write to. In a sticky directory such as /tmp
// they cannot replace what is ours.
func trusted(name string) error {
	info, err := os.Lstat(name)
	if err != nil {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || stat.Uid != 0 && int(stat.Uid) != os.Geteuid() {
		return fmt.Errorf("%s belongs neither to root nor to this user", name)
	}
	sticky := info.IsDir() && info.Mode()&os.ModeSticky != 0
	if info.Mode().Perm()&0o022 != 0 && !sticky {
		return fmt.Errorf("%s can be written to by others", name)
	}
	return nil
}
