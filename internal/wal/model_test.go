package wal

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/goraft/raft/internal/vfs"
)

// world is everything that a store must remember, as a test remembers it.
type world struct {
	image
	identity Identity
	hard     HardState
	commit   uint64
}

func (w world) clone() world {
	w.image = w.image.clone()
	return w
}

// differs says what a reopened store remembers wrongly. The commit index and a
// compaction may have got further than asked; that is checked by the caller.
func (w *world) differs(s *Store) string {
	id := s.Identity()
	switch {
	case id.ClusterID != w.identity.ClusterID || !bytes.Equal(id.Initial, w.identity.Initial):
		return fmt.Sprintf("identity %+v, want %+v", id, w.identity)
	case s.HardState() != w.hard:
		return fmt.Sprintf("hard state %+v, want %+v", s.HardState(), w.hard)
	case s.CommitIndex() < w.commit:
		return fmt.Sprintf("commit index %d, want %d", s.CommitIndex(), w.commit)
	}
	return w.image.differs(s)
}

// modelRun drives a store and a world with the same operations.
type modelRun struct {
	*disk
	rng    *rand.Rand
	store  *Store
	world  world
	term   uint64
	cursor uint64   // of a reader
	later  []func() // what waits to be run in the background
	trace  []string
}

func newModelRun(t testing.TB, seed uint64) *modelRun {
	rng := seeded(seed)
	m := &modelRun{disk: newDisk(t, int64(1024<<rng.IntN(4))), rng: rng}
	if rng.IntN(2) == 0 {
		m.options.Background = func(f func()) { m.later = append(m.later, f) }
	}
	m.world.first = 1
	m.store = m.disk.open()
	return m
}

// step returns an operation: it does it to the world, and returns how to do it to
// the store.
func (m *modelRun) step() (string, func(*world) error) {
	w, rng := &m.world, m.rng
	commit := w.commit
	if n := uint64(len(w.records)); n > 0 && rng.IntN(2) == 0 {
		commit = max(commit, w.first+rng.Uint64N(n))
	}
	inside := w.first + rng.Uint64N(uint64(len(w.records)+1))
	switch k := rng.IntN(20); {
	case k < 10:
		first := w.last() + 1
		if rng.IntN(4) == 0 {
			first = inside
		}
		m.term++
		n, size := 1+rng.IntN(5), rng.IntN(300)
		if rng.IntN(20) == 0 {
			size = 5000
		}
		b := records(w.identity.ClusterID, first, m.term, n, size)
		return fmt.Sprintf("append %d at %d of %d", n, first, size), func(w *world) error {
			w.put(first, b)
			w.commit = commit
			cut := rng.IntN(n)
			split := 0
			for range cut {
				r, _, _ := NextRecord(b[split:])
				split += len(r)
			}
			return m.store.Append(first, commit, b[:split], b[split:])
		}
	case k < 12:
		return fmt.Sprintf("truncate %d", inside), func(w *world) error {
			if inside <= w.last() {
				w.commit = commit
			}
			w.cut(inside)
			return m.store.Truncate(inside, commit)
		}
	case k < 14:
		return "seal", func(w *world) error { w.commit = commit; return m.store.Seal(commit) }
	case k < 16:
		m.term++
		h := HardState{m.term, string(bytes.Repeat([]byte("n"), rng.IntN(1200)))}
		return "hard state", func(w *world) error { w.hard = h; return m.store.SaveHardState(h) }
	case k < 17:
		next := w.last() + 1 + rng.Uint64N(5)
		return fmt.Sprintf("reset %d", next), func(w *world) error {
			w.records, w.first, w.commit = nil, next, commit
			return m.store.Reset(next, commit)
		}
	case k < 18 && len(w.records) == 0:
		m.term++
		id := Identity{ClusterID: m.term, Initial: bytes.Repeat([]byte("i"), rng.IntN(9000))}
		return "identity", func(w *world) error { w.identity = id; return m.store.SaveIdentity(id) }
	default:
		return fmt.Sprintf("compact %d", inside), func(w *world) error {
			err := m.store.Compact(inside)
			if first, _ := m.store.Bounds(); err == nil && first > inside {
				m.Fatal("compacted too much")
			} else if err == nil {
				w.drop(first)
			}
			return err
		}
	}
}

// background runs some of what the store has asked for.
func (m *modelRun) background() {
	for len(m.later) > 0 && m.rng.IntN(2) == 0 {
		m.later[0]()
		m.later = m.later[1:]
	}
}

func (m *modelRun) chooser() vfs.Chooser {
	switch m.rng.IntN(6) {
	case 0:
		return vfs.Nothing
	case 1:
		return vfs.Everything
	}
	return vfs.Random(m.rng)
}

func (m *modelRun) check(when string) {
	if diff := m.world.differs(m.store); diff != "" {
		m.Fatalf("%s: %s\nafter %q", when, diff, m.trace)
	}
	for range 3 {
		m.read()
	}
}

// read takes a step as a reader that goes on where it stopped, or starts anew.
func (m *modelRun) read() {
	w := &m.world
	if len(w.records) == 0 {
		return
	}
	if m.cursor < w.first || m.cursor > w.last() {
		m.cursor = w.first + m.rng.Uint64N(uint64(len(w.records)))
	}
	to := m.cursor + m.rng.Uint64N(w.last()-m.cursor+1)
	b, err := m.store.Read(nil, m.cursor, to, m.rng.IntN(1500))
	m.must(err)
	if len(b) == 0 {
		m.Fatal("read nothing")
	}
	for ; len(b) > 0; m.cursor++ {
		r, rest, err := NextRecord(b)
		m.must(err)
		if m.cursor > to || !bytes.Equal(r, w.records[m.cursor-w.first]) {
			m.Fatalf("reading %d to %d: a wrong record %d\nafter %q", m.cursor, to, r.Index(), m.trace)
		}
		b = rest
	}
}

// crashDuring does an operation and stops the machine at one of its calls: the
// world is then as before it or as after it.
func (m *modelRun) crashDuring(do func(*world) error) {
	var after *vfs.Mem
	countdown := m.rng.IntN(8)
	m.SetFault(func(op vfs.Op) error {
		if !op.Kind.Changes() {
			return nil
		}
		if countdown--; countdown < 0 {
			if after == nil {
				after = m.CrashClone(m.chooser())
			}
			return vfs.ErrCrashed
		}
		return nil
	})
	before := m.world.clone()
	err := do(&m.world)
	m.SetFault(nil)
	if after == nil {
		after = m.Mem.Crash(m.chooser())
	}
	m.Mem, m.later = after, nil
	m.reopen()
	if err == nil {
		m.check("crash behind an operation that was promised")
		return
	}
	before.drop(m.compacted(before))
	if before.differs(m.store) == "" {
		m.world = before
		return
	}
	m.world.drop(m.compacted(m.world))
	m.check("crash within an operation, and it is not as before: " + before.differs(m.store))
}

// reopen starts after a crash; now and then the machine stops again meanwhile.
func (m *modelRun) reopen() {
	for m.rng.IntN(3) == 0 {
		countdown := m.rng.IntN(30)
		m.SetFault(func(vfs.Op) error {
			if countdown--; countdown < 0 {
				return vfs.ErrCrashed
			}
			return nil
		})
		_, _, _ = m.try()
		m.SetFault(nil)
		m.crash(m.chooser())
	}
	m.store = m.disk.open()
}

// compacted is the first index of the store if only a compaction can have moved it
// there from where the world has it.
func (m *modelRun) compacted(w world) uint64 {
	first, last := m.store.Bounds()
	if first > w.first && last == w.last() {
		return first
	}
	return w.first
}

func (m *modelRun) run(steps int) {
	for range steps {
		name, do := m.step()
		m.trace = append(m.trace, name)
		switch k := m.rng.IntN(24); k {
		case 0:
			m.trace = append(m.trace, "crashed within")
			m.crashDuring(do)
			continue
		default:
			if err := do(&m.world); err != nil {
				m.Fatalf("%v\nafter %q", err, m.trace)
			}
			if k == 1 {
				m.trace = append(m.trace, "crash")
				m.crash(m.chooser())
				m.later = nil
				m.reopen()
			} else if k == 2 {
				m.trace = append(m.trace, "restart")
				m.must(m.store.Close())
				m.background()
				m.later = nil
				m.store = m.disk.open()
				if m.store.Torn() != nil {
					m.Fatal("torn after a clean restart")
				}
			}
		}
		m.background()
		m.check("running")
	}
	if err := m.store.Close(); err != nil && !errors.Is(err, ErrClosed) {
		m.Fatal(err)
	}
}

// TestModel drives stores with random operations, crashes and restarts, and
// compares them with a model after each.
func TestModel(t *testing.T) {
	for seed := range scale(2000) {
		m := newModelRun(t, seed)
		m.run(30)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}
