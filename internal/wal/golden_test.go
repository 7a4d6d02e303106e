package wal

import (
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
)

// golden holds the bytes of every format, without the zeros that pad them. They
// never change within a format version: stores of every released version are read
// by every later one.
var golden = []struct {
	name   string
	encode func() []byte
	hex    string
}{
	{"record", func() []byte { return record(0x0102030405060708, 9, 7, []byte("data")) },
		"08000000 fc7f1570 0900000000000000 0700000000000000 0100 0400 6e616d65 64617461"},
	{"segment header", func() []byte {
		h := segmentHeader{storeID: 0x1122334455667788, clusterID: 0x0102030405060708, number: 3, first: 90, allocated: 1 << 18, commit: 80, prev: 0xcafe}
		return h.encode()
	}, "474f52414654574c 01000000 ef277b87 8877665544332211 0807060504030201 0300000000000000 5a00000000000000 0000040000000000 5000000000000000 feca0000 854d8afb"},
	{"batch", func() []byte {
		body := record(1, 9, 7, []byte("d"))
		h := batchHeader{kind: kindAppend, prev: 0xbeef, count: 1, length: uint32(len(body)), first: 9, commit: 8, segment: 3, offset: 512}
		b := make([]byte, h.size())
		copy(b[batchHeaderSize:], body)
		h.sealBatch(b, Seed(5))
		return b
	}, "62746368 c5243b2b 580badbc efbe0000 0100 0000 01000000 21000000 00000000 0900000000000000 0800000000000000 0300000000000000 0002000000000000 05000000 b28740ae 0900000000000000 0700000000000000 0100 0400 6e616d65 64"},
	{"seal", func() []byte {
		h := batchHeader{kind: kindSeal, prev: 0xbeef, first: 10, commit: 9, segment: 3, offset: 616}
		b := make([]byte, h.size())
		h.sealBatch(b, Seed(5))
		return b
	}, "62746368 a549bcd8 ded301b9 efbe0000 0300 0000 00000000 00000000 00000000 0a00000000000000 0900000000000000 0300000000000000 6802000000000000"},
	{"identity", func() []byte {
		return encodeSlot(nil, identityMagic, slot{0x1122334455667788, 2, encodeIdentity(Identity{ClusterID: 6, Initial: []byte("init")})}, slotFileSize)
	}, "474f524146544944 01000000 eb936f8b 8877665544332211 0200000000000000 0c000000 cf76f70f 0600000000000000 696e6974"},
	{"hard state", func() []byte {
		return encodeSlot(nil, stateMagic, slot{0x1122334455667788, 2, encodeHardState(HardState{Term: 7, VotedFor: "n1"})}, slotFileSize)
	}, "474f524146544853 01000000 65970b43 8877665544332211 0200000000000000 0a000000 7cab768a 0700000000000000 6e31"},
}

func TestGolden(t *testing.T) {
	for _, g := range golden {
		b := g.encode()
		want, err := hex.DecodeString(strings.ReplaceAll(g.hex, " ", ""))
		must(t, err)
		if len(want) > len(b) || string(b[:len(want)]) != string(want) || !allZero(b[len(want):]) {
			t.Errorf("%s: %x", g.name, strings.TrimRight(string(b), "\x00"))
		}
	}
}

func TestRecord(t *testing.T) {
	for _, size := range []int{0, 1, 7, 100, 70000} {
		data := make([]byte, size)
		rng := seeded(uint64(size))
		for i := range data {
			data[i] = byte(rng.Uint32())
		}
		r := record(3, 1<<63, 1<<62, data)
		got, rest, err := NextRecord(append(r, "tail"...))
		must(t, err)
		must(t, got.Verify(Seed(3)))
		if got.Index() != 1<<63 || got.Term() != 1<<62 || got.Kind() != 1 || string(got.Name()) != "name" ||
			string(got.Data()) != string(data) || string(rest) != "tail" {
			t.Fatalf("%d bytes: %v", size, got[:min(40, len(got))])
		}
		if !errors.Is(got.Verify(Seed(4)), ErrRecord) {
			t.Fatal("verifies in another cluster")
		}
		if _, _, err := NextRecord(r[:len(r)-1]); !errors.Is(err, ErrRecord) {
			t.Fatal(err)
		}
	}
	if r := FinishRecord(BeginRecord(nil, 2, strings.Repeat("x", MaxRecordName)), 0); len(r.Name()) != MaxRecordName || len(r.Data()) != 0 {
		t.Fatal("the longest name")
	}
}

// Every bit of a record, of a header, and of a copy of a slot counts.
func TestEveryBitCounts(t *testing.T) {
	body := record(1, 9, 7, []byte("the data"))
	h := batchHeader{kind: kindAppend, prev: 0xbeef, count: 1, length: uint32(len(body)), first: 9, commit: 8, segment: 3, offset: 512}
	batch := make([]byte, h.size())
	copy(batch[batchHeaderSize:], body)
	h.sealBatch(batch, Seed(5))
	header := segmentHeader{storeID: 1, clusterID: 2, number: 3, first: 90, allocated: 1 << 18, prev: 0xcafe}
	cases := map[string]struct {
		bytes []byte
		valid func([]byte) bool
	}{
		"record": {body, func(b []byte) bool { return Record(b).Verify(Seed(1)) == nil }},
		"batch": {batch, func(b []byte) bool {
			h, ok := decodeBatchHeader(b, Seed(5), 3, 512)
			return ok && h.size() == int64(len(b)) && h.verifyBatch(b, Seed(5))
		}},
		"segment header": {header.encode(), func(b []byte) bool { _, err := decodeSegmentHeader("f", b); return err == nil }},
		"slot": {encodeSlot(nil, stateMagic, slot{1, 2, []byte("payload")}, slotFileSize), func(b []byte) bool {
			_, err := decodeSlot("f", b, stateMagic)
			return err == nil
		}},
	}
	for name, c := range cases {
		if !c.valid(c.bytes) {
			t.Fatalf("%s is not valid as it is", name)
		}
		for bit := range len(c.bytes) * 8 {
			c.bytes[bit/8] ^= 1 << (bit % 8)
			if c.valid(c.bytes) {
				t.Errorf("%s is valid with bit %d flipped", name, bit)
			}
			c.bytes[bit/8] ^= 1 << (bit % 8)
		}
	}
}

// Another version, another program's file and damage are three things.
func TestPrologue(t *testing.T) {
	valid := make([]byte, prologueSize)
	putPrologue(valid, segmentMagic, formatVersion)
	later := make([]byte, prologueSize)
	putPrologue(later, segmentMagic, formatVersion+1)
	cases := []struct {
		name  string
		bytes []byte
		want  error
	}{
		{"valid", valid, nil},
		{"a later version", later, ErrFormat},
		{"another program's", []byte("#!/bin/sh\nexit 0\n"), ErrFormat},
		{"zeros", make([]byte, prologueSize), ErrCorrupt},
	}
	for bit := range prologueSize * 8 {
		b := append([]byte(nil), valid...)
		b[bit/8] ^= 1 << (bit % 8)
		cases = append(cases, struct {
			name  string
			bytes []byte
			want  error
		}{"rot", b, ErrCorrupt})
	}
	for _, c := range cases {
		if err := checkPrologue("file", c.bytes, segmentMagic); !errors.Is(err, c.want) || c.want == nil && err != nil {
			t.Errorf("%s %x: %v", c.name, c.bytes, err)
		}
	}
	var format *FormatError
	if err := checkPrologue("file", later, segmentMagic); !errors.As(err, &format) || format.Version != formatVersion+1 {
		t.Error(err)
	}
}

func TestSegmentNames(t *testing.T) {
	for range 100 {
		n := rand.Uint64()>>rand.UintN(64) | 1
		if got, ok := segmentNumber(segmentName(n)); !ok || got != n {
			t.Fatal(n)
		}
	}
	for _, name := range []string{"", "1.wal", "0000000000000000.wal", "000000000000000A.wal", "+000000000000001.wal", "0000000000000001.wal.tmp"} {
		if _, ok := segmentNumber(name); ok {
			t.Errorf("%q is taken for a segment", name)
		}
	}
}
