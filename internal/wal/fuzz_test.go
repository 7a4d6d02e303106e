package wal

import (
	"bytes"
	"errors"
	"testing"

	"github.com/goraft/raft/internal/vfs"
)

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
		for len(b) > 0 {
			r, rest, err := NextRecord(b)
			if err != nil {
				if !errors.Is(err, ErrRecord) {
					t.Fatal(err)
				}
				return
			}
			if len(r)+len(rest) != len(b) || len(r.Name())+len(r.Data())+RecordHeaderSize != len(r) {
				t.Fatal("bytes are missing")
			}
			_ = r.Verify(Seed(0))
			b = rest
		}
	})
}

func FuzzBatchHeader(f *testing.F) {
	h := batchHeader{kind: kindSeal, first: 3, segment: 1, offset: 512}
	b := make([]byte, h.size())
	h.sealBatch(b, 0)
	f.Add(b, uint64(1), int64(512))
	f.Fuzz(func(t *testing.T, b []byte, segment uint64, offset int64) {
		h, ok := decodeBatchHeader(b, 0, segment, offset)
		if !ok {
			return
		}
		again := make([]byte, batchHeaderSize)
		h.sealBatch(again, 0)
		if h.length == 0 && h.verifyBatch(b[:batchHeaderSize], 0) && !bytes.Equal(again, b[:batchHeaderSize]) {
			t.Fatalf("%x is read as %x", b[:batchHeaderSize], again)
		}
	})
}

func FuzzSlot(f *testing.F) {
	f.Add(encodeSlot(nil, stateMagic, slot{1, 2, []byte("payload")}, slotFileSize))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := decodeSlot("file", b, stateMagic)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrFormat) {
				t.Fatal(err)
			}
			return
		}
		if again := encodeSlot(nil, stateMagic, s, int64(len(b))); !bytes.Equal(again, b) {
			t.Fatal("another slot")
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
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrFormat) {
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
