package wal

import (
	"errors"
	"fmt"

	"github.com/goraft/raft/internal/vfs"
)

var (
	// ErrCorrupt says that what is on the disk is not what was written. Every such
	// error is a *CorruptError.
	ErrCorrupt = errors.New("wal: corrupt")
	// ErrFormat says that a file has another format than this package's. Every such
	// error is a *FormatError.
	ErrFormat = errors.New("wal: unknown format")
	// ErrForeignLog says that the log's directory is a regular file, as goraft's
	// log was.
	ErrForeignLog = errors.New("wal: the log is a file of another program, not a directory")
	// ErrOutOfRange says that an index is outside the log's bounds.
	ErrOutOfRange = errors.New("wal: index out of range")
	// ErrTooLarge says that a batch or a record does not fit the format.
	ErrTooLarge = errors.New("wal: too large")
	// ErrNotEmpty says that the cluster id may not change, because there are entries.
	ErrNotEmpty = errors.New("wal: the log has entries")
	// ErrNoSpace says that the disk is full. The log has not changed, and the call
	// may be repeated. (Of a hard state or an identity that was refused, a restart
	// may find the new value all the same.)
	ErrNoSpace = errors.New("wal: no space left")
	// ErrFailed says that an earlier write or sync failed, and unwraps to its error.
	// Nothing can be written any more; reading goes on.
	ErrFailed = errors.New("wal: failed")
	// ErrClosed says that the store is closed.
	ErrClosed = errors.New("wal: closed")
	// ErrLocked says that another store has the directory open.
	ErrLocked = vfs.ErrLocked
)

// CorruptError says where something is not what was written. errors.Is finds
// ErrCorrupt in it.
type CorruptError struct {
	File   string
	Offset int64
	Reason string
}

// Error names the file, the place and the reason.
func (e *CorruptError) Error() string {
	return fmt.Sprintf("wal: corrupt: %s at %d: %s", e.File, e.Offset, e.Reason)
}

// Is reports whether target is ErrCorrupt.
func (e *CorruptError) Is(target error) bool { return target == ErrCorrupt }

// FormatError names a file that is whole, as far as one can tell, and not of this
// format: Version is 0 if it does not even look like one of this package's files.
// errors.Is finds ErrFormat in it.
type FormatError struct {
	File    string
	Version uint32
}

// Error names the file and the version.
func (e *FormatError) Error() string {
	if e.Version == 0 {
		return fmt.Sprintf("wal: unknown format: %s is not a file of this log", e.File)
	}
	return fmt.Sprintf("wal: unknown format: %s has version %d, this program knows %d", e.File, e.Version, formatVersion)
}

// Is reports whether target is ErrFormat.
func (e *FormatError) Is(target error) bool { return target == ErrFormat }

func corrupt(file string, offset int64, reason string, args ...any) error {
	return &CorruptError{File: file, Offset: offset, Reason: fmt.Sprintf(reason, args...)}
}
