package snapshot

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"testing"

	"github.com/goraft/raft/internal/vfs"
)

// sample is a file of three blocks, with its state.
func sample(t testing.TB) (h Header, state_, file []byte) {
	h = header(12, 3, 5)
	state_ = state(1, 3*32-7)
	return h, state_, fileOf(t, h, state_)
}

// refused fails the test unless a file that is not want's is found out: by Verify,
// by Read before a byte is handed out that was not written, and by a Receiver.
func refused(t *testing.T, what string, h Header, want, file []byte) {
	t.Helper()
	m := newMachine(t)
	m.put(Name(h.Label), file)
	s := m.open()
	if _, err := s.Verify(h.Label); !damaged(err) {
		t.Fatalf("%s: Verify returns %v", what, err)
	}
	r, err := s.Read(h.Label)
	if err == nil {
		var got []byte
		got, err = io.ReadAll(r)
		if !bytes.HasPrefix(want, got) {
			t.Fatalf("%s: Read hands out %x, not %x", what, got, want)
		}
	}
	if !damaged(err) {
		t.Fatalf("%s: Read returns %v", what, err)
	}
	if r != nil {
		if _, again := r.Read(make([]byte, 1)); again != err {
			t.Fatalf("%s: Read returns %v, and then %v", what, err, again)
		}
	}
	if len(file) < headerSize+endSize {
		return
	}
	m = newMachine(t)
	s = m.open()
	if _, err := receive(s, h.Label, h.ID, file, 50); !damaged(err) || len(s.Labels()) > 0 {
		t.Fatalf("%s: received, %v", what, err)
	}
	m.noTemporaries()
}

// large is a file of 64 KiB as it would be taken, with blocks of 4 KiB, on a disk of
// its own.
func large(t testing.TB) (m *machine, s *Store, h Header, want, file []byte) {
	m = newMachine(t)
	s = m.open()
	s.blockSize = 4 << 10
	h, want = header(12, 3, 5), state(1, 64<<10)
	h.Meta = state(2, 700)
	m.must(second(take(s, h, want)))
	return m, s, h, want, m.bytes(h.Label)
}

// found fails the test unless Verify and Read find out that a file was damaged, the
// latter before it hands out a byte that was not written.
func (m *machine) found(what string, s *Store, h Header, want, damaged []byte) {
	m.Helper()
	m.must(m.SetBytes(path(h.Label), damaged))
	if _, err := s.Verify(h.Label); !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrFormat) {
		m.Fatalf("%s: Verify returns %v", what, err)
	}
	r, err := s.Read(h.Label)
	if err == nil {
		_, err = io.Copy(&expecting{want}, r)
		m.must(r.Close())
	}
	if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrFormat) {
		m.Fatalf("%s: Read returns %v", what, err)
	}
}

// expecting is a writer of bytes that are known.
type expecting struct{ rest []byte }

func (e *expecting) Write(p []byte) (int, error) {
	if !bytes.HasPrefix(e.rest, p) {
		return 0, errors.New("test: bytes that were never written")
	}
	e.rest = e.rest[len(p):]
	return len(p), nil
}

// TestFault096_EveryBitOfASnapshot: the header, the meta bytes, the blocks and the
// end.
func TestFault096_EveryBitOfASnapshot(t *testing.T) {
	m, s, h, want, file := large(t)
	total := len(file) * 8
	step := total/volume(total/61, total/7, total) | 1
	bits := 0
	for bit := 0; bit < total; bit += step {
		b := slices.Clone(file)
		b[bit/8] ^= 1 << (bit % 8)
		m.found(fmt.Sprint("bit ", bit), s, h, want, b)
		bits++
	}
	t.Logf("%d of %d bits", bits, total)
}

// TestFault105_DamagedSectorsOfASnapshot: each sector in turn is not what was written.
func TestFault105_DamagedSectorsOfASnapshot(t *testing.T) {
	m, s, h, want, file := large(t)
	const size = vfs.SectorSize
	for name, damage := range map[string]func(at int) []byte{
		"zeroed":         func(int) []byte { return make([]byte, size) },
		"garbage":        func(at int) []byte { return state(uint64(at), size) },
		"the one before": func(at int) []byte { return file[max(0, at-size):] },
		"the one behind": func(at int) []byte { return file[min(at+size, len(file)):] },
		"another":        func(at int) []byte { return file[(at*7+3*size)%len(file):] },
	} {
		for at := 0; at < len(file); at += size {
			b := slices.Clone(file)
			copy(b[at:min(at+size, len(b))], damage(at))
			if !bytes.Equal(b, file) {
				m.found(fmt.Sprintf("%s at %d", name, at), s, h, want, b)
			}
		}
	}
}

func TestEveryBitCounts(t *testing.T) {
	h, want, file := sample(t)
	for bit := range len(file) * 8 {
		b := slices.Clone(file)
		b[bit/8] ^= 1 << (bit % 8)
		refused(t, fmt.Sprint("bit ", bit), h, want, b)
	}
}

// A file that was cut short or extended, at any length.
func TestEveryLengthCounts(t *testing.T) {
	h, want, file := sample(t)
	for n := range len(file) {
		refused(t, fmt.Sprint("cut to ", n), h, want, file[:n])
	}
	for n := 1; n <= 2*(blockHeaderSize+32); n++ {
		refused(t, fmt.Sprint("extended by zeros ", n), h, want, append(slices.Clone(file), make([]byte, n)...))
		refused(t, fmt.Sprint("extended by itself ", n), h, want, append(slices.Clone(file), file[len(file)-n:]...))
	}
}

// Blocks verify in their own place in their own file only.
func TestMisplacedBlocks(t *testing.T) {
	h, want, file := sample(t)
	other := func(h Header) []byte { return fileOf(t, h, state(2, len(want))) }
	begin, whole := headerSize+len(h.Meta), blockHeaderSize+32
	block := func(b []byte, i int) []byte { return b[begin+i*whole : min(begin+(i+1)*whole, len(b)-endSize)] }
	splice := func(from, to int, parts ...[]byte) []byte {
		return slices.Concat(append(append([][]byte{file[:from]}, parts...), file[to:])...)
	}
	refused(t, "two swapped", h, want, splice(begin, begin+2*whole, block(file, 1), block(file, 0)))
	refused(t, "one twice", h, want, splice(begin, begin+2*whole, block(file, 0), block(file, 0)))
	refused(t, "one repeated", h, want, splice(begin, begin, block(file, 0)))
	refused(t, "the first missing", h, want, splice(begin, begin+whole))
	refused(t, "the last missing", h, want, splice(begin+2*whole, len(file)-endSize))
	refused(t, "the last first", h, want, splice(begin, len(file)-endSize, block(file, 2), block(file, 0), block(file, 1)))
	cases := map[string]Header{
		"id":      {h.Label, h.ClusterID, h.ID + 1, h.Meta},
		"cluster": {h.Label, h.ClusterID + 1, h.ID, h.Meta},
		"index":   {Label{h.Index + 1, h.Term}, h.ClusterID, h.ID, h.Meta},
		"term":    {Label{h.Index, h.Term + 1}, h.ClusterID, h.ID, h.Meta},
		"meta":    {h.Label, h.ClusterID, h.ID, []byte("beta")},
	}
	for name, o := range cases {
		b := other(o)
		refused(t, "a block of a file of another "+name, h, want, splice(begin+whole, begin+2*whole, block(b, 1)))
		refused(t, "the end of a file of another "+name, h, want, splice(len(file)-endSize, len(file), b[len(b)-endSize:]))
		if o.Label != h.Label {
			refused(t, "a whole file of another "+name, h, nil, b)
		}
		m := newMachine(t)
		_, err := receive(m.open(), h.Label, h.ID, b, 50)
		if announced := o.Label == h.Label && o.ID == h.ID; announced != (err == nil) || !announced && !damaged(err) {
			t.Fatalf("a file of another %s is received: %v", name, err)
		}
	}
	// Two files of one header should not be. Their blocks verify, their ends do not.
	m := newMachine(t)
	m.put(Name(h.Label), splice(begin+whole, begin+2*whole, block(other(h), 1)))
	if _, err := m.open().Verify(h.Label); !errors.Is(err, ErrCorrupt) {
		t.Fatal(err)
	}
}

// TestFault104_LengthsAreBounded: what a header says is not allocated before it is
// there, whether or not the header verifies.
func TestFault104_LengthsAreBounded(t *testing.T) {
	h := Header{Label: Label{12, 3}, ID: 5, Meta: make([]byte, MaxMeta)}
	file, _ := encodeHeader(&h, maxBlockSize)
	m := newMachine(t)
	m.put(Name(h.Label), file[:headerSize+endSize])
	s := m.open()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := s.Verify(h.Label)
	runtime.ReadMemStats(&after)
	if !damaged(err) || after.TotalAlloc-before.TotalAlloc > 1<<20 {
		t.Fatalf("%v after %d bytes", err, after.TotalAlloc-before.TotalAlloc)
	}
}

// A file that changes under a reader is found out.
func TestFileChangesUnderAReader(t *testing.T) {
	h, want, file := sample(t)
	for name, changed := range map[string][]byte{
		"longer":  append(slices.Clone(file), 0),
		"shorter": file[:len(file)-1],
		"gone":    nil,
	} {
		m := newMachine(t)
		m.put(Name(h.Label), file)
		r, err := m.open().Read(h.Label)
		m.must(err)
		_, err = io.ReadFull(r, make([]byte, 32))
		m.must(err)
		m.must(m.SetBytes(path(h.Label), changed))
		if _, err := io.ReadAll(r); !damaged(err) {
			t.Errorf("%s: %v", name, err)
		}
		if r.Info().StateSize != int64(len(want)) {
			t.Error(r.Info())
		}
	}
}

// An error of the disk while reading is that error, and not damage.
func TestReadErrorIsNotDamage(t *testing.T) {
	h, _, file := sample(t)
	m := newMachine(t)
	m.put(Name(h.Label), file)
	s := m.open()
	for calls, done := 0, false; !done; calls++ {
		n := 0
		m.SetFault(func(op vfs.Op) error {
			if n++; n == calls+1 {
				return os.ErrDeadlineExceeded
			}
			return nil
		})
		_, err := s.Verify(h.Label)
		m.SetFault(nil)
		if done = n <= calls; done {
			m.must(err)
		} else if err == nil || damaged(err) {
			t.Fatalf("call %d: %v", calls, err)
		}
	}
}
