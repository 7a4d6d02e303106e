package protobuf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/bits"

	"google.golang.org/protobuf/encoding/protowire"
)

// The wire types that the messages use. A field's key is number<<3 | type.
const (
	Varint  = uint64(protowire.VarintType)
	Fixed64 = uint64(protowire.Fixed64Type)
	Fixed32 = uint64(protowire.Fixed32Type)
	Bytes   = uint64(protowire.BytesType)
)

// ChecksumKey is the key of the checksum, the last field of every message.
const ChecksumKey = 15<<3 | Fixed32

// firstOwn and lastOwn bound the field numbers that this library added to
// goraft's messages; lastOwn is the checksum's.
const (
	firstOwn = 7
	lastOwn  = 15
)

var (
	// ErrTruncated says that bytes are not a protobuf message.
	ErrTruncated = errors.New("protobuf: bytes are not a message")
	// ErrChecksum says that a message was changed, or lacks the checksum that
	// its other fields call for.
	ErrChecksum = errors.New("protobuf: bad message checksum")
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// AppendVarint appends a field of type uint64 or uint32.
func AppendVarint(dst []byte, key, value uint64) []byte {
	return protowire.AppendVarint(protowire.AppendVarint(dst, key), value)
}

// AppendBool appends a field of type bool.
func AppendBool(dst []byte, key uint64, value bool) []byte {
	return AppendVarint(dst, key, protowire.EncodeBool(value))
}

// AppendFixed64 appends a field of type fixed64.
func AppendFixed64(dst []byte, key, value uint64) []byte {
	return binary.LittleEndian.AppendUint64(protowire.AppendVarint(dst, key), value)
}

// AppendBytes appends a field of type string or bytes.
func AppendBytes[T string | []byte](dst []byte, key uint64, value T) []byte {
	dst = protowire.AppendVarint(dst, key)
	dst = protowire.AppendVarint(dst, uint64(len(value)))
	return append(dst, value...)
}

// AppendChecksum ends the message that begins at start of dst with the checksum
// of what is there.
func AppendChecksum(dst []byte, start int) []byte {
	sum := crc32.Checksum(dst[start:], castagnoli)
	return binary.LittleEndian.AppendUint32(protowire.AppendVarint(dst, ChecksumKey), sum)
}

// Scanner reads the fields of one message in their order, allocating nothing.
// It accepts and refuses the same bytes as the generated code; a field whose
// Key the caller does not know is skipped by asking for the next.
type Scanner struct {
	// Key is the number and the wire type of the field that Next found.
	Key uint64
	// Value is that of a varint or fixed field.
	Value uint64
	// Data is the content of a length-delimited field; it aliases the message.
	Data []byte

	message []byte
	next    int   // where the field after this one begins
	err     error // what ended the scan before the end of the message

	own    bool // a field of numbers 7 to 14 was seen
	sum    uint32
	sumAt  int // where the last checksum field begins, if there is one
	hasSum bool
}

// NewScanner returns a Scanner over the message b, which must not change while
// it is used.
func NewScanner(b []byte) Scanner { return Scanner{message: b} }

// Next goes on to the next field and reports whether there is one.
func (s *Scanner) Next() bool {
	if s.err != nil || s.next == len(s.message) {
		return false
	}
	begin, b := s.next, s.message[s.next:]
	key, n := uint64(b[0]), 1
	if key >= 0x80 {
		key, n = protowire.ConsumeVarint(b)
	}
	number := key >> 3
	if n < 0 || number < uint64(protowire.MinValidNumber) || number > uint64(protowire.MaxValidNumber) {
		return s.fail()
	}
	size := s.value(b[n:], key)
	if size < 0 {
		return s.fail()
	}
	s.Key, s.next = key, begin+n+size
	switch {
	case key == ChecksumKey:
		s.sum, s.sumAt, s.hasSum = uint32(s.Value), begin, true
	case firstOwn <= number && number < lastOwn:
		s.own = true
	}
	return true
}

// value reads a field's value from the start of b and returns its size, or a
// negative number.
func (s *Scanner) value(b []byte, key uint64) int {
	size := -1
	switch key & 7 {
	case Varint:
		s.Value, size = protowire.ConsumeVarint(b)
	case Fixed64:
		s.Value, size = protowire.ConsumeFixed64(b)
	case Bytes:
		s.Data, size = protowire.ConsumeBytes(b)
	case Fixed32:
		var value uint32
		value, size = protowire.ConsumeFixed32(b)
		s.Value = uint64(value)
	default:
		size = protowire.ConsumeFieldValue(protowire.Number(key>>3), protowire.Type(key&7), b)
	}
	return size
}

func (s *Scanner) fail() bool {
	s.err = fmt.Errorf("%w: at byte %d of %d", ErrTruncated, s.next, len(s.message))
	return false
}

// Err says what ended the scan: nil at the end of the message, ErrTruncated
// otherwise.
func (s *Scanner) Err() error { return s.err }

// Verify is Err, and ErrChecksum unless the message has a right checksum as its
// last field, or neither a checksum nor any other field that goraft did not have.
func (s *Scanner) Verify() error {
	switch {
	case s.err != nil:
		return s.err
	case !s.hasSum && !s.own:
		return nil
	case !s.hasSum:
		return fmt.Errorf("%w: there is none", ErrChecksum)
	case s.sumAt != s.checksumBegin():
		return fmt.Errorf("%w: it is not the last field", ErrChecksum)
	case s.sum != crc32.Checksum(s.message[:s.sumAt], castagnoli):
		return ErrChecksum
	}
	return nil
}

// checksumBegin is where a checksum that ends the message begins.
func (s *Scanner) checksumBegin() int {
	return len(s.message) - protowire.SizeVarint(ChecksumKey) - protowire.SizeFixed32()
}

// The keys of a LogEntry's fields.
const (
	entryIndex    = 1<<3 | Varint
	entryTerm     = 2<<3 | Varint
	entryName     = 3<<3 | Bytes
	entryCommand  = 4<<3 | Bytes
	entryKind     = 5<<3 | Varint
	entryChecksum = 6<<3 | Fixed32
)

// Entry is a LogEntry as plain values.
type Entry[Name string | []byte] struct {
	Index, Term uint64
	Name        Name
	Command     []byte
	Kind        uint32
	Checksum    uint32 // 0: unknown
}

// AppendEntry appends the entry as a field of that key. Index, term and name are
// written always; the rest, which goraft did not require, where there is any.
func AppendEntry[Name string | []byte](dst []byte, key uint64, e *Entry[Name]) []byte {
	dst = protowire.AppendVarint(dst, key)
	dst = protowire.AppendVarint(dst, uint64(e.size()))
	dst = AppendVarint(dst, entryIndex, e.Index)
	dst = AppendVarint(dst, entryTerm, e.Term)
	dst = AppendBytes(dst, entryName, e.Name)
	if len(e.Command) > 0 {
		dst = AppendBytes(dst, entryCommand, e.Command)
	}
	if e.Kind != 0 {
		dst = AppendVarint(dst, entryKind, uint64(e.Kind))
	}
	if e.Checksum != 0 {
		dst = append(dst, byte(entryChecksum))
		dst = binary.LittleEndian.AppendUint32(dst, e.Checksum)
	}
	return dst
}

// size is the length of the entry's message. Every key is one byte.
func (e *Entry[Name]) size() int {
	n := 1 + sizeVarint(e.Index) + 1 + sizeVarint(e.Term) + 1 + sizeBytes(len(e.Name))
	if len(e.Command) > 0 {
		n += 1 + sizeBytes(len(e.Command))
	}
	if e.Kind != 0 {
		n += 1 + sizeVarint(uint64(e.Kind))
	}
	if e.Checksum != 0 {
		n += 1 + 4
	}
	return n
}

func sizeBytes(n int) int { return sizeVarint(uint64(n)) + n }

func sizeVarint(v uint64) int { return (bits.Len64(v|1) + 6) / 7 }

// ParseEntry reads a LogEntry message into e, whose name and command then alias
// the message.
func ParseEntry(b []byte, e *Entry[[]byte]) error {
	*e = Entry[[]byte]{}
	s := NewScanner(b)
	for s.Next() {
		switch s.Key {
		case entryIndex:
			e.Index = s.Value
		case entryTerm:
			e.Term = s.Value
		case entryName:
			e.Name = s.Data
		case entryCommand:
			e.Command = s.Data
		case entryKind:
			e.Kind = uint32(s.Value)
		case entryChecksum:
			e.Checksum = uint32(s.Value)
		}
	}
	return s.Err()
}
