package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

const (
	errSharingViolation syscall.Errno = 32
	errHandleDiskFull   syscall.Errno = 39
	errDiskFull         syscall.Errno = 112
)

// openFile shares deletion, which os.OpenFile does not: a segment is renamed into
// its place and removed while it is open.
func openFile(name string, flag int, _ fs.FileMode) (*os.File, error) {
	access := uint32(syscall.GENERIC_READ)
	if flag&os.O_RDWR != 0 {
		access |= syscall.GENERIC_WRITE
	} else if flag&os.O_WRONLY != 0 {
		access = syscall.GENERIC_WRITE
	}
	var mode uint32
	switch {
	case flag&os.O_CREATE != 0 && flag&os.O_EXCL != 0:
		mode = syscall.CREATE_NEW
	case flag&os.O_CREATE != 0 && flag&os.O_TRUNC != 0:
		mode = syscall.CREATE_ALWAYS
	case flag&os.O_CREATE != 0:
		mode = syscall.OPEN_ALWAYS
	case flag&os.O_TRUNC != 0:
		mode = syscall.TRUNCATE_EXISTING
	default:
		mode = syscall.OPEN_EXISTING
	}
	return createFile(name, access, syscall.FILE_SHARE_READ|syscall.FILE_SHARE_WRITE|syscall.FILE_SHARE_DELETE, mode)
}

func createFile(name string, access, share, mode uint32) (*os.File, error) {
	path, err := syscall.UTF16PtrFromString(name)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	h, err := syscall.CreateFile(path, access, share, nil, mode, syscall.FILE_ATTRIBUTE_NORMAL, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(h), name), nil
}

// syncDir does nothing: Windows offers no way to make a directory entry durable.
// NTFS journals them in order, which keeps the log whole but may lose the newest
// segment's name, and with it acknowledged entries, at a power loss right after a
// roll.
func syncDir(string) error { return nil }

// lockFile opens the file without sharing it: that is exclusive in the process
// and outside, and dies with the process.
func lockFile(name string) (io.Closer, error) {
	f, err := createFile(name, syscall.GENERIC_READ|syscall.GENERIC_WRITE, 0, syscall.OPEN_ALWAYS)
	if errors.Is(err, errSharingViolation) {
		return nil, fmt.Errorf("%w: %s", ErrLocked, name)
	}
	if err != nil {
		return nil, err
	}
	return f, nil
}

// IsNoSpace reports whether an error says that the disk is full.
func IsNoSpace(err error) bool {
	return errors.Is(err, errDiskFull) || errors.Is(err, errHandleDiskFull) || errors.Is(err, syscall.ENOSPC)
}
