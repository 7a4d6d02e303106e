package wal

import (
	"bytes"
	"errors"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/goraft/raft/internal/vfs"
)

// The tests of this file have one thing go wrong after another: what the first one
// has left behind must not make the second one fatal.

// after lets n calls through and fails all others.
func after(n int, err error) func(vfs.Op) error {
	return func(vfs.Op) error {
		if n--; n < 0 {
			return err
		}
		return nil
	}
}

// shortWrites lets the first n bytes of each write to a file through.
func shortWrites(name string, n int, err error) func(vfs.Op) error {
	return func(op vfs.Op) error {
		if op.Kind == vfs.OpWrite && (name == "" || filepath.Base(op.Name) == name) {
			return &vfs.ShortWrite{N: n, Err: err}
		}
		return nil
	}
}

func (d *disk) full(err error) {
	d.Helper()
	if !errors.Is(err, ErrNoSpace) || errors.Is(err, ErrFailed) {
		d.Fatal(err)
	}
}

func longIdentity(letter string, n int) Identity {
	return Identity{Initial: bytes.Repeat([]byte(letter), n)}
}

// TestFirstStartCutShortTwice: the second start draws another store id than the
// first one, of which files are left.
func TestFirstStartCutShortTwice(t *testing.T) {
	const calls = 60
	whole := newDisk(t, 1024)
	n := 0
	whole.SetFault(func(vfs.Op) error { n++; return nil })
	whole.open()
	for first := range n {
		base := newDisk(t, 1024)
		base.SetFault(after(first, vfs.ErrCrashed))
		if _, _, err := base.try(); err == nil {
			t.Fatalf("%d calls suffice", first)
		}
		base.crash(vfs.Everything)
		for second := 0; second < calls; second += oneOf(1, 1, 1) {
			keep := []vfs.Chooser{vfs.Nothing, vfs.Everything, vfs.Random(seeded(uint64(second)))}[(first+second)%3]
			d := &disk{t, base.CrashClone(vfs.Everything), base.options}
			d.SetFault(after(second, vfs.ErrCrashed))
			_, _, _ = d.try()
			d.crash(keep)
			if _, _, err := d.try(); err != nil {
				t.Fatalf("after %d calls and then %d: %v", first, second, err)
			}
		}
	}
}

// TestRefusedSaveIsNotTakenForTheNext: the value that did not fit is in a copy, and
// another one is saved when there is space.
func TestRefusedSaveIsNotTakenForTheNext(t *testing.T) {
	for calls := range 5 {
		for _, name := range []string{stateNameA, stateNameB} {
			d := newDisk(t, 0)
			s := d.open()
			d.must(s.SaveHardState(HardState{1, "a"}))
			d.SetFault(shortWrites(name, 512, syscall.ENOSPC))
			d.full(s.SaveHardState(HardState{2, "b"}))
			d.SetFault(after(calls, vfs.ErrCrashed))
			err := s.SaveHardState(HardState{3, "c"})
			d.crash(vfs.Everything)
			if got := d.open().HardState(); err == nil && got.Term != 3 {
				t.Fatalf("%s, %d calls: %+v", name, calls, got)
			}
		}
	}
}

// TestRefusedSaveLeavesACopy: what is torn is written again before what is whole.
func TestRefusedSaveLeavesACopy(t *testing.T) {
	for _, name := range []string{identityNameA, identityNameB} {
		d := newDisk(t, 0)
		s := d.open()
		d.must(s.SaveIdentity(longIdentity("a", 2000)))
		d.SetFault(shortWrites(name, 512, syscall.ENOSPC))
		d.full(s.SaveIdentity(longIdentity("b", 2000)))
		d.SetFault(shortWrites("", 512, vfs.ErrCrashed))
		if err := s.SaveIdentity(longIdentity("c", 2000)); err == nil {
			t.Fatal("saved")
		}
		d.crash(vfs.Everything)
		d.open()
	}
}

// TestNewerCopyIsDurableBeforeTheOlderGoes: a process was killed before it synced
// the first copy, and the next one loses power while it repairs the second.
func TestNewerCopyIsDurableBeforeTheOlderGoes(t *testing.T) {
	d := newDisk(t, 0)
	s := d.open()
	d.must(s.SaveIdentity(longIdentity("a", 2000)))
	d.SetFault(func(op vfs.Op) error {
		if op.Kind == vfs.OpSync {
			return syscall.EIO
		}
		return nil
	})
	if err := s.SaveIdentity(longIdentity("b", 2000)); !errors.Is(err, ErrFailed) {
		t.Fatal(err)
	}
	d.SetFault(nil)
	d.must(s.Close())
	crashed := 0
	d.SetFault(func(op vfs.Op) error {
		for seed := range uint64(20) {
			left := &disk{t, d.CrashClone(vfs.Random(seeded(seed))), d.options}
			if _, _, err := left.try(); err != nil {
				t.Errorf("before %v: %v", op, err)
			}
			crashed++
		}
		return nil
	})
	d.open()
	d.SetFault(nil)
	if crashed == 0 {
		t.Fatal("never crashed")
	}
}

// TestNameThatMayNotLastIsMadeAgain: the file of a copy was replaced by a larger
// one, and the sync of the directory had no space.
func TestNameThatMayNotLastIsMadeAgain(t *testing.T) {
	d := newDisk(t, 0)
	s := d.open()
	want := longIdentity("x", 6000)
	d.SetFault(func(op vfs.Op) error {
		if op.Kind == vfs.OpSyncDir {
			return syscall.ENOSPC
		}
		return nil
	})
	for range 3 {
		d.full(s.SaveIdentity(want))
	}
	d.SetFault(nil)
	d.must(s.SaveIdentity(want))
	d.crash(vfs.Nothing)
	if got := d.open().Identity(); !bytes.Equal(got.Initial, want.Initial) {
		t.Fatalf("%d bytes", len(got.Initial))
	}
}

// TestRefusedClusterIsTakenBack: entries of the cluster that the store is in must
// not meet the id of one that was refused.
func TestRefusedClusterIsTakenBack(t *testing.T) {
	for _, name := range []string{identityNameA, identityNameB} {
		d, want := newDisk(t, 0), image{first: 1}
		s := d.open()
		d.must(s.SaveIdentity(Identity{ClusterID: 7}))
		fault := shortWrites(name, 512, syscall.ENOSPC)
		d.SetFault(fault)
		d.full(s.SaveIdentity(Identity{ClusterID: 8}))
		b := records(7, 1, 1, 1, 100)
		if err := s.Append(1, 0, b); err != nil {
			d.full(err)
		} else {
			t.Fatal("appended, and the cluster may be another one after a restart")
		}
		d.SetFault(nil)
		d.must(s.Append(1, 0, b))
		want.put(1, b)
		d.crash(vfs.Nothing)
		s = d.open()
		d.expect(s, want)
		if id := s.Identity().ClusterID; id != 7 {
			t.Fatalf("cluster %d", id)
		}
	}
}

// TestEraseThatFailsIsDoneAgain: what a crash had torn reads as zeros after a sync
// that has failed, and is on the disk still.
func TestEraseThatFailsIsDoneAgain(t *testing.T) {
	for seed := range scale(60) {
		d, want := newDisk(t, 64<<10), image{first: 1}
		s := d.open()
		put := func(size int) {
			b := records(0, want.last()+1, seed, 1, size)
			want.put(want.last()+1, b)
			d.must(s.Append(want.last(), 0, b))
		}
		put(300)
		d.SetFault(shortWrites("", 6000, vfs.ErrCrashed))
		if err := s.Append(2, 0, records(0, 2, 1, 1, 8000)); err == nil {
			t.Fatal("appended")
		}
		d.crash(vfs.Random(seeded(seed)))
		d.SetFault(func(op vfs.Op) error {
			if op.Kind == vfs.OpSync {
				return syscall.EIO
			}
			return nil
		})
		if _, _, err := d.try(); !errors.Is(err, syscall.EIO) {
			t.Fatal(err)
		}
		d.SetFault(nil)
		s = d.open()
		d.expect(s, want)
		put(300)
		put(63 << 10) // in the next segment
		d.crash(vfs.Nothing)
		d.expect(d.open(), want)
	}
}

// TestCutThatFailsIsDoneAgain: a large batch was refused, and a sync failed while it was
// taken back. What the disk may still have of it does not come back behind another one.
func TestCutThatFailsIsDoneAgain(t *testing.T) {
	for syncs := range 4 {
		for size := 600; size < 6000; size += 100 {
			d, want := newDisk(t, 64<<10), image{first: 1}
			d.options.chunk = 512
			s := d.open()
			b := records(0, 1, 1, 1, 2000)
			want.put(1, b)
			d.must(s.Append(1, 0, b))
			full, left := false, syncs
			d.SetFault(func(op vfs.Op) error {
				if op.Kind == vfs.OpWrite && op.Offset > s.writer.off+4500 && op.Length == 512 {
					full = true
					return syscall.ENOSPC
				}
				if left--; full && op.Kind == vfs.OpSync && left < 0 {
					return syscall.EIO
				}
				return nil
			})
			if err := s.Append(2, 0, records(0, 2, 1, 1, 7000)); err == nil {
				t.Fatal("appended")
			}
			_ = s.Close()
			d.SetFault(nil)
			s = d.open()
			d.expect(s, want)
			stale, begins := len(d.Pending()), s.writer.off&^(sectorSize-1)
			d.SetFault(func(op vfs.Op) error {
				if op.Kind == vfs.OpSync {
					return vfs.ErrCrashed
				}
				return nil
			})
			if err := s.Append(2, 0, records(0, 2, 1, 1, size)); err == nil {
				t.Fatal("appended")
			}
			d.crash(func(p vfs.Pending) bool {
				return p.Index < stale && p.Whole == 512 || p.Kind == vfs.OpTruncate || p.Offset == begins
			})
			d.expect(d.open(), want)
		}
	}
}

// TestNoSpaceToGiveSpaceBack: removing and cutting need space, too, on a disk that
// copies on write. That is not final.
func TestNoSpaceToGiveSpaceBack(t *testing.T) {
	d, want := filled(t, 1024, 12, 150)
	s := d.open()
	d.SetFault(func(op vfs.Op) error {
		switch {
		case op.Kind == vfs.OpWrite && op.Offset+op.Length > 1024:
			return &vfs.ShortWrite{N: 512, Err: syscall.ENOSPC}
		case op.Kind == vfs.OpRemove || op.Kind == vfs.OpTruncate:
			return syscall.ENOSPC
		}
		return nil
	})
	b := records(0, 13, 1, 1, 700)
	d.full(s.Append(13, 0, b))
	d.full(s.Compact(13))
	d.expect(s, want)
	d.SetFault(nil)
	d.must(s.Append(13, 0, b))
	want.put(13, b)
	d.must(s.Compact(13))
	first, _ := s.Bounds()
	want.drop(first)
	d.crash(vfs.Nothing)
	d.expect(d.open(), want)
}

// TestLastIndexOfAll: the log goes on with last+1, so that must exist.
func TestLastIndexOfAll(t *testing.T) {
	const last = 1<<64 - 1
	d := newDisk(t, 0)
	s := d.open()
	d.must(s.Reset(last-1, 0))
	if err := s.Append(last-1, 0, records(0, last-1, 1, 2, 10)); !errors.Is(err, ErrOutOfRange) {
		t.Fatal(err)
	}
	b, want := records(0, last-1, 1, 1, 10), image{}
	d.must(s.Append(last-1, 0, b))
	want.put(last-1, b)
	if err := s.Append(last, 0, records(0, last, 1, 1, 10)); !errors.Is(err, ErrOutOfRange) {
		t.Fatal(err)
	}
	d.must(s.Close())
	d.expect(d.open(), want)
}

// TestSegmentsAreNeverTooSmall: one must hold more than its header.
func TestSegmentsAreNeverTooSmall(t *testing.T) {
	d, want := newDisk(t, 1), image{first: 1}
	s := d.open()
	for i := uint64(1); i < 9; i++ {
		b := records(0, i, 1, 1, 100)
		d.must(s.Append(i, 0, b))
		want.put(i, b)
	}
	d.must(s.Close())
	d.expect(d.open(), want)
}

// TestUnreadableIsNotDamage: one copy has rotted, and the disk does not give back the
// other one at the moment.
func TestUnreadableIsNotDamage(t *testing.T) {
	for _, pair := range [][2]string{{identityNameA, identityNameB}, {identityNameB, identityNameA}, {stateNameA, stateNameB}, {stateNameB, stateNameA}} {
		d, want := filled(t, 0, 3, 10)
		d.must(d.FlipBit(filepath.Join(testDir, pair[0]), 900))
		d.SetFault(func(op vfs.Op) error {
			if op.Kind == vfs.OpRead && filepath.Base(op.Name) == pair[1] {
				return syscall.EIO
			}
			return nil
		})
		if _, _, err := d.try(); !errors.Is(err, syscall.EIO) || errors.Is(err, ErrCorrupt) {
			t.Fatalf("%s is damaged, %s unreadable: %v", pair[0], pair[1], err)
		}
		d.SetFault(nil)
		d.expect(d.open(), want)
	}
}
