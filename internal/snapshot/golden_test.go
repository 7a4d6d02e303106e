package snapshot

import (
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
)

// golden holds the bytes of the format: of a file with two blocks of at most eight
// bytes, and of one without a state. They never change within a format version:
// files of every released version are read by every later one.
var golden = []struct {
	name  string
	meta  string
	state string
	hex   string
}{
	{"two blocks", "me", "0123456789",
		"474f524146545353 01000000 9e74bdd7 0900000000000000 0700000000000000 0807060504030201 8877665544332211 02000000 b9eff6e5 08000000 ecba1449 6d65 08000000 b5a32292 3031323334353637 02000000 09322e8a 3839 00000000 1c0ccf59 0200000000000000 0a00000000000000 04ed5871"},
	{"empty", "", "",
		"474f524146545353 01000000 9e74bdd7 0900000000000000 0700000000000000 0807060504030201 8877665544332211 00000000 00000000 08000000 52d04fd8 00000000 a000e309 0000000000000000 0000000000000000 00000000"},
}

func TestGolden(t *testing.T) {
	for _, g := range golden {
		m := newMachine(t)
		s := m.open()
		s.blockSize = 8
		h := Header{Label: Label{9, 7}, ClusterID: 0x0102030405060708, ID: 0x1122334455667788, Meta: []byte(g.meta)}
		_, err := take(s, h, []byte(g.state))
		m.must(err)
		want, err := hex.DecodeString(strings.ReplaceAll(g.hex, " ", ""))
		m.must(err)
		if b := m.bytes(h.Label); string(b) != string(want) {
			t.Errorf("%s: %x", g.name, b)
		}
	}
}

// Another version, another program's file, goraft's file and damage are four things.
func TestFormats(t *testing.T) {
	valid := fileOf(t, header(3, 2, 1), []byte("state"))
	with := func(change func(b []byte)) []byte {
		b := append([]byte(nil), valid...)
		change(b)
		return b
	}
	cases := []struct {
		name  string
		bytes []byte
		want  error
		is    FormatError
	}{
		{"valid", valid, nil, FormatError{}},
		{"a later version", with(func(b []byte) { putPrologue(b, formatVersion+1) }), ErrFormat, FormatError{Version: 2}},
		{"another program's", with(func(b []byte) { copy(b, "#!/bin/sh\nexit 0\n") }), ErrFormat, FormatError{}},
		{"goraft's", []byte("8b4c1d0f\n" + `{"lastIndex":3,"lastTerm":2,"peers":[],"state":"","path":"x/2_3.ss"}`), ErrFormat, FormatError{Goraft: true}},
		{"goraft's, short", []byte("00000000\n{}"), ErrFormat, FormatError{Goraft: true}},
		{"nothing", nil, ErrCorrupt, FormatError{}},
		{"zeros", make([]byte, 500), ErrCorrupt, FormatError{}},
		{"magic lost", with(func(b []byte) { clear(b[:8]) }), ErrCorrupt, FormatError{}},
	}
	for _, c := range cases {
		m := newMachine(t)
		m.put("2_3.ss", c.bytes)
		_, err := m.open().Verify(Label{3, 2})
		if !errors.Is(err, c.want) || c.want == nil && err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		var format *FormatError
		if errors.As(err, &format) && (format.Version != c.is.Version || format.Goraft != c.is.Goraft || format.Error() == "") {
			t.Errorf("%s: %+v", c.name, format)
		}
	}
}

// A header that verifies may still say what no snapshot says.
func TestImpossibleHeaders(t *testing.T) {
	for name, change := range map[string]func(*Header, *uint32){
		"index 0":       func(h *Header, _ *uint32) { h.Index = 0 },
		"id 0":          func(h *Header, _ *uint32) { h.ID = 0 },
		"no block size": func(_ *Header, size *uint32) { *size = 0 },
		"huge blocks":   func(_ *Header, size *uint32) { *size = maxBlockSize + 1 },
		"huge meta":     func(h *Header, _ *uint32) { h.Meta = make([]byte, MaxMeta+1) },
	} {
		h, size := header(3, 2, 1), uint32(32)
		change(&h, &size)
		b, _ := encodeHeader(&h, size)
		if _, err := decodeHeader("file", b); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	h := header(3, 2, 1)
	b, _ := encodeHeader(&h, maxBlockSize)
	if _, err := decodeHeader("file", b); err != nil {
		t.Error(err)
	}
}

func TestNames(t *testing.T) {
	for range 100 {
		l := Label{rand.Uint64()>>rand.UintN(64) | 1, rand.Uint64() >> rand.UintN(64)}
		if got, ok := parseName(Name(l)); !ok || got != l {
			t.Fatal(l)
		}
		if name := tempName(l, l.Term); !isTemp(name) {
			t.Fatal(name)
		}
	}
	if Name(Label{Index: 10, Term: 3}) != "3_10.ss" {
		t.Error("the term comes first")
	}
	for _, name := range notOurs {
		if _, ok := parseName(name); ok || isTemp(name) {
			t.Errorf("%q is taken for a snapshot's", name)
		}
	}
}

var notOurs = []string{
	"", ".ss", "_.ss", "3_.ss", "_10.ss", "10.ss", "3_0.ss", "03_10.ss", "3_010.ss", "+3_10.ss", "3_-10.ss", "3_10_1.ss",
	" 3_10.ss", "3_10.SS", "3_10.ss.bak", "3_10.ss.tmp", "3_10.ss.01.tmp", "3_10.ss.x.tmp", "3_10.1.tmp", "3_10.ss.1.tmp.tmp",
	"3_0x10.ss", "3_1_0.ss", "18446744073709551616_1.ss", "1_18446744073709551616.ss", "segment.tmp", "conf",
}
