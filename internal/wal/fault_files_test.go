package wal

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/goraft/raft/internal/vfs"
)

// TestFault105_MisplacedAndStaleDataIsRefused: files and parts of files that verify
// but are not where they belong, or not of this time.
func TestFault105_MisplacedAndStaleDataIsRefused(t *testing.T) {
	const batch = 64 + 128 // of a log with one record of 95 bytes in each
	newest := func(change func(b []byte) []byte) func(d *disk) {
		return func(d *disk) {
			b, err := d.Bytes(d.lastSegment())
			d.must(err)
			d.must(d.SetBytes(d.lastSegment(), change(b)))
		}
	}
	cases := map[string]func(d *disk){
		"batches swapped": func(d *disk) {
			d.rewrite(1, func(b []byte) []byte { return swap(b, 512, 512+batch, batch) })
		},
		"batches swapped between segments": func(d *disk) {
			one, err := d.Bytes(segmentPath(1))
			d.must(err)
			d.rewrite(2, func(b []byte) []byte { copy(b[512:512+batch], one[512:]); return b })
		},
		"all of a segment but its header swapped": func(d *disk) {
			one, err := d.Bytes(segmentPath(1))
			d.must(err)
			d.rewrite(2, func(b []byte) []byte { copy(b[512:], one[512:]); return b })
		},
		"records swapped": func(d *disk) {
			d.rewrite(1, func(b []byte) []byte { return swap(b, 512+64, 512+batch+64, 127) })
		},
		"records swapped, and the batches made to fit": func(d *disk) {
			d.rewrite(1, func(b []byte) []byte {
				swap(b, 512+64, 512+batch+64, 127)
				forgeBatches(b, Seed(0x5107e+1), 1, nil)
				return b
			})
		},
		"segments swapped":      func(d *disk) { exchange(d, segmentPath(1), segmentPath(2)) },
		"middle segment gone":   func(d *disk) { d.must(d.Remove(segmentPath(2))) },
		"newest segment gone":   func(d *disk) { d.must(d.Remove(d.lastSegment())) },
		"newest segment cut":    newest(func(b []byte) []byte { return b[:700] }),
		"newest segment zeroed": newest(func(b []byte) []byte { clear(b); return b }),
		"newest segment empty":  newest(func([]byte) []byte { return nil }),
		"segment of another store": func(d *disk) {
			other := newDisk(d.TB, 2048)
			other.options.StoreID = func() uint64 { return 99 }
			s := other.open()
			for i := range uint64(24) {
				d.must(s.Append(i+1, i, records(0, i+1, 1, 1, 95)))
			}
			b, err := other.Bytes(segmentPath(2))
			d.must(err)
			d.must(d.SetBytes(segmentPath(2), b))
		},
		"a byte behind the end of a segment": func(d *disk) {
			d.rewrite(1, func(b []byte) []byte { b[len(b)-1] = 1; return b })
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

// rewrite changes the bytes of a segment.
func (d *disk) rewrite(n uint64, change func(b []byte) []byte) {
	b, err := d.Bytes(segmentPath(n))
	d.must(err)
	d.must(d.SetBytes(segmentPath(n), change(b)))
}

// swap exchanges two stretches of bytes.
func swap(b []byte, one, two, size int) []byte {
	first := bytes.Clone(b[one : one+size])
	copy(b[one:one+size], b[two:two+size])
	copy(b[two:], first)
	return b
}

func segmentPath(n uint64) string { return filepath.Join(testDir, segmentName(n)) }

// exchange gives two files each other's name.
func exchange(d *disk, a, b string) {
	d.must(d.Rename(a, testDir+"/aside"))
	d.must(d.Rename(b, a))
	d.must(d.Rename(testDir+"/aside", b))
}

// TestFault105_OlderSegmentIsRefused: each version that a segment ever had, but for
// the last segment's, in its place.
func TestFault105_OlderSegmentIsRefused(t *testing.T) {
	d := newDisk(t, 2048)
	s := d.open()
	versions := map[string][][]byte{}
	for i := range uint64(30) {
		path := d.lastSegment()
		b, err := d.Bytes(path)
		d.must(err)
		versions[path] = append(versions[path], b)
		d.must(s.Append(i+1, i, records(0, i+1, 1, 1, 95)))
	}
	d.must(s.Close())
	delete(versions, d.lastSegment())
	if len(versions) < 3 {
		t.Fatal(len(versions))
	}
	for path, all := range versions {
		for i, old := range all {
			clone := &disk{t, d.CrashClone(vfs.Nothing), d.options}
			d.must(clone.SetBytes(path, old))
			if _, _, err := clone.try(); !errors.Is(err, ErrCorrupt) {
				t.Errorf("version %d of %s: %v", i, path, err)
			}
		}
	}
}

// TestFault105_SegmentOfAnotherHistoryIsRefused: two copies of a disk go on in two
// ways. A segment of one among those of the other has the numbers, indices and the
// seed that are expected there, and does not continue what is before it.
func TestFault105_SegmentOfAnotherHistoryIsRefused(t *testing.T) {
	base := newDisk(t, 2048)
	base.must(base.open().Close())
	var copies [2]*disk
	for i := range copies {
		d := &disk{t, base.CrashClone(vfs.Nothing), base.options}
		s := d.open()
		for at := uint64(1); at <= 40; at++ {
			d.must(s.Append(at, 0, records(0, at, uint64(1+i), 1, 95)))
		}
		d.must(s.Close())
		copies[i] = d
	}
	for n := uint64(2); n <= 4; n++ {
		other, err := copies[1].Bytes(segmentPath(n))
		must(t, err)
		clone := &disk{t, copies[0].CrashClone(vfs.Nothing), base.options}
		clone.must(clone.SetBytes(segmentPath(n), other))
		for later := n + 1; ; later++ {
			other, err := copies[1].Bytes(segmentPath(later))
			if err != nil {
				break
			}
			clone.must(clone.SetBytes(segmentPath(later), other))
		}
		if _, _, err := clone.try(); !errors.Is(err, ErrCorrupt) {
			t.Errorf("from segment %d on: %v", n, err)
		}
	}
}

// TestFault105_EmptySuccessorProvesWhatWasBefore: the last batches of a segment rot,
// while its successor is made and not used yet. They were durable before that.
func TestFault105_EmptySuccessorProvesWhatWasBefore(t *testing.T) {
	d := newDisk(t, 2048)
	s := d.open()
	last := uint64(0)
	for ; s.writer.off+192+rollSize <= 2048; last++ {
		d.must(s.Append(last+1, 0, records(0, last+1, 1, 1, 95)))
	}
	end := s.writer.off
	d.SetFault(func(op vfs.Op) error {
		if op.Kind == vfs.OpWrite && op.Name == segmentPath(2) {
			return vfs.ErrCrashed // the batch that needed the new segment
		}
		return nil
	})
	if s.Append(last+1, 0, records(0, last+1, 1, 1, 95)) == nil {
		t.Fatal("appended")
	}
	d.crash(vfs.Everything)
	whole := &disk{t, d.CrashClone(vfs.Nothing), d.options}
	if _, got := whole.open().Bounds(); got != last {
		t.Fatalf("%d entries, want %d", got, last)
	}
	b, err := d.Bytes(segmentPath(1))
	d.must(err)
	for at := 512; at < int(end)+rollSize; at++ {
		rotten := bytes.Clone(b)
		clear(rotten[at:])
		if bytes.Equal(rotten, b) {
			continue
		}
		clone := &disk{t, d.CrashClone(vfs.Nothing), d.options}
		d.must(clone.SetBytes(segmentPath(1), rotten))
		s, _, err := clone.try()
		if errors.Is(err, ErrCorrupt) {
			continue
		}
		d.must(err)
		if _, got := s.Bounds(); got != last {
			t.Fatalf("zeros from %d of %d on: the log ends at %d, not %d", at, end, got, last)
		}
	}
}

// TestFault106_CopiesThatAreGoneOrOld: the two values that are kept twice lose one
// copy in every way, or both.
func TestFault106_CopiesThatAreGoneOrOld(t *testing.T) {
	w := newWorn(t)
	gone := func(m *vfs.Mem, path string) { w.must(m.Remove(path)) }
	with := func(content func(path string) []byte) func(*vfs.Mem, string) {
		return func(m *vfs.Mem, path string) { w.must(m.SetBytes(path, content(path))) }
	}
	cases := map[string]func(*vfs.Mem, string){
		"deleted":  gone,
		"empty":    with(func(string) []byte { return nil }),
		"zeroed":   with(func(path string) []byte { return make([]byte, len(w.files[path])) }),
		"cut":      with(func(path string) []byte { return w.files[path][:1024] }),
		"extended": with(func(path string) []byte { return append(bytes.Clone(w.files[path]), make([]byte, 512)...) }),
		"garbage":  with(func(string) []byte { return bytes.Repeat([]byte("garbage"), 600) }),
		"huge":     with(func(string) []byte { return make([]byte, maxSlotFile+512) }),
	}
	for name, damage := range cases {
		for _, pair := range [][2]string{{identityNameA, identityNameB}, {stateNameA, stateNameB}} {
			both := w.CrashClone(vfs.Nothing)
			for _, file := range pair {
				path := filepath.Join(testDir, file)
				one := w.CrashClone(vfs.Nothing)
				damage(one, path)
				if got := w.outcome(fmt.Sprint(path, " ", name), one); got != repaired {
					t.Errorf("%s %s: %s", path, name, got)
				}
				damage(both, path)
			}
			if got := w.outcome(fmt.Sprint(pair, " ", name), both); got != refused {
				t.Errorf("%v %s: %s", pair, name, got)
			}
		}
	}
	for path, old := range w.previous {
		if copies(path) {
			m := w.CrashClone(vfs.Nothing)
			w.must(m.SetBytes(path, old))
			if got := w.outcome(fmt.Sprint("old ", path), m); got != repaired {
				t.Errorf("an old %s: %s", path, got)
			}
		}
	}
}

// TestFault105_NamesThatRot: a name in the directory has a bit flipped, or two files
// have each other's.
func TestFault105_NamesThatRot(t *testing.T) {
	w := newWorn(t)
	first := segmentPath(1)
	for path := range w.files {
		dir, name := filepath.Split(path)
		for bit := 0; bit < len(name)*8; bit += oneOf(1, 1, 1) | 1 {
			rotten := []byte(name)
			rotten[bit/8] ^= 1 << (bit % 8)
			if bytes.ContainsAny(rotten, "/\x00") {
				continue
			}
			m := w.CrashClone(vfs.Nothing)
			if _, err := m.Stat(dir + string(rotten)); err == nil {
				continue // that is the next case
			}
			w.must(m.Rename(path, dir+string(rotten)))
			number, ok := segmentNumber(string(rotten))
			if path == first && (!ok || number > 1<<60) {
				continue // see TestFault108_WhatAnOldDiskDoesNotTell
			}
			got := w.outcome(fmt.Sprintf("%s called %q", name, rotten), m)
			if want := map[bool]string{true: repaired, false: refused}[copies(path)]; got != want {
				t.Errorf("%s called %q: %s, want %s", name, rotten, got, want)
			}
		}
		for other := range w.files {
			if other <= path {
				continue
			}
			m := w.CrashClone(vfs.Nothing)
			exchange(&disk{t, m, w.options}, path, other)
			got := w.outcome(fmt.Sprint(path, " and ", other), m)
			same := bytes.Equal(w.files[path], w.files[other])
			if got == refused || same && got == unseen || got == repaired && copies(path) && copies(other) {
				continue
			}
			t.Errorf("%s and %s exchanged: %s", path, other, got)
		}
	}
}

// TestFault108_WhatAnOldDiskDoesNotTell are the limits: what is whole and of an
// earlier time, or of which nothing is left, is taken for true. The layer above
// must know better.
func TestFault108_WhatAnOldDiskDoesNotTell(t *testing.T) {
	d := newDisk(t, 4096)
	s := d.open()
	d.must(s.SaveHardState(HardState{1, "a"}))
	for i := range uint64(20) {
		d.must(s.Append(i+1, i, records(0, i+1, 1, 1, 95)))
	}
	d.must(s.Close())
	old := d.CrashClone(vfs.Nothing)
	path := d.lastSegment()
	s = d.open()
	d.must(s.SaveHardState(HardState{2, "b"}))
	d.must(s.Append(21, 20, records(0, 21, 2, 1, 95)))
	d.must(s.Close())
	if d.lastSegment() != path {
		t.Fatal("another segment")
	}
	restore := func(names ...string) *disk {
		clone := &disk{t, d.CrashClone(vfs.Nothing), d.options}
		for _, name := range names {
			b, err := old.Bytes(name)
			d.must(err)
			d.must(clone.SetBytes(name, b))
		}
		return clone
	}
	s = restore(path).open()
	if _, last := s.Bounds(); last != 20 || s.HardState().Term != 2 {
		t.Errorf("the last segment of before: the log ends at %d", last)
	}
	s = restore(filepath.Join(testDir, stateNameA), filepath.Join(testDir, stateNameB)).open()
	if _, last := s.Bounds(); last != 21 || s.HardState().Term != 1 {
		t.Errorf("the hard state of before: %+v", s.HardState())
	}
	clone := restore()
	d.must(clone.Remove(segmentPath(1)))
	if first, last := clone.open().Bounds(); first == 1 || last != 21 {
		t.Errorf("without the first segment: from %d to %d", first, last)
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
