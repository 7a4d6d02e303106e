package raft

import (
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"
)

// Row 116: what a server of another cluster says changes nothing, whatever the roles
// and the terms, though the two clusters have names and stores in common.
func TestFault116_MessagesOfAnotherCluster(t *testing.T) {
	for _, role := range []string{Follower, Candidate, Leader} {
		for _, leader := range []string{"", "a"} {
			for _, term := range []uint64{0, 1, 2, 3, 900, maxTerm} {
				made := func() *replica {
					r := standing("b", 2, []uint64{1, 1, 2}, bound(1, "a", "b", "c"))
					r.commitIndex, r.role, r.leader = 2, role, leader
					return r
				}
				r := made()
				unchanged := func(what string, refused uint32) {
					t.Helper()
					require.Equal(t, refusedCluster, refused, "%s, %s, term %d", what, role, term)
					require.True(t, reflect.DeepEqual(made(), r), "%s, %s, term %d: %+v", what, role, term, r)
				}
				for _, ask := range []RequestVoteRequest{{}, {PreVote: true}, {Transfer: true}} {
					ask.Term, ask.CandidateName, ask.ClusterID, ask.LastLogIndex, ask.LastLogTerm = term, "a", 8, 99, term
					granted, refused := r.vote(&ask, false)
					require.False(t, granted)
					unchanged("a vote", refused)
				}
				req, b := appending(term, entryID{3, 2}, 4, 2, 2)
				req.LeaderName, req.ClusterID = "a", 8
				answer, err := r.appendEntries(req, b)
				require.NoError(t, err)
				require.Equal(t, appendAnswer{refused: refusedCluster}, answer)
				unchanged("entries", answer.refused)
				needed, heard, refused := r.offered(leaderClaim{term: term, leader: "a", clusterID: 8}, entryID{9, term})
				require.False(t, needed || heard)
				unchanged("a snapshot", refused)
				stands, refused := r.timeoutNow(&TimeoutNowRequest{Term: term, LeaderName: "a", ClusterID: 8})
				require.False(t, stands)
				unchanged("a word to stand", refused)
			}
		}
	}
}

// Row 116: nor does what it answers count: neither for a commit nor for an election.
func TestFault116_AnswersOfAnotherCluster(t *testing.T) {
	inLeading(t, 2, func(t *testing.T, h *handLoop) {
		h.stage()
		h.turn(h.decideLeading)
		h.carryOut()
		end := h.raft.log.end
		for _, ours := range []bool{false, true} {
			a := h.acknowledge("b", 2, 2, end)
			if !ours {
				a.response.ClusterID++
			}
			h.turn(h.decideLeading)
			require.Equal(t, ours, h.raft.commitIndex == end)
		}
	})
	for _, preVote := range []bool{true, false} {
		h := electing(t, preVote)
		h.raft.clusterID = 9
		h.raft.commitIndex = 1 // or the cluster's name may yet be another one
		election, before := h.election, h.raft.term
		for _, term := range []uint64{election.term, 99} {
			for _, voter := range []string{"b", "c"} {
				h.say(election, voter, RequestVoteResponse{Term: term, VoteGranted: term < 99, PreVote: preVote, ClusterID: 8})
				require.Equal(t, before, h.raft.term, "pre-vote %t", preVote)
				require.False(t, h.election != election || election.won(), "pre-vote %t", preVote)
			}
		}
		h.say(h.election, "b", RequestVoteResponse{Term: h.election.term, VoteGranted: true, PreVote: preVote, ClusterID: 9})
		require.True(t, h.election.won(), "pre-vote %t", preVote)
	}
}
