package wal

import (
	"encoding/binary"
	"errors"
	"math"
	"testing"
)

// Row 104: whatever length a record says it has, it is one that lies in the bytes, or
// none. The largest lengths wrap when a header is added to them in 32 bits.
func TestFault104_LengthOfARecord(t *testing.T) {
	b := FinishRecord(BeginRecord(nil, 1, "name"), 0)
	lengths := []uint32{0, 3, 4, 5, 1 << 16, 1<<31 - 1, 1 << 31, math.MaxUint32}
	for i := range uint32(RecordHeaderSize + 4) {
		lengths = append(lengths, math.MaxUint32-i)
	}
	for _, length := range lengths {
		binary.LittleEndian.PutUint32(b, length)
		r, rest, err := NextRecord(b)
		if length == 4 {
			if err != nil || len(r) != len(b) || len(rest) != 0 {
				t.Errorf("length 4: %d bytes, %d left: %v", len(r), len(rest), err)
			}
			continue
		}
		if !errors.Is(err, ErrRecord) {
			t.Errorf("length %d: %d bytes, %d left: %v", length, len(r), len(rest), err)
		}
	}
}
