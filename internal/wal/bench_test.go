package wal

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"testing"

	"github.com/goraft/raft/internal/vfs"
)

// unsynced is the system's files without the wait for the disk: what remains is
// what the log itself costs.
type unsynced struct{ vfs.FS }

func (u unsynced) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	f, err := u.FS.OpenFile(name, flag, perm)
	return unsyncedFile{f}, err
}

type unsyncedFile struct{ vfs.File }

func (unsyncedFile) Sync() error { return nil }

func BenchmarkAppend(b *testing.B) {
	for name, fsys := range map[string]vfs.FS{"synced": vfs.OS(), "unsynced": unsynced{vfs.OS()}} {
		for _, n := range []int{1, 64, 4096} {
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) { benchmarkAppend(b, fsys, n) })
		}
	}
}

// benchmarkAppend includes stamping the records, whose indexes go on.
func benchmarkAppend(b *testing.B, fsys vfs.FS, n int) {
	s, err := Open(Options{FS: fsys, Dir: filepath.Join(b.TempDir(), "log")})
	must(b, err)
	defer s.Close()
	bufs := [][]byte{nil}
	stamped := records(0, 1, 1, n, 100)
	bufs[0] = stamped
	b.SetBytes(int64(len(stamped)))
	b.ReportAllocs()
	next := uint64(1)
	for b.Loop() {
		for rest := stamped; len(rest) > 0; next++ {
			r, after, _ := NextRecord(rest)
			r.Stamp(next, 1, 0)
			rest = after
		}
		must(b, s.Append(next-uint64(n), next-1, bufs...))
	}
}

func BenchmarkRead(b *testing.B) {
	s, err := Open(Options{FS: vfs.OS(), Dir: filepath.Join(b.TempDir(), "log")})
	must(b, err)
	defer s.Close()
	const total = 100_000
	for i := uint64(1); i <= total; i += 100 {
		must(b, s.Append(i, 0, records(0, i, 1, 100, 100)))
	}
	for _, max := range []int{0, 4 << 10, 1 << 20} {
		b.Run(fmt.Sprint(max), func(b *testing.B) {
			b.ReportAllocs()
			next, bytes := uint64(1), 0
			var dst []byte
			for b.Loop() {
				dst, err = s.Read(dst[:0], next, total, max)
				must(b, err)
				bytes += len(dst)
				for rest := dst; len(rest) > 0; next++ {
					_, rest, _ = NextRecord(rest)
				}
				if next > total {
					next = 1
				}
			}
			b.SetBytes(int64(bytes / b.N))
		})
	}
}

func BenchmarkSaveHardState(b *testing.B) {
	s, err := Open(Options{FS: vfs.OS(), Dir: filepath.Join(b.TempDir(), "log")})
	must(b, err)
	defer s.Close()
	b.ReportAllocs()
	for term := uint64(1); b.Loop(); term++ {
		must(b, s.SaveHardState(HardState{term, "n1"}))
	}
}
