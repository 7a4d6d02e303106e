package raft

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/goraft/raft/internal/vfs"
	"github.com/goraft/raft/internal/wal"
	"github.com/stretchr/testify/require"
)

// orders returns every order of n things.
func orders(n int) (all [][]int) {
	if n == 0 {
		return [][]int{nil}
	}
	for _, shorter := range orders(n - 1) {
		for at := range n {
			all = append(all, slices.Insert(slices.Clone(shorter), at, n-1))
		}
	}
	return all
}

// step takes a turn, and ends the office if that deposed the leader, as leaderLoop
// does.
func (h *handLoop) step() {
	h.turn(h.decideLeading)
	if h.office != nil && (h.raft.role != Leader || h.raft.term != h.office.term) {
		h.leaveOffice()
	}
}

// voteAsked puts c's request for a vote into the inbox.
func (h *handLoop) voteAsked(term uint64) {
	h.inbox.put(&voteCall{&RequestVoteRequest{
		Term: term, CandidateName: "c", ClusterID: h.raft.clusterID, To: "a", LastLogIndex: 9, LastLogTerm: term - 1, Transfer: true,
	}, make(chan *RequestVoteResponse, 1)})
}

// TestFault018_NoEntryOfATermThatIsNotLed: a command that was taken in term 1, an
// append of the leader of term 2 and a request for a vote in term 3 meet in every
// order, in every division into turns of the loop. The command is staged in term 1 or
// not at all, and not if that turn hears of a later term as well; nothing else is
// added to the log by who does not lead.
func TestFault018_NoEntryOfATermThatIsNotLed(t *testing.T) {
	staged, refused := 0, 0
	for _, order := range orders(3) {
		for division := range 4 {
			h := newHandLoop(t)
			h.leadTerm(1)
			h.carryOut()
			var p *proposal
			for i, what := range order {
				switch what {
				case 0:
					p = h.stage()
				case 1:
					h.deliver(2, entryID{1, 1}, 1, 2)
				case 2:
					h.voteAsked(3)
				}
				if division>>i&1 == 1 {
					h.step()
				}
			}
			h.step()
			where := fmt.Sprint(order, division)
			if p.id == (entryID{}) {
				requireNotApplied(t, outcomeOf(p), NotLeaderError)
				refused++
			} else {
				require.Equal(t, entryID{2, 1}, p.id, where)
				staged++
			}
			// Only if its turn ended before anybody else was heard.
			require.Equal(t, order[0] == 0 && division&1 == 1, p.id != entryID{}, where)
			require.EqualValues(t, 3, h.raft.term, where)
			require.LessOrEqual(t, h.raft.log.end, uint64(2), where)
			h.carryOut()
			again := openLoop(t, h.disk.CrashClone(vfs.Nothing))
			require.Equal(t, h.raft.log.last(), again.raft.log.last(), where)
			require.Equal(t, h.raft.ballot, again.raft.ballot, where)
		}
	}
	require.Positive(t, staged)
	require.Positive(t, refused)
}

// onDisk is what a disk holds, as the terms of its entries: the orders that were
// carried out.
type onDisk []uint64

// carriedOut is the disk after an order.
func (d onDisk) carriedOut(t *testing.T, o *order) onDisk {
	if o.truncate > 0 {
		d = d[:min(uint64(len(d)), o.truncate-1)]
	}
	if len(o.records) == 0 {
		return d
	}
	d = slices.Clone(d[:o.first-1])
	for _, rest := range o.records {
		for len(rest) > 0 {
			record, next, err := wal.NextRecord(rest)
			require.NoError(t, err)
			d, rest = append(d, record.Term()), next
		}
	}
	return d
}

// shares returns how far the disk and the log in memory are the same.
func (d onDisk) shares(log *history) (index uint64) {
	for index < uint64(len(d)) && index < log.end && log.termAt(index+1) == d[index] {
		index++
	}
	return index
}

// TestFault039_CompletionOfAnOlderAppend: entries are replaced, at the same indexes,
// while the disk still works at those before them. What it says of the older ones is
// never taken for the newer ones: neither what counts as durable nor any answer goes
// beyond what the disk holds of the log as it is.
func TestFault039_CompletionOfAnOlderAppend(t *testing.T) {
	behind := 0
	for seed := range scale(300) {
		rng := rand.New(rand.NewPCG(seed, 39))
		h := newHandLoop(t)
		var disk onDisk
		var asked []*caught
		term := uint64(1)
		for range 40 {
			switch rng.IntN(4) {
			case 0: // a later leader, who may replace what is not committed
				term++
				fallthrough
			case 1:
				prev := rng.Uint64N(h.raft.log.end + 1)
				terms := slices.Repeat([]uint64{term}, 1+rng.IntN(3))
				if rng.IntN(4) == 0 && prev < h.raft.log.end { // as one that goes on with its log
					prev = h.raft.log.end
				}
				asked = append(asked, h.deliver(term, entryID{prev, h.raft.log.termAt(prev)}, 0, terms...))
			}
			h.turn(h.decide)
			if given := h.given(); rng.IntN(2) == 0 && len(given) > 0 {
				n := 1 + rng.IntN(len(given))
				for _, o := range given[:n] {
					disk = disk.carriedOut(t, o)
				}
				h.inbox.put(written{sequence: given[n-1].sequence})
				h.orders = slices.Clone(given[n:])
				h.turn(h.decide)
				if len(h.orders) > 0 {
					behind++
				}
			}
			shared := disk.shares(&h.raft.log)
			require.LessOrEqual(t, h.durable, shared, "seed %d: the disk has %v", seed, disk)
			for _, to := range asked {
				for _, answer := range to.answers {
					if answer.success && answer.term == term {
						require.LessOrEqual(t, answer.index, shared, "seed %d: the disk has %v", seed, disk)
					}
				}
				to.answers = nil
			}
		}
		for _, o := range h.given() {
			disk = disk.carriedOut(t, o)
			h.inbox.put(written{sequence: o.sequence})
		}
		h.orders = nil
		h.turn(h.decide)
		require.Equal(t, h.raft.log.end, h.durable, "seed %d", seed)
		require.Equal(t, h.raft.log.end, disk.shares(&h.raft.log), "seed %d", seed)
	}
	require.Greater(t, behind, 100, "the disk is never behind")
}
