//go:build !linux

package vfs

import "os"

// datasync is os.File.Sync: F_FULLFSYNC on darwin, FlushFileBuffers on windows,
// fd_sync on wasip1, where the host decides what that is worth.
func datasync(f *os.File) error { return f.Sync() }
