package snapshot

import (
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"

	"github.com/goraft/raft/internal/vfs"
)

// The format of this file is drawn in docs/format.md; golden_test.go holds its
// bytes.

const (
	formatVersion = 1

	prologueSize    = 16
	headerSize      = 64
	blockHeaderSize = 8
	endSize         = 28

	magic = "GORAFTSS"

	// defaultBlockSize is how much of the state a block holds. A file says it of
	// itself: readers take any size up to maxBlockSize.
	defaultBlockSize = 256 << 10
	maxBlockSize     = 16 << 20

	suffix = ".ss"
)

// MaxMeta bounds the bytes of the caller's own in a header.
const MaxMeta = 16 << 20

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Label names a snapshot: the last entry that it includes.
type Label struct{ Index, Term uint64 }

// compare orders labels by number: by index, then by term.
func (l Label) compare(o Label) int {
	return cmp.Or(cmp.Compare(l.Index, o.Index), cmp.Compare(l.Term, o.Term))
}

// Header is what a snapshot says of itself besides the state.
type Header struct {
	Label
	ClusterID uint64
	// ID is drawn for each file by whoever makes it, and is not 0. A copy of the file
	// keeps it: two files with one ID hold the same bytes.
	ID uint64
	// Meta are the caller's own bytes, at most MaxMeta.
	Meta []byte
}

func (h *Header) check() error {
	switch {
	case h.Index == 0:
		return fmt.Errorf("%w: index 0", ErrHeader)
	case h.ID == 0:
		return fmt.Errorf("%w: id 0", ErrHeader)
	case len(h.Meta) > MaxMeta:
		return fmt.Errorf("%w: %d bytes of meta, at most %d", ErrTooLarge, len(h.Meta), MaxMeta)
	}
	return nil
}

// fixed is the fixed part of a file's header, decoded.
type fixed struct {
	label      Label
	clusterID  uint64
	id         uint64
	metaLength uint32
	metaSum    uint32
	blockSize  uint32
	sum        uint32 // of all of the above; every other checksum starts from it
}

// encodeHeader returns what a file begins with, and the seed of its blocks.
func encodeHeader(h *Header, blockSize uint32) (b []byte, seed uint32) {
	b = make([]byte, headerSize+len(h.Meta))
	putPrologue(b, formatVersion)
	binary.LittleEndian.PutUint64(b[16:], h.Index)
	binary.LittleEndian.PutUint64(b[24:], h.Term)
	binary.LittleEndian.PutUint64(b[32:], h.ClusterID)
	binary.LittleEndian.PutUint64(b[40:], h.ID)
	binary.LittleEndian.PutUint32(b[48:], uint32(len(h.Meta)))
	binary.LittleEndian.PutUint32(b[52:], crc32.Checksum(h.Meta, castagnoli))
	binary.LittleEndian.PutUint32(b[56:], blockSize)
	seed = crc32.Checksum(b[prologueSize:60], castagnoli)
	binary.LittleEndian.PutUint32(b[60:], seed)
	copy(b[headerSize:], h.Meta)
	return b, seed
}

// decodeHeader returns the fixed part at the start of b.
func decodeHeader(file string, b []byte) (fixed, error) {
	if isGoraft(b) {
		return fixed{}, &FormatError{File: file, Goraft: true}
	}
	if len(b) < headerSize {
		return fixed{}, corrupt(file, 0, "%d bytes do not hold the header", len(b))
	}
	if err := checkPrologue(file, b); err != nil {
		return fixed{}, err
	}
	h := fixed{
		label:      Label{binary.LittleEndian.Uint64(b[16:]), binary.LittleEndian.Uint64(b[24:])},
		clusterID:  binary.LittleEndian.Uint64(b[32:]),
		id:         binary.LittleEndian.Uint64(b[40:]),
		metaLength: binary.LittleEndian.Uint32(b[48:]),
		metaSum:    binary.LittleEndian.Uint32(b[52:]),
		blockSize:  binary.LittleEndian.Uint32(b[56:]),
		sum:        binary.LittleEndian.Uint32(b[60:]),
	}
	switch {
	case h.sum != crc32.Checksum(b[prologueSize:60], castagnoli):
		return fixed{}, corrupt(file, 60, "the header does not verify")
	case h.label.Index == 0 || h.id == 0:
		return fixed{}, corrupt(file, 16, "index %d, id %016x", h.label.Index, h.id)
	case h.metaLength > MaxMeta:
		return fixed{}, corrupt(file, 48, "%d bytes of meta", h.metaLength)
	case h.blockSize == 0 || h.blockSize > maxBlockSize:
		return fixed{}, corrupt(file, 56, "blocks of %d bytes", h.blockSize)
	}
	return h, nil
}

// stateSize returns how many bytes of state a file of the given size holds: of all
// blocks only the last may be short, so the sizes of file and state say the same.
// false says that no file has this size.
func (h *fixed) stateSize(file int64) (int64, bool) {
	body := file - headerSize - int64(h.metaLength) - endSize
	if body < 0 {
		return 0, false
	}
	whole := blockHeaderSize + int64(h.blockSize)
	blocks, rest := body/whole, body%whole
	if rest == 0 {
		return blocks * int64(h.blockSize), true
	}
	return blocks*int64(h.blockSize) + rest - blockHeaderSize, rest > blockHeaderSize
}

// putPrologue writes what every file of every version begins with: eight bytes of
// magic, the version, and a checksum of the two.
func putPrologue(b []byte, version uint32) {
	copy(b, magic)
	binary.LittleEndian.PutUint32(b[8:], version)
	binary.LittleEndian.PutUint32(b[12:], crc32.Checksum(b[:12], castagnoli))
}

// checkPrologue tells damage from another format, as internal/wal does.
func checkPrologue(file string, b []byte) error {
	var zeros [prologueSize]byte
	rightMagic := string(b[:8]) == magic
	sum := crc32.Update(crc32.Checksum([]byte(magic), castagnoli), castagnoli, b[8:12])
	rightSum := binary.LittleEndian.Uint32(b[12:]) == sum
	version := binary.LittleEndian.Uint32(b[8:])
	switch {
	case rightMagic && rightSum && version == formatVersion:
		return nil
	case rightMagic && rightSum:
		return &FormatError{File: file, Version: version}
	case rightMagic || rightSum || string(b[:prologueSize]) == string(zeros[:]):
		return corrupt(file, 0, "the file's header does not verify")
	}
	return &FormatError{File: file}
}

// isGoraft recognizes a snapshot of the original goraft: a checksum in eight
// hexadecimal digits, a line of its own, and then JSON.
func isGoraft(b []byte) bool {
	if len(b) < 10 || b[8] != '\n' || b[9] != '{' {
		return false
	}
	_, err := hex.Decode(make([]byte, 4), b[:8])
	return err == nil
}

// blockSeed is what the checksum of a block starts from: its place in its file, so
// that it verifies nowhere else.
func blockSeed(seed uint32, number uint64) uint32 {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], number)
	return crc32.Update(seed, castagnoli, b[:])
}

func blockChecksum(b []byte, seed uint32, number uint64) uint32 {
	sum := crc32.Update(blockSeed(seed, number), castagnoli, b[:4])
	return crc32.Update(sum, castagnoli, b[blockHeaderSize:])
}

// sealBlock writes the header of a block whose data is in place, and returns its
// checksum.
func sealBlock(b []byte, seed uint32, number uint64) uint32 {
	binary.LittleEndian.PutUint32(b, uint32(len(b)-blockHeaderSize))
	sum := blockChecksum(b, seed, number)
	binary.LittleEndian.PutUint32(b[4:], sum)
	return sum
}

// checkBlock verifies a block that should fill b, and returns its checksum.
func checkBlock(b []byte, seed uint32, number uint64) (uint32, error) {
	if length := binary.LittleEndian.Uint32(b); uint64(length) != uint64(len(b)-blockHeaderSize) {
		return 0, fmt.Errorf("block %d says %d bytes, has %d", number, length, len(b)-blockHeaderSize)
	}
	sum := blockChecksum(b, seed, number)
	if binary.LittleEndian.Uint32(b[4:]) != sum {
		return 0, fmt.Errorf("block %d does not verify", number)
	}
	return sum, nil
}

// totals are what the end block knows of all the others.
type totals struct {
	blocks uint64
	size   int64
	sums   uint32 // checksum of the blocks' checksums
}

func (t *totals) add(length int, sum uint32) {
	var b [4]byte
	binary.LittleEndian.PutUint32(b[:], sum)
	t.blocks++
	t.size += int64(length)
	t.sums = crc32.Update(t.sums, castagnoli, b[:])
}

// end encodes the end block. Its length is 0, which no other block has.
func (t *totals) end(seed uint32) []byte {
	b := make([]byte, endSize)
	binary.LittleEndian.PutUint64(b[8:], t.blocks)
	binary.LittleEndian.PutUint64(b[16:], uint64(t.size))
	binary.LittleEndian.PutUint32(b[24:], t.sums)
	binary.LittleEndian.PutUint32(b[4:], blockChecksum(b, seed, t.blocks))
	return b
}

// Name is the name of a snapshot's file, in goraft's order: "<term>_<index>.ss".
func Name(l Label) string {
	return strconv.FormatUint(l.Term, 10) + "_" + strconv.FormatUint(l.Index, 10) + suffix
}

// parseName returns the label in the name of a file; false says that it is another
// file's name.
func parseName(name string) (Label, bool) {
	number, ok := strings.CutSuffix(name, suffix)
	if !ok {
		return Label{}, false
	}
	term, index, ok := strings.Cut(number, "_")
	if !ok {
		return Label{}, false
	}
	var (
		l    Label
		errs [2]error
	)
	l.Term, errs[0] = strconv.ParseUint(term, 10, 64)
	l.Index, errs[1] = strconv.ParseUint(index, 10, 64)
	return l, errs == [2]error{} && l.Index > 0 && Name(l) == name
}

// tempName is the name of a file that is not finished; number tells those of one
// label apart.
func tempName(l Label, number uint64) string {
	return Name(l) + "." + strconv.FormatUint(number, 10) + vfs.TempSuffix
}

// isTemp reports whether a name is one that tempName makes.
func isTemp(name string) bool {
	base, ok := strings.CutSuffix(name, vfs.TempSuffix)
	dot := strings.LastIndexByte(base, '.')
	if !ok || dot < 0 {
		return false
	}
	number, err := strconv.ParseUint(base[dot+1:], 10, 64)
	l, ok := parseName(base[:dot])
	return err == nil && ok && tempName(l, number) == name
}

// IsFile reports whether bytes begin as the file of a snapshot does.
func IsFile(b []byte) bool { return len(b) >= len(magic) && string(b[:len(magic)]) == magic }
