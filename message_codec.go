package raft

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/goraft/raft/protobuf"
)

const (
	// MaxMessageBytes bounds what Decode reads of one message: the largest entry
	// and 1 MiB around it.
	MaxMessageBytes = 9 << 20

	// maxSnapshotMessageBytes bounds a SnapshotRecoveryRequest, which carries a
	// whole state.
	maxSnapshotMessageBytes = 64 << 20

	// maxPieceBytes bounds the piece of a snapshot's file that one message carries,
	// maxPieceHeaderBytes what is around it.
	maxPieceBytes       = 1 << 20
	maxPieceHeaderBytes = 64 << 10

	// maxMessageEntries bounds the entries of one message, because each costs far
	// more memory than the two bytes that it can be sent with.
	maxMessageEntries = 1 << 16

	// maxPooledBytes is the size up to which encoding buffers are kept for reuse.
	maxPooledBytes = 2 << 20
)

var (
	// ErrMessage says that bytes are not the message that was expected: they do
	// not parse, lack what the message cannot be without, or were changed on the
	// way.
	ErrMessage = errors.New("raft: malformed message")
	// ErrMessageTooLarge says that a message, or an entry in it, is larger than
	// its limit. What is beyond the limit was not read.
	ErrMessageTooLarge = errors.New("raft: message too large")
)

// The fields that this library added to every message, and the first field,
// which every message must have. See protobuf/raft.proto.
const (
	fieldClusterID      = 7<<3 | protobuf.Fixed64
	fieldTo             = 8<<3 | protobuf.Bytes // From in a response
	fieldStoreID        = 9<<3 | protobuf.Fixed64
	fieldToStoreID      = 10<<3 | protobuf.Fixed64 // in a request
	fieldRefused        = 10<<3 | protobuf.Varint  // in a response
	fieldInitialDigest  = 11<<3 | protobuf.Fixed64 // in a request
	fieldSequence       = 12<<3 | protobuf.Varint
	fieldSnapshotTerm   = 12<<3 | protobuf.Varint  // in the snapshot messages
	fieldSnapshotID     = 11<<3 | protobuf.Fixed64 // in the snapshot messages, as the next four
	fieldSize           = 13<<3 | protobuf.Varint
	fieldSnapshotCommit = 13<<3 | protobuf.Varint
	fieldOffset         = 14<<3 | protobuf.Varint
	fieldPreVote        = 13<<3 | protobuf.Varint
)

// message is what all messages have in common. appendTo must not allocate
// but to grow dst; parse may keep slices of b and leaves the message undefined
// when it fails.
type message interface {
	appendTo(dst []byte) []byte
	parse(b []byte) error
}

var encodeBuffers = sync.Pool{New: func() any { return new([]byte) }}

// encodeMessage writes the message with one call of w.Write.
func encodeMessage(w io.Writer, m message) (int, error) {
	buffer := encodeBuffers.Get().(*[]byte)
	b := m.appendTo((*buffer)[:0])
	n, err := w.Write(b)
	if cap(b) <= maxPooledBytes {
		*buffer = b
		encodeBuffers.Put(buffer)
	}
	return n, err
}

// decodeMessage reads r to its end, at most limit bytes, into m. It returns the
// number of bytes read.
func decodeMessage(r io.Reader, m message, limit int) (int, error) {
	b, err := readBounded(r, limit)
	if err != nil {
		return len(b), err
	}
	return len(b), m.parse(b)
}

// readBounded reads r to its end. What it allocates is in proportion to what r
// delivers, whatever that says of itself.
func readBounded(r io.Reader, limit int) ([]byte, error) {
	b := make([]byte, 0, min(512, limit+1))
	if sized, ok := r.(interface{ Len() int }); ok {
		// A reader over memory: nothing is allocated that is not there.
		b = make([]byte, 0, max(0, min(sized.Len(), limit))+1)
	}
	for {
		n, err := r.Read(b[len(b):min(cap(b), limit+1)])
		b = b[:len(b)+n]
		switch {
		case len(b) > limit:
			return b, fmt.Errorf("%w: more than %d bytes", ErrMessageTooLarge, limit)
		case err == io.EOF:
			return b, nil
		case err != nil:
			return b, err
		}
		if len(b) == cap(b) {
			b = append(make([]byte, 0, min(2*cap(b), limit+1)), b...)
		}
	}
}

// finish is the end of every parse: the message must be whole and unchanged, and
// have its first field, so that an empty body or a page of a proxy is never
// taken for an answer.
func finish(s *protobuf.Scanner, name string, hasFirst bool) error {
	if err := s.Verify(); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrMessage, name, err)
	}
	if !hasFirst {
		return fmt.Errorf("%w: %s: its first field is absent", ErrMessage, name)
	}
	return nil
}

// intern is string(b), without allocating where that equals the value before.
func intern(b []byte, before string) string {
	if string(b) == before {
		return before
	}
	return string(b)
}
