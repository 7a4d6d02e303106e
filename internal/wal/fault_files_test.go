package wal

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/goraft/raft/internal/vfs"
)

// Files and parts of files that verify but are not where they belong.
func TestFault105_MisplacedAndStaleDataIsRefused(t *testing.T) {
	segment := func(n uint64) string { return filepath.Join(testDir, segmentName(n)) }
	cases := map[string]func(d *disk){
		"batches swapped": func(d *disk) {
			b, err := d.Bytes(segment(1))
			d.must(err)
			size := 64 + 128
			one, two := bytes.Clone(b[512:512+size]), bytes.Clone(b[512+size:512+2*size])
			copy(b[512:], two)
			copy(b[512+size:], one)
			d.must(d.SetBytes(segment(1), b))
		},
		"records swapped between segments": func(d *disk) {
			one, err := d.Bytes(segment(1))
			d.must(err)
			two, err := d.Bytes(segment(2))
			d.must(err)
			copy(two[512:], one[512:])
			d.must(d.SetBytes(segment(2), two))
		},
		"segments swapped": func(d *disk) {
			d.must(d.Rename(segment(1), segment(9)))
			d.must(d.Rename(segment(2), segment(1)))
			d.must(d.Rename(segment(9), segment(2)))
		},
		"middle segment gone":   func(d *disk) { d.must(d.Remove(segment(2))) },
		"newest segment gone":   func(d *disk) { d.must(d.Remove(d.lastSegment())) },
		"newest segment cut":    func(d *disk) { b, _ := d.Bytes(d.lastSegment()); d.must(d.SetBytes(d.lastSegment(), b[:700])) },
		"newest segment zeroed": func(d *disk) { b, _ := d.Bytes(d.lastSegment()); clear(b); d.must(d.SetBytes(d.lastSegment(), b)) },
		"newest segment empty":  func(d *disk) { d.must(d.SetBytes(d.lastSegment(), nil)) },
		"segment of another store": func(d *disk) {
			other, _ := filled(d.TB, 2048, 24, 100)
			other.options.StoreID = func() uint64 { return 99 }
			other.Mem = vfs.NewMem()
			must(d.TB, other.open().Close())
			b, err := other.Bytes(segment(1))
			d.must(err)
			d.must(d.SetBytes(segment(1), b))
		},
	}
	for name, damage := range cases {
		t.Run(name, func(t *testing.T) {
			d, _ := filled(t, 2048, 24, 95)
			damage(d)
			if _, _, err := d.try(); !errors.Is(err, ErrCorrupt) {
				t.Fatal(err)
			}
		})
	}
}

// A new store's log was lost, and another one's was put in its place: both empty.
func TestFault105_EmptySegmentOfAnotherStoreIsRefused(t *testing.T) {
	d, other := newDisk(t, 0), newDisk(t, 0)
	other.options.StoreID = func() uint64 { return 99 }
	d.open()
	other.open()
	b, err := other.Bytes(other.lastSegment())
	d.must(err)
	d.must(d.SetBytes(d.lastSegment(), b))
	d.crash(vfs.Nothing)
	if _, _, err := d.try(); !errors.Is(err, ErrCorrupt) {
		t.Fatal(err)
	}
}

// Two histories of one store have batches that verify in the same places. A sector
// that was lost in one, so that it has what stood there in the other, is noticed.
func TestFault105_BatchesOfAnotherHistoryAreRefused(t *testing.T) {
	d := newDisk(t, 0)
	s := d.open()
	d.must(s.Append(1, 0, records(0, 1, 1, 1, 36)))
	other := &disk{t, d.CrashClone(vfs.Everything), d.options}
	d.must(s.Append(2, 0, records(0, 2, 1, 1, 36)))
	d.must(s.Append(3, 0, records(0, 3, 3, 1, 36)))
	d.must(s.Close())
	s = other.open()
	d.must(s.Append(2, 0, records(0, 2, 2, 1, 36)))
	d.must(s.Append(3, 0, records(0, 3, 3, 1, 36)))
	d.must(s.Close())
	b, err := d.Bytes(d.lastSegment())
	d.must(err)
	stale, err := other.Bytes(d.lastSegment())
	d.must(err)
	const batch = 64 + 72
	copy(b[512+2*batch:], stale[512+2*batch:])
	d.must(d.SetBytes(d.lastSegment(), b))
	var damage *CorruptError
	if _, _, err := d.try(); !errors.As(err, &damage) || damage.Offset != 512+2*batch {
		t.Fatal(err)
	}
}

// Rot in a batch whose successor is unfinished: the successor's header is gone, but
// what it left behind the end of the batch shows that the batch was synced.
func TestFault095_RotBeforeATornBatchIsRefused(t *testing.T) {
	d := newDisk(t, 0)
	s := d.open()
	d.must(s.Append(1, 0, records(0, 1, 1, 1, 400)))
	d.must(s.Append(2, 0, records(0, 2, 1, 1, 3000)))
	path := d.lastSegment()
	b, err := d.Bytes(path)
	d.must(err)
	second := 512 + 64 + 432
	clear(b[second : second+64]) // as if the first sector of the second batch were lost
	d.crash(vfs.Nothing)
	d.must(d.SetBytes(path, b))
	clone := &disk{t, d.CrashClone(vfs.Nothing), d.options}
	if _, last := clone.open().Bounds(); last != 1 {
		t.Fatal("it is not torn")
	}
	d.must(d.FlipBit(path, (512+64+100)*8))
	if _, _, err := d.try(); !errors.Is(err, ErrCorrupt) {
		t.Fatal(err)
	}
}

func TestFault106_PartialWipeIsNotAFreshStore(t *testing.T) {
	path := func(name string) string { return filepath.Join(testDir, name) }
	removing := func(names ...string) func(*disk) {
		return func(d *disk) {
			for _, name := range names {
				d.must(d.Remove(path(name)))
			}
		}
	}
	cases := map[string]func(d *disk){
		"identity gone":               removing(identityNameA, identityNameB),
		"hard state gone":             removing(stateNameA, stateNameB),
		"log gone":                    removing(segmentName(1)),
		"all but the log gone":        removing(identityNameA, identityNameB, stateNameA, stateNameB),
		"all but the hard state gone": removing(identityNameA, identityNameB, segmentName(1)),
		"only the identity left":      removing(stateNameA, stateNameB, segmentName(1)),
		"hard state zeroed": func(d *disk) {
			d.must(d.SetBytes(path(stateNameA), make([]byte, 4096)))
			d.must(d.Remove(path(stateNameB)))
		},
		"both hard states of no bytes": func(d *disk) { d.must(d.SetBytes(path(stateNameA), nil)); d.must(d.SetBytes(path(stateNameB), nil)) },
	}
	for name, wipe := range cases {
		t.Run(name, func(t *testing.T) {
			d := newDisk(t, 0)
			s := d.open()
			d.must(s.SaveHardState(HardState{3, "a"}))
			d.must(s.Append(1, 0, records(0, 1, 1, 1, 10)))
			d.must(s.Close())
			wipe(d)
			if _, _, err := d.try(); !errors.Is(err, ErrCorrupt) {
				t.Fatal(err)
			}
		})
	}
}

func TestFault107_TwoStoresOnOneDirectory(t *testing.T) {
	dir := t.TempDir()
	o := Options{FS: vfs.OS(), Dir: filepath.Join(dir, "a", "log")}
	s, err := Open(o)
	must(t, err)
	if _, err := Open(o); !errors.Is(err, ErrLocked) {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(o.Dir, link); err != nil {
		t.Skip(err)
	}
	other := o
	other.Dir = link
	if _, err := Open(other); !errors.Is(err, ErrLocked) {
		t.Fatal(err)
	}
	must(t, s.Close())
	s, err = Open(other)
	must(t, err)
	must(t, s.Close())
}

// Entries that replace others come with a commit index that is true of them only. If
// they need a new segment, and the machine stops before they are in it, the old
// entries must not be taken for committed ones.
func TestFault030_RollSaysNoMoreThanIsKnown(t *testing.T) {
	for name, write := range map[string]func(*Store) error{
		"append": func(s *Store) error { return s.Append(6, 12, records(0, 6, 2, 7, 150)) },
		"reset":  func(s *Store) error { return s.Reset(13, 12) },
	} {
		t.Run(name, func(t *testing.T) {
			for calls, done := 0, false; !done; calls++ {
				d, want := newDisk(t, 1024), image{first: 1}
				s := d.open()
				b := records(0, 1, 1, 5, 150)
				want.put(1, b)
				d.must(s.Append(1, 5, b))
				b = records(0, 6, 1, 7, 0)
				want.put(6, b)
				d.must(s.Append(6, 5, b))
				d.must(s.Seal(5))
				// Fill the segment to the byte.
				for room := 1024 - s.writer.off - rollSize; room >= batchHeaderSize; room -= batchHeaderSize {
					s.writer.sealed = false
					d.must(s.Seal(5))
				}
				n := 0
				d.SetFault(func(vfs.Op) error {
					if n++; n > calls {
						return vfs.ErrCrashed
					}
					return nil
				})
				err := write(s)
				done = err == nil
				d.SetFault(nil)
				d.crash(vfs.Everything)
				s = d.open()
				if commit := s.CommitIndex(); commit != 5 && want.differs(s) == "" {
					t.Fatalf("call %d: %d is committed, and of the old entries", calls, commit)
				} else if done && commit != 12 {
					t.Fatalf("%d is committed, want 12", commit)
				}
			}
		})
	}
}
