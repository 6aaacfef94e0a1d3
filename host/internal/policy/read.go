package policy

import (
	"embed"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Extension is what the name of a file with policies ends in.
const Extension = ".cedar"

// Bounds of what is read.
const (
	maxFiles    = 256
	maxFileSize = 256 << 10 // bytes
	maxTotal    = 1 << 20   // bytes
	maxPolicies = 10_000
)

// BuiltIn is the Source of the default policies.
const BuiltIn = "built-in"

//go:embed defaults/*.cedar
var defaultFiles embed.FS

// A File is the text of one file with policies.
type File struct {
	Name string // as in diagnostics
	Text []byte
}

// DefaultFiles returns the default policies, one file per subject, named as they
// are to be called on disk.
func DefaultFiles() []File {
	var files []File
	entries, err := defaultFiles.ReadDir("defaults")
	if err != nil {
		panic(err) // embedded
	}
	for _, e := range entries {
		text, err := defaultFiles.ReadFile("defaults/" + e.Name())
		if err != nil {
			panic(err) // embedded
		}
		files = append(files, File{Name: e.Name(), Text: text})
	}
	return files
}

// readDir reads the *.cedar files of a directory in the order of their names,
// without hidden ones. The error is fs.ErrNotExist when there is no directory.
// What a file links to outside of the directory is not read.
func readDir(dir string) ([]File, Diagnostics, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = root.Close() }() // only read
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return nil, nil, err
	}
	var files []File
	var diags Diagnostics
	total := 0
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), Extension) || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		name := filepath.Join(dir, e.Name())
		if len(files) == maxFiles {
			return nil, append(diags, whole(dir, "Too many files with policies", "A directory may hold at most %d.", maxFiles)), nil
		}
		text, err := readFile(root, e.Name())
		if err != nil {
			diags = append(diags, whole(name, "Cannot read the file with policies", "%s.", sentence(plain(err))))
			continue
		}
		if total += len(text); total > maxTotal {
			return nil, append(diags, whole(dir, "Too much policy", "The files of a directory may have at most %d bytes together.", maxTotal)), nil
		}
		files = append(files, File{Name: name, Text: text})
	}
	return files, diags, nil
}

// readFile reads a regular file of bounded size. It never blocks on a pipe or a
// device.
func readFile(root *os.Root, name string) ([]byte, error) {
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is not a regular file")
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFileSize+1))
	if err == nil && len(text) > maxFileSize {
		err = errors.New("it is larger than 256 KiB")
	}
	return text, err
}

// plain returns what err says without the path, which is named beside it.
func plain(err error) string {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err.Error()
	}
	return err.Error()
}

// sentence makes text start with a capital.
func sentence(text string) string {
	if text == "" {
		return text
	}
	return strings.ToUpper(text[:1]) + text[1:]
}
