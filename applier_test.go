package raft

import (
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

// Row 126: while Apply blocks, what is committed meanwhile is not held in memory
// beyond the tail, turn after turn; it is read from the disk when Apply goes on.
func TestApplierBlockedHoldsOneView(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHandLoop(t)
		h.deliver(1, entryID{}, 0, 1)
		h.turn(h.decide)
		h.carryOut()
		last := entryID{1, 1}
		for range 200 {
			h.deliver(1, last, last.index, 1)
			last.index++
			h.turn(h.decide)
			h.carryOut()
		}
		ranges := h.applier.ranges.take(nil)
		require.Len(t, ranges, 1)
		require.Equal(t, last.index-1, ranges[0].index)
		h.applier.apply(ranges[0])
		require.Equal(t, last.index-1, h.applier.applied.Load())
	})
}

// Row 134: Stop while entries are applied, which leaves the rest of them: their
// callers hear that the server stopped, whichever goroutine comes to tell them.
func TestFault134_StoppedBetweenTwoEntries(t *testing.T) {
	inLeading(t, 2, func(t *testing.T, h *handLoop) {
		p := h.stage()
		h.turn(h.decideLeading)
		h.acknowledge("b", 2, 2, h.raft.log.end)
		h.acknowledge("c", 2, 2, h.raft.log.end)
		h.turn(h.decideLeading)
		ranges := h.applier.ranges.take(nil)
		require.Len(t, ranges, 1)
		h.applier.ranges.close()
		h.applier.apply(ranges[0])
		err := outcomeOf(p)
		require.ErrorIs(t, err, StopError)
		require.ErrorIs(t, err, ErrOutcomeUnknown)
	})
}
