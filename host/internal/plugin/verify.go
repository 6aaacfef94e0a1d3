package plugin

import (
	"crypto/sha256"
	"crypto/subtle"
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/sdk"
)

// binary is an executable that has been opened. What was hashed through file is
// what will be executed through it, whatever happens to the path meanwhile.
type binary struct {
	path   string
	file   *os.File
	id     fileID
	script bool // starts with "#!": the interpreter needs the path
}

// fileID tells one state of one file from any other: a change of content cannot
// leave ctime as it was.
type fileID struct {
	dev, ino     uint64
	size         int64
	mtime, ctime syscall.Timespec
}

func identify(f *os.File) (fileID, fs.FileInfo, error) {
	info, err := f.Stat()
	if err != nil {
		return fileID{}, nil, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fileID{}, nil, errors.New("no stat of the executable")
	}
	return fileID{dev: st.Dev, ino: st.Ino, size: st.Size, mtime: st.Mtim, ctime: st.Ctim}, info, nil
}

// openBinary opens what is to be executed, without blocking on a pipe, and says
// plainly what is wrong when it cannot be a program.
func openBinary(path string) (*binary, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, failf(ReasonNotExecutable, "executable %s does not exist", path).
			WithRemedy("build or install the plugin, or correct `command`; then run `sop plugin lock` and `sop reload`")
	case err != nil:
		return nil, failf(ReasonNotExecutable, "open executable: %w", err).WithRemedy("let the user that runs sop read %s", path)
	}
	b := &binary{path: path, file: file}
	if err := b.check(); err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

func (b *binary) close() { _ = b.file.Close() } // opened for reading only

// check says what keeps the file from being executed.
func (b *binary) check() error {
	id, info, err := identify(b.file)
	if err != nil {
		return failf(ReasonNotExecutable, "stat executable %s: %w", b.path, err)
	}
	b.id = id
	switch {
	case info.IsDir():
		return failf(ReasonNotExecutable, "%s is a directory, not an executable", b.path).WithRemedy("name the program inside it in `command`")
	case !info.Mode().IsRegular():
		return failf(ReasonNotExecutable, "%s is not a regular file", b.path).WithRemedy("name a program in `command`")
	case info.Size() == 0:
		return failf(ReasonNotExecutable, "%s is empty", b.path).WithRemedy("build or install the plugin again")
	case info.Mode()&0o111 == 0:
		return failf(ReasonNotExecutable, "%s is not executable (mode %v)", b.path, info.Mode().Perm()).WithRemedy("run `chmod +x %s`", b.path)
	}
	return b.checkFormat()
}

// checkFormat accepts programs of this machine and scripts that name their interpreter.
func (b *binary) checkFormat() error {
	head := make([]byte, 2)
	if _, err := b.file.ReadAt(head, 0); err == nil && string(head) == "#!" {
		b.script = true
		return nil
	}
	f, err := elf.NewFile(b.file)
	if err != nil {
		return failf(ReasonNotExecutable, "%s is neither an ELF program nor a script with a #! line", b.path).
			WithRemedy("name the plugin's program in `command`")
	}
	if want, ok := elfMachine[runtime.GOARCH]; ok && f.Machine != want {
		return failf(ReasonNotExecutable, "%s is built for %v, this machine is %v", b.path, f.Machine, want).
			WithRemedy("install the build of the plugin for linux/%s", runtime.GOARCH)
	}
	return nil
}

var elfMachine = map[string]elf.Machine{
	"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64, "riscv64": elf.EM_RISCV, "ppc64le": elf.EM_PPC64, "s390x": elf.EM_S390,
}

// hash reads the file through and returns "sha256:" and hex. It fails when the
// file changed while it was read.
func (b *binary) hash() (string, error) {
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(b.file, 0, 1<<40)); err != nil {
		return "", fmt.Errorf("read executable %s: %w", b.path, err)
	}
	if err := b.unchanged(); err != nil {
		return "", err
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil)), nil
}

// unchanged fails when the opened file is no longer as it was when it was opened.
func (b *binary) unchanged() error {
	id, _, err := identify(b.file)
	if err != nil {
		return failf(ReasonReplaced, "stat executable %s: %w", b.path, err)
	}
	if id != b.id {
		return failf(ReasonReplaced, "executable %s was written to while it was being started", b.path).
			WithRemedy("install plugins by renaming a finished file into place; then run `sop plugin lock` and `sop reload`")
	}
	return nil
}

// verifier compares executables with their locked checksums. It remembers which
// state of which file has which checksum, so that a restart does not read the
// program again.
type verifier struct {
	mu    sync.Mutex
	known map[fileID]string
}

// HashFile returns the checksum of the executable at path as the lock file
// holds it.
func HashFile(path string) (string, error) {
	b, err := openBinary(path)
	if err != nil {
		return "", err
	}
	defer b.close()
	return b.hash()
}

// CheckLocked returns an error unless the executable of the spec is there and is the
// locked one.
func CheckLocked(s *Spec) error {
	b, err := new(verifier).open(s)
	if err != nil {
		return err
	}
	b.close()
	return nil
}

// open returns the executable of the spec if its checksum is the locked one.
// The caller closes it.
func (v *verifier) open(s *Spec) (*binary, error) {
	b, err := openBinary(s.Command)
	if err != nil {
		return nil, err
	}
	if err := v.verify(b, s); err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

func (v *verifier) verify(b *binary, s *Spec) error {
	if s.Hash == "" {
		return notLocked(s)
	}
	got, err := v.hash(b)
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare([]byte(got), []byte(s.Hash)) != 1 {
		return &sdk.Error{
			Code: codes.FailedPrecondition, Reason: ReasonChecksum,
			Message:  fmt.Sprintf("checksum of %s is %s, the lock file says %s", s.Command, got, s.Hash),
			Remedy:   "if you replaced the program yourself, run `sop plugin lock` and `sop reload`; if not, find out who did",
			Metadata: map[string]string{"found": got, "locked": s.Hash},
		}
	}
	return nil
}

func notLocked(s *Spec) *sdk.Error {
	return failf(ReasonNotLocked, "plugin %s is not in the lock file", s.ID()).
		WithRemedy("check that %s is the program you mean, then run `sop plugin lock` and `sop reload`", s.Command)
}

func (v *verifier) hash(b *binary) (string, error) {
	v.mu.Lock()
	got, ok := v.known[b.id]
	v.mu.Unlock()
	if ok {
		return got, nil
	}
	got, err := b.hash()
	if err != nil {
		return "", err
	}
	if time.Since(time.Unix(b.id.ctime.Unix())) < settle {
		return got, nil // may yet change without a new timestamp
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.known == nil || len(v.known) >= maxKnown {
		v.known = make(map[fileID]string)
	}
	v.known[b.id] = got
	return got, nil
}

// settle is how old a change must be before its timestamp is trusted to tell it
// from the next: some kernels stamp files no finer than a few milliseconds.
const settle = time.Second

// maxKnown bounds what a verifier remembers.
const maxKnown = 256
