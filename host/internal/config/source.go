package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
)

const (
	maxFileSize  = 4 << 20 // bytes of one configuration file
	maxFileCount = 1000    // configuration files in one directory
)

// readRegular reads a regular file of at most limit bytes. It never blocks on
// a FIFO or a device: the mode is checked before opening, and again on the
// open file in case the path was swapped in between.
func readRegular(path string, limit int64) (content []byte, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, plainError(err)
	}
	if err := mustBeRegular(info); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, plainError(err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if info, err = f.Stat(); err != nil {
		return nil, plainError(err)
	}
	if err := mustBeRegular(info); err != nil {
		return nil, err
	}
	content, err = io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, plainError(err)
	}
	if int64(len(content)) > limit {
		return nil, fmt.Errorf("it is larger than %s", formatSize(limit))
	}
	return content, nil
}

func mustBeRegular(info fs.FileInfo) error {
	kind := "a special file"
	switch mode := info.Mode(); {
	case mode.IsRegular():
		return nil
	case mode.IsDir():
		kind = "a directory"
	case mode&fs.ModeNamedPipe != 0:
		kind = "a named pipe"
	case mode&fs.ModeSocket != 0:
		kind = "a socket"
	case mode&fs.ModeDevice != 0:
		kind = "a device"
	}
	return fmt.Errorf("it is %s, not a regular file", kind)
}

// plainError strips the path and the system call from err, since whoever
// reports it names the path already.
func plainError(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

// formatSize writes a number of bytes with the largest unit that divides it.
func formatSize(bytes int64) string {
	for _, unit := range sizeUnits {
		if unit.factor > 1 && bytes >= unit.factor && bytes%unit.factor == 0 {
			return fmt.Sprintf("%d%s", bytes/unit.factor, unit.name)
		}
	}
	return fmt.Sprintf("%dB", bytes)
}

// configFiles lists what makes up the configuration at path: path itself, or
// the *.hcl files of the directory in name order, without hidden ones and
// without the lock file.
func configFiles(path string) (files []string, isDir bool, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, false, plainError(err)
	}
	if !info.IsDir() {
		return []string{path}, false, nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, true, plainError(err)
	}
	for _, entry := range entries {
		if isConfigName(entry.Name()) {
			files = append(files, filepath.Join(path, entry.Name()))
		}
	}
	return files, true, nil
}

func isConfigName(name string) bool {
	return strings.HasSuffix(name, ".hcl") && !strings.HasPrefix(name, ".") && name != LockFileName
}

// wholeFile is the range of a problem that has no place inside the file.
func wholeFile(file string) hcl.Range {
	return hcl.Range{Filename: file}
}

// checkText reports the first byte of src that is not UTF-8, or that src says
// nothing at all.
func checkText(file string, src []byte) *hcl.Diagnostic {
	if bad := invalidUTF8(src); bad >= 0 {
		line, column := position(src[:bad])
		rng := hcl.Range{
			Filename: file,
			Start:    hcl.Pos{Line: line, Column: column, Byte: bad},
			End:      hcl.Pos{Line: line, Column: column + 1, Byte: bad + 1},
		}
		return problem(rng, "Invalid encoding",
			"The byte 0x%02X is not valid UTF-8. Save the file in the UTF-8 encoding.", src[bad])
	}
	if strings.TrimSpace(strings.TrimPrefix(string(src), "\ufeff")) == "" {
		return problem(wholeFile(file), "Empty configuration file",
			"The file says nothing, as when an editor is still writing it. If that is meant, leave a comment in it or remove it.")
	}
	return nil
}

// invalidUTF8 returns the offset of the first byte that is not UTF-8, or -1.
func invalidUTF8(src []byte) int {
	for i := 0; i < len(src); {
		r, size := utf8.DecodeRune(src[i:])
		if r == utf8.RuneError && size <= 1 {
			return i
		}
		i += size
	}
	return -1
}

// position returns the line and column that follow text.
func position(text []byte) (line, column int) {
	s := string(text)
	line = 1 + strings.Count(s, "\n")
	return line, 1 + utf8.RuneCountInString(s[strings.LastIndexByte(s, '\n')+1:])
}
