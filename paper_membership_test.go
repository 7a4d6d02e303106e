package raft

import "testing"

func TestPaperMembership(t *testing.T) {
	checkClaims(t, []claim{
		{"§6", "a server always uses the latest configuration in its log, regardless of whether the entry is committed", func(t *testing.T) {
			four := bound(4, "a", "b", "c", "d")
			r := three()
			req, b := appending(2, entryID{3, 2}, 0, 2)
			b.configurations = []*configuration{four}
			if _, err := r.appendEntries(req, b); err != nil || r.configuration() != four || r.commitIndex != 0 {
				t.Errorf("%v, the configuration of %d, commit %d", err, r.configuration().index, r.commitIndex)
			}
			// Sent again, it is in force once.
			if _, err := r.appendEntries(req, b); err != nil || len(r.configurations) != 3 {
				t.Errorf("%v, %d configurations", err, len(r.configurations))
			}
			if r.commit(4); r.configurations[0] != four {
				t.Errorf("the first configuration is of %d", r.configurations[0].index)
			}
		}},
		{"dissertation §4.1", "any majority of the old cluster overlaps with any majority of the new cluster", func(t *testing.T) {
			for n := 1; n <= 8; n++ {
				names := []string{"a", "b", "c", "d", "e", "f", "g", "h", "i"}
				before, after := bound(1, names[:n]...).quorum(), bound(2, names[:n+1]...).quorum()
				if before+after <= n+1 || before > n {
					t.Errorf("%d of %d and %d of %d need not meet", before, n, after, n+1)
				}
			}
			learner := bound(1, "a", "b", "c").with(member{name: "d"})
			if learner.quorum() != 2 || learner.voters() != 3 {
				t.Errorf("a learner counts: %d of %d", learner.quorum(), learner.voters())
			}
		}},
		{"dissertation §4.1", "a server's removal does not need its vote, nor does its copy count", func(t *testing.T) {
			r := standing("a", 1, []uint64{1, 1}, bound(1, "a", "b", "c"), bound(2, "b", "c"))
			l := newLeadership(r, 1, map[string]uint64{})
			l.stored("a", 2)
			l.stored("b", 2)
			if got := l.committed(r.configuration()); got != 0 {
				t.Errorf("the leader counts itself: %d", got)
			}
			l.stored("c", 2)
			if got := l.committed(r.configuration()); got != 2 {
				t.Errorf("b and c commit %d", got)
			}
		}},
		{"dissertation §4.1", "servers process incoming RPC requests without consulting their current configurations", func(t *testing.T) {
			r := three()
			stranger := asking(3, entryID{9, 2})
			stranger.CandidateName, stranger.StoreID = "z", 26
			mustGrant(t, r, stranger)
			req, b := appending(4, entryID{3, 2}, 0, 4)
			req.LeaderName = "y"
			if answer, err := r.appendEntries(req, b); err != nil || !answer.success {
				t.Errorf("%+v, %v", answer, err)
			}
		}},
	})
}

func TestPaperLearners(t *testing.T) {
	checkClaims(t, []claim{
		{"dissertation §4.2.1", "the new server joins the cluster as a non-voting member", func(t *testing.T) {
			c := bound(1, "a", "b").join("c", "at-c", false, false).at(7)
			m := c.find("c")
			if m.voter || m.incarnation != 7 || m.storeID != 0 || c.quorum() != 2 || c.voters() != 2 {
				t.Errorf("%+v, quorum %d", m, c.quorum())
			}
			if again := c.join("c", "at-c", false, false); again != c {
				t.Error("a join that changes nothing makes a configuration")
			}
			moved := c.join("c", "elsewhere", false, false).at(8).find("c")
			if moved.incarnation != 7 || moved.connectionString != "elsewhere" || moved.voter {
				t.Errorf("%+v", moved)
			}
			anew := c.with(member{name: "c", incarnation: 7, storeID: 3, voter: true}).join("c", "at-c", false, true).at(9).find("c")
			if anew.incarnation != 9 || anew.storeID != 0 || anew.voter {
				t.Errorf("%+v", anew)
			}
		}},
		{"dissertation §4.2.1", "if the last round lasts less than an election timeout, the leader adds the new server", checkRounds},
		{"dissertation §4.2.2", "a server that is not part of its own latest configuration should still start new elections", func(t *testing.T) {
			r := standing("a", 1, []uint64{1, 1}, bound(1, "a", "b", "c"), bound(2, "b", "c"))
			if !r.electable() {
				t.Error("not while its removal may be needed")
			}
			if r.commit(2); r.electable() {
				t.Error("after its removal is committed")
			}
			if learner := standing("d", 4, []uint64{1}, bound(1, "a", "b").with(member{name: "d"}).at(1)); learner.electable() {
				t.Error("a learner")
			}
		}},
		{"dissertation §4.2.3", "if a server receives a RequestVote request within the minimum election timeout of hearing from a current leader, it does not update its term or grant its vote", func(t *testing.T) {
			for role, r := range roles() {
				before := r.ballot
				if granted, refused := r.vote(asking(9, entryID{9, 9}), true); granted || refused != refusedNot || r.ballot != before || r.role != role {
					t.Errorf("a %s: granted %t, %+v", role, granted, r.ballot)
				}
			}
		}},
		{"dissertation §4.2.3", "a special flag: I have permission to disrupt the leader — it told me to", func(t *testing.T) {
			r := three()
			req := asking(9, entryID{9, 9})
			req.Transfer = true
			if granted, _ := r.vote(req, true); !granted || r.term != 9 {
				t.Errorf("granted %t in term %d", granted, r.term)
			}
		}},
	})
}

// checkRounds races a learner against a log that grows.
func checkRounds(t *testing.T) {
	c := bound(1, "a", "b").join("d", "at-d", false, false).at(2)
	r := standing("a", 1, []uint64{1, 1}, bound(1, "a", "b"), c)
	l := newLeadership(r, 1, map[string]uint64{})
	steps := []struct {
		match, end uint64
		checks     int
		want       bool
	}{
		{0, 100, 0, false},    // the first round begins
		{50, 200, 3, false},   // slow
		{100, 300, 1, false},  // done, too late: a new round to 300
		{299, 350, 0, false},  // not there
		{300, 350, 1, true},   // within a check
		{300, 9999, 0, true},  // and stays so while the change waits
		{300, 9999, 0, true},  // however often it is asked
		{300, 9999, 5, false}, // but not for ever: the log has gone on
	}
	for i, s := range steps {
		l.stored("d", s.match)
		for range s.checks {
			l.checkQuorum(c)
		}
		if got := l.caughtUp("d", s.end); got != s.want {
			t.Errorf("step %d: caught up %t", i, got)
		}
	}
	if l.forget("d"); l.match["d"] != 0 || l.caughtUp("d", 5) {
		t.Error("a new member of the name has the old one's merits")
	}
}

func TestPaperPreVoteAndQuorum(t *testing.T) {
	checkClaims(t, []claim{
		{"dissertation §9.6", "in the Pre-Vote algorithm, a candidate only increments its term if it first learns from a majority that they would be willing to grant it their votes", func(t *testing.T) {
			s := played(t, "cluster a b c prevote=on\ntimeout a")
			if a := s.server("a"); a.term != 0 || a.votedFor != "" {
				t.Errorf("%v", a)
			}
			s.play(t, "deliver a->b\ndeliver b->a")
			if a := s.server("a"); a.term != 1 || a.votedFor != "a" || a.role != Candidate {
				t.Errorf("%v", a)
			}
		}},
		{"dissertation §9.6", "a pre-vote changes nothing and binds nobody", func(t *testing.T) {
			for role, r := range roles() {
				before := *r
				for _, candidate := range []string{"a", "c", "a"} {
					req := asking(3, entryID{3, 2})
					req.PreVote, req.CandidateName = true, candidate
					if granted, _ := r.vote(req, false); !granted {
						t.Errorf("a %s refuses %s", role, candidate)
					}
				}
				if r.ballot != before.ballot || r.role != before.role || r.leader != before.leader {
					t.Errorf("a %s changed: %+v", role, r.ballot)
				}
			}
		}},
		{"dissertation §9.6", "would grant: the candidate's log is up-to-date, and the voter has not received heartbeats from a valid leader for at least a baseline election timeout", func(t *testing.T) {
			for _, c := range []struct {
				term  uint64
				last  entryID
				alive bool
				want  bool
			}{
				{3, entryID{3, 2}, false, true}, {3, entryID{3, 2}, true, false}, {3, entryID{2, 2}, false, false},
				{2, entryID{3, 2}, false, true}, {1, entryID{3, 2}, false, false},
			} {
				req := asking(c.term, c.last)
				req.PreVote = true
				if granted, _ := three().vote(req, c.alive); granted != c.want {
					t.Errorf("%+v: granted %t", c, granted)
				}
			}
			voted := three()
			voted.votedFor = "c"
			req := asking(2, entryID{3, 2})
			req.PreVote = true
			mustRefuse(t, voted, req)
		}},
	})
}

func TestPaperCheckQuorum(t *testing.T) {
	checkClaims(t, []claim{
		{"dissertation §6.2", "a leader steps down if an election timeout elapses without a successful round of heartbeats to a majority of its cluster", func(t *testing.T) {
			c := bound(1, "a", "b", "c", "d", "e")
			r := standing("a", 1, []uint64{1}, c)
			l := newLeadership(r, 1, map[string]uint64{})
			for _, step := range []struct {
				heard string
				want  bool
			}{{"", false}, {"b", false}, {"bb", false}, {"bc", true}, {"bcde", true}, {"x", false}, {"", false}} {
				for i := range step.heard {
					name := step.heard[i : i+1]
					l.answeredFrom(c, name, uint64(name[0]-'a')+1)
				}
				if got := l.checkQuorum(c); got != step.want {
					t.Errorf("heard of %q: %t", step.heard, got)
				}
			}
			alone := standing("a", 1, []uint64{1}, bound(1, "a"))
			if !newLeadership(alone, 1, map[string]uint64{}).checkQuorum(alone.configuration()) {
				t.Error("a leader of one steps down")
			}
		}},
	})
}

// TestPaperQuorumWithout: a member may be given up while the others can decide.
func TestPaperQuorumWithout(t *testing.T) {
	c := bound(1, "a", "b", "c", "d").with(member{name: "e"}).at(2)
	r := standing("a", 1, []uint64{1, 1}, c)
	l := newLeadership(r, 1, map[string]uint64{})
	if l.quorumWithout(c, "d") {
		t.Error("a alone is a majority of a, b and c")
	}
	l.answeredFrom(c, "d", 4)
	l.answeredFrom(c, "e", 5)
	if l.quorumWithout(c, "d") {
		t.Error("d, which is to go, or the learner e is counted")
	}
	l.answeredFrom(c, "b", 2)
	for name, want := range map[string]bool{"d": true, "b": true, "c": true, "a": true, "e": true} {
		if got := l.quorumWithout(c, name); got != want {
			t.Errorf("without %s: %t", name, got)
		}
	}
	l.answeredFrom(c, "d", 99)
	if !l.lost["d"] {
		t.Error("d answers from another store and is not lost")
	}
}

// TestFirstContactBinds: before the log binds a name, the first store that
// answers for it in a term of office is the one.
func TestFirstContactBinds(t *testing.T) {
	c := bound(1, "a", "b").with(member{name: "d", voter: true}).at(2)
	r := standing("a", 1, []uint64{1, 1}, c)
	l := newLeadership(r, 1, map[string]uint64{"a": 1})
	for i, step := range []struct {
		store      uint64
		want, lost bool
	}{{0, true, false}, {7, true, false}, {8, false, true}, {7, true, false}, {0, true, false}} {
		if got := l.answeredFrom(c, "d", step.store); got != step.want || l.lost["d"] != step.lost {
			t.Errorf("step %d: an answer from %d counts: %t, lost %t", i, step.store, got, l.lost["d"])
		}
	}
	if m := c.bind(l.stores).find("d"); m.storeID != 7 {
		t.Errorf("bound to %d", m.storeID)
	}
	if l.answeredFrom(c, "x", 9) || len(l.heard) != 1 {
		t.Errorf("heard %v", l.heard)
	}
}
