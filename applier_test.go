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
