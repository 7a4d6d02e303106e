package storage

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/goraft/raft/internal/snapshot"
	"github.com/goraft/raft/internal/vfs"
	"github.com/goraft/raft/internal/wal"
)

const (
	logDir      = "data/log"
	snapshotDir = "data/snapshot"
)

// machine is a computer with a disk that forgets, what runs on it, and the world
// that both must agree with.
type machine struct {
	testing.TB
	disk    *vfs.Mem
	rng     *rand.Rand
	options wal.Options
	store   *wal.Store
	files   *snapshot.Store
	world   world
	commit  uint64 // the commit index that the writer knows
	trace   []string
	crashes int
}

func newMachine(t testing.TB, rng *rand.Rand) *machine {
	id := uint64(0x5107e)
	m := &machine{TB: t, disk: vfs.NewMem(), rng: rng}
	m.options = wal.Options{Dir: logDir, MaxSegmentBytes: 1024 << rng.IntN(4), StoreID: func() uint64 { id++; return id }}
	m.world = world{first: 1, snapshots: map[snapshot.Label][]byte{}}
	m.open()
	return m
}

// shown is the log as Open has shown it.
type shown struct{ world }

// Truncate takes back what was shown from an index on.
func (s *shown) Truncate(from uint64) {
	if from <= s.first {
		s.records = nil
	} else {
		s.truncate(from)
	}
}

// Record is the next one.
func (s *shown) Record(r wal.Record) {
	if len(s.records) == 0 {
		s.reset(r.Index())
	}
	s.append(r.Index(), bytes.Clone(r))
}

// start opens the log, then the snapshots, as a server does.
func (m *machine) start() (*shown, error) {
	var err error
	log, o := &shown{world{first: 1}}, m.options
	o.FS, o.Visitor = m.disk, log
	if m.store, err = wal.Open(o); err == nil {
		m.files, err = snapshot.Open(m.disk, snapshotDir)
	}
	return log, err
}

// open starts; what was shown must be what can be read.
func (m *machine) open() {
	log, err := m.start()
	m.must(err)
	first, last := m.store.Bounds()
	if len(log.records) > 0 || first <= last {
		b, err := m.store.Read(nil, first, last, 1<<30)
		m.must(err)
		if log.first != first || !bytes.Equal(b, bytes.Join(log.records, nil)) {
			m.Fatal("the visitor was shown another log")
		}
	}
	if left := append(temporaries(m, m.disk, logDir), temporaries(m, m.disk, snapshotDir)...); len(left) > 0 {
		m.Fatal("not swept: ", left)
	}
}

func (m *machine) must(err error) {
	m.Helper()
	if err != nil {
		m.Fatal(err)
	}
}

// op is one operation: what it does to the disk, and to the world.
type op struct {
	name  string
	disk  func() error
	world func(*world)
	// compact is set for a compaction, the one operation that a crash may leave done
	// in part, and that may do less than it is asked for.
	compact uint64
}

// do carries out an operation, and reports whether the machine is still the same
// afterwards: now and then it crashes, within the operation or behind it.
func (m *machine) do(o op) bool {
	m.trace = append(m.trace, o.name)
	if m.rng.IntN(24) == 0 {
		m.crashWithin(o)
		return false
	}
	m.must(o.disk())
	m.happened(o)
	if m.rng.IntN(48) == 0 {
		m.trace = append(m.trace, "crash")
		m.reopen(m.disk.Crash(m.chooser()))
		m.agree()
		return false
	}
	return true
}

// happened does an operation to the world.
func (m *machine) happened(o op) {
	if o.world != nil {
		o.world(&m.world)
	}
	if o.compact > 0 {
		first, _ := m.store.Bounds()
		if first > max(o.compact, m.world.first) {
			m.Fatalf("the log begins at %d, compacted to %d", first, o.compact)
		}
		m.world.compact(first)
	}
}

// crashWithin stops the machine, or kills the process, at one of the calls of an
// operation: the world is then as before it or as after it.
func (m *machine) crashWithin(o op) {
	kill := m.rng.IntN(3) == 0
	m.trace = append(m.trace, map[bool]string{false: "crash within", true: "kill within"}[kill])
	var left *vfs.Mem
	countdown := m.rng.IntN(10)
	m.disk.SetFault(func(op vfs.Op) error {
		if !op.Kind.Changes() {
			return nil
		}
		if countdown--; countdown >= 0 {
			return nil
		}
		if left == nil && !kill {
			left = m.disk.CrashClone(m.chooser())
		}
		return vfs.ErrCrashed
	})
	err := o.disk()
	if countdown >= 0 {
		m.must(err)
	}
	if kill {
		left = m.killed()
	} else if left == nil {
		left = m.disk.Crash(m.chooser())
	}
	m.disk.SetFault(nil)
	m.reopen(left)
	before := m.world.clone()
	m.happened(o)
	if err != nil && m.world.differs(m.store, m.files, true) != "" {
		if m.world = before; o.compact > 0 {
			first, _ := m.store.Bounds()
			m.world.compact(min(first, o.compact))
		}
	}
	m.agree()
	if m.rng.IntN(3) == 0 {
		m.trace = append(m.trace, "crash: what was shown stays")
		m.reopen(m.disk.Crash(m.chooser()))
		m.agree()
	}
}

// killed ends the process: the lock is free, and the disk goes on with what was
// written, synced or not. A sync that the kill cut short counts as one that failed.
func (m *machine) killed() *vfs.Mem {
	m.disk.SetFault(func(vfs.Op) error { return vfs.ErrCrashed })
	_ = m.store.Close()
	return m.disk
}

// agree compares the disk with the world.
func (m *machine) agree() {
	m.Helper()
	if diff := m.world.differs(m.store, m.files, true); diff != "" {
		m.Fatal(diff)
	}
}

// reopen starts on what a crash has left; now and then the machine stops again
// meanwhile.
func (m *machine) reopen(left *vfs.Mem) {
	m.crashes++
	for m.disk = left; m.rng.IntN(3) == 0; m.disk = m.disk.Crash(m.chooser()) {
		countdown := m.rng.IntN(40)
		m.disk.SetFault(func(vfs.Op) error {
			if countdown--; countdown < 0 {
				return vfs.ErrCrashed
			}
			return nil
		})
		if _, err := m.start(); err != nil && !errors.Is(err, vfs.ErrCrashed) {
			m.Fatal(err)
		}
		m.disk.SetFault(nil)
	}
	m.open()
}

// restart stops without a crash.
func (m *machine) restart() {
	m.trace = append(m.trace, "restart")
	m.must(m.store.Close())
	m.open()
	if m.store.Torn() != nil {
		m.Fatal("torn after a clean restart")
	}
	m.agree()
}

func (m *machine) chooser() vfs.Chooser {
	switch m.rng.IntN(6) {
	case 0:
		return vfs.Nothing
	case 1:
		return vfs.Everything
	}
	return vfs.Random(m.rng)
}

// The operations on the log.

func (m *machine) append(first, term uint64, n, size int) bool {
	b := records(m.world.identity.ClusterID, first, term, n, size)
	split := 0
	for range m.rng.IntN(n) {
		r, _, _ := wal.NextRecord(b[split:])
		split += len(r)
	}
	commit := m.commit
	return m.do(op{
		name:  fmt.Sprintf("append %d of %d bytes and term %d at %d", n, size, term, first),
		disk:  func() error { return m.store.Append(first, commit, b[:split], b[split:]) },
		world: func(w *world) { w.append(first, b); w.commit = max(w.commit, commit) },
	})
}

func (m *machine) truncate(from uint64) bool {
	commit := m.commit
	return m.do(op{
		name: fmt.Sprintf("truncate %d", from),
		disk: func() error { return m.store.Truncate(from, commit) },
		world: func(w *world) {
			if from <= w.last() {
				w.commit = max(w.commit, commit)
			}
			w.truncate(from)
		},
	})
}

func (m *machine) reset(next, commit uint64) bool {
	return m.do(op{
		name:  fmt.Sprintf("reset %d", next),
		disk:  func() error { return m.store.Reset(next, commit) },
		world: func(w *world) { w.reset(next); w.commit = max(w.commit, commit) },
	})
}

func (m *machine) seal() bool {
	commit := m.commit
	return m.do(op{
		name:  "seal",
		disk:  func() error { return m.store.Seal(commit) },
		world: func(w *world) { w.commit = max(w.commit, commit) },
	})
}

func (m *machine) compact(to uint64) bool {
	return m.do(op{name: fmt.Sprintf("compact %d", to), disk: func() error { return m.store.Compact(to) }, compact: to})
}

func (m *machine) saveHardState(h wal.HardState) bool {
	return m.do(op{
		name:  "hard state",
		disk:  func() error { return m.store.SaveHardState(h) },
		world: func(w *world) { w.hard = h },
	})
}

func (m *machine) saveIdentity(id wal.Identity) bool {
	return m.do(op{
		name:  "identity",
		disk:  func() error { return m.store.SaveIdentity(id) },
		world: func(w *world) { w.identity = id },
	})
}
