package raft

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/goraft/raft/internal/wal"
)

// Row 33: what the disk gives back is of the log that the reader sees, or an error:
// never entries that have taken the place of those meanwhile.
func TestFault033_ReadsAreOfTheView(t *testing.T) {
	h := newHandLoop(t)
	h.deliver(1, entryID{}, 0, 1, 1, 1)
	h.turn(h.decide)
	h.carryOut()
	old := h.view()
	old.tail = tail{} // what the disk must give
	h.deliver(2, entryID{1, 1}, 0, 2, 2)
	h.turn(h.decide)
	h.carryOut()
	_, _, err := old.read(2, 3, 1<<20)
	require.Error(t, err, "entries of term 2 in a log of term 1")
	now := h.view()
	now.tail = tail{}
	_, last, err := now.read(1, 3, 1<<20)
	require.NoError(t, err)
	require.EqualValues(t, 3, last)
}

// Row 37: a peer that lacks just the last entry that the leader has compacted away
// needs the snapshot as much as one that lacks all.
func TestFault037_BehindByOneEntry(t *testing.T) {
	view := &leaderView{logView: logView{terms: history{base: entryID{10, 2}, end: 10}}}
	for next, want := range map[uint64]bool{1: true, 9: true, 10: true, 11: false} {
		s := &sender{progress: newProgress(next)}
		require.Equal(t, want, s.behind(view), "next %d, the log begins at 11", next)
	}
}

// Row 47: an entry of a kind that this version does not know halts apply.
func TestFault047_UnknownKindHaltsApply(t *testing.T) {
	h := newHandLoop(t)
	record := wal.FinishRecord(wal.BeginRecord(nil, 9, "of a later version"), 0)
	record.Stamp(1, 1, h.seed)
	h.applier.applyRecords(record)
	require.NotNil(t, h.applier.halt)
	require.EqualValues(t, 1, h.applier.halt.Index)
	require.Zero(t, h.applier.applied.Load(), "it was skipped")
}

// Row 119: a request whose entries have changed on the way is not looked at, whatever
// carried it.
func TestFault119_FlippedRecordIsNotTaken(t *testing.T) {
	record := nopRecord()
	wal.Record(record).Stamp(1, 1, wal.Seed(7))
	for bit := range 8 * len(record) {
		flipped := append([]byte(nil), record...)
		flipped[bit/8] ^= 1 << (bit % 8)
		call := &appendCall{req: &AppendEntriesRequest{Term: 1, LeaderName: "b", records: flipped}, cluster: 7}
		require.Error(t, call.read(), "bit %d", bit)
	}
	call := &appendCall{req: &AppendEntriesRequest{Term: 1, LeaderName: "b", records: record}, cluster: 7}
	require.NoError(t, call.read())
}

// Row 125: what is under way to a peer that does not answer is bounded by bytes and
// by number.
func TestFault125_WindowIsBounded(t *testing.T) {
	for _, size := range []int{1, 5000, maxBatchBytes} {
		p := newProgress(1)
		for p.maySend() {
			require.LessOrEqual(t, p.room(), maxBatchBytes)
			p.sent(p.next, min(size, p.room()))
		}
		require.LessOrEqual(t, p.bytes, maxInFlightBytes)
		require.LessOrEqual(t, len(p.window), maxInFlight)
		require.True(t, p.bytes == maxInFlightBytes || len(p.window) == maxInFlight, "%d bytes in %d requests", p.bytes, len(p.window))
	}
}
