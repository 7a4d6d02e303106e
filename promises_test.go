package raft

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

func promiseOf(index uint64) (promise, *caught) {
	to := &caught{}
	return promise{responder: to, response: newAppendEntriesResponse(1, index, 0, true)}, to
}

// A promise that was made in this turn knows no order yet. Withdrawing older ones
// before it must not make it look as if it did.
func TestPromisesWithdrawKeepsWhatIsNotBound(t *testing.T) {
	var p promises
	old, oldTo := promiseOf(10)
	p.entries = append(p.entries, old)
	p.bind(0, 1)
	fresh, freshTo := promiseOf(7)
	p.entries = append(p.entries, fresh)
	p.withdraw(8)
	p.bind(0, 2)
	p.keep(1)
	require.Empty(t, freshTo.answers, "promised before it is durable")
	p.keep(2)
	require.Len(t, freshTo.answers, 1)
	require.Empty(t, oldTo.answers)
}

// Against a model that remembers for each promise what it needs: whatever the
// order of calls, an answer leaves only when its order is written, the withdrawn
// ones never, and all others in the end.
func TestPromisesAgainstModel(t *testing.T) {
	type expected struct {
		index, needs uint64
		bound, gone  bool
		to           *caught
	}
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 1))
		var p promises
		var model []*expected
		ordered, written := uint64(0), uint64(0)
		for range 60 {
			switch rng.IntN(5) {
			case 0, 1:
				made, to := promiseOf(rng.Uint64N(20))
				p.entries = append(p.entries, made)
				model = append(model, &expected{index: made.response.index, to: to})
			case 2:
				ordered++
				p.bind(0, ordered)
				for _, e := range model {
					if !e.bound {
						e.bound, e.needs = true, ordered
					}
				}
			case 3:
				from := rng.Uint64N(20)
				p.withdraw(from)
				for _, e := range model {
					e.gone = e.gone || len(e.to.answers) == 0 && e.index >= from
				}
			case 4:
				p.bind(0, ordered) // keep comes after the binding of its turn
				for _, e := range model {
					if !e.bound {
						e.bound, e.needs = true, ordered
					}
				}
				written += rng.Uint64N(ordered - written + 1)
				p.keep(written)
			}
			for i, e := range model {
				if len(e.to.answers) > 0 {
					require.True(t, e.bound && e.needs <= written && !e.gone, "seed %d: promise %d of entry %d left early", seed, i, e.index)
				}
			}
		}
		p.bind(0, ordered)
		p.keep(ordered)
		for i, e := range model {
			require.Equal(t, !e.gone, len(e.to.answers) == 1, "seed %d: promise %d of entry %d", seed, i, e.index)
		}
	}
}

// The oldest answers make room for the newest; who waits in this server stays.
func TestPromisesAreShed(t *testing.T) {
	var p promises
	kept := 0
	p.ballots = append(p.ballots, promise{own: true, deliver: func() { kept++ }})
	p.bind(1, 1)
	var last *caught
	for i := range uint64(10 * maxPromises) {
		var a, b promise
		a, last = promiseOf(i)
		b, _ = promiseOf(i)
		p.ballots, p.entries = append(p.ballots, a), append(p.entries, b)
		p.bind(1, 1)
		require.LessOrEqual(t, len(p.ballots), maxPromises)
		require.LessOrEqual(t, len(p.entries), maxPromises)
	}
	fresh, freshTo := promiseOf(1)
	p.ballots = append(p.ballots, fresh)
	p.bind(2, 2)
	p.keep(1)
	require.Equal(t, 1, kept)
	require.Len(t, last.answers, 1)
	require.Empty(t, freshTo.answers, "promised before it is durable")
}
