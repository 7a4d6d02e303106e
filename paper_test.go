package raft

import "testing"

// The paper files hold the rules against "In Search of an Understandable
// Consensus Algorithm (Extended Version)" and the dissertation "Consensus:
// Bridging Theory and Practice", sentence by sentence. This one has §5.1 and
// §5.2, paper_log_test.go §5.3, paper_safety_test.go §5.4, §8 and the figures 7
// and 8, paper_membership_test.go §6 and the dissertation's §4.2, §6.2 and §9.6.

// claim is a sentence of the paper and what shows that it holds here.
type claim struct {
	section  string
	sentence string
	check    func(t *testing.T)
}

func checkClaims(t *testing.T, claims []claim) {
	t.Helper()
	for _, c := range claims {
		t.Run(c.section+" "+c.sentence, c.check)
	}
}

// three is a follower b of term 2 in a cluster of a, b and c, with the entries
// 1.1, 2.1 and 3.2.
func three() *replica { return standing("b", 2, []uint64{1, 1, 2}, bound(1, "a", "b", "c")) }

// asking is a request for a vote of a, whose log ends with last.
func asking(term uint64, last entryID) *RequestVoteRequest {
	return &RequestVoteRequest{
		Term: term, LastLogIndex: last.index, LastLogTerm: last.term, CandidateName: "a", ClusterID: 9, To: "b", StoreID: 1,
	}
}

// mustGrant and mustRefuse say what a vote is to be.
func mustGrant(t *testing.T, r *replica, req *RequestVoteRequest) {
	t.Helper()
	if granted, refused := r.vote(req, false); !granted {
		t.Errorf("refused (%d): %+v", refused, req)
	}
}

func mustRefuse(t *testing.T, r *replica, req *RequestVoteRequest) {
	t.Helper()
	if granted, _ := r.vote(req, false); granted {
		t.Errorf("granted: %+v", req)
	}
}

// roles makes a server in each role of term 2.
func roles() map[string]*replica {
	follower, candidate, leader := three(), three(), three()
	candidate.term, leader.term = 1, 1
	candidate.campaign()
	leader.campaign()
	leader.role, leader.leader = Leader, "b"
	return map[string]*replica{Follower: follower, Candidate: candidate, Leader: leader}
}

func TestPaperTerms(t *testing.T) {
	checkClaims(t, []claim{
		{"§5.1", "if one server's current term is smaller than the other's, it updates its current term to the larger value", func(t *testing.T) {
			for role, r := range roles() {
				r.vote(asking(5, entryID{}), false)
				if r.term != 5 {
					t.Errorf("a %s is in term %d after a request for a vote", role, r.term)
				}
			}
			for role, r := range roles() {
				appendTo(t, r, 5, entryID{3, 2}, 0)
				if r.term != 5 {
					t.Errorf("a %s is in term %d after an append", role, r.term)
				}
			}
			for role, r := range roles() {
				if r.observe(5); r.term != 5 {
					t.Errorf("a %s is in term %d after an answer", role, r.term)
				}
			}
		}},
		{"§5.1", "if a candidate or leader discovers that its term is out of date, it immediately reverts to follower state", func(t *testing.T) {
			for role, r := range roles() {
				r.observe(3)
				if r.role != Follower || r.leader != "" || r.votedFor != "" {
					t.Errorf("a %s became %s of %q with a vote for %q", role, r.role, r.leader, r.votedFor)
				}
			}
		}},
		{"§5.1", "if a server receives a request with a stale term number, it rejects the request", func(t *testing.T) {
			for role, r := range roles() {
				before := *r
				mustRefuse(t, r, asking(1, entryID{100, 100}))
				if answer := appendTo(t, r, 1, entryID{3, 2}, 3, 9); answer.success || answer.heard || answer.appendFrom != 0 {
					t.Errorf("a %s: %+v", role, answer)
				}
				if r.ballot != before.ballot || r.role != before.role || r.leader != before.leader || r.log.last() != before.log.last() {
					t.Errorf("a %s changed", role)
				}
			}
		}},
		{"§5.1", "terms increase monotonically over time", func(t *testing.T) {
			r := three()
			for _, term := range []uint64{1, 0, 2} {
				if r.observe(term); r.term != 2 {
					t.Errorf("term %d after %d", r.term, term)
				}
			}
			if r.campaign(); r.term != 3 {
				t.Errorf("a campaign begins term %d", r.term)
			}
		}},
	})
}

func TestPaperVotes(t *testing.T) {
	checkClaims(t, []claim{
		{"Figure 2, RequestVote 1", "reply false if term < currentTerm", func(t *testing.T) {
			mustRefuse(t, three(), asking(1, entryID{3, 2}))
		}},
		{"Figure 2, RequestVote 2", "if votedFor is null or candidateId, and candidate's log is at least as up-to-date, grant vote", func(t *testing.T) {
			r := three()
			mustGrant(t, r, asking(2, entryID{3, 2}))
			if r.votedFor != "a" || r.term != 2 {
				t.Errorf("%+v", r.ballot)
			}
			mustGrant(t, r, asking(2, entryID{3, 2})) // the same candidate again
			other := asking(2, entryID{3, 2})
			other.CandidateName, other.StoreID = "c", 3
			mustRefuse(t, r, other)
		}},
		{"§5.2", "each server will vote for at most one candidate in a given term, on a first-come-first-served basis", func(t *testing.T) {
			r := three()
			mustGrant(t, r, asking(3, entryID{3, 2}))
			longer := asking(3, entryID{9, 3})
			longer.CandidateName, longer.StoreID = "c", 3
			mustRefuse(t, r, longer)
			longer.Term = 4
			mustGrant(t, r, longer)
		}},
		{"§5.2", "it increments its current term, transitions to candidate state and votes for itself", func(t *testing.T) {
			r := three()
			r.leader = "a"
			r.campaign()
			if r.term != 3 || r.role != Candidate || r.votedFor != "b" || r.leader != "" {
				t.Errorf("%s, %+v, leader %q", r.role, r.ballot, r.leader)
			}
			mustRefuse(t, r, asking(3, entryID{9, 9}))
		}},
	})
}

func TestPaperElections(t *testing.T) {
	checkClaims(t, []claim{
		{"§5.2", "a candidate wins an election if it receives votes from a majority of the servers in the full cluster for the same term", func(t *testing.T) {
			for voters, needed := range map[int]int{1: 1, 2: 2, 3: 2, 4: 3, 5: 3, 6: 4, 7: 4} {
				names := []string{"a", "b", "c", "d", "e", "f", "g"}[:voters]
				r := standing("a", 1, []uint64{1}, bound(1, names...))
				r.campaign()
				e := newElection(r, false)
				for votes := 1; votes <= voters; votes++ {
					e.record(names[votes-1], uint64(votes), true)
					if e.won() != (votes >= needed) {
						t.Errorf("%d votes of %d: won %t", votes, voters, e.won())
					}
				}
			}
		}},
		{"§5.2", "if the leader's term is at least as large as the candidate's current term, the candidate recognizes the leader and returns to follower state", func(t *testing.T) {
			for _, term := range []uint64{2, 3} {
				r := roles()[Candidate]
				answer := appendTo(t, r, term, entryID{3, 2}, 0)
				if !answer.heard || r.role != Follower || r.leader != "l" || r.term != term {
					t.Errorf("%+v, %s of %q in term %d", answer, r.role, r.leader, r.term)
				}
			}
		}},
		{"§5.2", "if the term in the RPC is smaller than the candidate's current term, the candidate rejects the RPC and continues in candidate state", func(t *testing.T) {
			r := roles()[Candidate]
			if answer := appendTo(t, r, 1, entryID{3, 2}, 0); answer.success || answer.heard || r.role != Candidate {
				t.Errorf("%+v, %s", answer, r.role)
			}
		}},
		{"§5.2", "if many followers become candidates at the same time, votes could be split so that no candidate obtains a majority", func(t *testing.T) {
			s := played(t, "cluster a b\ntimeout a\ntimeout b\nquiet")
			if s.leads() != "" {
				t.Errorf("%s leads", s.leads())
			}
			s.play(t, "timeout a\nquiet")
			if s.leads() != "a" || s.server("a").term != 2 {
				t.Errorf("%q leads; %v", s.leads(), s.server("a"))
			}
		}},
		{"§5.2", "once a candidate wins an election, it becomes leader and sends heartbeat messages to all of the other servers", func(t *testing.T) {
			s := played(t, "cluster a b c d e\ntimeout a\nquiet")
			for _, x := range s.servers[1:] {
				if x.leader != "a" || x.role != Follower {
					t.Errorf("%v", x)
				}
			}
		}},
	})
}
