//go:build linux && (amd64 || arm64)

package vfs

import (
	"os"
	"syscall"
)

// dontNeed is POSIX_FADV_DONTNEED.
const dontNeed = 4

// forget drops the file's pages that are on the disk. It is advice: whatever it says,
// nothing depends on it.
func forget(f *os.File) {
	_, _, _ = syscall.Syscall6(syscall.SYS_FADVISE64, f.Fd(), 0, 0, dontNeed, 0, 0)
}
