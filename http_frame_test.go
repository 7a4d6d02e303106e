package raft

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
)

func framesOf(r io.Reader, kind byte) frameReader {
	return newFrameReader(bufio.NewReaderSize(r, frameBufferSize), kind, MaxMessageBytes, func(int) {})
}

// The bytes of version 1, which a later version must still be able to refuse.
func TestStreamGolden(t *testing.T) {
	h := hello{status: 3, clusterID: 0x0102030405060708, storeID: 9, toStoreID: 10, from: "n1", to: "n2"}
	frame := requestFrame(wireRequest("n1", "n2", 5, 2))
	response := appendResponseFrame(nil, newFake("n2").answer(wireRequest("n1", "n2", 5, -1)))
	for _, golden := range []struct {
		name, want string
		bytes      []byte
	}{
		{"hello", goldenHello, h.appendTo(nil)},
		{"request", goldenRequest, frame},
		{"response", goldenResponse, response},
	} {
		if got := hex.EncodeToString(golden.bytes); got != strings.ReplaceAll(golden.want, " ", "") {
			t.Errorf("%s:\n got %s\nwant %s", golden.name, got, golden.want)
		}
	}
}

func TestHelloRoundTrip(t *testing.T) {
	for _, h := range []hello{
		{},
		{status: helloStore, clusterID: 1 << 63, storeID: 2, toStoreID: 3, from: "a", to: "b"},
		{from: strings.Repeat("f", maxNameBytes), to: strings.Repeat("t", maxNameBytes)},
	} {
		b := h.appendTo(nil)
		got, err := readHello(iotest.OneByteReader(bytes.NewReader(b)))
		if err != nil || got != h {
			t.Fatalf("got %+v, %v; want %+v", got, err, h)
		}
		for i := range b {
			if _, err := readHello(bytes.NewReader(b[:i])); !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatalf("%d of %d bytes: %v", i, len(b), err)
			}
		}
	}
}

// A hello of which any bit was flipped is never taken for another one.
func TestFault119_HelloBitFlips(t *testing.T) {
	h := hello{clusterID: 1, storeID: 2, toStoreID: 3, from: "n1", to: "n2"}
	eachFlip(h.appendTo(nil), func(bit int, b []byte) {
		if got, err := readHello(bytes.NewReader(b)); err == nil {
			t.Fatalf("bit %d: %+v", bit, got)
		}
	})
}

func TestFault119_FrameBitFlips(t *testing.T) {
	whole := requestFrame(wireRequest("n1", "n2", 5, 20))
	eachFlip(whole, func(bit int, b []byte) {
		frames := framesOf(bytes.NewReader(b), frameRequest)
		if _, _, err := frames.next(); err == nil {
			t.Fatalf("bit %d went unnoticed", bit)
		}
	})
}

// eachFlip calls f with the bytes after the flip of each one bit.
func eachFlip(b []byte, f func(bit int, b []byte)) {
	for bit := range 8 * len(b) {
		flipped := bytes.Clone(b)
		flipped[bit/8] ^= 1 << (bit % 8)
		f(bit, flipped)
	}
}

func TestFramesRoundTrip(t *testing.T) {
	var wire []byte
	sizes := []int{-1, 0, 1, 100, frameBufferSize, frameGrant - 100, frameGrant, frameGrant + 1, -1, 1 << 20, int(scale(3 << 20)), 10}
	for i, size := range sizes {
		wire = append(wire, requestFrame(wireRequest("n1", "n2", uint64(i), size))...)
	}
	for name, r := range map[string]io.Reader{
		"whole":  bytes.NewReader(wire),
		"halves": iotest.HalfReader(bytes.NewReader(wire)),
		"bytes":  iotest.OneByteReader(bytes.NewReader(wire)),
		"eof":    iotest.DataErrReader(bytes.NewReader(wire)),
	} {
		frames := framesOf(r, frameRequest)
		var kept [][]byte
		for i := range sizes {
			header, body, err := frames.next()
			if err != nil {
				t.Fatalf("%s %d: %v", name, i, err)
			}
			var got AppendEntriesRequest
			if err := got.decodeHeader(header); err != nil || got.Sequence != uint64(i) {
				t.Fatalf("%s %d: %+v, %v", name, i, got, err)
			}
			kept = append(kept, body)
		}
		for i, size := range sizes {
			if want := wireRequest("n1", "n2", uint64(i), size).records; !bytes.Equal(kept[i], want) {
				t.Fatalf("%s: the records of frame %d changed", name, i)
			}
		}
		if _, _, err := frames.next(); err != io.EOF {
			t.Fatalf("%s: at the end %v", name, err)
		}
	}
}

func TestFrameCutShort(t *testing.T) {
	whole := requestFrame(wireRequest("n1", "n2", 1, frameGrant+100))
	for _, n := range []int{1, framePrefixSize - 1, framePrefixSize, framePrefixSize + 1, 200, frameGrant, len(whole) - 1} {
		frames := framesOf(bytes.NewReader(whole[:n]), frameRequest)
		if _, _, err := frames.next(); err != io.ErrUnexpectedEOF {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

func TestFrameRefused(t *testing.T) {
	prefix := func(length uint32, kind, flags byte, header uint16) []byte {
		b := binary.LittleEndian.AppendUint32(nil, length)
		b = append(b, 0, 0, 0, 0, kind, flags)
		b = binary.LittleEndian.AppendUint16(b, header)
		return append(b, make([]byte, 1<<13)...)
	}
	for name, b := range map[string][]byte{
		"kind of the other side": prefix(10, frameResponse, 0, 10),
		"unknown kind":           prefix(10, 77, 0, 10),
		"unknown flags":          prefix(10, frameRequest, 1, 10),
		"too long":               prefix(MaxMessageBytes-framePrefixSize+1, frameRequest, 0, 10),
		"longest":                prefix(1<<32-1, frameRequest, 0, 10),
		"header beyond length":   prefix(10, frameRequest, 0, 11),
		"header too long":        prefix(1<<13, frameRequest, 0, maxFrameHeader+1),
		"checksum":               prefix(10, frameRequest, 0, 10),
	} {
		frames := framesOf(bytes.NewReader(b), frameRequest)
		if _, _, err := frames.next(); !errors.Is(err, ErrFrame) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A length costs nothing: what is allocated is in proportion to what arrived.
func TestFault114_DeclaredLengthIsNotAllocated(t *testing.T) {
	whole := requestFrame(wireRequest("n1", "n2", 1, MaxMessageBytes-1<<10))
	for _, arrived := range []int{framePrefixSize, 100, frameGrant, 1 << 20, 4 << 20} {
		in := bufio.NewReaderSize(bytes.NewReader(whole[:arrived]), frameBufferSize)
		frames := newFrameReader(in, frameRequest, MaxMessageBytes, func(int) {})
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, _, err := frames.next()
		runtime.ReadMemStats(&after)
		if err != io.ErrUnexpectedEOF {
			t.Fatal(err)
		}
		// Each doubling leaves the smaller buffer behind, to be collected.
		if got := after.TotalAlloc - before.TotalAlloc; got > uint64(4*arrived+2*frameGrant) {
			t.Errorf("%d bytes arrived, %d were allocated", arrived, got)
		}
	}
}

// Row 114: small frames cause no more to be allocated than twice what came, and the
// first grant.
func TestFault114_ArenasGrowWithWhatCame(t *testing.T) {
	frame := bodyFrame(make([]byte, maxArenaBody))
	small := bodyFrame(make([]byte, 1))
	for _, n := range []int{0, 1, 2, 4, 8} {
		in := append(bytes.Repeat(frame, n), small...)
		frames := newFrameReader(bufio.NewReaderSize(bytes.NewReader(in), frameBufferSize), frameRequest, MaxMessageBytes, func(int) {})
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range n + 1 {
			_, _, err := frames.next()
			require.NoError(t, err)
		}
		runtime.ReadMemStats(&after)
		require.LessOrEqual(t, int(after.TotalAlloc-before.TotalAlloc), 2*len(in)+frameGrant+8<<10, "%d frames", n)
	}
}

func FuzzFrame(f *testing.F) {
	f.Add(requestFrame(wireRequest("n1", "n2", 1, 10)))
	f.Add(append(requestFrame(wireRequest("n1", "n2", 1, -1)), requestFrame(wireRequest("n1", "n2", 2, 300))...))
	f.Add([]byte(helloMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		frames := framesOf(bytes.NewReader(b), frameRequest)
		rest := b
		for {
			header, body, err := frames.next()
			if err != nil {
				return
			}
			// What is accepted is what would have been sent.
			again := append(beginFrame(nil, frameRequest), header...)
			finishFrame(again, 0, body)
			again = append(again, body...)
			if !bytes.HasPrefix(rest, again) {
				t.Fatalf("accepted %x of %x", again, rest)
			}
			rest = rest[len(again):]
			var req AppendEntriesRequest
			_ = req.decodeHeader(header)
		}
	})
}

func FuzzHello(f *testing.F) {
	f.Add((&hello{clusterID: 1, from: "n1", to: "n2"}).appendTo(nil))
	f.Add((&hello{}).appendTo(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := readHello(bytes.NewReader(b))
		if err == nil && !bytes.HasPrefix(b, h.appendTo(nil)) {
			t.Fatalf("accepted %x as %+v", b, h)
		}
	})
}

const (
	goldenHello = "7266741a 0100 0300 0807060504030201 0900000000000000 0a00000000000000 0200 0200 dca5c672" +
		"6e31 6e32"
	goldenRequest = "5c000000 52c3a6a9 01 00 3b00" +
		"390700000000000000 0803 1004 1802 2001 2a026e31 42026e32 496e00000000000000" +
		"510000000000000000 590000000000000000 6005 7db226620b" +
		"05000000 b3cd5b56 0500000000000000 0300000000000000 0000 0300 636d64 7878"
	goldenResponse = "2d000000 702c70c3 02 00 2d00" +
		"390700000000000000 0803 1004 1801 2001 42026e32 496e00000000000000" +
		"5000 5800 6005 6800 7000 7de570de01"
)
