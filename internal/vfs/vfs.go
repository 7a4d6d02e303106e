// Package vfs is the one door to the file system: the operating system's files
// (OS), and a memory disk that loses, tears, corrupts and fails (Mem).
//
// The interfaces are as small as a log needs. Files are read and written at
// offsets only, so a handle may be shared by goroutines; nothing but Sync and
// SyncDir promises that anything outlives a crash.
package vfs

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// DirPerm and FilePerm are the permissions of what a server creates: nobody but
// its own user reads its log.
const (
	DirPerm  fs.FileMode = 0o700
	FilePerm fs.FileMode = 0o600
)

// TempSuffix ends the names of files that are not yet what they will be. Whoever
// owns a directory removes them when it opens it.
const TempSuffix = ".tmp"

// ErrLocked says that another holder, in this process or another one, has the lock.
var ErrLocked = errors.New("vfs: locked by another holder")

// FS is a file system. Its methods may be called from any goroutine. Errors are
// those of io/fs (errors.Is with fs.ErrNotExist and its kin works).
type FS interface {
	// OpenFile opens a file like os.OpenFile. O_APPEND is not supported. A created
	// file is in its directory for good only after SyncDir.
	OpenFile(name string, flag int, perm fs.FileMode) (File, error)
	// Mkdir creates one directory; it is there for good only after SyncDir of its
	// parent. See MkdirAll.
	Mkdir(name string, perm fs.FileMode) error
	// Rename moves a file within a directory, replacing what has the new name;
	// durable after SyncDir, atomic even without it.
	Rename(from, to string) error
	// Remove deletes a file or an empty directory, durably after SyncDir.
	Remove(name string) error
	// ReadDir returns the names in a directory in order.
	ReadDir(name string) ([]string, error)
	// Stat describes a file, following symbolic links.
	Stat(name string) (fs.FileInfo, error)
	// SyncDir makes the entries of a directory durable: what was created, renamed
	// and removed in it before the call. Where the system has no such call (windows,
	// wasip1) it does nothing.
	SyncDir(name string) error
	// Lock takes an exclusive lock on a file, which it creates if need be, until the
	// Closer is closed or the process dies. It does not wait: ErrLocked says that
	// the lock is taken, be it by this same process.
	Lock(name string) (io.Closer, error)
}

// File is an open file. Its methods may be called from any goroutine.
type File interface {
	// ReadAt and WriteAt are those of io; WriteAt grows the file, and may have
	// written a part when it returns an error.
	io.ReaderAt
	io.WriterAt
	// Truncate sets the size; bytes that it adds are zero.
	Truncate(size int64) error
	// Sync returns after everything written to the file before the call, and its
	// size, is durable. After an error nothing is known about any of it, and a
	// later success does not change that.
	Sync() error
	// Size returns the current size.
	Size() (int64, error)
	Close() error
}

// MkdirAll creates a directory and its missing parents so that they survive a
// crash: each is durable before the next is made. Of directories that are there
// already it makes the deepest one durable, because that is the one that a crash
// of an earlier call can have left behind unsynced.
func MkdirAll(fsys FS, name string) error {
	name = filepath.Clean(name)
	parent := filepath.Dir(name)
	info, err := fsys.Stat(name)
	switch {
	case err == nil && !info.IsDir():
		return &fs.PathError{Op: "mkdir", Path: name, Err: errors.New("not a directory")}
	case err == nil:
		// Whoever may not even read the parent did not create this directory.
		if err := fsys.SyncDir(parent); err != nil && !errors.Is(err, fs.ErrPermission) {
			return err
		}
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if parent != name {
		if err := MkdirAll(fsys, parent); err != nil {
			return err
		}
	}
	if err := fsys.Mkdir(name, DirPerm); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return fsys.SyncDir(parent)
}

// WriteFile puts data into the named file, durably and atomically: a crash at any
// moment leaves the old file or the new one. It goes through a fresh temporary
// file beside it.
func WriteFile(fsys FS, name string, data []byte) error {
	temp := name + TempSuffix
	f, err := CreateFresh(fsys, temp)
	if err != nil {
		return err
	}
	if err = writeSynced(f, data); err == nil {
		err = fsys.Rename(temp, name)
	}
	if err != nil {
		return errors.Join(err, fsys.Remove(temp))
	}
	return fsys.SyncDir(filepath.Dir(name))
}

func writeSynced(f File, data []byte) error {
	_, err := f.WriteAt(data, 0)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// CreateFresh creates the named file for reading and writing. A file of that name
// is removed first, never reused.
func CreateFresh(fsys FS, name string) (File, error) {
	if err := fsys.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return fsys.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, FilePerm)
}
