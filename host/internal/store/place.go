package store

import (
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/sdk"
)

// place is where the database lies: its file and its write-ahead log. Who moves,
// removes or replaces one of them under a running host leaves it with files that
// have no name: it could write to them and read them back, and nothing of that
// would be there when it starts again. So both are looked at before a group writes,
// and once more before anybody is told that it was written; that costs a microsecond.
type place struct {
	files [2]placed // none of a database in memory
}

// placed is a file as it was when the database was opened.
type placed struct {
	path     string
	dev, ino uint64
}

// placeOf returns where the database at path lies, which is open and has been read.
func placeOf(path string) (p place, err error) {
	if path == "" {
		return p, nil
	}
	for i, suffix := range []string{"", "-wal"} {
		f := &p.files[i]
		f.path = path + suffix
		if f.dev, f.ino, err = lies(f.path); err != nil {
			return p, goneError(f.path, err.Error())
		}
	}
	return p, nil
}

// lies says which file is at path, or why none is. It does not ask for times: since
// Linux 6.13 a file whose times somebody has seen gets new ones with the next write,
// and these cost the sync after it half as much again.
func lies(path string) (dev, ino uint64, err error) {
	var stat unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_INO, &stat); err != nil {
		return 0, 0, err
	}
	return unix.Mkdev(stat.Dev_major, stat.Dev_minor), stat.Ino, nil
}

// check says that a file is no longer where it was.
func (p *place) check() error {
	for i := range p.files {
		f := &p.files[i]
		if f.path == "" {
			return nil
		}
		switch dev, ino, err := lies(f.path); {
		case err != nil:
			return goneError(f.path, err.Error())
		case dev != f.dev || ino != f.ino:
			return goneError(f.path, "another file is there")
		}
	}
	return nil
}

func goneError(path, why string) error {
	return sdk.Errorf(codes.Unavailable, reasonGone, "%s was moved, removed or replaced while the host runs (%s): what it wrote would be lost", path, why).
		WithRemedy("put back the file that was there; or stop the host, and start it on the database that is to be used")
}
