package raft

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// What a stream speaks once the connection is upgraded; docs/wire.md draws it.
// Integers are little-endian, as in the log's records.
const (
	streamVersion = 1

	helloMagic     = "rft\x1a"
	helloFixedSize = 40

	framePrefixSize   = 12
	frameRequest      = 1 // header: an AppendEntriesRequest without entries; body: its records
	frameResponse     = 2 // header: an AppendEntriesResponse; no body
	maxFrameHeader    = 4 << 10
	frameGrant        = 64 << 10 // what a peer may make us allocate before it has sent anything
	frameBufferSize   = 16 << 10
	maxResponseFrames = framePrefixSize + maxFrameHeader
	maxArenaBody      = ownChunkBytes - 1 // larger ones are chunks of the log by themselves
)

// Why a stream was refused, or ended.
var (
	// ErrHello says that what came first on a stream is not a hello.
	ErrHello = errors.New("raft: not the hello of an append stream")
	// ErrStreamVersion says that the other side speaks a version of the stream
	// that this one does not know.
	ErrStreamVersion = errors.New("raft: unknown version of the append stream")
	// ErrStreamCluster says that the peer belongs to another cluster.
	ErrStreamCluster = errors.New("raft: the peer belongs to another cluster")
	// ErrStreamAddressee says that another server answers at the peer's address.
	ErrStreamAddressee = errors.New("raft: another server answers at the peer's address")
	// ErrStreamStore says that the peer's name answers with another store than
	// the one that the configuration binds it to.
	ErrStreamStore = errors.New("raft: the peer answers with another store")
	// ErrStreamBusy says that the peer holds as many streams as it will.
	ErrStreamBusy = errors.New("raft: the peer takes no more append streams")
	// ErrFrame says that a frame was damaged on its way, or that the other side
	// does not keep to the protocol. Nothing of the frame was looked at.
	ErrFrame = errors.New("raft: bad frame")
)

// The statuses of a hello. A request's is 0.
const (
	helloOK = iota
	helloVersion
	helloCluster
	helloAddressee
	helloStore
	helloBusy
)

// helloErrors tells what a status means.
var helloErrors = [...]error{
	helloOK:        nil,
	helloVersion:   ErrStreamVersion,
	helloCluster:   ErrStreamCluster,
	helloAddressee: ErrStreamAddressee,
	helloStore:     ErrStreamStore,
	helloBusy:      ErrStreamBusy,
}

var frameTable = crc32.MakeTable(crc32.Castagnoli)

// hello is the first thing that each side of a stream says, the one that opened
// it first. Both have the same form.
type hello struct {
	status    uint16
	clusterID uint64 // the sender's, 0 while it belongs to none
	storeID   uint64 // the sender's
	toStoreID uint64 // the addressee's as the sender knows it, 0 if it does not
	from      string // the sender's name
	to        string // the addressee's
}

func (h *hello) appendTo(dst []byte) []byte {
	start := len(dst)
	dst = append(dst, helloMagic...)
	dst = binary.LittleEndian.AppendUint16(dst, streamVersion)
	dst = binary.LittleEndian.AppendUint16(dst, h.status)
	dst = binary.LittleEndian.AppendUint64(dst, h.clusterID)
	dst = binary.LittleEndian.AppendUint64(dst, h.storeID)
	dst = binary.LittleEndian.AppendUint64(dst, h.toStoreID)
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(h.from)))
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(h.to)))
	sumAt := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	dst = append(dst, h.from...)
	dst = append(dst, h.to...)
	binary.LittleEndian.PutUint32(dst[sumAt:], helloSum(dst[start:]))
	return dst
}

// helloSum is the checksum of a whole hello but for the checksum itself.
func helloSum(b []byte) uint32 {
	sum := crc32.Checksum(b[:helloFixedSize-4], frameTable)
	return crc32.Update(sum, frameTable, b[helloFixedSize:])
}

// readHello reads one hello and not a byte more. It fails with ErrHello,
// ErrStreamVersion, or what r failed with.
func readHello(r io.Reader) (hello, error) {
	// Magic and version first: what follows them is the version's own affair.
	b := make([]byte, helloFixedSize, helloFixedSize+128)
	if _, err := io.ReadFull(r, b[:8]); err != nil {
		return hello{}, err
	}
	if string(b[:4]) != helloMagic {
		return hello{}, fmt.Errorf("%w: it begins %x", ErrHello, b[:4])
	}
	if version := binary.LittleEndian.Uint16(b[4:]); version != streamVersion {
		return hello{}, fmt.Errorf("%w: %d", ErrStreamVersion, version)
	}
	if _, err := io.ReadFull(r, b[8:]); err != nil {
		return hello{}, err
	}
	from, to := int(binary.LittleEndian.Uint16(b[32:])), int(binary.LittleEndian.Uint16(b[34:]))
	if from > maxNameBytes || to > maxNameBytes {
		return hello{}, fmt.Errorf("%w: names of %d and %d bytes", ErrHello, from, to)
	}
	b = append(b, make([]byte, from+to)...)
	if _, err := io.ReadFull(r, b[helloFixedSize:]); err != nil {
		return hello{}, err
	}
	if binary.LittleEndian.Uint32(b[36:]) != helloSum(b) {
		return hello{}, fmt.Errorf("%w: checksum", ErrHello)
	}
	names := string(b[helloFixedSize:])
	return hello{
		status:    binary.LittleEndian.Uint16(b[6:]),
		clusterID: binary.LittleEndian.Uint64(b[8:]),
		storeID:   binary.LittleEndian.Uint64(b[16:]),
		toStoreID: binary.LittleEndian.Uint64(b[24:]),
		from:      names[:from],
		to:        names[from:],
	}, nil
}

// beginFrame appends the prefix of a frame whose header the caller appends next.
func beginFrame(dst []byte, kind byte) []byte {
	var prefix [framePrefixSize]byte
	prefix[8] = kind
	return append(dst, prefix[:]...)
}

// finishFrame completes the frame that beginFrame began at start of b: all that
// follows the prefix in b is its header, and body, which goes out after b, the
// rest.
func finishFrame(b []byte, start int, body []byte) {
	frame := b[start:]
	header := len(frame) - framePrefixSize
	binary.LittleEndian.PutUint32(frame, uint32(header+len(body)))
	binary.LittleEndian.PutUint16(frame[10:], uint16(header))
	binary.LittleEndian.PutUint32(frame[4:], frameSum(frame, body))
}

// frameSum is the checksum of a frame but for the checksum itself: head is its
// prefix and header.
func frameSum(head, body []byte) uint32 {
	sum := crc32.Checksum(head[:4], frameTable)
	sum = crc32.Update(sum, frameTable, head[8:])
	return crc32.Update(sum, frameTable, body)
}

// frameReader reads the frames of one kind. It allocates no more than about
// twice what has arrived, whatever a frame says of its length.
type frameReader struct {
	in   *bufio.Reader
	kind byte
	max  int // bytes of one frame
	// expect is told before a wait how many bytes are to come: 0 before a frame,
	// which may be long in coming.
	expect func(size int)

	grant int // bytes to allocate on the word of the other side
	head  []byte
	arena []byte // small bodies lie in it, one right behind the other
}

func newFrameReader(in *bufio.Reader, kind byte, limit int, expect func(size int)) frameReader {
	return frameReader{in: in, kind: kind, max: limit, expect: expect, grant: frameGrant}
}

// next returns the next frame's header, which is valid until the next call, and
// its body, which is the caller's. What its capacity has beyond is for the bodies of
// later frames.
func (r *frameReader) next() (header, body []byte, err error) {
	r.expect(0)
	prefix, err := r.in.Peek(framePrefixSize)
	if err != nil {
		return nil, nil, midFrame(err, len(prefix))
	}
	size := uint64(binary.LittleEndian.Uint32(prefix))
	headerSize := int(binary.LittleEndian.Uint16(prefix[10:]))
	switch {
	case prefix[8] != r.kind || prefix[9] != 0:
		return nil, nil, fmt.Errorf("%w: kind %d, flags %d", ErrFrame, prefix[8], prefix[9])
	case size+framePrefixSize > uint64(r.max):
		return nil, nil, fmt.Errorf("%w: %d bytes, %d are allowed: %w", ErrFrame, size, r.max, ErrMessageTooLarge)
	case headerSize > maxFrameHeader || uint64(headerSize) > size:
		return nil, nil, fmt.Errorf("%w: header of %d bytes in %d", ErrFrame, headerSize, size)
	}
	sum := binary.LittleEndian.Uint32(prefix[4:])
	if int(size) > frameGrant {
		r.expect(int(size))
	}
	head, err := r.in.Peek(framePrefixSize + headerSize)
	if err != nil {
		return nil, nil, midFrame(err, len(head))
	}
	r.head = append(r.head[:0], head...)
	if _, err := r.in.Discard(len(head)); err != nil {
		return nil, nil, err
	}
	if body, err = r.readBody(int(size) - headerSize); err != nil {
		return nil, nil, midFrame(err, framePrefixSize)
	}
	if frameSum(r.head, body) != sum {
		return nil, nil, fmt.Errorf("%w: checksum", ErrFrame)
	}
	r.grant = max(r.grant, 2*int(size))
	return r.head[framePrefixSize:], body, nil
}

// readBody reads n bytes into memory of their own, which grows as they arrive.
// The largest frame that came whole on this connection says how much may be
// allocated ahead, so that a peer in good standing causes no copying.
func (r *frameReader) readBody(n int) ([]byte, error) {
	if n == 0 {
		return nil, nil
	}
	if n <= maxArenaBody {
		return r.readSmall(n)
	}
	b := make([]byte, min(n, r.grant))
	for read := 0; ; {
		m, err := io.ReadFull(r.in, b[read:])
		if err != nil {
			return nil, err
		}
		if read += m; read == n {
			return b, nil
		}
		grown := make([]byte, min(n, 2*len(b)))
		copy(grown, b)
		b = grown
	}
}

// readSmall reads n bytes into the arena. The first one is small; a peer that has
// filled it gets one twice as large.
func (r *frameReader) readSmall(n int) ([]byte, error) {
	at := len(r.arena)
	if cap(r.arena)-at < n {
		r.arena, at = make([]byte, 0, min(max(frameGrant, 2*cap(r.arena)), chunkBytes)), 0
	}
	b := r.arena[at : at+n]
	if _, err := io.ReadFull(r.in, b); err != nil {
		return nil, err
	}
	r.arena = r.arena[:at+n]
	return b, nil
}

// midFrame says whether the connection ended between two frames (io.EOF) or
// within one.
func midFrame(err error, read int) error {
	if errors.Is(err, io.EOF) && read > 0 {
		return io.ErrUnexpectedEOF
	}
	return err
}
