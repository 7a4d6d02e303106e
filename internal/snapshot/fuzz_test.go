package snapshot

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io"
	"math"
	"runtime"
	"testing"

	"github.com/goraft/raft/internal/vfs"
)

// forge gives a header that was changed valid checksums, so that what lies behind
// them is reached.
func forge(b []byte) {
	if len(b) < headerSize {
		return
	}
	putPrologue(b, formatVersion)
	if meta := int64(binary.LittleEndian.Uint32(b[48:])); meta <= int64(len(b)-headerSize) {
		binary.LittleEndian.PutUint32(b[52:], crc32.Checksum(b[headerSize:headerSize+meta], castagnoli))
	}
	binary.LittleEndian.PutUint32(b[60:], crc32.Checksum(b[prologueSize:60], castagnoli))
}

// bounded fails the test if f allocates more than its input and 64 KiB. Others may
// allocate meanwhile: it is the least of some tries that counts.
func bounded(t testing.TB, input int, f func()) {
	t.Helper()
	limit, least := uint64(input+64<<10), uint64(math.MaxUint64)
	for tries := 0; tries < 3 && least > limit; tries++ {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		f()
		runtime.ReadMemStats(&after)
		least = min(least, after.TotalAlloc-before.TotalAlloc)
	}
	if least > limit {
		t.Fatalf("%d bytes allocated for an input of %d", least, input)
	}
}

// FuzzFile takes any bytes for a file. They are refused, or they are what a Writer
// writes; a Receiver publishes them in the latter case only.
func FuzzFile(f *testing.F) {
	for _, size := range []int{0, 1, 40, 100} {
		b := fileOf(f, header(3, 2, 1), state(1, size))
		f.Add(b, false, uint8(7))
		f.Add(b[:len(b)-endSize], true, uint8(200))
	}
	f.Add([]byte("8b4c1d0f\n{}"), false, uint8(1))
	f.Fuzz(func(t *testing.T, b []byte, valid bool, piece uint8) {
		b = bytes.Clone(b)
		if valid {
			forge(b)
		}
		l, id := Label{1, 1}, uint64(1)
		var blockSize uint32
		if h, err := decodeHeader("file", b); err == nil {
			l, id, blockSize = h.label, h.id, h.blockSize
		}
		m := newMachine(t)
		m.put(Name(l), b)
		bounded(t, len(b), func() {
			if r, err := ReadFile(m.Mem, testDir, l); err == nil {
				_, _ = r.verify(nil)
				_ = r.Close()
			}
		})
		r, err := ReadFile(m.Mem, testDir, l)
		var content []byte
		if err == nil {
			content, err = io.ReadAll(r)
			m.must(r.Close())
		}
		if err != nil && !damaged(err) {
			t.Fatal(err)
		}
		m.Mem = vfs.NewMem()
		s := m.open()
		if len(b) >= headerSize+endSize {
			if _, received := receive(s, l, id, b, int(piece)+1); (received == nil) != (err == nil) {
				t.Fatalf("read: %v, received: %v", err, received)
			}
			m.noTemporaries()
		}
		if err != nil {
			return
		}
		s.blockSize = blockSize
		m.must(second(take(s, r.Info().Header, content)))
		if !bytes.Equal(m.bytes(l), b) {
			t.Fatalf("%x is written as %x", b, m.bytes(l))
		}
	})
}

// FuzzHeader takes any bytes for a header.
func FuzzHeader(f *testing.F) {
	h := header(3, 2, 1)
	b, _ := encodeHeader(&h, 32)
	f.Add(b, int64(200))
	f.Add(b[:20], int64(0))
	f.Fuzz(func(t *testing.T, b []byte, size int64) {
		b = bytes.Clone(b)
		for range 2 {
			var h fixed
			var err error
			bounded(t, len(b), func() { h, err = decodeHeader("file", b) })
			if err != nil && !damaged(err) {
				t.Fatal(err)
			}
			if err == nil {
				if n, ok := h.stateSize(size); ok && (n < 0 || n > size) {
					t.Fatalf("%d bytes of state in %d", n, size)
				}
			}
			forge(b)
		}
	})
}

// FuzzName takes any text for the name of a file.
func FuzzName(f *testing.F) {
	for _, name := range notOurs {
		f.Add(name)
	}
	f.Add("3_10.ss")
	f.Add("3_10.ss.1.tmp")
	f.Fuzz(func(t *testing.T, name string) {
		l, ok := parseName(name)
		if ok && (Name(l) != name || isTemp(name)) {
			t.Fatalf("%q is %v", name, l)
		}
	})
}
