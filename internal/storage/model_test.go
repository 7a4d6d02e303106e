package storage

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync/atomic"
	"testing"
	"time"
)

// The variables of the environment that say which sequences TestModel does: one, or
// as many as are counted, or (SEQUENCES=5000-1000) a thousand from 5000 on.
const (
	sequenceEnv  = "SEQUENCE"
	sequencesEnv = "SEQUENCES"
)

// TestModel drives log and snapshots with random sequences of operations, crashes
// and restarts, and compares them with the model after each.
func TestModel(t *testing.T) {
	first, count := sequences(t, uint64(volume(2000, 100_000, 10_000_000)))
	var next, done, crashes atomic.Uint64
	next.Store(first)
	// Each sequence leaves a little garbage, and the heap is small.
	defer debug.SetGCPercent(debug.SetGCPercent(1000))
	begun := time.Now()
	t.Run("sequences", func(t *testing.T) {
		for i := range runtime.GOMAXPROCS(0) {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel()
				for seed := next.Add(1) - 1; seed < first+count; seed = next.Add(1) - 1 {
					crashes.Add(sequence(t, seed))
					done.Add(1)
				}
			})
		}
	})
	t.Logf("%d sequences, %d crashes, %.0f sequences per second", done.Load(), crashes.Load(), float64(done.Load())/time.Since(begun).Seconds())
}

// sequence does the operations of a seed and returns how often the machine crashed.
func sequence(t *testing.T, seed uint64) uint64 {
	rng := seeded(seed)
	m := newMachine(t, rng)
	defer func() {
		if t.Failed() {
			t.Logf("sequence %d: %q\nagain: %s=%d go test -run '^TestModel$' ./internal/storage", seed, m.trace, sequenceEnv, seed)
		}
	}()
	user := interface{ step() }(&replicaUser{logUser: logUser{machine: m}})
	if seed%3 == 0 {
		user = &logUser{machine: m}
	}
	for range 10 + rng.IntN(21) {
		user.step()
		m.background()
		if diff := m.world.differs(m.store, m.files, false); diff != "" {
			t.Fatal(diff)
		}
	}
	must(t, m.store.Close())
	return uint64(m.crashes)
}

func sequences(t *testing.T, count uint64) (first, n uint64) {
	if s := os.Getenv(sequenceEnv); s != "" {
		seed, err := strconv.ParseUint(s, 10, 64)
		must(t, err)
		return seed, 1
	}
	if s := os.Getenv(sequencesEnv); s != "" {
		if _, err := fmt.Sscanf(s, "%d-%d", &first, &count); err != nil {
			first = 0
			count, err = strconv.ParseUint(s, 10, 64)
			must(t, err)
		}
	}
	return first, count
}
