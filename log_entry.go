package raft

import (
	"bytes"
	"fmt"
	"io"
	"strconv"

	//lint:ignore SA1019 goraft's face of protobuf, which programs of its time share
	"github.com/golang/protobuf/proto"
	"github.com/goraft/raft/internal/wal"
	"github.com/goraft/raft/protobuf"
)

// The kinds of entries; they are on disk and on the wire.
const (
	kindCommand       = 0 // a command of the application
	kindNOP           = 1 // a leader's first entry
	kindConfiguration = 2 // a protobuf.Configuration

	maxKind = 1<<16 - 1 // that a record can say
)

// entryHeaderBytes is the length in front of an entry's file form: eight
// hexadecimal digits and a newline.
const entryHeaderBytes = 9

// LogEntry is one entry of the log. It never changes; its methods may be called
// from any goroutine, Decode excepted. The zero LogEntry can Decode.
type LogEntry struct {
	// Position is where the entry lay in goraft's log file. Nothing sets it here.
	Position int64

	record wal.Record

	// decoded says that the record was made by Decode, without knowing the
	// cluster: its own checksum means nothing, sum is the one that was read.
	decoded bool
	sum     uint32
}

// newLogEntry makes the entry of a record, which must not change any more.
func newLogEntry(record wal.Record) *LogEntry { return &LogEntry{record: record} }

// Index is the entry's place in the log.
func (e *LogEntry) Index() uint64 {
	if e.record == nil {
		return 0
	}
	return e.record.Index()
}

// Term is the term of the leader that made the entry.
func (e *LogEntry) Term() uint64 {
	if e.record == nil {
		return 0
	}
	return e.record.Term()
}

// CommandName is the name of the entry's command.
func (e *LogEntry) CommandName() string {
	if e.record == nil {
		return ""
	}
	return string(e.record.Name())
}

// Command returns a copy of the encoded command, nil if that is empty.
func (e *LogEntry) Command() []byte {
	if e.record == nil {
		return nil
	}
	return bytes.Clone(nonEmpty(e.record.Data()))
}

func (e *LogEntry) checksum() uint32 {
	if e.decoded {
		return e.sum
	}
	return e.record.Checksum()
}

// Encode writes the entry as goraft had it in its log file and returns the
// number of bytes written, which for goraft lacked the header, and the writer's
// error.
func (e *LogEntry) Encode(w io.Writer) (int, error) {
	index, term, name := e.Index(), e.Term(), e.CommandName()
	pb := &protobuf.LogEntry{Index: &index, Term: &term, CommandName: &name}
	if e.record != nil {
		pb.Command = nonEmpty(e.record.Data())
		if kind := uint32(e.record.Kind()); kind != kindCommand {
			pb.Kind = &kind
		}
		if sum := e.checksum(); sum != 0 {
			pb.Checksum = &sum
		}
	}
	body, err := proto.Marshal(pb)
	if err != nil {
		return 0, err
	}
	return w.Write(append(fmt.Appendf(nil, "%8x\n", len(body)), body...))
}

// Decode reads one entry in the form that Encode writes and returns the number
// of bytes read. It reads nothing behind the entry. io.EOF says that there is no
// entry, io.ErrUnexpectedEOF that it is cut, ErrMessage that it is none, and
// ErrMessageTooLarge that it would be longer than MaxMessageBytes.
//
// An entry's checksum is taken over unchecked: only its cluster can verify it.
func (e *LogEntry) Decode(r io.Reader) (int, error) {
	var header [entryHeaderBytes]byte
	n, err := io.ReadFull(r, header[:])
	if err != nil {
		return n, err
	}
	length, err := parseEntryHeader(header[:])
	if err != nil {
		return n, err
	}
	body, err := readBounded(io.LimitReader(r, int64(length)), length)
	n += len(body)
	if err != nil {
		return n, err
	}
	if len(body) < length {
		return n, io.ErrUnexpectedEOF
	}
	return n, e.parse(body)
}

// parseEntryHeader reads a length of the form "%8x\n".
func parseEntryHeader(header []byte) (int, error) {
	digits := bytes.TrimLeft(header[:entryHeaderBytes-1], " ")
	length, err := strconv.ParseUint(string(digits), 16, 32)
	if err != nil || header[entryHeaderBytes-1] != '\n' {
		return 0, fmt.Errorf("%w: the length %q of an entry", ErrMessage, header)
	}
	if length > MaxMessageBytes {
		return 0, fmt.Errorf("%w: an entry of %d bytes", ErrMessageTooLarge, length)
	}
	return int(length), nil
}

// parse takes the entry from the body of its file form.
func (e *LogEntry) parse(body []byte) error {
	var pb protobuf.LogEntry
	if err := proto.Unmarshal(body, &pb); err != nil {
		return fmt.Errorf("%w: an entry: %w", ErrMessage, err)
	}
	if pb.Index == nil {
		return fmt.Errorf("%w: an entry without index", ErrMessage)
	}
	record, err := appendRecord(nil, &pb)
	if err != nil {
		return err
	}
	e.record, e.decoded, e.sum = record, true, pb.GetChecksum()
	e.record.Stamp(pb.GetIndex(), pb.GetTerm(), 0)
	return nil
}
