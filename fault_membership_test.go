package raft

import (
	"math/rand/v2"
	"testing"
)

// TestFault067_ChangeOnlyAfterAnOwnEntry: two leaders cannot commit different
// changes of one configuration. testdata/rules/single_server_change.txt has the
// history; here are schedules of it.
func TestFault067_ChangeOnlyAfterAnOwnEntry(t *testing.T) {
	removed := 0
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 67))
		s := played(t, "cluster a b c d\ntimeout a\nquiet\nheartbeat a\nquiet")
		for range 60 {
			x := s.servers[rng.IntN(len(s.servers))]
			switch {
			case rng.IntN(8) == 0:
				x.alive = false
				x.timeout()
			case rng.IntN(10) == 0 && x.role == Leader:
				gone := s.servers[rng.IntN(len(s.servers))].name
				if x.configuration().voters() > 2 && x.configuration().votes(gone) {
					x.remove(gone)
					removed++
				}
				x.settle()
			case rng.IntN(8) == 0 && x.role == Leader:
				x.heartbeat()
			case len(s.letters) > 0:
				l := s.take(rng.IntN(len(s.letters)))
				if rng.IntN(4) > 0 {
					s.arrive(l)
				}
			}
			if len(s.failures) > 0 {
				t.Fatalf("seed %d: %v", seed, s.failures)
			}
		}
	}
	if removed < 100 {
		t.Errorf("only %d removals were tried", removed)
	}
}

// TestFault069_InForceOnAppend: a appends the removals of c and, when that is
// committed, of b; b and c are not a majority of anything.
func TestFault069_InForceOnAppend(t *testing.T) {
	s := played(t, `cluster a b c
		timeout a
		quiet
		heartbeat a
		quiet
		remove a c
		deliver a->b`)
	a, b := s.server("a"), s.server("b")
	if a.configuration().votes("c") || b.configuration().votes("c") || a.commitIndex >= a.configuration().index {
		t.Fatalf("in force: %v; %v", a, b)
	}
	s.play(t, "deliver b->a\nremove a b\ndrop")
	if a.commitIndex != a.log.end || a.configuration().voters() != 1 {
		t.Fatalf("%v", a)
	}
	for range 10 {
		s.play(t, "silent b\ntimeout b\nquiet\ntimeout c\nquiet")
	}
	if s.leads() != "a" || a.term != 1 {
		t.Errorf("%q leads; %v", s.leads(), a)
	}
}

// TestFault070_TruncationBringsBackTheConfiguration that was in force before.
func TestFault070_TruncationBringsBackTheConfiguration(t *testing.T) {
	first, fifth, ninth := bound(1, "a", "b", "c"), bound(5, "a", "b", "c", "d"), bound(9, "a", "b", "c", "d", "e")
	for _, c := range []struct {
		commit, from uint64
		want         *configuration
	}{
		{3, 10, ninth}, {3, 9, fifth}, {3, 8, fifth}, {3, 6, fifth}, {3, 5, first}, {3, 4, first},
		{6, 8, fifth}, {6, 7, fifth}, {8, 9, fifth},
	} {
		r := standing("a", 1, []uint64{1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, first, fifth, ninth)
		r.commit(c.commit)
		appendTo(t, r, 2, entryID{c.from - 1, 1}, 0, 2)
		if r.configuration() != c.want {
			t.Errorf("commit %d, truncated from %d: the configuration of %d", c.commit, c.from, r.configuration().index)
		}
	}
}

// TestFault082_TwoBootstrapsStayApart: two clusters of which each server could be
// one of the other's take nothing from each other, whatever they send.
func TestFault082_TwoBootstrapsStayApart(t *testing.T) {
	start := `cluster a b group=one
		cluster x y group=two
		timeout a
		timeout x
		quiet
		heartbeat a
		heartbeat x
		quiet`
	s := played(t, start+`
		propose x v
		quiet
		join x a
		quiet
		heartbeat x
		quiet
		heartbeat x
		quiet`)
	if a := s.server("a"); s.leads() != "a x" || a.log.end != 1 || a.term != 1 || s.server("x").configuration().votes("a") {
		t.Errorf("%v; %v", a, s.server("x"))
	}
	// A request for a vote with a later term and a longer log.
	s = played(t, start)
	b, x := s.server("b"), s.server("x")
	x.campaign()
	ask := ask(x.replica, "b", 0)
	ask.LastLogIndex, ask.LastLogTerm = 100, 100
	if granted, refused := b.vote(ask, false); granted || refused != refusedCluster || b.term != 1 {
		t.Errorf("granted %t, refused %d, term %d", granted, refused, b.term)
	}

	// Begun apart with one list of names and never met: the first committed
	// entry decides which of the two clusters it was.
	s = played(t, `cluster a b c
		timeout a
		deliver a->b
		deliver b->a
		drop
		crash a
		timeout c
		drop c->b
		timeout c
		deliver c->b
		deliver b->c
		deliver c->b
		deliver b->c
		restart a
		heartbeat c
		quiet
		heartbeat c
		quiet`)
	if a, c := s.server("a"), s.server("c"); a.clusterID != c.clusterID || a.log.last() != c.log.last() {
		t.Errorf("%v; %v", a, c)
	}
}

// TestFault117_MessageForAnother: what is addressed to another server, or to
// another store of this name, is not looked at.
func TestFault117_MessageForAnother(t *testing.T) {
	for name, c := range map[string]struct {
		to      string
		toStore uint64
		refused uint32
	}{
		"another name":  {"c", 0, refusedAddressee},
		"another store": {"b", 7, refusedStore},
		"both":          {"c", 2, refusedAddressee},
	} {
		t.Run(name, func(t *testing.T) {
			r := standing("b", 2, []uint64{1, 1}, bound(1, "a", "b", "c"))
			before := *r
			vote := &RequestVoteRequest{
				Term: 5, LastLogIndex: 9, LastLogTerm: 4, CandidateName: "a", ClusterID: 9, To: c.to, StoreID: 1, ToStoreID: c.toStore,
			}
			if granted, refused := r.vote(vote, false); granted || refused != c.refused {
				t.Errorf("granted %t, refused %d", granted, refused)
			}
			req, b := appending(5, entryID{1, 1}, 9, 4, 4)
			req.To, req.ToStoreID = c.to, c.toStore
			if answer, err := r.appendEntries(req, b); err != nil || answer != (appendAnswer{refused: c.refused}) {
				t.Errorf("%+v, %v", answer, err)
			}
			if r.ballot != before.ballot || r.log.last() != before.log.last() || r.commitIndex != before.commitIndex || r.leader != "" {
				t.Errorf("%+v", r)
			}
		})
	}
	// Its own messages, come back.
	r := standing("b", 2, []uint64{1, 1}, bound(1, "a", "b", "c"))
	if granted, refused := r.vote(&RequestVoteRequest{Term: 5, CandidateName: "b", ClusterID: 9}, false); granted || refused == refusedNot {
		t.Errorf("granted %t, refused %d", granted, refused)
	}
	req, b := appending(5, entryID{}, 0)
	req.LeaderName = "b"
	if answer, err := r.appendEntries(req, b); err != nil || answer.refused == refusedNot || r.term != 1 {
		t.Errorf("%+v, %v, term %d", answer, err, r.term)
	}
}

// TestFault146_TermsOutOfRange are refused without a trace; no term wraps.
func TestFault146_TermsOutOfRange(t *testing.T) {
	for _, term := range []uint64{1<<64 - 1, 1<<64 - 2, 1 << 63} {
		r := standing("b", 2, []uint64{1}, bound(1, "a", "b", "c"))
		vote := &RequestVoteRequest{Term: term, LastLogIndex: 9, LastLogTerm: term, CandidateName: "a", ClusterID: 9}
		if granted, refused := r.vote(vote, false); granted || refused != refusedTerm {
			t.Errorf("term %d: granted %t, refused %d", term, granted, refused)
		}
		vote.PreVote = true
		if granted, refused := r.vote(vote, false); granted || refused != refusedTerm {
			t.Errorf("term %d: pre-vote %t, refused %d", term, granted, refused)
		}
		req, b := appending(term, entryID{1, 1}, 0)
		if answer, err := r.appendEntries(req, b); err != nil || answer.refused != refusedTerm || answer.heard {
			t.Errorf("term %d: %+v, %v", term, answer, err)
		}
		if r.observe(term); r.term != 1 || r.leader != "" {
			t.Errorf("term %d is taken for one: %d", term, r.term)
		}
	}
	// A thousand jumps of 2^40 go through, and end below the bound.
	r := standing("b", 2, []uint64{1}, bound(1, "a", "b", "c"))
	for range 1000 {
		before := r.term
		if r.observe(before + 1<<40); r.term != before+1<<40 {
			t.Fatalf("term %d after %d", r.term, before)
		}
	}
	// The last term of all can be seen, and nobody stands for a later one.
	if r.observe(maxTerm); r.term != maxTerm || r.electable() {
		t.Errorf("term %d, electable %t", r.term, r.electable())
	}
}

// TestFault082_AdoptionEmptiesTheLog: what a server wrote for a cluster that never
// was is gone with it, entries, configurations and all, before anything is taken.
func TestFault082_AdoptionEmptiesTheLog(t *testing.T) {
	initial := toyConfiguration("l", "s", "t")
	start := func() *replica {
		r := newReplica("s", identity{storeID: 2, clusterID: 5, initial: initial}, ballot{term: 1})
		r.log = grown(1, 3)
		r.configured(initial.bind(map[string]uint64{"s": 2}).at(1))
		return r
	}
	word := func(prev entryID, terms ...uint64) (*AppendEntriesRequest, *batch) {
		req, b := appending(2, prev, 0, terms...)
		req.To, req.InitialDigest = "s", initial.digest()
		return req, b
	}
	// Also by a leader whose own log begins behind a snapshot.
	r := start()
	req, b := word(entryID{4, 2})
	if answer, err := r.appendEntries(req, b); err != nil || answer != (appendAnswer{heard: true, adopted: true, reset: true}) || r.clusterID != 9 || r.log.end != 0 {
		t.Errorf("entries behind what is not there: %+v, %v, cluster %d, last %v", answer, err, r.clusterID, r.log.last())
	}
	r = start()
	req, b = word(entryID{})
	answer, err := r.appendEntries(req, b)
	if err != nil || !answer.success || answer.match != 0 || !answer.adopted || !answer.reset || r.clusterID != 9 {
		t.Errorf("a heartbeat from the beginning: %+v, %v, cluster %d", answer, err, r.clusterID)
	}
	if r.log.end != 0 || len(r.log.runs) != 0 || r.configuration() != initial || r.term != 2 {
		t.Errorf("what is left: %+v, the configuration of %d, term %d", r.log, r.configuration().index, r.term)
	}

	for name, spoil := range map[string]func(r *replica, req *AppendEntriesRequest){
		"something is committed":   func(r *replica, _ *AppendEntriesRequest) { r.commit(1) },
		"other names":              func(_ *replica, req *AppendEntriesRequest) { req.InitialDigest++ },
		"no names":                 func(_ *replica, req *AppendEntriesRequest) { req.InitialDigest = 0 },
		"no addressee":             func(_ *replica, req *AppendEntriesRequest) { req.To = "" },
		"another store's":          func(_ *replica, req *AppendEntriesRequest) { req.ToStoreID = 77 },
		"joined elsewhere, begun":  func(r *replica, _ *AppendEntriesRequest) { r.initial = newConfiguration(0, nil) },
		"an old leader's":          func(r *replica, _ *AppendEntriesRequest) { r.observe(7) },
		"another leader's of this": func(r *replica, _ *AppendEntriesRequest) { r.observe(2); r.leader = "t" },
	} {
		t.Run(name, func(t *testing.T) {
			r := start()
			req, b := word(entryID{}, 2)
			spoil(r, req)
			if answer, err := r.appendEntries(req, b); err != nil || answer.adopted || answer.success || r.clusterID != 5 || r.log.end != 3 {
				t.Errorf("%+v, %v, cluster %d, last %v", answer, err, r.clusterID, r.log.last())
			}
		})
	}
}
