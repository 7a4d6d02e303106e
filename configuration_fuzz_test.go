package raft

import (
	"bytes"
	"errors"
	"math"
	"reflect"
	"runtime"
	"testing"
)

// decodeBounded decodes, and fails the test if that allocates too much. Others may
// allocate meanwhile: it is the least of some tries that counts.
func decodeBounded(t *testing.T, b []byte, decode func()) {
	t.Helper()
	limit, least := uint64(len(b)+64<<10), uint64(math.MaxUint64)
	for tries := 0; tries < 3 && least > limit; tries++ {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		decode()
		runtime.ReadMemStats(&after)
		least = min(least, after.TotalAlloc-before.TotalAlloc)
	}
	if least > limit {
		t.Fatalf("%d bytes allocated for %d", least, len(b))
	}
}

func fuzzedConfiguration() *configuration {
	c := newConfiguration(7, []member{
		{name: "s1", connectionString: "http://a", incarnation: 3, storeID: 1 << 63, voter: true, rejoins: true},
		{name: "s2"},
	})
	c.initial, c.taken = 5, intentID{4, 1}
	return c
}

// FuzzConfiguration takes any bytes for the configuration in an entry or in the
// bootstrap record: they are refused, or what they say encodes back to the same.
func FuzzConfiguration(f *testing.F) {
	b, err := encodeConfiguration(fuzzedConfiguration(), 9, "raft:join", "s2")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{0x0a, 0x00}, 1000))
	f.Add(crowded(f, maxMembers, 0))
	f.Add(crowded(f, maxMembers+1, 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		var c *configuration
		var err error
		decodeBounded(t, b, func() { c, err = decodeConfiguration(b, 7) })
		if err != nil {
			if !errors.Is(err, ErrMessage) {
				t.Fatal(err)
			}
			return
		}
		again, err := encodeConfiguration(c, 9, "raft:join", "s2")
		if err != nil {
			t.Fatal(err)
		}
		if same, err := decodeConfiguration(again, 7); err != nil || !reflect.DeepEqual(same, c) {
			t.Fatalf("%+v, and then %+v, %v", c, same, err)
		}
	})
}

// FuzzClusterState does the same for what a snapshot says about the cluster.
func FuzzClusterState(f *testing.F) {
	b, err := encodeClusterState(&clusterState{
		configuration: fuzzedConfiguration(),
		intents:       []intent{{intentID: intentID{8, 2}, name: "s3", connectionString: "http://c"}, {intentID: intentID{9, 1}, remove: true, name: "s1"}},
	}, 9)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{0x1a, 0x00}, 1000))
	f.Add(crowded(f, maxMembers, maxIntents))
	f.Add(crowded(f, 1, maxIntents+1))
	f.Fuzz(func(t *testing.T, b []byte) {
		var s clusterState
		var err error
		decodeBounded(t, b, func() { s, err = decodeClusterState(b) })
		if err != nil {
			if !errors.Is(err, ErrMessage) {
				t.Fatal(err)
			}
			return
		}
		again, err := encodeClusterState(&s, 9)
		if err != nil {
			t.Fatal(err)
		}
		if same, err := decodeClusterState(again); err != nil || !reflect.DeepEqual(same, s) {
			t.Fatalf("%+v, and then %+v, %v", s, same, err)
		}
	})
}

// crowded is the encoding of a configuration, or of what a snapshot says if there
// are intents.
func crowded(f *testing.F, members, intents int) []byte {
	c := newConfiguration(7, nil)
	for i := range members {
		c.members = append(c.members, member{name: string([]byte{byte('a' + i%26), byte('a' + i/26)})})
	}
	b, err := encodeConfiguration(c, 0, "", "")
	if intents > 0 {
		s := clusterState{configuration: c}
		for range intents {
			s.intents = append(s.intents, intent{name: "x"})
		}
		b, err = encodeClusterState(&s, 0)
	}
	if err != nil {
		f.Fatal(err)
	}
	return b
}
