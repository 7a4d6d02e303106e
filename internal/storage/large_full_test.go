//go:build linux

package storage

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/goraft/raft/internal/vfs"
	"github.com/goraft/raft/internal/wal"
)

// mortal is a file system whose process is killed when a write finds the disk full.
type mortal struct{ vfs.FS }

type mortalFile struct{ vfs.File }

var errKilled = errors.New("killed")

func (m mortal) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	f, err := m.FS.OpenFile(name, flag, perm)
	return mortalFile{f}, err
}

func (f mortalFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.File.WriteAt(p, off)
	if vfs.IsNoSpace(err) {
		err = errKilled
	}
	return n, err
}

// A disk that a large batch has filled refuses it, is opened after the process was killed
// within it, and serves again when there is space.
func TestFault099_RealDiskFullOfLargeBatches(t *testing.T) {
	mounted := smallDisk(t)
	options := wal.Options{FS: vfs.OS(), Dir: filepath.Join(mounted, "log")}
	filler := filepath.Join(mounted, "filler")
	open := func(last uint64) *wal.Store {
		s, err := wal.Open(options)
		must(t, err)
		t.Cleanup(func() { _ = s.Close() })
		if _, end := s.Bounds(); end != last {
			t.Fatalf("the log ends at %d, want %d", end, last)
		}
		return s
	}
	const size = 1 << 20
	batch := func(index uint64) []byte {
		return records(0, index, 1, 1, size)
	}
	s, last := open(0), uint64(0)
	for range 3 {
		last++
		must(t, s.Append(last, 0, batch(last)))
	}
	must(t, s.Close())
	for left := int64(10_000); left < size; left += 170_000 {
		fillUp(t, filler)
		info, err := os.Stat(filler)
		must(t, err)
		must(t, os.Truncate(filler, info.Size()-left))
		options.FS = mortal{vfs.OS()}
		s := open(last)
		for err == nil {
			if err = s.Append(last+1, 0, batch(last+1)); err == nil {
				last++
			}
		}
		if !errors.Is(err, errKilled) {
			t.Fatal(err)
		}
		_ = s.Close()
		fillUp(t, filler)
		options.FS = vfs.OS()
		s = open(last)
		for err = nil; err == nil; { // what was cut off has left space
			if err = s.Append(last+1, 0, batch(last+1)); err == nil {
				last++
			}
		}
		if !errors.Is(err, wal.ErrNoSpace) || errors.Is(err, wal.ErrFailed) {
			t.Fatal(err)
		}
		must(t, s.Close())
		s = open(last)
		must(t, os.Remove(filler))
		last++
		must(t, s.Append(last, 0, batch(last)))
		must(t, s.Close())
	}
	must(t, open(last).Close())
}
