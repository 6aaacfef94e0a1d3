package launch

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Operations of a PatchEntry.
const (
	PatchDelete  = "delete"
	PatchMkdir   = "mkdir"
	PatchChmod   = "chmod"
	PatchSymlink = "symlink"
	PatchFile    = "file"
)

// A PatchEntry is one change that is made in a view before anything runs. The
// content of a file follows it.
type PatchEntry struct {
	Op     string `json:"op"`
	Path   string `json:"path"`
	Mode   uint32 `json:"mode,omitempty"`
	Target string `json:"target,omitempty"` // of a symlink
	Size   int64  `json:"size,omitempty"`   // of a file
}

// maxPatchEntry bounds one entry as it is written, without content.
const maxPatchEntry = 64 << 10

// WritePatch writes one entry, without its content. Entries are made in the
// order in which they are written.
func WritePatch(to io.Writer, entry *PatchEntry) error {
	data, err := json.Marshal(entry)
	if err != nil {
		return err
	}
	if len(data) > maxPatchEntry {
		return fmt.Errorf("%.80q: an entry of %d bytes", entry.Path, len(data))
	}
	_, err = to.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(data))), data...))
	return err
}

// makePatch makes what was passed in the new root's workspace, through the
// overlay, so that the lower tree stays as it is.
func makePatch(plan *Plan) (err error) {
	fd := plan.passedFD(PassedPatch)
	if fd == 0 {
		return nil
	}
	root, err := os.OpenRoot(newDir + WorkspaceDir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	in := bufio.NewReaderSize(io.NewSectionReader(fileReader(fd), 0, 1<<62), maxPatchEntry)
	for {
		entry, err := readPatchEntry(in)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = entry.make(root, in)
		}
		if err != nil {
			return err
		}
	}
}

func readPatchEntry(in io.Reader) (*PatchEntry, error) {
	var length uint32
	if err := binary.Read(in, binary.BigEndian, &length); err != nil {
		return nil, err
	}
	if length > maxPatchEntry {
		return nil, fmt.Errorf("an entry of %d bytes", length)
	}
	data := make([]byte, length)
	if _, err := io.ReadFull(in, data); err != nil {
		return nil, unexpected(err)
	}
	entry := new(PatchEntry)
	return entry, json.Unmarshal(data, entry)
}

// unexpected keeps the end of a cut entry from being taken for the end.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func (e *PatchEntry) make(root *os.Root, content io.Reader) error {
	switch e.Op {
	case PatchDelete:
		return root.Remove(e.Path)
	case PatchMkdir:
		if err := root.Mkdir(e.Path, 0o700); err != nil {
			return err
		}
		return root.Chmod(e.Path, fs.FileMode(e.Mode))
	case PatchChmod:
		return root.Chmod(e.Path, fs.FileMode(e.Mode))
	case PatchSymlink:
		if err := removeFile(root, e.Path); err != nil {
			return err
		}
		return root.Symlink(e.Target, e.Path)
	case PatchFile:
		return e.writeFile(root, content)
	}
	return fmt.Errorf("%s: there is no operation %q", e.Path, e.Op)
}

func (e *PatchEntry) writeFile(root *os.Root, content io.Reader) (err error) {
	if err := removeFile(root, e.Path); err != nil {
		return err
	}
	file, err := root.OpenFile(e.Path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if _, err := io.CopyN(file, content, e.Size); err != nil {
		return unexpected(err)
	}
	return file.Chmod(fs.FileMode(e.Mode))
}

func removeFile(root *os.Root, name string) error {
	if err := root.Remove(name); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// fileReader reads a descriptor without owning it.
type fileReader int

// ReadAt implements io.ReaderAt.
func (fd fileReader) ReadAt(p []byte, offset int64) (n int, err error) {
	err = retry(func() (err error) {
		n, err = unix.Pread(int(fd), p, offset)
		return err
	})
	if n == 0 && err == nil && len(p) > 0 {
		err = io.EOF
	}
	return max(n, 0), err
}
