package wal

import (
	"bytes"
	"errors"
	"path/filepath"
	"sync"
	"testing"

	"github.com/goraft/raft/internal/vfs"
)

func TestReadBounds(t *testing.T) {
	d, want := filled(t, 4096, 30, 100)
	s := d.open()
	size := len(want.records[0])
	cases := []struct {
		from, to uint64
		max      int
		n        int
	}{
		{1, 30, 1 << 20, 30},
		{1, 1, 0, 1},
		{7, 30, 0, 1},
		{7, 30, size, 1},
		{7, 30, 2*size - 1, 1},
		{7, 30, 2 * size, 2},
		{30, 30, 1 << 20, 1},
		{0, 3, 1, 0},
		{5, 31, 1, 0},
		{31, 31, 1, 0},
		{6, 5, 1, 0},
	}
	for _, c := range cases {
		b, err := s.Read([]byte("head"), c.from, c.to, c.max)
		if c.n == 0 {
			if !errors.Is(err, ErrOutOfRange) || string(b) != "head" {
				t.Errorf("%+v: %v", c, err)
			}
			continue
		}
		if err != nil || !bytes.Equal(b[4:], bytes.Join(want.records[c.from-1:c.from-1+uint64(c.n)], nil)) {
			t.Errorf("%+v: %d bytes, %v", c, len(b), err)
		}
	}
	d.must(s.Close())
	if _, err := s.Read(nil, 1, 2, 1); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}

// A sequential reader reads every byte about once, however small its steps, and the
// index stays small.
func TestReadDoesNotSearchTwice(t *testing.T) {
	d, want := newDisk(t, 4<<20), image{first: 1}
	s := d.open()
	for i := uint64(1); i < 4000; i += 50 {
		b := records(0, i, 1, 50, 100)
		d.must(s.Append(i, 0, b))
		want.put(i, b)
	}
	if n := len(s.view.marks); n > 20 {
		t.Fatalf("%d marks for %d bytes", n, 4000*132)
	}
	var read int64
	d.SetFault(func(op vfs.Op) error {
		if op.Kind == vfs.OpRead {
			read += op.Length
		}
		return nil
	})
	total := 0
	for next := uint64(1); next <= 4000; {
		b, err := s.Read(nil, next, min(next+40, 4000), 1<<20)
		d.must(err)
		total += len(b)
		for ; len(b) > 0; next++ {
			_, b, _ = NextRecord(b)
		}
	}
	if read > int64(total)*24 {
		t.Fatalf("read %d bytes for %d", read, total)
	}
	t.Logf("%d bytes for %d", read, total)
}

// Entries that are larger than every buffer, and batches larger than a segment.
func TestLargeRecords(t *testing.T) {
	d, want := newDisk(t, 64<<10), image{first: 1}
	s := d.open()
	for i, size := range []int{10, 1 << 20, 63 << 10, 64 << 10, 65 << 10, 5 << 20, 0, 1} {
		b := records(0, uint64(i+1), 1, 1, size)
		d.must(s.Append(uint64(i+1), 0, b))
		want.put(uint64(i+1), b)
	}
	d.expect(s, want)
	d.crash(vfs.Nothing)
	d.expect(d.open(), want)
}

// Readers of every kind go on while the log is appended to, truncated and
// compacted, and what each gets was in the log at one moment.
func TestReadWhileWriting(t *testing.T) {
	d := newDisk(t, 8192)
	s := d.open()
	var readers sync.WaitGroup
	stop := make(chan struct{})
	for n := range 3 {
		readers.Go(func() {
			rng, next := seeded(uint64(n)), uint64(1)
			for {
				select {
				case <-stop:
					return
				default:
				}
				first, last := s.Bounds()
				if n == 0 || next < first || next > last {
					next = first + rng.Uint64N(last-first+2)
				}
				b, err := s.Read(nil, next, min(last, next+rng.Uint64N(30)), rng.IntN(4000))
				if err != nil && !errors.Is(err, ErrOutOfRange) {
					t.Error(err)
					return
				}
				term := uint64(0)
				for len(b) > 0 {
					r, rest, err := NextRecord(b)
					if err != nil || r.Verify(Seed(0)) != nil || r.Index() != next || r.Term() < term {
						t.Errorf("index %d: record %d of term %d after %d: %v", next, r.Index(), r.Term(), term, err)
						return
					}
					term, b = r.Term(), rest
					next++
				}
			}
		})
	}
	rng, last := seeded(9), uint64(0)
	for term := uint64(1); term < 200+scale(1000) && !t.Failed(); term++ {
		first, _ := s.Bounds()
		at := last + 1
		if rng.IntN(5) == 0 {
			at = max(first, last-min(last, 10))
		}
		n := 1 + rng.IntN(6)
		must(t, s.Append(at, 0, records(0, at, term, n, rng.IntN(200))))
		last = at + uint64(n) - 1
		if rng.IntN(40) == 0 {
			must(t, s.Compact(last-min(last, 20)))
		}
	}
	close(stop)
	readers.Wait()
	must(t, s.Close())
}

// A log that changes between two segments of one Read is not mixed with what it was.
func TestReadStopsWhereTheLogChanged(t *testing.T) {
	d, old := filled(t, 1024, 9, 150)
	s := d.open()
	once := false
	d.SetFault(func(op vfs.Op) error {
		if op.Kind == vfs.OpRead && !once {
			once = true
			return s.Append(3, 0, records(0, 3, 2, 6, 150))
		}
		return nil
	})
	b, err := s.Read(nil, 1, 8, 1<<20)
	d.must(err)
	if !bytes.HasPrefix(bytes.Join(old.records, nil), b) || len(b) < len(old.records[0]) {
		t.Fatalf("%d bytes that were never one log", len(b))
	}
}

func TestSealIsWrittenOnce(t *testing.T) {
	d, _ := filled(t, 0, 3, 10)
	s := d.open()
	d.must(s.Seal(2))
	writes := 0
	d.SetFault(func(op vfs.Op) error {
		if op.Kind == vfs.OpWrite {
			writes++
		}
		return nil
	})
	for range 5 {
		d.must(s.Seal(2))
	}
	d.must(s.SaveHardState(HardState{}))
	if writes != 0 {
		t.Fatalf("%d writes", writes)
	}
	d.must(s.Seal(3))
	if writes != 1 || s.CommitIndex() != 3 {
		t.Fatalf("%d writes, commit index %d", writes, s.CommitIndex())
	}
}

// The commit index outlives the batch that it came with, whatever later ones say.
func TestCommitIndexIsKept(t *testing.T) {
	d := newDisk(t, 1024)
	s := d.open()
	d.must(s.Append(1, 1, records(0, 1, 1, 1, 300)))
	for i := uint64(2); i < 9; i++ {
		d.must(s.Append(i, 0, records(0, i, 1, 1, 300)))
		d.must(s.Compact(i))
		d.crash(vfs.Nothing)
		s = d.open()
		if first, _ := s.Bounds(); s.CommitIndex() != 1 || i > 4 && first < 2 {
			t.Fatalf("commit index %d, the log begins at %d", s.CommitIndex(), first)
		}
	}
}

func TestAppendRefusesWhatIsNoLog(t *testing.T) {
	d, want := filled(t, 0, 3, 10)
	s := d.open()
	whole := records(0, 4, 1, 2, 10)
	cases := map[string]struct {
		first uint64
		bufs  [][]byte
		want  error
	}{
		"a gap":             {5, [][]byte{records(0, 5, 1, 1, 1)}, ErrOutOfRange},
		"below the log":     {0, [][]byte{records(0, 0, 1, 1, 1)}, ErrOutOfRange},
		"half a record":     {4, [][]byte{whole[:len(whole)-1]}, ErrRecord},
		"a wrong index":     {4, [][]byte{whole, records(0, 7, 1, 1, 1)}, ErrRecord},
		"no record at all":  {4, [][]byte{[]byte("nonsense")}, ErrRecord},
		"nothing, no error": {4, [][]byte{nil, {}}, nil},
	}
	for name, c := range cases {
		if err := s.Append(c.first, 0, c.bufs...); !errors.Is(err, c.want) || c.want == nil && err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := s.Truncate(5, 0); !errors.Is(err, ErrOutOfRange) {
		t.Error(err)
	}
	if err := s.Compact(9); !errors.Is(err, ErrOutOfRange) {
		t.Error(err)
	}
	if err := s.Reset(0, 0); !errors.Is(err, ErrOutOfRange) {
		t.Error(err)
	}
	d.must(s.Truncate(4, 0))
	d.expect(s, want)
}

// The cluster id seeds the records, so it changes only while there are none, and
// the old cluster's entries stay gone.
func TestClusterIDChangesOnlyWithoutEntries(t *testing.T) {
	d, want := filled(t, 0, 3, 10)
	s := d.open()
	if err := s.SaveIdentity(Identity{ClusterID: 5}); !errors.Is(err, ErrNotEmpty) {
		t.Fatal(err)
	}
	d.must(s.SaveIdentity(Identity{Initial: []byte("same cluster")}))
	d.expect(s, want)
	id := s.Identity().StoreID
	d.must(s.Truncate(1, 0))
	d.must(s.SaveIdentity(Identity{StoreID: 1, ClusterID: 5, Initial: []byte("b")}))
	for _, when := range []string{"saved", "crashed", "appended"} {
		if got := s.Identity(); got.StoreID != id || got.ClusterID != 5 || string(got.Initial) != "b" {
			t.Fatalf("%s: %+v", when, got)
		}
		if when == "crashed" {
			d.must(s.Append(1, 0, records(5, 1, 1, 2, 10)))
		}
		d.crash(vfs.Nothing)
		s = d.open()
	}
	b := image{first: 1}
	b.put(1, records(5, 1, 1, 2, 10))
	d.expect(s, b)
}

func TestOpenRefusesForeignFiles(t *testing.T) {
	d := newDisk(t, 0)
	d.must(vfs.MkdirAll(d.Mem, "data"))
	d.must(vfs.WriteFile(d.Mem, testDir, []byte("goraft's log")))
	if _, _, err := d.try(); !errors.Is(err, ErrForeignLog) {
		t.Error(err)
	}
	d, _ = filled(t, 0, 3, 10)
	b, err := d.Bytes(d.lastSegment())
	d.must(err)
	later := bytes.Clone(b)
	putPrologue(later, segmentMagic, 2)
	d.must(d.SetBytes(d.lastSegment(), later))
	if _, _, err := d.try(); !errors.Is(err, ErrFormat) || errors.Is(err, ErrCorrupt) {
		t.Error(err)
	}
	d.must(d.SetBytes(d.lastSegment(), bytes.Repeat([]byte("text"), len(b)/4)))
	if _, _, err := d.try(); !errors.Is(err, ErrFormat) {
		t.Error(err)
	}
	d.must(d.SetBytes(d.lastSegment(), b))
	d.must(d.open().Close())
	d.options.StoreID = func() uint64 { return 0 }
	d.Mem = vfs.NewMem()
	if _, _, err := d.try(); err == nil {
		t.Error("a store id of 0")
	}
}

// TestLargeBatchIsWrittenOnce: of what is written, little is anything but the batches.
func TestLargeBatchIsWrittenOnce(t *testing.T) {
	d, want := newDisk(t, 0), image{first: 1}
	s := d.open()
	all, batches := int64(0), int64(0)
	d.SetFault(func(op vfs.Op) error {
		if op.Kind == vfs.OpWrite {
			all += op.Length
		}
		return nil
	})
	for i := uint64(1); i <= 30; i++ {
		b := records(0, i, 1, 1, 1<<20)
		want.put(i, b)
		batches += int64(len(b))
		d.must(s.Append(i, 0, b))
	}
	d.SetFault(nil)
	d.expect(s, want)
	if all > batches*5/4 { // the first segments, each made for one batch, have their size beside it
		t.Errorf("%d bytes were written for batches of %d", all, batches)
	}
	if kept := int64(cap(s.writer.buf)); kept > chunkSize {
		t.Errorf("the writer keeps %d bytes", kept)
	}
}

func TestAppendDoesNotAllocate(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector allocates")
	}
	s, err := Open(Options{FS: unsynced{vfs.OS()}, Dir: filepath.Join(t.TempDir(), "log"), MaxSegmentBytes: 1 << 20})
	must(t, err)
	defer s.Close()
	first, bufs := uint64(1), [][]byte{records(0, 1, 1, 8, 100)}
	perRun := testing.AllocsPerRun(500, func() {
		for rest := bufs[0]; len(rest) > 0; first++ {
			r, after, _ := NextRecord(rest)
			r.Stamp(first, 1, 0)
			rest = after
		}
		must(t, s.Append(first-8, first-9, bufs...))
	})
	if perRun > 0.9 {
		t.Fatalf("%v allocations for a batch", perRun)
	}
}
