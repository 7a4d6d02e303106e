// Package storage holds tests only: of the log and the snapshots beside each other,
// in the order in which docs/durability.md says that a server uses the two.
package storage

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/goraft/raft/internal/snapshot"
	"github.com/goraft/raft/internal/vfs"
	"github.com/goraft/raft/internal/wal"
)

// volume is how much of something a run does: the default run, the one of CI, the
// long one. The environment variable STORAGE says which.
func volume(short, ci, long int) int {
	switch os.Getenv("STORAGE") {
	case "ci":
		return ci
	case "long":
		return long
	}
	return int(scale(uint64(short)))
}

// scale cuts a number of repetitions down where they are slow: with -short, and
// under the race detector, which one goroutine has little to tell.
func scale(n uint64) uint64 {
	if testing.Short() || raceDetector {
		return min(n, max(n/10, 2))
	}
	return n
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func seeded(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0x57041)) }

// records makes n stamped records of some size in one buffer.
func records(cluster, first, term uint64, n, size int) []byte {
	var b []byte
	for i := range uint64(n) {
		start := len(b)
		b = wal.BeginRecord(b, 1, "name")
		b = append(b, bytes.Repeat([]byte{byte(first + i), byte(term)}, (size+1)/2)[:size]...)
		wal.FinishRecord(b, start).Stamp(first+i, term, wal.Seed(cluster))
	}
	return b
}

// createSnapshot begins a snapshot and writes its state.
func createSnapshot(files *snapshot.Store, h snapshot.Header, state []byte) (*snapshot.Writer, error) {
	w, err := files.Create(h)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(state); err != nil {
		return nil, errors.Join(err, w.Abort())
	}
	return w, nil
}

// stateOf reads the whole state of a snapshot, which verifies all of its file.
func stateOf(files *snapshot.Store, l snapshot.Label) ([]byte, error) {
	r, err := files.Read(l)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(r)
	return b, errors.Join(err, r.Close())
}

// makeFile makes a snapshot on a disk of its own, as another server does, and
// returns the bytes of its file.
func makeFile(h snapshot.Header, state []byte) ([]byte, error) {
	files, err := snapshot.Open(vfs.NewMem(), "snapshot")
	if err != nil {
		return nil, err
	}
	w, err := createSnapshot(files, h, state)
	if err == nil {
		err = w.Finish()
	}
	if err == nil {
		_, err = w.Publish()
	}
	if err != nil {
		return nil, err
	}
	r, err := files.Read(h.Label)
	if err != nil {
		return nil, err
	}
	b := make([]byte, r.Size())
	_, err = r.ReadAt(b, 0)
	return b, errors.Join(err, r.Close())
}

// temporaries are the names of the unfinished files in a directory.
func temporaries(t testing.TB, fsys vfs.FS, dir string) (found []string) {
	t.Helper()
	names, err := fsys.ReadDir(dir)
	must(t, err)
	for _, name := range names {
		if strings.HasSuffix(name, vfs.TempSuffix) {
			found = append(found, name)
		}
	}
	return found
}
