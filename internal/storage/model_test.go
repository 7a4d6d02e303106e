package storage

import (
	"fmt"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync/atomic"
	"testing"
	"time"
)

// The variables of the environment that say which sequences TestModel does: one; or
// as many as SEQUENCES says, or (5000-1000) a thousand from 5000 on, or (10m) as many
// as ten minutes allow, from one that the clock draws.
const (
	sequenceEnv  = "SEQUENCE"
	sequencesEnv = "SEQUENCES"
)

// TestModel drives log and snapshots with random sequences of operations, crashes
// and restarts, and compares them with the model after each.
func TestModel(t *testing.T) {
	first, count, duration := sequences(t, uint64(volume(2000, 100_000, 10_000_000)))
	var next, done, crashes atomic.Uint64
	next.Store(first)
	// Each sequence leaves a little garbage, and the heap is small.
	defer debug.SetGCPercent(debug.SetGCPercent(1000))
	begun := time.Now()
	t.Run("sequences", func(t *testing.T) {
		for i := range runtime.GOMAXPROCS(0) {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel()
				for duration == 0 || time.Since(begun) < duration {
					seed := next.Add(1) - 1
					if seed-first >= count {
						return
					}
					crashes.Add(sequence(t, seed))
					done.Add(1)
				}
			})
		}
	})
	t.Logf("%d sequences from %d on, %d crashes, %.0f sequences per second", done.Load(), first, crashes.Load(), float64(done.Load())/time.Since(begun).Seconds())
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
		if diff := m.world.differs(m.store, m.files, false); diff != "" {
			t.Fatal(diff)
		}
	}
	must(t, m.store.Close())
	return uint64(m.crashes)
}

func sequences(t *testing.T, count uint64) (first, n uint64, duration time.Duration) {
	if s := os.Getenv(sequenceEnv); s != "" {
		seed, err := strconv.ParseUint(s, 10, 64)
		must(t, err)
		return seed, 1, 0
	}
	s := os.Getenv(sequencesEnv)
	if s == "" {
		return 0, count, 0
	}
	if d, err := time.ParseDuration(s); err == nil && d > 0 {
		return uint64(time.Now().UnixNano()), math.MaxUint64, d
	}
	if _, err := fmt.Sscanf(s, "%d-%d", &first, &n); err == nil {
		return first, n, 0
	}
	n, err := strconv.ParseUint(s, 10, 64)
	must(t, err)
	return 0, n, 0
}
