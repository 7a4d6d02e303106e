package vfs

import (
	"io"
	"io/fs"
	"os"
)

// OS returns the file system of the operating system.
//
// On Linux Sync is fdatasync, which includes the size, and SyncDir is fsync of
// the directory. Other systems are weaker where they have less to offer: see
// datasync, syncDir and lockFile of each.
func OS() FS { return osFS{} }

type osFS struct{}

func (osFS) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	f, err := openFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osFS) Mkdir(name string, perm fs.FileMode) error { return os.Mkdir(name, perm) }
func (osFS) Rename(from, to string) error              { return os.Rename(from, to) }
func (osFS) Remove(name string) error                  { return os.Remove(name) }
func (osFS) Stat(name string) (fs.FileInfo, error)     { return os.Stat(name) }
func (osFS) SyncDir(name string) error                 { return syncDir(name) }
func (osFS) Lock(name string) (io.Closer, error)       { return lockFile(name) }

func (osFS) ReadDir(name string) ([]string, error) {
	entries, err := os.ReadDir(name)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, nil
}

type osFile struct{ *os.File }

func (f osFile) Sync() error { return datasync(f.File) }

// Forget tells the system that nobody is expected to read the file soon, so that its
// bytes need not stay in memory. Reading it goes on as before, only from the disk.
func Forget(f File) {
	if f, ok := f.(osFile); ok {
		forget(f.File)
	}
}

func (f osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}
