package snapshot

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/goraft/raft/internal/vfs"
)

const testDir = "data/snapshot"

// machine is a memory disk and what a test expects on it.
type machine struct {
	testing.TB
	*vfs.Mem
}

func newMachine(t testing.TB) *machine { return &machine{t, vfs.NewMem()} }

func (m *machine) must(err error) {
	m.Helper()
	if err != nil {
		m.Fatal(err)
	}
}

// try opens a store with small blocks, and frequent syncs.
func (m *machine) try() (*Store, error) {
	s, err := Open(m.Mem, testDir)
	if err == nil {
		s.blockSize, s.syncEvery = 32, 100
	}
	return s, err
}

func (m *machine) open() *Store {
	m.Helper()
	s, err := m.try()
	m.must(err)
	return s
}

// crash restarts the machine.
func (m *machine) crash(c vfs.Chooser) { m.Mem = m.Mem.Crash(c) }

func seeded(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0x55)) }

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

// state is some bytes that differ with the seed.
func state(seed uint64, size int) []byte {
	b := make([]byte, size)
	rng := seeded(seed)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

func header(index, term, id uint64) Header {
	return Header{Label: Label{index, term}, ClusterID: 7, ID: id, Meta: []byte("meta")}
}

// take makes a snapshot.
func take(s *Store, h Header, state []byte) (Info, error) {
	w, err := s.Create(h)
	if err != nil {
		return Info{}, err
	}
	if _, err = w.Write(state); err == nil {
		err = w.Finish()
	}
	if err != nil {
		return Info{}, errors.Join(err, w.Abort())
	}
	return w.Publish()
}

// receive makes a snapshot from the bytes of a file, in pieces of some size.
func receive(s *Store, l Label, id uint64, file []byte, piece int) (Info, error) {
	r, err := s.Receive(l, id, int64(len(file)))
	if err != nil {
		return Info{}, err
	}
	for len(file) > 0 {
		n := min(piece, len(file))
		if err := r.Append(r.Offset(), file[:n]); err != nil {
			return Info{}, errors.Join(err, r.Abort())
		}
		file = file[n:]
	}
	return r.Publish()
}

// contents reads the state of a snapshot.
func contents(s *Store, l Label) ([]byte, error) {
	r, err := s.Read(l)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(r)
	return b, errors.Join(err, r.Close())
}

// fileOf makes the file of a snapshot on a disk of its own and returns its bytes.
func fileOf(t testing.TB, h Header, state []byte) []byte {
	t.Helper()
	m := newMachine(t)
	_, err := take(m.open(), h, state)
	m.must(err)
	return m.bytes(h.Label)
}

func path(l Label) string { return testDir + "/" + Name(l) }

func (m *machine) bytes(l Label) []byte {
	m.Helper()
	b, err := m.Bytes(path(l))
	m.must(err)
	return b
}

// put writes a file past the store.
func (m *machine) put(name string, b []byte) {
	m.Helper()
	m.must(vfs.MkdirAll(m.Mem, testDir))
	m.must(vfs.WriteFile(m.Mem, testDir+"/"+name, b))
}

// noTemporaries fails the test if there is an unfinished file.
func (m *machine) noTemporaries() {
	m.Helper()
	names, err := m.ReadDir(testDir)
	m.must(err)
	for _, name := range names {
		if strings.HasSuffix(name, vfs.TempSuffix) {
			m.Fatal("left over: ", name)
		}
	}
}

// holds fails the test if a snapshot does not verify or has another state.
func (m *machine) holds(s *Store, l Label, want []byte) {
	m.Helper()
	info, err := s.Verify(l)
	m.must(err)
	got, err := contents(s, l)
	m.must(err)
	if !bytes.Equal(got, want) || info.StateSize != int64(len(want)) || info.Label != l {
		m.Fatalf("%s: %d bytes of state, %+v, want %d bytes", Name(l), len(got), info, len(want))
	}
}

// damaged reports whether an error tells of a file that is not what was written.
func damaged(err error) bool { return errors.Is(err, ErrCorrupt) || errors.Is(err, ErrFormat) }
