package raft

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/goraft/raft/internal/vfs"
)

// askVote puts a request for a vote of server a into the inbox, from a candidate
// whose last entry is as said.
func (h *handLoop) askVote(candidate string, term uint64, last entryID) chan *RequestVoteResponse {
	answer := make(chan *RequestVoteResponse, 1)
	h.raft.leader = "" // silent
	h.inbox.put(&voteCall{&RequestVoteRequest{
		Term: term, CandidateName: candidate, LastLogIndex: last.index, LastLogTerm: last.term,
		ClusterID: h.raft.clusterID, To: "a", InitialDigest: h.raft.initial.digest(),
	}, answer})
	return answer
}

// voted returns the answer to askVote, and how it went if there is none.
func voted(answer chan *RequestVoteResponse) string {
	select {
	case response := <-answer:
		if response.VoteGranted {
			return "granted"
		}
		return "refused"
	default:
		return "no answer"
	}
}

// Row 1: nobody hears of a vote, or of a term, before the disk has it, and a
// server that crashes right then votes for nobody else in that term, whether the
// vote came with the term or in a term that the disk knew.
func TestFault001_VoteIsOnTheDiskWhenItIsTold(t *testing.T) {
	for name, known := range map[string]bool{"with its term": false, "in a known term": true} {
		t.Run(name, func(t *testing.T) {
			h := newHandLoop(t)
			h.deliver(1, entryID{}, 0, 1)
			h.turn(h.decide)
			h.carryOut()
			if known {
				behind := h.askVote("c", 7, entryID{})
				h.turn(h.decide)
				require.Equal(t, "no answer", voted(behind), "the term is not durable")
				h.carryOut()
				require.Equal(t, "refused", voted(behind))
			}
			answer := h.askVote("b", 7, entryID{1, 1})
			h.turn(h.decide)
			require.Equal(t, "no answer", voted(answer), "the vote is not durable")
			h.carryOut()
			require.Equal(t, "granted", voted(answer))

			l := openLoop(t, h.disk.CrashClone(vfs.Nothing))
			require.Equal(t, ballot{7, "b"}, l.raft.ballot)
			granted, _ := l.raft.vote(&RequestVoteRequest{
				Term: 7, CandidateName: "c", LastLogIndex: 9, LastLogTerm: 6, ClusterID: l.raft.clusterID, To: "a",
			}, false)
			require.False(t, granted, "a second vote in term 7")
		})
	}
}

// Row 2: at each call to the disk while a vote in a later term is saved, a crash
// leaves the old term with the old vote or the new one with the new vote.
func TestFault002_TermAndVoteAreOneStep(t *testing.T) {
	h := newHandLoop(t)
	h.deliver(1, entryID{}, 0, 1)
	h.turn(h.decide)
	h.carryOut()
	first := h.askVote("c", 3, entryID{1, 1})
	h.turn(h.decide)
	h.carryOut()
	require.Equal(t, "granted", voted(first))

	var crashed []*vfs.Mem
	h.disk.SetFault(func(vfs.Op) error {
		crashed = append(crashed, h.disk.CrashClone(vfs.Nothing), h.disk.CrashClone(vfs.Everything))
		return nil
	})
	second := h.askVote("b", 7, entryID{1, 1})
	h.turn(h.decide)
	h.carryOut()
	h.disk.SetFault(nil)
	require.Equal(t, "granted", voted(second))
	require.NotEmpty(t, crashed)
	seen := map[ballot]int{}
	for _, disk := range crashed {
		seen[openLoop(t, disk).raft.ballot]++
	}
	for found, n := range seen {
		require.Contains(t, []ballot{{3, "c"}, {7, "b"}}, found, "%d of %d disks", n, len(crashed))
	}
	require.Len(t, seen, 2)
}

// Row 3: a leader that steps down without a new term, as when no majority answers,
// has voted for itself in this one, and votes for nobody else.
func TestFault003_LeaderThatStepsDownKeepsItsVote(t *testing.T) {
	h := newHandLoop(t)
	h.leadTerm(3)
	h.carryOut()
	h.stepDown()
	h.leaveOffice()
	answer := h.askVote("b", 3, entryID{9, 2})
	h.turn(h.decide)
	h.carryOut()
	require.Equal(t, "refused", voted(answer))
	require.Equal(t, ballot{3, "a"}, h.raft.ballot)
	for _, p := range h.expiries {
		p.Stop()
	}
}

// Row 4: a candidate that has the votes of all others does not lead before its own
// is durable: after a crash it could vote for another in the term that it has led.
func TestFault004_OwnVoteIsDurableBeforeItLeads(t *testing.T) {
	h := newHandLoop(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	h.raft.role = Candidate
	h.stand()
	h.election.record("b", 2, true)
	h.election.record("c", 3, true)
	require.True(t, h.election.won())
	h.count(ctx)
	require.Equal(t, Candidate, h.raft.role, "its own vote is on the way to the disk")
	h.carryOut()
	h.count(ctx)
	require.Equal(t, Leader, h.raft.role)
}
