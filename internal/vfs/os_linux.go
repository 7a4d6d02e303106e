package vfs

import (
	"io/fs"
	"os"
	"syscall"
)

// datasync is fdatasync: the data, and of the metadata what is needed to read it
// back, the size above all.
func datasync(f *os.File) error {
	for {
		switch err := syscall.Fdatasync(int(f.Fd())); err {
		case nil:
			return nil
		case syscall.EINTR:
		default:
			return &fs.PathError{Op: "fdatasync", Path: f.Name(), Err: err}
		}
	}
}
