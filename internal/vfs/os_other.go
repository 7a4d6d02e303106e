//go:build !windows && (!unix || solaris || illumos || aix)

package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
)

func openFile(name string, flag int, perm fs.FileMode) (*os.File, error) {
	return os.OpenFile(name, flag, perm)
}

// syncDir tries, and takes no for an answer: wasip1 hosts differ in whether a
// directory can be synced at all.
func syncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	_ = d.Sync()
	return d.Close()
}

var locks struct {
	sync.Mutex
	held map[string]bool
}

type processLock string

// lockFile keeps locks within the process only: these systems have no flock, and
// two processes on one directory are not kept apart.
func lockFile(name string) (io.Closer, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, FilePerm)
	if err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	if real, err := filepath.EvalSymlinks(name); err == nil {
		name = real
	}
	if abs, err := filepath.Abs(name); err == nil {
		name = abs
	}
	locks.Lock()
	defer locks.Unlock()
	if locks.held[name] {
		return nil, fmt.Errorf("%w: %s", ErrLocked, name)
	}
	if locks.held == nil {
		locks.held = make(map[string]bool)
	}
	locks.held[name] = true
	return processLock(name), nil
}

func (l processLock) Close() error {
	locks.Lock()
	defer locks.Unlock()
	delete(locks.held, string(l))
	return nil
}

// IsNoSpace reports whether an error says that the disk is full.
func IsNoSpace(err error) bool { return errors.Is(err, syscall.ENOSPC) }
