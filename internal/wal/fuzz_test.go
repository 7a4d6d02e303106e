package wal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"testing"

	"github.com/goraft/raft/internal/vfs"
)

// Every decoder of the disk takes any bytes: it never panics, its errors are typed,
// what it allocates is bounded by what is there, and what decodes encodes back. Most
// targets can give the bytes valid checksums first.

// slack is what a decoder may allocate beside the size of its input.
const slack = 64 << 10

// bounded fails the test if f allocates more than its input and the slack.
func bounded(t testing.TB, input int, f func()) {
	t.Helper()
	if n := allocated(f); n > uint64(input)+slack {
		t.Fatalf("%d bytes allocated for an input of %d", n, input)
	}
}

func typed(err error) bool { return errors.Is(err, ErrCorrupt) || errors.Is(err, ErrFormat) }

func FuzzRecord(f *testing.F) {
	f.Add([]byte(record(0, 1, 1, []byte("data"))))
	f.Add(records(0, 1, 1, 3, 5))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if Record(b).Verify(Seed(0)) == nil {
			if r, rest, err := NextRecord(b); err != nil || len(rest) != 0 || !bytes.Equal(r, b) {
				t.Fatal("verifies, but is not a record")
			}
		}
		bounded(t, len(b), func() {
			for rest := b; len(rest) > 0; {
				r, next, err := NextRecord(rest)
				if err != nil {
					if !errors.Is(err, ErrRecord) {
						t.Fatal(err)
					}
					return
				}
				again := FinishRecord(append(BeginRecord(nil, r.Kind(), string(r.Name())), r.Data()...), 0)
				again.Stamp(r.Index(), r.Term(), Seed(0))
				if same := bytes.Equal(again, r); same != (r.Verify(Seed(0)) == nil) {
					t.Fatalf("%x is written as %x", r, again)
				}
				if len(r)+len(next) != len(rest) {
					t.Fatal("bytes are missing")
				}
				rest = next
			}
		})
	})
}

func FuzzBatchHeader(f *testing.F) {
	h := batchHeader{kind: kindSeal, first: 3, segment: 1, offset: 512}
	b := make([]byte, h.size())
	h.sealBatch(b, 0)
	f.Add(b, uint64(1), int64(512), false)
	f.Add(b, uint64(1), int64(512), true)
	f.Fuzz(func(t *testing.T, b []byte, segment uint64, offset int64, forged bool) {
		b = bytes.Clone(b[:min(len(b), batchHeaderSize)])
		if forged && len(b) == batchHeaderSize {
			binary.LittleEndian.PutUint32(b, batchMagic)
			binary.LittleEndian.PutUint32(b[8:], crc32.Update(0, castagnoli, b[12:]))
			binary.LittleEndian.PutUint32(b[4:], crc32.Update(0, castagnoli, b[8:]))
		}
		var h batchHeader
		var ok bool
		bounded(t, len(b), func() { h, ok = decodeBatchHeader(b, 0, segment, offset) })
		if !ok {
			return
		}
		if h.size() < batchHeaderSize || h.size() > 1<<33 {
			t.Fatalf("%d bytes", h.size())
		}
		_ = h.meaning(h.first)
		again := make([]byte, batchHeaderSize)
		h.sealBatch(again, 0)
		if h.verifyBatch(b, 0) && !bytes.Equal(again, b) {
			t.Fatalf("%x is read as %x", b, again)
		}
	})
}

func FuzzSegmentHeader(f *testing.F) {
	h := segmentHeader{storeID: 1, clusterID: 2, number: 3, first: 90, allocated: 1 << 18, prev: 0xcafe}
	f.Add(h.encode(), false)
	f.Add(h.encode()[:100], true)
	f.Fuzz(func(t *testing.T, b []byte, forged bool) {
		b = bytes.Clone(b[:min(len(b), segmentHeaderSize)])
		if forged {
			forgeSegment(b, 1, 3)
		}
		var h segmentHeader
		var err error
		bounded(t, len(b), func() { h, err = decodeSegmentHeader("file", b) })
		switch {
		case err != nil && !typed(err):
			t.Fatal(err)
		case err == nil && !bytes.Equal(h.encode(), b):
			t.Fatalf("%x is read as %+v", b, h)
		}
	})
}

func FuzzSlot(f *testing.F) {
	whole := encodeSlot(nil, stateMagic, slot{1, 2, []byte("payload")}, slotFileSize)
	f.Add(whole[:slotHeaderSize+7], uint16(slotFileSize-slotHeaderSize-7), false)
	f.Add(whole[:60], uint16(slotFileSize-60), true)
	f.Fuzz(func(t *testing.T, b []byte, zeros uint16, forged bool) {
		b = append(bytes.Clone(b), make([]byte, zeros)...)
		if forged && len(b) >= slotHeaderSize {
			putPrologue(b, stateMagic, formatVersion)
			binary.LittleEndian.PutUint32(b[36:], slotChecksum(b))
		}
		files := flatFS{stateNameA: &flatFile{stateNameA, b}}
		bounded(t, len(b), func() {
			p := newPair(files, "", stateMagic, stateNameA, stateNameB)
			if _, err := p.read(0); err != nil && !typed(err) {
				t.Fatal(err)
			}
		})
		s, err := decodeSlot("file", b, stateMagic)
		if err == nil && !bytes.Equal(encodeSlot(nil, stateMagic, s, int64(len(b))), b) {
			t.Fatal("another slot")
		}
	})
}

func FuzzIdentity(f *testing.F) {
	f.Add(uint64(1), encodeIdentity(Identity{ClusterID: 6, Initial: []byte("initial")}))
	f.Fuzz(func(t *testing.T, storeID uint64, payload []byte) {
		bounded(t, len(payload), func() {
			id, err := decodeIdentity(&pair{names: [2]string{"a", "b"}, storeID: storeID, payload: payload})
			switch {
			case err != nil && !typed(err):
				t.Fatal(err)
			case err == nil && (id.StoreID == 0 || !bytes.Equal(append(payload[:8:8], id.Initial...), payload)):
				t.Fatalf("%+v", id)
			}
		})
	})
}

func FuzzHardState(f *testing.F) {
	f.Add(encodeHardState(HardState{7, "n1"}))
	f.Fuzz(func(t *testing.T, payload []byte) {
		bounded(t, len(payload), func() {
			_, err := decodeHardState(&pair{names: [2]string{"a", "b"}, payload: payload})
			if err != nil && !typed(err) {
				t.Fatal(err)
			}
		})
		if h, err := decodeHardState(&pair{payload: payload}); err == nil && !bytes.Equal(encodeHardState(h), payload) {
			t.Fatalf("%+v", h)
		}
	})
}

// FuzzSegment takes any bytes for the only segment of a store: they are refused, or
// they are a log that can be read, and that is the same when it is opened again.
func FuzzSegment(f *testing.F) {
	d, _ := filled(f, 4096, 6, 40)
	files := d.flat()
	storeID := uint64(0x5107e + 1)
	b := files[segmentName(1)].data
	end := len(bytes.TrimRight(b, "\x00"))
	f.Add(b[:end], uint16(len(b)-end), false)
	f.Add(b[:end-100], uint16(200), true)
	f.Add(b[:700], uint16(4096), true)
	f.Fuzz(func(t *testing.T, b []byte, zeros uint16, forged bool) {
		b = append(bytes.Clone(b), make([]byte, zeros)...)
		if forged {
			if len(b) > 56 {
				binary.LittleEndian.PutUint64(b[48:], segmentHeaderSize)
			}
			forgeSegment(b, storeID, 1)
		}
		segment := files[segmentName(1)]
		total := 0
		for _, file := range files {
			total += len(file.data)
		}
		o := Options{FS: files, Dir: testDir}
		var s *Store
		var err error
		bounded(t, total-len(segment.data)+len(b), func() {
			segment.data = b
			s, err = Open(o)
		})
		if err != nil {
			if !typed(err) {
				t.Fatal(err)
			}
			return
		}
		first, last := s.Bounds()
		var content []byte
		if first <= last {
			if content, err = s.Read(nil, first, last, 1<<30); err != nil {
				t.Fatal(err)
			}
		}
		again, err := Open(o)
		if err != nil || again.Torn() != nil {
			t.Fatalf("opened a second time: %v", err)
		}
		if f, l := again.Bounds(); f != first || l != last || again.CommitIndex() != s.CommitIndex() {
			t.Fatalf("from %d to %d, and then from %d to %d", first, last, f, l)
		}
		if b, err := again.Read(nil, first, last, 1<<30); first <= last && (err != nil || !bytes.Equal(b, content)) {
			t.Fatal("other entries")
		}
	})
}

// FuzzRecovery overwrites a part of a log with anything: it is refused, or what is
// left begins like what was there.
func FuzzRecovery(f *testing.F) {
	d, want := filled(f, 2048, 24, 95)
	names := []string{segmentName(1), segmentName(3), "last", identityNameA, stateNameB}
	f.Add(uint8(0), uint16(512), []byte("garbage"))
	f.Add(uint8(2), uint16(600), make([]byte, 900))
	f.Add(uint8(3), uint16(0), make([]byte, 4096))
	f.Fuzz(func(t *testing.T, which uint8, at uint16, garbage []byte) {
		clone := &disk{t, d.CrashClone(vfs.Nothing), d.options}
		path := testDir + "/" + names[int(which)%len(names)]
		if int(which)%len(names) == 2 {
			path = clone.lastSegment()
		}
		b, err := clone.Bytes(path)
		must(t, err)
		if int(at) < len(b) {
			copy(b[at:], garbage)
		} else {
			b = append(b, garbage...)
		}
		must(t, clone.SetBytes(path, b))
		s, _, err := clone.try()
		if err != nil {
			if !typed(err) {
				t.Fatal(err)
			}
			return
		}
		left := want.clone()
		_, last := s.Bounds()
		left.cut(last + 1)
		if diff := left.differs(s); diff != "" {
			t.Fatal(diff)
		}
	})
}
