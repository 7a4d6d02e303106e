package main

import (
	"bytes"
	"errors"
	"maps"
	"strings"
	"testing"

	"github.com/goraft/raft"
)

func TestSaveAndRecovery(t *testing.T) {
	for name, values := range map[string]map[string][]byte{
		"nothing":    {},
		"one":        {"a": []byte("1")},
		"empty both": {"": {}},
		"many":       {"a/b": []byte("x"), "a%2Fb": {}, "ü": bytes.Repeat([]byte{0}, 1000), "z": []byte("z")},
	} {
		from, to := newStore(), newStore()
		from.values = values
		to.set("old", []byte("gone"))
		state, err := from.Save()
		if err != nil {
			t.Fatal(err)
		}
		again, err := from.Save()
		if err != nil || !bytes.Equal(state, again) {
			t.Errorf("%s: two saves of one state differ", name)
		}
		if err := to.Recovery(state); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !maps.EqualFunc(to.values, values, bytes.Equal) {
			t.Errorf("%s: recovered %q", name, to.values)
		}
		for i := range state {
			if err := to.Recovery(state[:i]); !errors.Is(err, errStoreFormat) {
				t.Errorf("%s: the first %d bytes: %v", name, i, err)
			}
		}
		if err := to.Recovery(append(state, 0)); !errors.Is(err, errStoreFormat) {
			t.Errorf("%s: a byte too many: %v", name, err)
		}
		if !maps.EqualFunc(to.values, values, bytes.Equal) {
			t.Errorf("%s: a failed Recovery changed the state to %q", name, to.values)
		}
	}
}

func TestRecoveryOfAnotherVersion(t *testing.T) {
	if err := newStore().Recovery([]byte{storeFormat + 1, 0}); !errors.Is(err, errStoreFormat) {
		t.Error(err)
	}
}

func TestCommandsSurviveTheLog(t *testing.T) {
	for _, command := range []*writeCommand{
		{}, {key: "a"}, {value: []byte("v")}, {key: strings.Repeat("k", 300), value: bytes.Repeat([]byte("v"), 1<<20)},
	} {
		var decoded writeCommand
		encodeDecode(t, command, &decoded)
		if decoded.key != command.key || !bytes.Equal(decoded.value, command.value) {
			t.Errorf("write: %.20q became %.20q", command, &decoded)
		}
	}
	for _, command := range []*deleteCommand{{}, {key: "a/b"}} {
		var decoded deleteCommand
		encodeDecode(t, command, &decoded)
		if decoded != *command {
			t.Errorf("delete: %q became %q", command, &decoded)
		}
	}
}

func encodeDecode(t *testing.T, from, to raft.CommandEncoder) {
	t.Helper()
	var b bytes.Buffer
	if err := from.Encode(&b); err != nil {
		t.Fatal(err)
	}
	if err := to.Decode(&b); err != nil {
		t.Fatal(err)
	}
}

func TestDecodeOfDamagedWrite(t *testing.T) {
	for _, damaged := range []string{"", "\x05abc", "\xff"} {
		if err := new(writeCommand).Decode(strings.NewReader(damaged)); !errors.Is(err, errCommand) {
			t.Errorf("%q: %v", damaged, err)
		}
	}
}
