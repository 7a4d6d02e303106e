package snapshot

import (
	"errors"
	"fmt"

	"github.com/goraft/raft/internal/vfs"
)

var (
	// ErrCorrupt says that a file is not what was written. Every such error is a
	// *CorruptError.
	ErrCorrupt = errors.New("snapshot: corrupt")
	// ErrFormat says that a file has another format than this package's. Every such
	// error is a *FormatError.
	ErrFormat = errors.New("snapshot: unknown format")
	// ErrTooLarge says that something does not fit: more of the caller's bytes than
	// the header holds, or more of a file than was announced.
	ErrTooLarge = errors.New("snapshot: too large")
	// ErrHeader says that no snapshot can have such a label, id or size.
	ErrHeader = errors.New("snapshot: impossible header")
	// ErrOffset says that a piece of a file does not begin where the last one ended.
	ErrOffset = errors.New("snapshot: a piece out of order")
	// ErrUnfinished says that a file may not be published yet.
	ErrUnfinished = errors.New("snapshot: not finished")
	// ErrNoSpace says that the disk is full. The unfinished file is gone, the others
	// are as they were.
	ErrNoSpace = errors.New("snapshot: no space left")
	// ErrBusy says that another call on the same unfinished file is under way.
	ErrBusy = errors.New("snapshot: another call is under way")
	// ErrOver says that a file takes no more: it was finished, published or aborted.
	ErrOver = errors.New("snapshot: finished, published or aborted")
)

// CorruptError says where a file is not what was written. errors.Is finds
// ErrCorrupt in it.
type CorruptError struct {
	File   string
	Offset int64
	Reason string
}

// Error names the file, the place and the reason.
func (e *CorruptError) Error() string {
	return fmt.Sprintf("snapshot: corrupt: %s at %d: %s", e.File, e.Offset, e.Reason)
}

// Is reports whether target is ErrCorrupt.
func (e *CorruptError) Is(target error) bool { return target == ErrCorrupt }

// FormatError names a file that is whole, as far as one can tell, and not of this
// format: one of goraft's snapshots, or, if Version is 0, not even something that
// looks like a snapshot. errors.Is finds ErrFormat in it.
type FormatError struct {
	File    string
	Version uint32
	Goraft  bool
}

// Error names the file and its format.
func (e *FormatError) Error() string {
	switch {
	case e.Goraft:
		return fmt.Sprintf("snapshot: unknown format: %s is a snapshot of the original goraft, which this program cannot read", e.File)
	case e.Version == 0:
		return fmt.Sprintf("snapshot: unknown format: %s is not a snapshot", e.File)
	}
	return fmt.Sprintf("snapshot: unknown format: %s has version %d, this program knows %d", e.File, e.Version, formatVersion)
}

// Is reports whether target is ErrFormat.
func (e *FormatError) Is(target error) bool { return target == ErrFormat }

func corrupt(file string, offset int64, reason string, args ...any) error {
	return &CorruptError{File: file, Offset: offset, Reason: fmt.Sprintf(reason, args...)}
}

// noSpace marks an error of a full disk.
func noSpace(err error) error {
	if err != nil && vfs.IsNoSpace(err) && !errors.Is(err, ErrNoSpace) {
		return errors.Join(ErrNoSpace, err)
	}
	return err
}
