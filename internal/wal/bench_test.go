package wal

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"
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

// BenchmarkAppendLarge has three stores on one disk, as a cluster in one process has
// them. The figures are those of a batch in each of them.
func BenchmarkAppendLarge(b *testing.B) {
	for _, size := range []int{4 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20} {
		b.Run(fmt.Sprint(size), func(b *testing.B) { benchmarkCluster(b, 3, size) })
	}
}

func benchmarkCluster(b *testing.B, servers, size int) {
	var stores []*Store
	for i := range servers {
		s, err := Open(Options{FS: vfs.OS(), Dir: filepath.Join(b.TempDir(), fmt.Sprint(i))})
		must(b, err)
		stores = append(stores, s)
	}
	const each = 64 << 10
	var bufs [][]byte
	for rest := size; rest > 0; rest -= each {
		bufs = append(bufs, records(0, 1, 1, 1, min(rest, each)-RecordHeaderSize-len("name")))
	}
	n, next := uint64(len(bufs)), uint64(1)
	b.SetBytes(int64(servers * size))
	b.ReportAllocs()
	errs := make([]error, servers)
	for b.Loop() {
		for _, buf := range bufs {
			Record(buf).Stamp(next, 1, Seed(0))
			next++
		}
		var wait sync.WaitGroup
		for i, s := range stores {
			wait.Go(func() { errs[i] = s.Append(next-n, next-n-1, bufs...) })
		}
		wait.Wait()
		must(b, errors.Join(errs...))
	}
	for _, s := range stores {
		must(b, s.Close())
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
