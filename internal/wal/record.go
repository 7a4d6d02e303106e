package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// RecordHeaderSize is the number of bytes in front of a record's name and data.
const RecordHeaderSize = 28

// MaxRecordName bounds the name of a record (a command's name).
const MaxRecordName = 1<<16 - 1

// ErrRecord says that bytes are not a whole, unchanged record.
var ErrRecord = errors.New("wal: bad record")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Record is one encoded log entry. The same bytes lie in memory, on disk and on
// the wire, on every server of a cluster:
//
//	0        4        8                16               24      26      28
//	┌────────┬────────┬────────────────┬────────────────┬───────┬───────┬──────┬──────┐
//	│ length │ crc32c │ index          │ term           │ kind  │ nameL │ name │ data │
//	└────────┴────────┴────────────────┴────────────────┴───────┴───────┴──────┴──────┘
//
// Integers are little-endian. length counts name and data. The checksum covers
// everything but itself, and starts from the seed of the cluster (see Seed), so
// that a record of another cluster never verifies.
//
// The methods but Verify trust the bytes: call them on what BeginRecord and
// FinishRecord made, or on what NextRecord returned.
type Record []byte

// Seed returns the value that the checksums of a cluster's records start from.
func Seed(clusterID uint64) uint32 {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], clusterID)
	return crc32.Checksum(b[:], castagnoli)
}

// BeginRecord appends to dst the start of a record whose data the caller appends
// next. Index, term and checksum stay open until Stamp. The name must be no
// longer than MaxRecordName.
func BeginRecord(dst []byte, kind uint16, name string) []byte {
	var header [RecordHeaderSize]byte
	binary.LittleEndian.PutUint16(header[24:], kind)
	binary.LittleEndian.PutUint16(header[26:], uint16(len(name)))
	dst = append(dst, header[:]...)
	return append(dst, name...)
}

// FinishRecord sets the length of the record that BeginRecord began at start;
// everything in b after the name is its data.
func FinishRecord(b []byte, start int) Record {
	r := Record(b[start:])
	binary.LittleEndian.PutUint32(r, uint32(len(r)-RecordHeaderSize))
	return r
}

// Stamp gives the record its place in the log and its checksum.
func (r Record) Stamp(index, term uint64, seed uint32) {
	binary.LittleEndian.PutUint64(r[8:], index)
	binary.LittleEndian.PutUint64(r[16:], term)
	binary.LittleEndian.PutUint32(r[4:], r.checksum(seed))
}

// Verify reports whether the record is whole and unchanged in the cluster of
// the seed. It is safe on any bytes.
func (r Record) Verify(seed uint32) error {
	if len(r) < RecordHeaderSize || uint64(r.length())+RecordHeaderSize != uint64(len(r)) || r.nameLength() > len(r)-RecordHeaderSize {
		return fmt.Errorf("%w: %d bytes do not hold it", ErrRecord, len(r))
	}
	if r.Checksum() != r.checksum(seed) {
		return fmt.Errorf("%w: checksum of index %d, term %d", ErrRecord, r.Index(), r.Term())
	}
	return nil
}

// NextRecord splits the first record off b. It checks bounds only: the caller
// verifies what it does not trust. ErrRecord says that b does not begin with a
// whole record.
func NextRecord(b []byte) (Record, []byte, error) {
	if len(b) < RecordHeaderSize {
		return nil, nil, fmt.Errorf("%w: %d bytes left", ErrRecord, len(b))
	}
	size := uint64(binary.LittleEndian.Uint32(b)) + RecordHeaderSize
	if size > uint64(len(b)) {
		return nil, nil, fmt.Errorf("%w: it says %d bytes, %d left", ErrRecord, size, len(b))
	}
	r := Record(b[:size:size])
	if r.nameLength() > len(r)-RecordHeaderSize {
		return nil, nil, fmt.Errorf("%w: name of %d bytes in a record of %d", ErrRecord, r.nameLength(), size)
	}
	return r, b[size:], nil
}

// Index is the record's place in the log.
func (r Record) Index() uint64 { return binary.LittleEndian.Uint64(r[8:]) }

// Term is the term of the leader that made the record.
func (r Record) Term() uint64 { return binary.LittleEndian.Uint64(r[16:]) }

// Kind says what the data is; its values belong to the caller of this package.
func (r Record) Kind() uint16 { return binary.LittleEndian.Uint16(r[24:]) }

// Name returns the bytes of the record's name; they alias the record.
func (r Record) Name() []byte {
	return r[RecordHeaderSize : RecordHeaderSize+r.nameLength()]
}

// Data returns what the record carries; it aliases the record.
func (r Record) Data() []byte { return r[RecordHeaderSize+r.nameLength():] }

// Checksum is the checksum that the record carries.
func (r Record) Checksum() uint32 { return binary.LittleEndian.Uint32(r[4:]) }

func (r Record) length() uint32 { return binary.LittleEndian.Uint32(r) }

func (r Record) nameLength() int { return int(binary.LittleEndian.Uint16(r[26:])) }

func (r Record) checksum(seed uint32) uint32 {
	sum := crc32.Update(seed, castagnoli, r[:4])
	return crc32.Update(sum, castagnoli, r[8:])
}
