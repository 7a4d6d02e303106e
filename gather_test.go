package raft

import (
	"errors"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// woken reports whether leaderLoop would take a turn for the proposals that wait.
func (h *handLoop) woken() bool {
	select {
	case <-h.proposed():
		return true
	default:
		return false
	}
}

// Proposals that wait while the gate is shut are taken when it opens, whatever
// opened and shut it before: here the turn that they woke the loop for finds that
// the disk has space again, and so that two batches are under way.
func TestGatherLosesNoWakeUp(t *testing.T) {
	inLeading(t, 2, func(t *testing.T, h *handLoop) {
		for range maxBatches {
			h.stage()
			h.turn(h.decideLeading)
		}
		require.Len(t, h.office.batches, maxBatches)
		h.inbox.put(written{full: errors.New("no space")})
		h.turn(h.decideLeading)
		waits := h.stage()
		h.inbox.put(written{}) // it goes on, with the order before the batches
		require.True(t, h.woken())
		h.turn(h.decideLeading)
		require.EqualError(t, outcomeOf(waits), "no answer")
		require.Zero(t, waits.id, "two batches are under way")
		require.False(t, h.woken())

		h.acknowledge("b", 2, 2, h.office.batches[0])
		h.acknowledge("c", 2, 2, h.office.batches[0])
		h.turn(h.decideLeading) // takes it, or sees in the end that it may
		if waits.id == (entryID{}) {
			require.True(t, h.woken(), "nothing wakes the loop for what waits")
			h.turn(h.decideLeading)
		}
		require.Equal(t, entryID{h.raft.log.end, 2}, waits.id)
	})
}

// Who is refused because the server leads no more finds no server that says it does,
// and is not sent back to it.
func TestGatherRefusesWhenTheWorldKnows(t *testing.T) {
	for name, depose := range map[string]func(h *handLoop){
		"no majority answers": func(h *handLoop) { h.stepDown() },
		"in a turn": func(h *handLoop) {
			h.voteAsked(9)
			h.turn(h.decideLeading)
		},
	} {
		t.Run(name, func(t *testing.T) {
			inLeading(t, 2, func(t *testing.T, h *handLoop) {
				p := &proposal{record: nopRecord(), done: make(chan result)} // so that the loop waits
				h.proposals.put(p)
				go func() {
					depose(h)
					h.leaveOffice()
				}()
				synctest.Wait()
				told := h.server.State()
				require.ErrorIs(t, (<-p.done).err, NotLeaderError)
				synctest.Wait()
				require.NotEqual(t, Leader, told)
			})
		})
	}
}

// Row 124: what would exceed the limit is refused, and does not wait until the disk
// has the batches that are under way.
func TestFault124_RefusedWhileBatchesAreUnderWay(t *testing.T) {
	inLeading(t, 2, func(t *testing.T, h *handLoop) {
		h.options.maxUncommittedBytes = maxBatches * len(nopRecord())
		for range maxBatches {
			p := h.stage()
			h.turn(h.decideLeading)
			require.EqualError(t, outcomeOf(p), "no answer")
		}
		p := h.stage()
		h.turn(h.decideLeading)
		require.ErrorIs(t, outcomeOf(p), ErrOverloaded)
	})
}

// onOneProcessor makes what runs when a matter of who is ready only.
func onOneProcessor(t *testing.T) {
	before := runtime.GOMAXPROCS(1)
	t.Cleanup(func() { runtime.GOMAXPROCS(before) })
}

// Callers that are ready to run come into the batch of the first one.
func TestGatherLingersForCallers(t *testing.T) {
	onOneProcessor(t)
	inLeading(t, 2, func(t *testing.T, h *handLoop) {
		before := h.raft.log.end
		h.stage()
		for range 100 {
			go h.stage()
		}
		h.turn(h.decideLeading)
		require.Equal(t, []uint64{before + 101}, h.office.batches)
	})
}

// A caller that comes back at once, again and again, holds nobody up.
func TestGatherLingersNotForLong(t *testing.T) {
	onOneProcessor(t)
	inLeading(t, 2, func(t *testing.T, h *handLoop) {
		before, over := h.raft.log.end, make(chan struct{})
		h.stage()
		go func() {
			for {
				select {
				case <-over:
					return
				default:
					h.stage()
					runtime.Gosched()
				}
			}
		}()
		h.turn(h.decideLeading)
		close(over)
		require.Len(t, h.office.batches, 1)
		require.LessOrEqual(t, h.office.batches[0], before+1+2*lingerRounds)
	})
}

// A goroutine that computes brings no callers: who has waited for it does not do so
// again soon.
func TestCourtesyHasAnEnd(t *testing.T) {
	onOneProcessor(t)
	var over atomic.Bool
	computes := make(chan struct{})
	defer func() {
		over.Store(true)
		<-computes
	}()
	go func() {
		defer close(computes)
		for !over.Load() {
		}
	}()
	begun := time.Now()
	l := &eventLoop{run: &run{}}
	for l.courtesy.next.IsZero() {
		l.linger() // now and then it is handed back at once
	}
	require.GreaterOrEqual(t, l.courtesy.next.Sub(begun), (1+leastCourtesyPause)*lingerFor)
	var c courtesy
	for c.next.IsZero() {
		_, ok := c.extend()
		require.True(t, ok)
	}
	require.GreaterOrEqual(t, c.next.Sub(begun), (1+leastCourtesyPause)*longCourtesy)
	c.next = time.Now().Add(time.Hour)
	_, ok := c.extend()
	require.False(t, ok)
	// One after the other, pauses become longer, up to a point.
	for _, pause := range []time.Duration{8, 16, 32, 64, 64} {
		before := time.Now()
		c.rue(time.Second)
		require.GreaterOrEqual(t, c.next.Sub(before), pause*time.Second)
		require.Equal(t, pause, c.pause)
	}
}
