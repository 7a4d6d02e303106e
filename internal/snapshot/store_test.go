package snapshot

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/goraft/raft/internal/vfs"
)

// stream hides that a Reader has ReadAt, which is not of the state.
type stream struct{ io.Reader }

func TestRoundTrip(t *testing.T) {
	m := newMachine(t)
	s := m.open()
	for i, size := range []int{0, 1, 31, 32, 33, 64, 1000} {
		h := header(uint64(i+1), 2, 5)
		want := state(uint64(i), size)
		w, err := s.Create(h)
		m.must(err)
		for rest := want; len(rest) > 0; {
			n := min(len(rest), 1+i*13)
			if k, err := w.Write(rest[:n]); k != n || err != nil {
				t.Fatal(k, err)
			}
			rest = rest[n:]
		}
		m.must(w.Finish())
		m.must(w.Finish())
		info, err := w.Publish()
		m.must(err)
		file := m.bytes(h.Label)
		if again := (Info{h, int64(len(file)), int64(size)}); !reflect.DeepEqual(info, again) {
			t.Fatalf("%+v, want %+v", info, again)
		}
		m.holds(s, h.Label, want)
		r, err := s.Read(h.Label)
		m.must(err)
		if !reflect.DeepEqual(r.Info(), info) || r.Size() != info.Size {
			t.Fatalf("%+v, want %+v", r.Info(), info)
		}
		m.must(iotest.TestReader(stream{r}, want))
		raw, err := io.ReadAll(io.NewSectionReader(r, 0, r.Size()))
		if err != nil || !bytes.Equal(raw, file) {
			t.Fatal(len(raw), err)
		}
		m.must(r.Close())
	}
	m.noTemporaries()
}

// The sizes of a real file: blocks of 256 KiB, a sync every 256 KiB and at the end, and
// no write of more.
func TestManyBlocks(t *testing.T) {
	m := newMachine(t)
	s, err := Open(m.Mem, testDir)
	m.must(err)
	syncs, most := 0, int64(0)
	m.SetFault(func(op vfs.Op) error {
		if op.Kind == vfs.OpSync {
			syncs++
		}
		if op.Kind == vfs.OpWrite {
			most = max(most, op.Length)
		}
		return nil
	})
	want := bytes.Repeat(state(1, 1<<20), 18)
	h := header(1<<40, 9, 1<<63)
	h.Meta = state(2, 1<<20)
	info, err := take(s, h, want)
	m.must(err)
	if blocks := int64(18 * 4); syncs != int(info.Size/defaultSyncEvery)+1 || most != defaultSyncEvery ||
		info.Size != headerSize+1<<20+blocks*blockHeaderSize+int64(len(want))+endSize {
		t.Fatalf("%d syncs, %d bytes at once, %d in all", syncs, most, info.Size)
	}
	m.SetFault(nil)
	m.holds(s, h.Label, want)
}

func TestReceive(t *testing.T) {
	h, want, file := sample(t)
	for piece := 1; piece <= len(file); piece += 7 {
		m := newMachine(t)
		s := m.open()
		info, err := receive(s, h.Label, h.ID, file, piece)
		m.must(err)
		if !reflect.DeepEqual(info.Header, h) || !bytes.Equal(m.bytes(h.Label), file) {
			t.Fatalf("%+v", info)
		}
		m.holds(s, h.Label, want)
	}
}

// TestFault091_TransferGoesOn: a transfer that was interrupted goes on where it
// was; pieces that come twice, late, or too early change nothing.
func TestFault091_TransferGoesOn(t *testing.T) {
	h, want, file := sample(t)
	m := newMachine(t)
	s := m.open()
	r, err := s.Receive(h.Label, h.ID, int64(len(file)))
	m.must(err)
	rng := seeded(3)
	for r.Offset() < int64(len(file)) {
		at := r.Offset()
		off := min(max(at+int64(rng.IntN(5))-2, 0), int64(len(file)))
		piece := file[off:min(off+rng.Int64N(20), int64(len(file)))]
		if _, err := r.Publish(); !errors.Is(err, ErrUnfinished) {
			t.Fatal(err)
		}
		err := r.Append(off, piece)
		switch {
		case off == at && (err != nil || r.Offset() != at+int64(len(piece))):
			t.Fatal(err)
		case off != at && (!errors.Is(err, ErrOffset) || r.Offset() != at):
			t.Fatal(err)
		}
		if err := r.Append(at, make([]byte, len(file)+1)); !errors.Is(err, ErrTooLarge) && !errors.Is(err, ErrOffset) {
			t.Fatal(err)
		}
	}
	if err := r.Append(r.Offset(), []byte{0}); !errors.Is(err, ErrTooLarge) {
		t.Fatal(err)
	}
	info, err := r.Verify()
	m.must(err)
	if info.ClusterID != h.ClusterID || len(s.Labels()) != 0 {
		t.Fatal(info, s.Labels())
	}
	_, err = r.Publish()
	m.must(err)
	m.holds(s, h.Label, want)
	for _, err := range []error{r.Append(r.Offset(), nil), second(r.Publish()), second(r.Verify())} {
		if !errors.Is(err, ErrOver) {
			t.Error(err)
		}
	}
	m.must(r.Abort())
	m.holds(s, h.Label, want)
}

func second(_ Info, err error) error { return err }

func TestRefusals(t *testing.T) {
	m := newMachine(t)
	s := m.open()
	for _, c := range []struct {
		err, want error
	}{
		{second(take(s, Header{Label: Label{0, 1}, ID: 1}, nil)), ErrHeader},
		{second(take(s, Header{Label: Label{1, 1}}, nil)), ErrHeader},
		{second(take(s, Header{Label: Label{1, 1}, ID: 1, Meta: make([]byte, MaxMeta+1)}, nil)), ErrTooLarge},
		{second(receive(s, Label{0, 1}, 1, make([]byte, 100), 100)), ErrHeader},
		{second(receive(s, Label{1, 1}, 0, make([]byte, 100), 100)), ErrHeader},
		{second(receive(s, Label{1, 1}, 1, make([]byte, headerSize+endSize-1), 100)), ErrHeader},
		{second(s.Verify(Label{1, 1})), fs.ErrNotExist},
	} {
		if !errors.Is(c.err, c.want) {
			t.Errorf("%v, want %v", c.err, c.want)
		}
	}
	if _, err := s.Read(Label{1, 1}); !os.IsNotExist(err) {
		t.Error(err)
	}
	m.noTemporaries()
	_, err := take(s, Header{Label: Label{1, 1}, ID: 1, Meta: make([]byte, MaxMeta)}, nil)
	m.must(err)
}

func TestWriterInOrder(t *testing.T) {
	m := newMachine(t)
	s := m.open()
	w, err := s.Create(header(4, 1, 1))
	m.must(err)
	if _, err := w.Publish(); !errors.Is(err, ErrUnfinished) {
		t.Error(err)
	}
	_, err = w.Write([]byte("state"))
	m.must(err)
	m.must(w.Finish())
	if _, err := w.Write([]byte("more")); !errors.Is(err, ErrOver) {
		t.Error(err)
	}
	if len(s.Labels()) > 0 {
		t.Error("listed before it is published")
	}
	_, err = w.Publish()
	m.must(err)
	m.holds(s, Label{4, 1}, []byte("state"))
	if _, err := w.Publish(); !errors.Is(err, ErrOver) {
		t.Error(err)
	}
	m.must(w.Abort())
	m.holds(s, Label{4, 1}, []byte("state"))
}

func TestAbort(t *testing.T) {
	m := newMachine(t)
	s := m.open()
	for steps := range 3 {
		w, err := s.Create(header(4, 1, 1))
		m.must(err)
		if steps > 0 {
			_, err = w.Write(state(1, 100))
			m.must(err)
		}
		if steps > 1 {
			m.must(w.Finish())
		}
		m.must(w.Abort())
		m.must(w.Abort())
		_, err = w.Write(nil)
		if _, published := w.Publish(); !errors.Is(err, ErrOver) || !errors.Is(published, ErrOver) || !errors.Is(w.Finish(), ErrOver) {
			t.Error(err, published)
		}
		m.noTemporaries()
	}
	r, err := s.Receive(Label{4, 1}, 1, 100)
	m.must(err)
	m.must(r.Abort())
	m.must(r.Abort())
	if err := r.Append(0, []byte("x")); !errors.Is(err, ErrOver) {
		t.Error(err)
	}
	m.noTemporaries()
}

// A call that is under way when another one comes refuses it; Abort does not wait,
// and takes effect. What has been renamed is published.
func TestAbortDuringACall(t *testing.T) {
	h, want, file := sample(t)
	for _, c := range []struct {
		kind      vfs.OpKind
		published bool
	}{{vfs.OpWrite, false}, {vfs.OpSync, false}, {vfs.OpRead, false}, {vfs.OpClose, true}, {vfs.OpRename, true}, {vfs.OpSyncDir, true}} {
		m := newMachine(t)
		s := m.open()
		r, err := s.Receive(h.Label, h.ID, int64(len(file)))
		m.must(err)
		m.SetFault(func(op vfs.Op) error {
			if op.Kind == c.kind {
				m.SetFault(nil)
				if err := r.Append(0, nil); !errors.Is(err, ErrBusy) && !errors.Is(err, ErrOver) {
					t.Error(err)
				}
				m.must(r.Abort())
				m.must(r.Abort())
			}
			return nil
		})
		err = r.Append(0, file)
		if err == nil {
			_, err = r.Publish()
		}
		if c.published != (err == nil) || !c.published && !errors.Is(err, ErrOver) {
			t.Errorf("%v: %v", c.kind, err)
		}
		m.noTemporaries()
		if c.published {
			m.holds(s, h.Label, want)
		} else if len(s.Labels()) > 0 {
			t.Error(c.kind, s.Labels())
		}
	}
}

// Pieces, Abort and Publish from several goroutines: the file is published, or it is
// gone, and whoever came too late hears so.
func TestAbortFromAnotherGoroutine(t *testing.T) {
	h, want, file := sample(t)
	for i := range 50 {
		m := newMachine(t)
		s := m.open()
		r, err := s.Receive(h.Label, h.ID, int64(len(file)))
		m.must(err)
		var wg sync.WaitGroup
		var published error
		wg.Go(func() {
			for err := error(nil); err == nil && r.Offset() < r.size; {
				at := r.Offset()
				err = r.Append(at, file[at:min(at+10, r.size)])
			}
			_, published = r.Publish()
		})
		wg.Go(func() {
			for range i {
				runtime.Gosched()
			}
			m.must(r.Abort())
		})
		wg.Wait()
		m.noTemporaries()
		if published == nil {
			m.holds(s, h.Label, want)
		} else if len(s.Labels()) > 0 || !errors.Is(published, ErrOver) {
			t.Fatal(published, s.Labels())
		}
	}
}

func TestOpenListsAndSweeps(t *testing.T) {
	m := newMachine(t)
	if _, err := List(m.Mem, testDir); !os.IsNotExist(err) {
		t.Error(err)
	}
	if found, err := Exists(m.Mem, testDir); found || err != nil {
		t.Error(found, err)
	}
	if _, err := m.Stat("data"); !errors.Is(err, fs.ErrNotExist) {
		t.Error("Exists creates")
	}
	for i, name := range notOurs {
		if i > 0 {
			m.put(name+"x", nil)
			m.put(name, nil)
		}
	}
	if found, err := Exists(m.Mem, testDir); found || err != nil {
		t.Error(found, err)
	}
	m.put("2_9.ss.1.tmp", nil)
	m.put("2_9.ss.77.tmp", []byte("torn"))
	for _, name := range []string{"2_9.ss", "2_1000.ss", "3_10.ss", "10_10.ss", "2_10.ss"} {
		m.put(name, nil)
	}
	want := []Label{{1000, 2}, {10, 10}, {10, 3}, {10, 2}, {9, 2}}
	before, err := m.ReadDir(testDir)
	m.must(err)
	if got, err := List(m.Mem, testDir); err != nil || !slices.Equal(got, want) {
		t.Error(got, err)
	}
	if found, err := Exists(m.Mem, testDir); !found || err != nil {
		t.Error(found, err)
	}
	if after, _ := m.ReadDir(testDir); !slices.Equal(after, before) {
		t.Error("List changes the directory")
	}
	s := m.open()
	if got := s.Labels(); !slices.Equal(got, want) {
		t.Error(got)
	}
	after, err := m.ReadDir(testDir)
	m.must(err)
	before = slices.DeleteFunc(before, func(name string) bool { return strings.HasPrefix(name, "2_9.ss.") })
	if !slices.Equal(after, before) {
		t.Errorf("%q, want %q", after, before)
	}
}

// An unfinished file takes the name of no other, and two of one label do not meet.
func TestTwoOfOneLabel(t *testing.T) {
	h, want, file := sample(t)
	m := newMachine(t)
	s := m.open()
	r, err := s.Receive(h.Label, h.ID, int64(len(file)))
	m.must(err)
	m.must(r.Append(0, file[:40]))
	other := state(9, 77)
	_, err = take(s, header(h.Index, h.Term, 99), other)
	m.must(err)
	m.holds(s, h.Label, other)
	reader, err := s.Read(h.Label)
	m.must(err)
	m.must(r.Append(40, file[40:]))
	_, err = r.Publish()
	m.must(err)
	m.holds(s, h.Label, want)
	if len(s.Labels()) != 1 {
		t.Error(s.Labels())
	}
	m.must(iotest.TestReader(stream{reader}, other))
	m.noTemporaries()
}

func TestRemoveWhileReading(t *testing.T) {
	m := newMachine(t)
	s := m.open()
	want := state(1, 500)
	_, err := take(s, header(4, 1, 1), want)
	m.must(err)
	r, err := s.Read(Label{4, 1})
	m.must(err)
	m.must(s.Remove(Label{4, 1}))
	m.must(s.Remove(Label{4, 1}))
	if _, err := s.Read(Label{4, 1}); !errors.Is(err, fs.ErrNotExist) || len(s.Labels()) > 0 {
		t.Error(err)
	}
	m.must(iotest.TestReader(stream{r}, want))
	m.must(r.Close())
}

// The same on the system's own files.
func TestRealFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "snapshot")
	s, err := Open(vfs.OS(), dir)
	m := newMachine(t)
	m.must(err)
	want := state(1, 1<<20+5)
	_, err = take(s, header(4, 1, 1), want)
	m.must(err)
	m.holds(s, Label{4, 1}, want)
	_, err = take(s, header(4, 1, 2), want[1:])
	m.must(err)
	for name, perm := range map[string]fs.FileMode{"": 0o700, "1_4.ss": 0o600} {
		info, err := os.Stat(filepath.Join(dir, name))
		m.must(err)
		if info.Mode().Perm() != perm {
			t.Errorf("%q has the mode %v", name, info.Mode())
		}
	}
	r, err := ReadFile(vfs.OS(), dir, Label{4, 1})
	m.must(err)
	m.must(s.Remove(Label{4, 1}))
	m.must(iotest.TestReader(stream{r}, want[1:]))
	m.must(r.Close())
	if names, err := os.ReadDir(dir); err != nil || len(names) > 0 {
		t.Error(names, err)
	}
	if _, err := List(vfs.OS(), filepath.Join(dir, "x")); !os.IsNotExist(err) {
		t.Error(err)
	}
	if found, err := Exists(vfs.OS(), filepath.Join(dir, "x")); found || err != nil {
		t.Error(found, err)
	}
}

// One takes, one receives, some read, one removes.
func TestTogether(t *testing.T) {
	m := newMachine(t)
	s := m.open()
	h, want, file := sample(t)
	var wg sync.WaitGroup
	for i := range uint64(20) {
		l := Label{100 + i, 1}
		wg.Go(func() {
			if _, err := take(s, header(l.Index, l.Term, i+1), want); err != nil {
				t.Error(err)
			}
			if i%2 == 0 {
				if err := s.Remove(l); err != nil {
					t.Error(err)
				}
			}
		})
		wg.Go(func() {
			if _, err := receive(s, h.Label, h.ID, file, 30); err != nil {
				t.Error(err)
			}
			for _, l := range s.Labels() {
				if _, err := s.Verify(l); err != nil && !errors.Is(err, fs.ErrNotExist) {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if got := s.Labels(); len(got) != 11 || !slices.IsSortedFunc(got, newestFirst) {
		t.Error(got)
	}
	m.noTemporaries()
}
