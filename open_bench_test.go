//go:build linux

package raft

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/goraft/raft/internal/vfs"
	"github.com/goraft/raft/internal/wal"
	"github.com/stretchr/testify/require"
)

// BenchmarkOpen initializes a server whose log of 1 GiB is not in the system's
// cache, and compares the time with that of reading the same files. The rounds take
// turns, so that a disk whose speed changes slows both: open/read is the ratio of
// the medians, best/best that of the shortest times. The heap is what the server has
// more than one without a log, steady and at the worst moment of Init.
//
// The names say how large the entries are, and how many each term has.
func BenchmarkOpen(b *testing.B) {
	for _, log := range []benchmarkLog{{1024, 1 << 20}, {128, 1 << 20}, {128, 64}} {
		b.Run(fmt.Sprintf("bytes=%d/term=%d", log.size, log.term), func(b *testing.B) { benchmarkOpen(b, log) })
	}
}

type benchmarkLog struct{ size, term int }

func benchmarkOpen(b *testing.B, log benchmarkLog) {
	empty, path := newBenchServer(b, b.TempDir()), b.TempDir()
	emptyHeap, _ := heapOfServer(b, empty)
	server := newBenchServer(b, path)
	total := float64(log.write(b, server.LogPath(), 1<<30))
	var reads, opens []float64
	for b.Loop() {
		dropCaches(b)
		begun := time.Now()
		readFiles(b, server.LogPath())
		reads = append(reads, time.Since(begun).Seconds())
		dropCaches(b)
		begun = time.Now()
		require.NoError(b, server.Init())
		opens = append(opens, time.Since(begun).Seconds())
		require.EqualValues(b, total/float64(log.size), server.now().status.LastIndex)
		server.Stop()
		server = newBenchServer(b, path)
	}
	slices.Sort(reads)
	slices.Sort(opens)
	read, open := reads[len(reads)/2], opens[len(opens)/2]
	heap, peak := heapOfServer(b, server)
	const mib = 1 << 20
	b.ReportMetric(open/read, "open/read")
	b.ReportMetric(opens[0]/reads[0], "best/best")
	b.ReportMetric(total/read/mib, "read-MiB/s")
	b.ReportMetric(total/open/mib, "open-MiB/s")
	b.ReportMetric((heap-emptyHeap)/mib, "heap-MiB")
	b.ReportMetric((peak-emptyHeap)/mib, "peak-MiB")
	b.ReportMetric(0, "ns/op")
}

func newBenchServer(b *testing.B, path string) *server {
	b.Helper()
	s, err := NewServer("a", path, deaf{}, nil, nil, "", WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(b, err)
	return s.(*server)
}

// unsynced is the system's files without the wait for the disk.
type unsynced struct{ vfs.FS }

func (u unsynced) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	f, err := u.FS.OpenFile(name, flag, perm)
	return unsyncedFile{f}, err
}

type unsyncedFile struct{ vfs.File }

func (unsyncedFile) Sync() error { return nil }

// write makes a log of some number of bytes, in batches of 64 entries.
func (l benchmarkLog) write(b *testing.B, dir string, bytes int) (written int) {
	b.Helper()
	store, err := wal.Open(wal.Options{FS: unsynced{vfs.OS()}, Dir: dir})
	require.NoError(b, err)
	record := wal.FinishRecord(append(wal.BeginRecord(nil, kindCommand, "bench"), make([]byte, l.size-wal.RecordHeaderSize-len("bench"))...), 0)
	index, batch := 1, []byte(nil)
	for ; written < bytes; written += len(batch) {
		first := index
		for batch = batch[:0]; index < first+64; index++ {
			record.Stamp(uint64(index), uint64(1+index/l.term), wal.Seed(0))
			batch = append(batch, record...)
		}
		require.NoError(b, store.Append(uint64(first), 0, batch))
	}
	require.NoError(b, store.SaveHardState(wal.HardState{Term: uint64(1 + index/l.term)}))
	require.NoError(b, store.Close())
	return written
}

// heapOfServer is what is in use once a server is initialized, and the most that the
// heap held meanwhile, garbage too.
func heapOfServer(b *testing.B, s *server) (steady, peak float64) {
	b.Helper()
	runtime.GC()
	done, most := make(chan struct{}), make(chan uint64)
	go func() { most <- watchHeap(done) }()
	require.NoError(b, s.Init())
	close(done)
	peak = float64(<-most)
	var stats runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&stats)
	s.Stop()
	return float64(stats.HeapAlloc), peak
}

func watchHeap(done chan struct{}) (most uint64) {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for {
		metrics.Read(sample)
		most = max(most, sample[0].Value.Uint64())
		select {
		case <-ticker.C:
		case <-done:
			return most
		}
	}
}

// dropCaches has the system forget what it holds of files, once that is written.
func dropCaches(b *testing.B) {
	b.Helper()
	syscall.Sync()
	if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0); err != nil {
		b.Skip("the system's cache cannot be dropped: ", err)
	}
}

// readFiles reads all the files of a directory, one after the other.
func readFiles(b *testing.B, dir string) {
	b.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(b, err)
	buf := make([]byte, 1<<20)
	for _, entry := range entries {
		f, err := os.Open(filepath.Join(dir, entry.Name()))
		require.NoError(b, err)
		for err == nil {
			_, err = f.Read(buf)
		}
		if !errors.Is(err, io.EOF) {
			b.Fatal(err)
		}
		require.NoError(b, f.Close())
	}
}
