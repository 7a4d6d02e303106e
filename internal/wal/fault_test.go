package wal

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/goraft/raft/internal/vfs"
)

// The tests of this file are named after the rows of the catalogue of faults that
// other Raft logs have had.

// lastSegment returns the path of the newest segment.
func (d *disk) lastSegment() string {
	names, err := d.ReadDir(testDir)
	d.must(err)
	newest := ""
	for _, name := range names {
		if _, ok := segmentNumber(name); ok {
			newest = name
		}
	}
	return filepath.Join(testDir, newest)
}

func (d *disk) expect(s *Store, want image) {
	d.Helper()
	if diff := want.differs(s); diff != "" {
		d.Fatal(diff)
	}
}

// filled returns a disk with a store that was closed with these many records.
func filled(t testing.TB, segment int64, n, size int) (*disk, image) {
	d, want := newDisk(t, segment), image{first: 1}
	s := d.open()
	for i := range uint64(n) {
		b := records(0, i+1, 1, 1, size)
		want.put(i+1, b)
		d.must(s.Append(i+1, i, b))
	}
	d.must(s.Close())
	return d, want
}

func TestFault002_HardStateIsOldOrNew(t *testing.T) {
	old, next := HardState{7, "a"}, HardState{8, strings.Repeat("long name ", 200)}
	calls := 0
	for done := false; !done; calls++ {
		for seed := range scale(40) {
			d := newDisk(t, 0)
			s := d.open()
			d.must(s.SaveHardState(old))
			n := 0
			d.SetFault(func(vfs.Op) error {
				if n++; n > calls {
					return vfs.ErrCrashed
				}
				return nil
			})
			err := s.SaveHardState(next)
			done = err == nil
			d.SetFault(nil)
			d.crash([]vfs.Chooser{vfs.Nothing, vfs.Everything, vfs.Random(seeded(seed))}[min(seed, 2)])
			s = d.open()
			if got := s.HardState(); got != next && (got != old || err == nil) {
				t.Fatalf("call %d: %+v after a crash, and the error was %v", calls, got, err)
			}
			first := s.HardState()
			d.must(d.FlipBit(filepath.Join(testDir, []string{stateNameA, stateNameB}[seed%2]), int64(seed*7)))
			d.crash(vfs.Nothing)
			if s = d.open(); s.HardState() != first {
				t.Fatalf("call %d: %+v after one copy rotted, and it was %+v", calls, s.HardState(), first)
			}
			if len(s.Repaired()) != 1 {
				t.Fatalf("repaired %q", s.Repaired())
			}
		}
	}
	if calls != 5 {
		t.Fatalf("%d calls, want two writes and two syncs", calls-1)
	}
}

func TestFault044_DurableWhenAppendReturns(t *testing.T) {
	d, want := newDisk(t, 4096), image{first: 1}
	s := d.open()
	for i := uint64(1); i < 60; i++ {
		b := records(0, i, i, 1, int(i)*11)
		d.must(s.Append(i, 0, b))
		want.put(i, b)
		d.crash(vfs.Nothing)
		s = d.open()
		d.expect(s, want)
	}
}

func TestFault045_SyncErrorIsFinal(t *testing.T) {
	for _, kind := range []vfs.OpKind{vfs.OpSync, vfs.OpWrite} {
		t.Run(kind.String(), func(t *testing.T) {
			d := newDisk(t, 0)
			s := d.open()
			b := records(0, 1, 1, 3, 100)
			d.must(s.Append(1, 0, b))
			once := false
			d.SetFault(func(op vfs.Op) error {
				if op.Kind == kind && !once {
					once = true
					return syscall.EIO
				}
				return nil
			})
			next := records(0, 4, 1, 1, 100)
			for what, err := range map[string]error{
				"first":  s.Append(4, 0, next),
				"append": s.Append(4, 0, next), "truncate": s.Truncate(2, 0), "seal": s.Seal(9), "reset": s.Reset(9, 0),
				"compact": s.Compact(1), "hard state": s.SaveHardState(HardState{Term: 1}), "identity": s.SaveIdentity(Identity{}),
			} {
				if !errors.Is(err, ErrFailed) || !errors.Is(err, syscall.EIO) {
					t.Errorf("%s: %v", what, err)
				}
			}
			want := image{first: 1}
			want.put(1, b)
			d.expect(s, want)
			d.must(s.Close())
			// What was written may be there now, but then for good: the failed sync has
			// left pages that nobody would ever write.
			s = d.open()
			if _, last := s.Bounds(); last == 4 {
				want.put(4, next)
			}
			d.crash(vfs.Nothing)
			d.expect(d.open(), want)
		})
	}
}

func TestFault092_AppendsBehindATornTailSurvive(t *testing.T) {
	for torn := range 70 {
		d, want := newDisk(t, 0), image{first: 1}
		s := d.open()
		b := records(0, 1, 1, 1, 300)
		d.must(s.Append(1, 0, b))
		want.put(1, b)
		d.SetFault(func(op vfs.Op) error {
			if op.Kind == vfs.OpWrite {
				return &vfs.ShortWrite{N: 1 + torn*10, Err: syscall.EIO}
			}
			return nil
		})
		if err := s.Append(2, 0, records(0, 2, 1, 1, 640)); err == nil {
			t.Fatal("appended")
		}
		d.SetFault(nil)
		d.crash(vfs.Everything)
		s = d.open()
		d.expect(s, want)
		if cut := s.Torn(); cut == nil || cut.Offset != 512+64+336 || cut.Bytes < 1 || cut.Bytes > int64(1+torn*10) {
			t.Fatalf("reported %+v", cut)
		}
		for i := uint64(2); i < 5; i++ {
			b := records(0, i, 2, 1, 50)
			d.must(s.Append(i, 0, b))
			want.put(i, b)
		}
		d.must(s.Close())
		s = d.open()
		d.expect(s, want)
		if s.Torn() != nil {
			t.Fatalf("torn after a clean restart: %+v", s.Torn())
		}
		d.must(s.Close())
	}
}

// Each subset of the sectors of a batch that was not synced, the others being what
// they were before, or garbage.
func TestFault093_TornBatchIsCut(t *testing.T) {
	const sectors = 6
	for _, filler := range []byte{0, 0xa5} {
		for subset := range 1 << sectors {
			d, want := newDisk(t, 0), image{first: 1}
			s := d.open()
			b := records(0, 1, 1, 1, 700)
			d.must(s.Append(1, 0, b))
			want.put(1, b)
			path := d.lastSegment()
			before, err := d.Bytes(path)
			d.must(err)
			next := records(0, 2, 1, 3, 800)
			d.must(s.Append(2, 0, next))
			after, err := d.Bytes(path)
			d.must(err)
			start := 512 + 64 + 728
			for i := range sectors {
				from := (start/512 + i) * 512
				if subset>>i&1 == 0 {
					copy(after[from:from+512], before[from:])
					if filler != 0 && from > start {
						copy(after[from:from+512], bytes.Repeat([]byte{filler}, 512))
					}
				}
			}
			d.crash(vfs.Nothing)
			d.must(d.SetBytes(path, after))
			s, _, err = d.try()
			d.must(err)
			if subset == 1<<sectors-1 {
				want.put(2, next)
			}
			d.expect(s, want)
		}
	}
}

// Row 105: what an application stores may be a piece of a log. A batch that verifies
// within a torn one, and belongs elsewhere, is no proof that anything followed.
func TestFault105_BatchWithinATornBatchIsData(t *testing.T) {
	for lost := 1; lost < 4; lost++ {
		d, want := newDisk(t, 0), image{first: 1}
		s := d.open()
		b := records(0, 1, 1, 1, 100)
		d.must(s.Append(1, 0, b))
		want.put(1, b)
		path := d.lastSegment()
		before, err := d.Bytes(path)
		d.must(err)
		var data []byte
		for shift := range 8 { // one of them stands where a batch may begin
			data = append(append(data, bytes.Repeat([]byte{1}, shift)...), before[512:512+64+128+8]...)
		}
		d.must(s.Append(2, 0, record(0, 2, 1, data)))
		after, err := d.Bytes(path)
		d.must(err)
		end := len(bytes.TrimRight(after, "\x00"))
		clear(after[(end-1)/512*512-(lost-1)*512:])
		d.crash(vfs.Nothing)
		d.must(d.SetBytes(path, after))
		s, _, err = d.try()
		d.must(err)
		d.expect(s, want)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestFault099_FullDiskIsRefusedAndServiceResumes(t *testing.T) {
	for _, chunk := range []int64{0, 512} { // all batches are large with the latter
		t.Run(fmt.Sprint(chunk), func(t *testing.T) { fullAndResumes(t, chunk) })
	}
}

func fullAndResumes(t *testing.T, chunk int64) {
	d, want := newDisk(t, 1<<20), image{first: 1}
	d.options.chunk = chunk
	s := d.open()
	full := false
	d.SetFault(func(op vfs.Op) error {
		if !full || op.Kind != vfs.OpWrite {
			return nil
		}
		info, err := d.Stat(op.Name)
		if err == nil && op.Offset+op.Length > info.Size() {
			return &vfs.ShortWrite{N: int(max(0, info.Size()-op.Offset)) + 100, Err: syscall.ENOSPC}
		}
		return nil
	})
	refused := 0
	for i := uint64(1); i <= 400; i++ {
		full = i%3 != 0
		size := 900
		if i == 1 {
			size = 100 << 10 // more than the first segment has
		}
		b := records(0, i, 1, 1, size)
		before, _ := d.Bytes(d.lastSegment())
		err := s.Append(i, 0, b)
		if full && err != nil {
			refused++
			if !errors.Is(err, ErrNoSpace) || errors.Is(err, ErrFailed) {
				t.Fatal(err)
			}
			if after, _ := d.Bytes(d.lastSegment()); !bytes.Equal(after, before) {
				t.Fatalf("the segment has changed, from %d bytes to %d", len(before), len(after))
			}
			clone := &disk{t, d.CrashClone(vfs.Everything), d.options}
			re := clone.open()
			clone.expect(re, want)
			full = false
			err = s.Append(i, 0, b)
		}
		d.must(err)
		want.put(i, b)
	}
	d.expect(s, want)
	full = true
	d.must(s.Close())
	s = d.open() // with a full disk
	d.expect(s, want)
	if refused == 0 {
		t.Fatal("the disk was never full")
	}
}

// Row 99: a disk that never writes in place can be full although a batch's space was
// written before. What it took of the batch is taken back, however much that was.
func TestFault099_RefusedInPlaceLeavesNothing(t *testing.T) {
	d, want := newDisk(t, 1<<20), image{first: 1}
	s := d.open()
	for i := uint64(1); i <= 20; i++ {
		b := records(0, i, 1, 1, 3000)
		before, _ := d.Bytes(d.lastSegment())
		full := true
		d.SetFault(func(op vfs.Op) error {
			if !full || op.Kind != vfs.OpWrite {
				return nil
			}
			full = false
			return &vfs.ShortWrite{N: int(i) * 150, Err: syscall.ENOSPC}
		})
		if err := s.Append(i, 0, b); !errors.Is(err, ErrNoSpace) || errors.Is(err, ErrFailed) {
			t.Fatal(err)
		}
		if after, _ := d.Bytes(d.lastSegment()); !bytes.HasPrefix(after, before) || len(bytes.Trim(after[len(before):], "\x00")) > 0 {
			t.Fatalf("%d bytes of a batch that was refused are there", i*150)
		}
		clone := &disk{t, d.CrashClone(vfs.Everything), d.options}
		clone.expect(clone.open(), want)
		d.must(s.Append(i, 0, b))
		want.put(i, b)
	}
	d.expect(s, want)
}

// Row 102: where a reader stopped is no place to go on from when what lay there has
// been replaced.
func TestFault102_ReaderGoesOnInWhatReplacedIt(t *testing.T) {
	for stopped := uint64(2); stopped <= 19; stopped++ {
		for from := uint64(2); from <= 20; from++ {
			d, want := filled(t, 0, 20, 90)
			s := d.open()
			_, err := s.Read(nil, 1, stopped, 1<<20)
			d.must(err)
			d.must(s.Truncate(from, 0))
			want.cut(from)
			b := records(0, from, 7, int(24-from), 90)
			d.must(s.Append(from, 0, b))
			want.put(from, b)
			for first := max(stopped, 1); first <= 22; first++ {
				got, err := s.Read(nil, first, first, 1<<20)
				d.must(err)
				if !bytes.Equal(got, want.records[first-1]) {
					t.Fatalf("read up to %d, replaced from %d on: entry %d is the old one", stopped, from, first)
				}
			}
			d.must(s.Close())
		}
	}
}

func TestFault101_LeftoverTemporaryFilesAreSwept(t *testing.T) {
	d, want := filled(t, 0, 3, 10)
	// The second last is the next segment of an earlier version, which prepared it.
	for _, name := range append(temporary[:], "prepared.tmp", "mine.tmp") {
		f, err := d.OpenFile(filepath.Join(testDir, name), os.O_CREATE|os.O_RDWR, 0)
		d.must(err)
		_, err = f.WriteAt(bytes.Repeat([]byte("garbage"), 1000), 0)
		d.must(err)
		d.must(f.Close())
	}
	d.expect(d.open(), want)
	names, err := d.ReadDir(testDir)
	d.must(err)
	left := 0
	for _, name := range names {
		if strings.HasSuffix(name, ".tmp") {
			left++
		}
	}
	if left != 1 {
		t.Fatalf("left %q, want only the file that is not the log's", names)
	}
}

func TestFault103_TruncationNeverComesBack(t *testing.T) {
	for calls := 0; ; calls++ {
		completed := 0
		for seed := range scale(30) {
			d, want := newDisk(t, 2048), image{first: 1}
			s := d.open()
			b := records(0, 1, 1, 8, 150)
			d.must(s.Append(1, 0, b))
			want.put(1, b)
			n := 0
			d.SetFault(func(op vfs.Op) error {
				if n++; n > calls {
					return vfs.ErrCrashed
				}
				return nil
			})
			states := []image{want.clone()}
			err := s.Truncate(5, 0)
			want.cut(5)
			if err == nil {
				states = []image{want.clone()}
				next := records(0, 5, 2, 2, 400)
				err = s.Append(5, 0, next)
				want.put(5, next)
				if err == nil {
					states = nil
					completed++
				}
			}
			states = append(states, want)
			d.SetFault(nil)
			d.crash([]vfs.Chooser{vfs.Nothing, vfs.Everything, vfs.Random(seeded(seed))}[min(seed, 2)])
			s = d.open()
			found := ""
			for _, state := range states {
				if found = state.differs(s); found == "" {
					break
				}
			}
			if found != "" {
				t.Fatalf("after %d calls: %s", calls, found)
			}
		}
		if completed > 0 {
			return
		}
	}
}

func TestFault104_LengthFieldsAreBounded(t *testing.T) {
	for _, length := range []uint32{0, 1, 1 << 16, 1<<31 - 1, 1 << 31, 1<<32 - 1} {
		for _, at := range []int{512 + 24, 512 + 64} {
			t.Run(fmt.Sprint(at, " is ", length), func(t *testing.T) {
				d, _ := filled(t, 0, 3, 100)
				path := d.lastSegment()
				b, err := d.Bytes(path)
				d.must(err)
				b[at], b[at+1], b[at+2], b[at+3] = byte(length), byte(length>>8), byte(length>>16), byte(length>>24)
				d.must(d.SetBytes(path, b))
				if _, _, err := d.try(); !errors.Is(err, ErrCorrupt) {
					t.Fatal(err)
				}
			})
		}
	}
}
