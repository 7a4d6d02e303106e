package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"

	"github.com/goraft/raft/internal/vfs"
)

// The formats of this file are drawn in docs/format.md; golden_test.go holds their
// bytes.

const (
	formatVersion = 1

	prologueSize      = 16
	segmentHeaderSize = 512
	batchHeaderSize   = 64
	alignment         = 8
	sectorSize        = 512

	segmentMagic  = "GORAFTWL"
	identityMagic = "GORAFTID"
	stateMagic    = "GORAFTHS"
	batchMagic    = 0x68637462 // "btch"
)

// putPrologue writes what every file of every version begins with: eight bytes of
// magic, the version, and a checksum of the two.
func putPrologue(b []byte, magic string, version uint32) {
	copy(b, magic)
	binary.LittleEndian.PutUint32(b[8:], version)
	binary.LittleEndian.PutUint32(b[12:], prologueChecksum(magic, b[8:12]))
}

func prologueChecksum(magic string, version []byte) uint32 {
	return crc32.Update(crc32.Checksum([]byte(magic), castagnoli), castagnoli, version)
}

// checkPrologue tells damage from another format: only a file whose magic and
// checksum are both strange, or that has a valid prologue of another version, is
// one of another format.
func checkPrologue(file string, b []byte, magic string) error {
	rightMagic := string(b[:8]) == magic
	rightSum := binary.LittleEndian.Uint32(b[12:]) == prologueChecksum(magic, b[8:12])
	version := binary.LittleEndian.Uint32(b[8:])
	switch {
	case rightMagic && rightSum && version == formatVersion:
		return nil
	case rightMagic && rightSum:
		return &FormatError{File: file, Version: version}
	case rightMagic || rightSum || allZero(b[:prologueSize]):
		return corrupt(file, 0, "the file's header does not verify")
	}
	return &FormatError{File: file}
}

// segmentHeader is the first sector of a segment file.
type segmentHeader struct {
	storeID   uint64
	clusterID uint64 // seeds the checksums of the records
	number    uint64
	first     uint64 // the index that the log goes on with
	allocated int64  // the file was never shorter than this
	commit    uint64 // the commit index known so far, which may stand nowhere else after a compaction
	prev      uint32 // checksum of the last batch of the segment before
	checksum  uint32 // of the rest of the sector; set by encode and decode
}

func (h *segmentHeader) encode() []byte {
	b := make([]byte, segmentHeaderSize)
	putPrologue(b, segmentMagic, formatVersion)
	binary.LittleEndian.PutUint64(b[16:], h.storeID)
	binary.LittleEndian.PutUint64(b[24:], h.clusterID)
	binary.LittleEndian.PutUint64(b[32:], h.number)
	binary.LittleEndian.PutUint64(b[40:], h.first)
	binary.LittleEndian.PutUint64(b[48:], uint64(h.allocated))
	binary.LittleEndian.PutUint64(b[56:], h.commit)
	binary.LittleEndian.PutUint32(b[64:], h.prev)
	h.checksum = segmentHeaderChecksum(b)
	binary.LittleEndian.PutUint32(b[68:], h.checksum)
	return b
}

func segmentHeaderChecksum(b []byte) uint32 {
	sum := crc32.Checksum(b[:68], castagnoli)
	return crc32.Update(sum, castagnoli, b[72:segmentHeaderSize])
}

func decodeSegmentHeader(file string, b []byte) (segmentHeader, error) {
	var h segmentHeader
	if len(b) < segmentHeaderSize {
		return h, corrupt(file, 0, "%d bytes do not hold the segment's header", len(b))
	}
	if err := checkPrologue(file, b, segmentMagic); err != nil {
		return h, err
	}
	h = segmentHeader{
		storeID:   binary.LittleEndian.Uint64(b[16:]),
		clusterID: binary.LittleEndian.Uint64(b[24:]),
		number:    binary.LittleEndian.Uint64(b[32:]),
		first:     binary.LittleEndian.Uint64(b[40:]),
		allocated: int64(binary.LittleEndian.Uint64(b[48:])),
		commit:    binary.LittleEndian.Uint64(b[56:]),
		prev:      binary.LittleEndian.Uint32(b[64:]),
		checksum:  binary.LittleEndian.Uint32(b[68:]),
	}
	if h.checksum != segmentHeaderChecksum(b) {
		return h, corrupt(file, 0, "the segment's header does not verify")
	}
	if h.number == 0 || h.first == 0 || h.allocated < segmentHeaderSize || !allZero(b[72:segmentHeaderSize]) {
		return h, corrupt(file, 16, "segment %d from index %d of %d bytes, or not zeros behind that", h.number, h.first, h.allocated)
	}
	return h, nil
}

// batchKind says what a batch does to the log.
type batchKind uint32

const (
	kindAppend   batchKind = iota + 1 // the records replace the log from first on
	kindTruncate                      // the log ends before first
	kindSeal                          // proves that the batch before was synced; first is last+1
	kindRoll                          // the last batch of a segment: the next segment exists
	kindReset                         // the log is empty and goes on with first
)

// batchHeader stands before the records of a batch.
type batchHeader struct {
	kind     batchKind
	prev     uint32 // checksum of the batch before; of the segment's header for its first one
	checksum uint32 // of the fields below and of the body with its padding
	count    uint32
	length   uint32 // of the body, without the padding
	flags    uint32 // none are known
	first    uint64
	commit   uint64
	segment  uint64
	offset   int64
}

// size is that of the header and the padded body.
func (h *batchHeader) size() int64 { return batchSize(int64(h.length)) }

// padding is how many zeros follow a body.
func padding(length int64) int64 { return align(length) - length }

func batchSize(length int64) int64 { return batchHeaderSize + align(length) }

func align(n int64) int64 { return (n + alignment - 1) &^ (alignment - 1) }

func alignSector(n int64) int64 { return (n + sectorSize - 1) &^ (sectorSize - 1) }

// sealBatch writes the header into the first bytes of a batch, with its checksums.
// The body is what follows in b, then the pieces, then the padding. The seed is the
// store's, so that a batch of another store never verifies.
func (h *batchHeader) sealBatch(b []byte, seed uint32, pieces ...[]byte) {
	binary.LittleEndian.PutUint32(b[0:], batchMagic)
	binary.LittleEndian.PutUint32(b[12:], h.prev)
	binary.LittleEndian.PutUint32(b[16:], uint32(h.kind))
	binary.LittleEndian.PutUint32(b[20:], h.count)
	binary.LittleEndian.PutUint32(b[24:], h.length)
	binary.LittleEndian.PutUint32(b[28:], h.flags)
	binary.LittleEndian.PutUint64(b[32:], h.first)
	binary.LittleEndian.PutUint64(b[40:], h.commit)
	binary.LittleEndian.PutUint64(b[48:], h.segment)
	binary.LittleEndian.PutUint64(b[56:], uint64(h.offset))
	h.checksum = crc32.Update(seed, castagnoli, b[12:])
	length := int64(len(b))
	for _, piece := range pieces {
		h.checksum = crc32.Update(h.checksum, castagnoli, piece)
		length += int64(len(piece))
	}
	h.checksum = crc32.Update(h.checksum, castagnoli, zeros[:padding(length)])
	binary.LittleEndian.PutUint32(b[8:], h.checksum)
	binary.LittleEndian.PutUint32(b[4:], crc32.Update(seed, castagnoli, b[8:batchHeaderSize]))
}

// decodeBatchHeader returns the header at the start of b if it verifies, stands
// where it says that it stands, and says what this version can mean. The body is
// not looked at.
func decodeBatchHeader(b []byte, seed uint32, segment uint64, offset int64) (batchHeader, bool) {
	if len(b) < batchHeaderSize || binary.LittleEndian.Uint32(b) != batchMagic {
		return batchHeader{}, false
	}
	if binary.LittleEndian.Uint32(b[4:]) != crc32.Update(seed, castagnoli, b[8:batchHeaderSize]) {
		return batchHeader{}, false
	}
	h := batchHeader{
		checksum: binary.LittleEndian.Uint32(b[8:]),
		prev:     binary.LittleEndian.Uint32(b[12:]),
		kind:     batchKind(binary.LittleEndian.Uint32(b[16:])),
		count:    binary.LittleEndian.Uint32(b[20:]),
		length:   binary.LittleEndian.Uint32(b[24:]),
		flags:    binary.LittleEndian.Uint32(b[28:]),
		first:    binary.LittleEndian.Uint64(b[32:]),
		commit:   binary.LittleEndian.Uint64(b[40:]),
		segment:  binary.LittleEndian.Uint64(b[48:]),
		offset:   int64(binary.LittleEndian.Uint64(b[56:])),
	}
	return h, h.segment == segment && h.offset == offset
}

// verifyBatch reports whether header and body are what was written together.
func (h *batchHeader) verifyBatch(b []byte, seed uint32) bool {
	return h.checksum == crc32.Update(seed, castagnoli, b[12:])
}

// meaning returns what is wrong with a batch that verifies, for a log that ends at
// last: such a batch was never written by this package.
func (h *batchHeader) meaning(last uint64) error {
	empty := h.count == 0 && h.length == 0
	switch {
	case h.kind == kindAppend && !empty && h.count > 0 && h.first <= last+1:
	case h.kind == kindTruncate && empty && h.first <= last:
	case (h.kind == kindSeal || h.kind == kindRoll) && empty && h.first == last+1:
	case h.kind == kindReset && empty:
	default:
		return fmt.Errorf("a batch of kind %d, %d records and %d bytes at index %d, after %d",
			h.kind, h.count, h.length, h.first, last)
	}
	switch {
	case h.first == 0:
		return errors.New("a batch at index 0")
	case h.flags != 0:
		return fmt.Errorf("a batch with flags %x", h.flags)
	}
	return nil
}

// File names within the directory of the log.
const (
	lockName        = "lock"
	identityNameA   = "identity-a"
	identityNameB   = "identity-b"
	stateNameA      = "hardstate-a"
	stateNameB      = "hardstate-b"
	segmentSuffix   = ".wal"
	segmentTempName = "segment" + vfs.TempSuffix
	formerTempName  = "prepared" + vfs.TempSuffix // of earlier versions, which prepared the next segment
)

// temporary names what a crash may leave unfinished. Other files are not ours.
var temporary = [...]string{segmentTempName, formerTempName, identityNameA + vfs.TempSuffix, identityNameB + vfs.TempSuffix,
	stateNameA + vfs.TempSuffix, stateNameB + vfs.TempSuffix}

func segmentName(number uint64) string { return fmt.Sprintf("%016x%s", number, segmentSuffix) }

// segmentNumber returns the number in the name of a segment file; false says that
// it is another file's name.
func segmentNumber(name string) (uint64, bool) {
	if len(name) != 16+len(segmentSuffix) {
		return 0, false
	}
	n, err := strconv.ParseUint(name[:16], 16, 64)
	return n, err == nil && n > 0 && segmentName(n) == name
}

func allZero(b []byte) bool {
	for len(b) >= 8 {
		if binary.NativeEndian.Uint64(b) != 0 {
			return false
		}
		b = b[8:]
	}
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
