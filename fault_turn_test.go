package raft

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goraft/raft/internal/vfs"
)

// The tests of this file take single turns of an event loop, with what the rules
// alone do not see: which event of a turn comes first, whose answer it is, and what
// of an office is left when it is over.

// inLeading runs the test in fake time with a loop that leads a term and has
// committed its first entry.
func inLeading(t *testing.T, term uint64, f func(t *testing.T, h *handLoop)) {
	synctest.Test(t, func(t *testing.T) {
		h := newHandLoop(t)
		defer func() {
			h.cancel()
			for _, timer := range h.expiries {
				timer.Stop()
			}
			h.tasks.Wait()
			h.callers.Wait()
		}()
		h.leadTerm(term)
		h.carryOut()
		h.acknowledge("b", term, term, h.raft.log.end)
		h.turn(h.decideLeading)
		require.Equal(t, h.raft.log.end, h.raft.commitIndex)
		f(t, h)
	})
}

// acknowledge puts an answer of a member into the inbox, to a request of one term
// and given in another: it stores the log up to index.
func (h *handLoop) acknowledge(name string, asked, answered, index uint64) *ack {
	response := newAppendEntriesResponse(answered, index, 0, true)
	response.ClusterID, response.From = h.raft.clusterID, name
	a := &ack{term: asked, name: name, response: response}
	h.inbox.put(a)
	return a
}

// electing makes the loop a candidate in a new term, or one that asks for pre-votes.
func electing(t *testing.T, preVote bool) *handLoop {
	h := newHandLoop(t)
	h.raft.role = Candidate
	if preVote {
		h.election = newElection(h.raft, true)
		return h
	}
	h.stand()
	h.carryOut()
	return h
}

// say puts a voter's answer to an election into the inbox and takes a turn.
func (h *handLoop) say(e *election, voter string, response RequestVoteResponse) {
	response.From = voter
	h.inbox.put(&voteAnswer{election: e, voter: voter, response: &response})
	h.turn(h.decideStanding)
}

// Row 5: a grant of an earlier election, or of another term, wins nothing, and one
// voter's grant counts once however often it comes.
func TestFault005_GrantsOfAnEarlierElection(t *testing.T) {
	h := electing(t, false)
	earlier, before := h.election, h.raft.term
	h.stand()
	h.carryOut()
	for _, voter := range []string{"b", "c"} {
		h.say(earlier, voter, RequestVoteResponse{Term: before, VoteGranted: true})
		h.say(h.election, voter, RequestVoteResponse{Term: before, VoteGranted: true})
	}
	require.False(t, h.election.won(), "with grants of term %d in term %d", before, h.raft.term)
	h.say(h.election, "b", RequestVoteResponse{Term: h.raft.term, VoteGranted: true})
	require.True(t, h.election.won())
}

// Row 9: a pre-vote that is refused in a later term tells the candidate of it, or it
// would ask for the same term for ever.
func TestFault009_RefusedPreVoteTellsTheTerm(t *testing.T) {
	h := electing(t, true)
	h.say(h.election, "b", RequestVoteResponse{Term: 9, PreVote: true})
	require.EqualValues(t, 9, h.raft.term)
	require.Equal(t, Follower, h.raft.role)
}

// Row 10: a voter that knows no pre-votes has granted one by a vote, and its answer
// to the real question must be another one.
func TestFault010_VoteOfAServerWithoutPreVotes(t *testing.T) {
	h := electing(t, true)
	h.say(h.election, "b", RequestVoteResponse{Term: h.raft.term + 1, VoteGranted: true})
	require.True(t, h.election.won())

	h = electing(t, false)
	h.say(h.election, "b", RequestVoteResponse{Term: h.raft.term, VoteGranted: true, PreVote: true})
	require.False(t, h.election.won(), "a pre-vote binds nobody")
}

// Row 15: the interval of the quorum check is an election timeout, however short.
func TestFault015_QuorumCheckOfShortTimeouts(t *testing.T) {
	h := newHandLoop(t)
	for _, timeout := range []time.Duration{50, 150, 200, 999, 1000, 2500} {
		timeout *= time.Millisecond
		h.settings.election.Store(int64(timeout))
		for range 100 {
			d := h.checkInterval()
			require.LessOrEqual(t, d, timeout)
			require.GreaterOrEqual(t, d, timeout-timeout/10)
		}
	}
}

// Row 20: what was staged in an office that is lost does not count against the next
// one's limit, and neither does the word to stand at once.
func TestFault020_NothingOfAnOfficeIsLeft(t *testing.T) {
	inLeading(t, 2, func(t *testing.T, h *handLoop) {
		h.options.maxUncommittedBytes = 2 * len(nopRecord())
		old := []*proposal{h.stage(), h.stage()}
		h.turn(h.decideLeading)
		require.Equal(t, h.options.maxUncommittedBytes, h.pendingBytes)
		h.stepDown()
		h.leaveOffice()
		h.leadTerm(5)
		h.carryOut()
		p := h.stage()
		h.turn(h.decideLeading)
		require.EqualError(t, outcomeOf(p), "no answer", "it is staged")
		require.Zero(t, p.id.term-5)
		for _, p := range old {
			require.EqualError(t, outcomeOf(p), "no answer", "its fate is open")
		}
	})
}

// Row 20: the word to stand at once is for one candidacy. The next one asks again
// whether an election would be won, and begins a term of its own.
func TestFault020_SummonedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHandLoop(t)
		h.raft.campaign()
		h.summoned = h.raft.term
		h.save()
		h.writer.carryOut(h.given())
		h.candidateLoop() // in vain: nobody answers
		require.Equal(t, Candidate, h.raft.role)
		require.Zero(t, h.summoned)
		h.candidateLoop()
		require.Equal(t, Follower, h.raft.role, "it asked for pre-votes in vain")
		require.EqualValues(t, 1, h.raft.term)
		h.cancel()
		h.callers.Wait()
	})
}

// Row 26: an answer counts for the office that asked, if it was given in its term.
func TestFault026_AnswersOfAnotherTerm(t *testing.T) {
	inLeading(t, 3, func(t *testing.T, h *handLoop) {
		h.stage()
		h.turn(h.decideLeading)
		h.carryOut()
		end := h.raft.log.end
		for _, terms := range [][2]uint64{{2, 3}, {2, 2}, {3, 2}} {
			h.acknowledge("b", terms[0], terms[1], end)
			h.turn(h.decideLeading)
			require.Less(t, h.raft.commitIndex, end, "asked in term %d, answered in term %d", terms[0], terms[1])
		}
		h.acknowledge("b", 3, 3, end)
		h.turn(h.decideLeading)
		require.Equal(t, end, h.raft.commitIndex)
	})
}

// Row 26: an answer of a later term is no acknowledgement, and ends the office.
func TestFault026_AnswerOfALaterTermDeposes(t *testing.T) {
	inLeading(t, 3, func(t *testing.T, h *handLoop) {
		h.stage()
		h.turn(h.decideLeading)
		h.carryOut()
		committed, end := h.raft.commitIndex, h.raft.log.end
		h.acknowledge("b", 3, 5, end)
		h.turn(h.decideLeading)
		require.Equal(t, Follower, h.raft.role)
		require.EqualValues(t, 5, h.raft.term)
		require.Equal(t, committed, h.raft.commitIndex)
	})
}

// Row 31: in the turn that deposes a leader its log may become another one's; its
// senders see nothing of that, and its office neither commits nor appends in it.
func TestFault031_DeposedLeaderShowsNothing(t *testing.T) {
	inLeading(t, 2, func(t *testing.T, h *handLoop) {
		h.stage()
		h.turn(h.decideLeading)
		h.carryOut()
		s := h.office.senders["b"]
		require.NotNil(t, s)
		before := s.view.Load()
		committed := h.raft.commitIndex
		h.inbox.put(control(func(l *eventLoop) { l.request(newJoin("d", "")) }))
		h.deliver(4, entryID{committed, 2}, 0, 4, 4)
		h.turn(h.decideLeading)
		require.Equal(t, entryID{committed + 2, 4}, h.raft.log.last(), "what the leader of term 4 has sent, and no more")
		require.Nil(t, h.raft.configuration().find("d"))
		require.EqualValues(t, 4, h.raft.term)
		require.Same(t, before, s.view.Load(), "entries of term 4 in the name of the leader of term 2")
		require.Equal(t, committed, h.raft.commitIndex)
	})
}

// Row 32: nobody stores more than the leader has.
func TestFault032_AcknowledgedBeyondTheLog(t *testing.T) {
	inLeading(t, 2, func(t *testing.T, h *handLoop) {
		for _, name := range []string{"b", "c"} {
			h.acknowledge(name, 2, 2, 1<<40)
		}
		h.stage()
		h.turn(h.decideLeading)
		require.Less(t, h.raft.commitIndex, h.raft.log.end, "the entry is nowhere but here")
		require.LessOrEqual(t, h.office.match["b"], h.raft.log.end)
	})
}

// Row 43: a leader that loses its office keeps what it has not committed: a
// majority may have it, and only a newer leader knows that it has not.
func TestFault043_LostOfficeKeepsItsLog(t *testing.T) {
	inLeading(t, 2, func(t *testing.T, h *handLoop) {
		h.stage()
		h.turn(h.decideLeading)
		h.carryOut()
		end := h.raft.log.last()
		h.raft.observe(7)
		h.leaveOffice()
		h.turn(h.decide)
		h.carryOut()
		require.Equal(t, end, h.raft.log.last())
		_, last := h.store.Bounds()
		require.Equal(t, end.index, last)
	})
}

// Row 57: a leader is ready when the first entry of its term is applied; before
// that it may not know all that is committed.
func TestFault057_ReadyAfterAnEntryOfItsOwn(t *testing.T) {
	inLeading(t, 2, func(t *testing.T, h *handLoop) {
		h.publish()
		require.False(t, h.told.status.Ready)
		h.appliedOwn(1)
		h.publish()
		require.False(t, h.told.status.Ready, "an entry of another term was applied")
		h.appliedOwn(2)
		h.publish()
		require.True(t, h.told.status.Ready)
	})
}

// Row 57: what is in the log and not known to be committed is not applied at a start:
// another leader may replace it.
func TestFault057_UncommittedEntriesAreNotReplayed(t *testing.T) {
	h := newHandLoop(t)
	h.deliver(1, entryID{}, 0, 1, 1)
	h.turn(h.decide)
	h.carryOut()
	h.deliver(1, entryID{2, 1}, 2, 1, 1, 1)
	h.turn(h.decide)
	h.carryOut()
	l := openLoop(t, h.disk.CrashClone(vfs.Nothing))
	require.EqualValues(t, 5, l.raft.log.end)
	require.LessOrEqual(t, l.raft.commitIndex, uint64(2))
	require.LessOrEqual(t, l.applier.applied.Load(), uint64(2))
}

// Row 76: a leader that finds a removal in its log that is not committed serves who
// was removed as the leader before it did, until that knows.
func TestFault076_RemovalOfTheLeaderBefore(t *testing.T) {
	inLeading(t, 2, func(t *testing.T, h *handLoop) {
		gone := *h.raft.configuration().find("c")
		h.inbox.put(control(func(l *eventLoop) { l.request(newLeave("c")) }))
		h.turn(h.decideLeading)
		h.carryOut()
		require.Nil(t, h.raft.configuration().find("c"))
		removal := h.raft.log.end
		h.stepDown()
		h.leaveOffice()

		h.leadTerm(5)
		h.carryOut()
		h.stage()
		h.turn(h.decideLeading)
		require.Contains(t, h.office.senders, "c")
		h.carryOut()
		h.acknowledge("b", 5, 5, h.raft.log.end)
		h.turn(h.decideLeading)
		require.GreaterOrEqual(t, h.raft.commitIndex, removal)
		require.Contains(t, h.office.senders, "c", "it has not heard of the commit")

		response := newAppendEntriesResponse(5, removal, removal, true)
		response.ClusterID, response.From = h.raft.clusterID, "c"
		h.inbox.put(&ack{term: 5, name: "c", incarnation: gone.incarnation, response: response})
		h.turn(h.decideLeading)
		require.NotContains(t, h.office.senders, "c")
	})
}

// Row 78: a learner that has caught up and then fallen silent gets no vote: nobody
// knows that it lives.
func TestFault078_SilentLearnerGetsNoVote(t *testing.T) {
	inLeading(t, 2, func(t *testing.T, h *handLoop) {
		commit := func() {
			h.carryOut()
			end := h.raft.log.end
			h.acknowledge("b", 2, 2, end)
			h.turn(h.decideLeading)
			require.Equal(t, end, h.raft.commitIndex)
		}
		answer := func() {
			a := h.acknowledge("d", 2, 2, h.raft.commitIndex)
			a.incarnation, a.response.StoreID = h.raft.configuration().find("d").incarnation, 4
			h.turn(h.decideLeading)
		}
		h.inbox.put(control(func(l *eventLoop) { l.request(newJoin("d", "")) }))
		h.turn(h.decideLeading)
		commit()
		answer() // its round begins, and its name is bound
		require.EqualValues(t, 4, h.raft.configuration().find("d").storeID)
		h.office.checkQuorum(h.raft.configuration())
		commit()
		require.GreaterOrEqual(t, h.office.match["d"], h.office.rounds["d"].target)
		require.False(t, h.raft.configuration().votes("d"), "it was not heard of since the last check")
		answer()
		require.True(t, h.raft.configuration().votes("d"))
	})
}

// Row 81: a server that was filled anew after it lost its store does not stand with
// the vote that its name still has: the store that voted is gone.
func TestFault081_RefilledServerDoesNotStand(t *testing.T) {
	for store, want := range map[uint64]bool{0: true, 6: true, 7: false} {
		r := newReplica("a", identity{storeID: 6, clusterID: 1}, ballot{})
		r.configurations = []*configuration{newConfiguration(1, []member{{name: "a", voter: true, storeID: store}, {name: "b", voter: true}})}
		require.Equal(t, want, r.electable(), "store 6, the name is bound to %d", store)
	}
}

// Row 80: what the member of a name answered before it was removed says nothing of
// the next member of that name.
func TestFault080_AnswerToAnEarlierMember(t *testing.T) {
	inLeading(t, 2, func(t *testing.T, h *handLoop) {
		h.stage()
		h.turn(h.decideLeading)
		h.carryOut()
		end := h.raft.log.end
		a := h.acknowledge("b", 2, 2, end)
		a.incarnation = 77
		h.turn(h.decideLeading)
		require.Less(t, h.raft.commitIndex, end)
		require.Less(t, h.office.match["b"], end)
	})
}

// Row 94: a follower acknowledges what its disk holds, in answer to entries and to
// heartbeats.
func TestFault094_AcknowledgedAfterTheSync(t *testing.T) {
	h := newHandLoop(t)
	h.deliver(1, entryID{}, 0, 1)
	h.turn(h.decide)
	h.carryOut()
	entries := h.deliver(1, entryID{1, 1}, 1, 1, 1)
	heartbeat := h.deliver(1, entryID{3, 1}, 1)
	h.turn(h.decide)
	require.Empty(t, entries.answers, "they are on their way to the disk")
	for _, answer := range heartbeat.answers {
		require.LessOrEqual(t, answer.Index(), uint64(1))
	}
	h.carryOut()
	require.Len(t, entries.answers, 1)
	require.True(t, entries.answers[0].Success())
	require.EqualValues(t, 3, entries.answers[0].Index())
}

// Row 124: a leader stages no more than it may.
func TestFault124_StagedBytesAreBounded(t *testing.T) {
	inLeading(t, 2, func(t *testing.T, h *handLoop) {
		h.options.maxUncommittedBytes = 2*len(nopRecord()) + 1
		first, second, third := h.stage(), h.stage(), h.stage()
		h.turn(h.decideLeading)
		require.EqualError(t, outcomeOf(first), "no answer")
		require.EqualError(t, outcomeOf(second), "no answer")
		err := outcomeOf(third)
		require.ErrorIs(t, err, ErrOverloaded)
		require.ErrorIs(t, err, ErrNotApplied)
		h.carryOut()
		h.acknowledge("c", 2, 2, h.raft.log.end)
		h.turn(h.decideLeading)
		fourth := h.stage()
		h.turn(h.decideLeading)
		require.EqualError(t, outcomeOf(fourth), "no answer", "what is committed is staged no more")
	})
}

// Row 128: what is durable and committed does not stay in memory.
func TestFault128_MemoryDoesNotGrowWithTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHandLoop(t)
		h.deliver(1, entryID{}, 0, 1)
		h.turn(h.decide)
		h.carryOut()
		piece := make([]uint64, 4000) // of entries, as terms
		for i := range piece {
			piece[i] = 1
		}
		last := entryID{1, 1}
		largest := 0
		for range 200 {
			h.deliver(1, last, last.index, piece...)
			last.index += uint64(len(piece))
			h.turn(h.decide)
			h.carryOut()
			largest = max(largest, h.tail.size)
			h.applier.ranges.take(nil)
		}
		written := 200 * len(piece) * len(nopRecord())
		require.Greater(t, written, tailBytes+4<<20)
		require.Less(t, largest, tailBytes+2<<20, "of %d bytes", written)
	})
}

// Row 134: a command that is in the log when the server stops may yet be committed,
// by this server's next life or by another one: nobody may say that it was not.
func TestFault134_StopWithCommandsInTheLog(t *testing.T) {
	inLeading(t, 2, func(t *testing.T, h *handLoop) {
		staged := h.stage()
		h.turn(h.decideLeading)
		waiting := h.stage()
		h.cancel()
		h.leaveOffice()
		h.end()
		require.ErrorIs(t, outcomeOf(staged), ErrOutcomeUnknown)
		require.ErrorIs(t, outcomeOf(waiting), ErrNotApplied)
	})
}
