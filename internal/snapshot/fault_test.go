package snapshot

import (
	"errors"
	"fmt"
	"slices"
	"syscall"
	"testing"

	"github.com/goraft/raft/internal/vfs"
)

// newestValid is what a server starts from.
func newestValid(t testing.TB, s *Store) Label {
	t.Helper()
	for _, l := range s.Labels() {
		_, err := s.Verify(l)
		if err == nil {
			return l
		}
		if !damaged(err) {
			t.Fatal(err)
		}
	}
	return Label{}
}

// TestFault090_CrashAtEachByteOfTheWrite: there are a snapshot at 9 and one at 1000
// that is being written; the newest valid one is 9 until 1000 is whole, wherever the
// crash comes.
func TestFault090_CrashAtEachByteOfTheWrite(t *testing.T) {
	want := state(5, 150)
	h := header(newLabel.Index, newLabel.Term, 2)
	file := fileOf(t, h, want)
	for name, write := range map[string]func(*Store) error{
		"taken":    func(s *Store) error { return second(take(s, h, want)) },
		"received": func(s *Store) error { return second(receive(s, h.Label, h.ID, file, 100)) },
	} {
		for cut := range int64(len(file)) {
			for i, choose := range choosers {
				m := newMachine(t)
				s := m.open()
				m.must(second(take(s, header(oldLabel.Index, oldLabel.Term, 1), nil)))
				dead := false
				m.SetFault(func(op vfs.Op) error {
					if dead {
						return vfs.ErrCrashed
					}
					if op.Kind == vfs.OpWrite && op.Offset <= cut && cut < op.Offset+op.Length {
						dead = true
						return &vfs.ShortWrite{N: int(cut - op.Offset), Err: vfs.ErrCrashed}
					}
					return nil
				})
				if err := write(s); !errors.Is(err, vfs.ErrCrashed) {
					t.Fatal(err)
				}
				m.crash(choose(uint64(cut)))
				s = m.open()
				if got := s.Labels(); !slices.Equal(got, []Label{oldLabel}) || newestValid(t, s) != oldLabel {
					t.Fatalf("%s, byte %d, disk %d: %v", name, cut, i, got)
				}
				m.noTemporaries()
				m.must(write(s))
				if newestValid(t, s) != newLabel {
					t.Fatal(s.Labels())
				}
			}
		}
	}
}

// TestFault090_TornFileUnderItsName: what this package never leaves, another one
// may: the newest file is torn at any byte, and the one before is found.
func TestFault090_TornFileUnderItsName(t *testing.T) {
	file := fileOf(t, header(newLabel.Index, newLabel.Term, 2), state(5, 150))
	m := newMachine(t)
	m.must(second(take(m.open(), header(oldLabel.Index, oldLabel.Term, 1), nil)))
	m.put(Name(newLabel), nil)
	for n := range len(file) {
		m.must(m.SetBytes(path(newLabel), file[:n]))
		s := m.open()
		if got := s.Labels(); !slices.Equal(got, []Label{newLabel, oldLabel}) || newestValid(t, s) != oldLabel {
			t.Fatalf("%d bytes: %v", n, got)
		}
		if n >= headerSize {
			m.must(m.SetBytes(path(newLabel), append(slices.Clone(file[:n]), make([]byte, len(file)-n)...)))
			if newestValid(t, s) != oldLabel {
				t.Fatalf("%d bytes, then zeros", n)
			}
		}
	}
	m.must(m.SetBytes(path(newLabel), file))
	if newestValid(t, m.open()) != newLabel {
		t.Fatal("the newest is whole")
	}
}

// TestFault090_NewestByNumber: by text 9 is newer than 1000.
func TestFault090_NewestByNumber(t *testing.T) {
	m := newMachine(t)
	s := m.open()
	want := []Label{{1000, 7}, {1000, 6}, {999, 10}, {100, 1}, {99, 1}, {20, 1}, {9, 1}}
	for _, i := range seeded(1).Perm(len(want)) {
		m.must(second(take(s, header(want[i].Index, want[i].Term, 1), nil)))
	}
	if got := s.Labels(); !slices.Equal(got, want) {
		t.Fatal(got)
	}
	if got := m.open().Labels(); !slices.Equal(got, want) || newestValid(t, m.open()) != want[0] {
		t.Fatal(got)
	}
}

// TestFault089_AFullDiskFailsOneSnapshotOnly: the error says what it is, the space
// is given back, and once there is space again the next snapshot succeeds.
func TestFault089_AFullDiskFailsOneSnapshotOnly(t *testing.T) {
	h, want, file := sample(t)
	for _, kind := range []vfs.OpKind{vfs.OpCreate, vfs.OpWrite, vfs.OpSync, vfs.OpRename, vfs.OpSyncDir} {
		for name, write := range map[string]func(*Store) error{
			"taken":    func(s *Store) error { return second(take(s, h, want)) },
			"received": func(s *Store) error { return second(receive(s, h.Label, h.ID, file, 50)) },
		} {
			t.Run(fmt.Sprint(name, " ", kind), func(t *testing.T) {
				m := newMachine(t)
				s := m.open()
				m.must(second(take(s, header(oldLabel.Index, oldLabel.Term, 1), want)))
				m.SetFault(func(op vfs.Op) error {
					if op.Kind == kind {
						return syscall.ENOSPC
					}
					return nil
				})
				if err := write(s); !errors.Is(err, ErrNoSpace) || !errors.Is(err, syscall.ENOSPC) {
					t.Fatal(err)
				}
				m.SetFault(nil)
				names, err := m.ReadDir(testDir)
				if err != nil || !slices.Equal(names, []string{Name(oldLabel)}) || !slices.Equal(s.Labels(), []Label{oldLabel}) {
					t.Fatal(names, s.Labels(), err)
				}
				m.holds(s, oldLabel, want)
				m.must(write(s))
				m.holds(s, h.Label, want)
			})
		}
	}
}

// An error ends a Writer and a Receiver for good: a later success of the disk does
// not bring back what a failed sync may have lost.
func TestErrorIsFinal(t *testing.T) {
	h, want, file := sample(t)
	m := newMachine(t)
	s := m.open()
	fail := func(kind vfs.OpKind) func(vfs.Op) error {
		return func(op vfs.Op) error {
			if op.Kind == kind {
				return syscall.EIO
			}
			return nil
		}
	}
	w, err := s.Create(h)
	m.must(err)
	m.SetFault(fail(vfs.OpSync))
	n, err := w.Write(want)
	if n >= len(want) || !errors.Is(err, syscall.EIO) {
		t.Error(n, err)
	}
	m.SetFault(nil)
	if _, err := w.Write(want); !errors.Is(err, syscall.EIO) || !errors.Is(w.Finish(), syscall.EIO) {
		t.Error(err)
	}
	if _, err := w.Publish(); !errors.Is(err, syscall.EIO) {
		t.Error(err)
	}
	m.noTemporaries()
	r, err := s.Receive(h.Label, h.ID, int64(len(file)))
	m.must(err)
	m.must(r.Append(0, file[:30]))
	m.SetFault(fail(vfs.OpWrite))
	if err := r.Append(30, file[30:]); !errors.Is(err, syscall.EIO) || r.Offset() != 30 {
		t.Error(err)
	}
	m.SetFault(nil)
	if err := r.Append(30, file[30:]); !errors.Is(err, syscall.EIO) {
		t.Error(err)
	}
	if _, err := r.Publish(); !errors.Is(err, syscall.EIO) {
		t.Error(err)
	}
	m.noTemporaries()
}

// What was written is read back: what has rotted meanwhile is not published, and
// takes nobody's place.
func TestReadBackFindsRot(t *testing.T) {
	h, want, file := sample(t)
	for i, write := range []func(*Store) error{
		func(s *Store) error { return second(take(s, h, want)) },
		func(s *Store) error { return second(receive(s, h.Label, h.ID, file, 50)) },
	} {
		m := newMachine(t)
		s := m.open()
		m.must(second(take(s, header(h.Index, h.Term, 9), nil)))
		m.SetFault(func(op vfs.Op) error {
			if op.Kind == vfs.OpRead {
				m.SetFault(nil)
				m.must(m.FlipBit(op.Name, int64(headerSize+20+i)*8))
			}
			return nil
		})
		if err := write(s); !damaged(err) {
			t.Fatal(err)
		}
		m.noTemporaries()
		m.holds(s, h.Label, nil)
	}
}
