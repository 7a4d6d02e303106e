package raft

import (
	"math/rand/v2"
	"testing"
)

// appending is a request of leader l with entries of the given terms behind
// prev, and the batch of it.
func appending(term uint64, prev entryID, commit uint64, terms ...uint64) (*AppendEntriesRequest, *batch) {
	b := &batch{history: history{base: prev, end: prev.index}}
	for _, t := range terms {
		b.append(t, 1)
	}
	return &AppendEntriesRequest{
		Term: term, PrevLogIndex: prev.index, PrevLogTerm: prev.term, CommitIndex: commit, LeaderName: "l", ClusterID: 9,
	}, b
}

// append has the follower take such a request, which must not be an error.
func appendTo(t *testing.T, r *replica, term uint64, prev entryID, commit uint64, terms ...uint64) appendAnswer {
	t.Helper()
	req, b := appending(term, prev, commit, terms...)
	answer, err := r.appendEntries(req, b)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

// TestFault026_MatchBeginsAtNothing: what a new leader guesses, and what others
// said to an earlier leader, commits nothing.
func TestFault026_MatchBeginsAtNothing(t *testing.T) {
	l := standing("l", 1, []uint64{1, 1, 1, 9}, bound(1, "l", "m", "n", "o", "p"))
	l.role = Leader
	office := newLeadership(l, 4, map[string]uint64{})
	guesses := map[string]progress{"m": newProgress(5), "n": newProgress(5)}
	if len(guesses) != 2 || office.committed(l.configuration()) != 0 {
		t.Error("a guess of nextIndex commits")
	}
	office.stored("l", 4)
	office.stored("m", 4)
	if got := office.committed(l.configuration()); got != 0 {
		t.Errorf("two of five commit %d", got)
	}
	office.stored("n", 3) // an older entry, on a majority: not ours
	if got := office.committed(l.configuration()); got != 0 {
		t.Errorf("an entry of an older term commits: %d", got)
	}
	office.stored("n", 4)
	office.stored("n", 2) // late: never down
	if got := office.committed(l.configuration()); got != 4 {
		t.Errorf("three of five commit %d", got)
	}

	s := played(t, `cluster a b c
		timeout a
		quiet
		propose a x
		deliver a->b
		keep b->a as=ack
		drop
		checkquorum a
		checkquorum a
		silent c
		timeout a
		deliver a->c
		deliver c->a
		drop
		again ack`)
	if a := s.server("a"); s.leads() != "a" || a.term != 2 || a.office.match["b"] != 0 {
		t.Errorf("an acknowledgement of term 1 counts in term 2: %v", a)
	}
}

// TestFault028_LateRejection rewinds neither what is known nor what comes next.
func TestFault028_LateRejection(t *testing.T) {
	p := newProgress(11)
	late := p.sent(10, 0) // AE(prev=10), its rejection is under way for long
	again := p.sent(10, 0)
	p.refused(again, 10, 5)
	if p.next != 6 || !p.probing {
		t.Fatalf("a rejection gives next %d, probing %t", p.next, p.probing)
	}
	probe := p.sent(5, 0) // AE(prev=5)
	p.accepted(probe, 5)
	p.accepted(p.sent(10, 5), 10)
	check := func(what string) {
		t.Helper()
		if p.matched != 10 || p.next != 11 || p.probing {
			t.Errorf("%s: matched %d, next %d, probing %t", what, p.matched, p.next, p.probing)
		}
	}
	check("accepted")
	p.refused(late, 10, 5)
	check("the first rejection again")
	p.refused(late, 10, 0)
	p.refused(p.sequence, 7, 3)
	check("a rejection of what is known to be stored")

	// Whatever comes in whatever order, next is behind what is matched.
	for seed := range uint64(2000) {
		rng := rand.New(rand.NewPCG(seed, 28))
		p := newProgress(1 + rng.Uint64N(50))
		matched := uint64(0)
		for range 100 {
			switch rng.IntN(4) {
			case 0:
				p.sent(p.next-1+rng.Uint64N(4), rng.IntN(100))
			case 1:
				p.accepted(rng.Uint64N(p.sequence+1), rng.Uint64N(p.next))
			case 2:
				p.refused(rng.Uint64N(p.sequence+2), rng.Uint64N(p.next+5), rng.Uint64N(60))
			case 3:
				p.lost()
			}
			if p.matched < matched || p.next <= p.matched || p.bytes < 0 || len(p.window) == 0 && p.bytes != 0 {
				t.Fatalf("seed %d: %+v after %d matched", seed, p, matched)
			}
			matched = p.matched
		}
	}
}

// TestFault029_LateAppendTruncates: no late, repeated or shorter request takes
// away what was acknowledged, in any order of arrival.
func TestFault029_LateAppendTruncates(t *testing.T) {
	for seed := range uint64(500) {
		rng := rand.New(rand.NewPCG(seed, 29))
		r := standing("s", 1, []uint64{1}, bound(1, "l", "s", "t"))
		acknowledged := uint64(0)
		for range 30 {
			prev := rng.Uint64N(4)
			terms := make([]uint64, rng.Uint64N(5-prev))
			for i := range terms {
				terms[i] = 1
			}
			base := entryID{prev, min(prev, 1)}
			answer := appendTo(t, r, 1, base, 0, terms...)
			if answer.success {
				acknowledged = max(acknowledged, answer.match)
			}
			if r.log.end < acknowledged {
				t.Fatalf("seed %d: acknowledged %d, then the log ends at %d", seed, acknowledged, r.log.end)
			}
		}
	}

	s := played(t, `cluster a b c
		timeout a
		quiet
		heartbeat a
		keep a->b as=empty
		quiet
		propose a x
		propose a y
		keep a->b as=x
		deliver a->b
		again x
		lost a
		heartbeat a
		deliver a->b
		deliver b->a
		again empty
		again x
		drop
		crash a
		timeout c
		quiet`)
	if b := s.server("b"); b.log.end != 4 || s.leads() != "" {
		t.Errorf("%v; %q leads", b, s.leads())
	}
}

// TestFault030_CommitOnlyWhatIsVerified: the follower has 12 to 25 of term 2,
// which the leader of term 3 never sent.
func TestFault030_CommitOnlyWhatIsVerified(t *testing.T) {
	terms := make([]uint64, 25)
	for i := range terms {
		terms[i] = 2
	}
	r := standing("s", 1, terms, bound(1, "l", "s", "t"))
	if answer := appendTo(t, r, 3, entryID{16, 3}, 26); answer.success || r.commitIndex != 0 {
		t.Errorf("%+v, commit %d", answer, r.commitIndex)
	}
	if answer := appendTo(t, r, 3, entryID{11, 2}, 26); !answer.success || answer.match != 11 || r.commitIndex != 11 || r.log.end != 25 {
		t.Errorf("%+v, commit %d, last %d", answer, r.commitIndex, r.log.end)
	}
	if answer := appendTo(t, r, 3, entryID{11, 2}, 26, 3, 3); answer.appendFrom != 12 || r.commitIndex != 13 || r.log.end != 13 {
		t.Errorf("%+v, commit %d, last %d", answer, r.commitIndex, r.log.end)
	}
	// A later message that verifies less takes no commit back.
	if appendTo(t, r, 3, entryID{5, 2}, 26); r.commitIndex != 13 {
		t.Errorf("commit %d", r.commitIndex)
	}
}

// TestFault031_AnswerNamesTheEntry: what an old leader appended and a new one
// replaced is no longer held, and is not what is committed at its index.
func TestFault031_AnswerNamesTheEntry(t *testing.T) {
	s := played(t, `cluster a b c
		timeout a
		quiet
		heartbeat a
		quiet
		propose a x
		drop`)
	a := s.server("a")
	x := a.log.last()
	// A vote request of a later term takes the office; the proposal that follows
	// has no leader to append it in that term.
	s.play(t, `silent b
		silent c
		timeout c
		quiet
		timeout c
		quiet
		propose a y
		propose c z
		quiet
		heartbeat c
		quiet`)
	if s.leads() != "c" || a.office != nil {
		t.Fatalf("%q leads", s.leads())
	}
	if a.log.holds(x) || a.commitIndex < x.index || a.entries[x.index-1].value == "x" {
		t.Errorf("%v holds %v", a, x)
	}
	for i, e := range a.entries {
		if e.value == "y" {
			t.Errorf("y is at %d", i+1)
		}
	}
}

// TestFault042_Figure8: see testdata/rules/figure_8.txt for the whole history.
func TestFault042_Figure8(t *testing.T) {
	a := standing("a", 1, []uint64{1, 2, 4}, bound(1, "a", "b", "c", "d", "e"))
	office := newLeadership(a, 3, map[string]uint64{})
	office.stored("a", 3)
	office.stored("b", 2)
	office.stored("c", 2)
	if got := office.committed(a.configuration()); got != 0 {
		t.Errorf("%d is committed, with a majority for an entry of an older term only", got)
	}
	office.stored("b", 3)
	office.stored("c", 3)
	if got := office.committed(a.configuration()); got != 3 {
		t.Errorf("%d is committed, with a majority for the entry of term 4", got)
	}
}

// TestFault043_OnlyANewerLeaderTruncates: a leader that is deposed keeps what it
// has; another may have counted on it.
func TestFault043_OnlyANewerLeaderTruncates(t *testing.T) {
	s := played(t, `cluster a b c
		timeout a
		quiet
		heartbeat a
		quiet
		propose a e
		deliver a->b
		keep b->a as=ack
		drop`)
	a := s.server("a")
	e := a.log.last()
	a.receive(&letter{from: "c", to: "a", vote: &RequestVoteRequest{
		Term: 2, CandidateName: "c", ClusterID: a.clusterID, To: "a", Transfer: true, LastLogIndex: 2, LastLogTerm: 1,
	}})
	if a.role != Follower || a.term != 2 || !a.log.holds(e) || !a.disk.same(toyDisk{a.identity, a.ballot, a.entries, entryID{}, 0}) {
		t.Errorf("%v", a)
	}
	s.play(t, "again ack\ncrash a\nrestart a")
	if !a.log.holds(e) || a.commitIndex >= e.index {
		t.Errorf("%v", a)
	}
}

// TestFault053_IndexIsNoName: after a change of leaders another entry stands at
// the index, which (index, term) tells apart.
func TestFault053_IndexIsNoName(t *testing.T) {
	r := standing("s", 1, []uint64{1, 1, 1}, bound(1, "l", "s", "t"))
	x := entryID{3, 1}
	if !r.log.holds(x) {
		t.Fatal("x is not held")
	}
	answer := appendTo(t, r, 2, entryID{2, 1}, 3, 2)
	if answer.appendFrom != 3 || r.log.holds(x) || !r.log.holds(entryID{3, 2}) || r.commitIndex != 3 {
		t.Errorf("%+v, last %v, commit %d", answer, r.log.last(), r.commitIndex)
	}
}

// TestFault056_CommitBeyondTheLog: a leader's commit index that the follower has
// not the entries for commits what is there, and a follower that lost
// acknowledged entries counts for no more than before.
func TestFault056_CommitBeyondTheLog(t *testing.T) {
	r := standing("s", 1, []uint64{1, 1, 1, 1, 1}, bound(1, "l", "s", "t"))
	if answer := appendTo(t, r, 1, entryID{2, 1}, 100); !answer.success || r.commitIndex != 2 {
		t.Errorf("%+v, commit %d", answer, r.commitIndex)
	}
	if answer := appendTo(t, r, 1, entryID{9, 1}, 100); answer.success || answer.hint != (entryID{5, 1}) || r.commitIndex != 2 {
		t.Errorf("%+v, commit %d", answer, r.commitIndex)
	}
	if r.commit(1 << 62); r.commitIndex != 5 {
		t.Errorf("commit %d of 5", r.commitIndex)
	}
	if answer := appendTo(t, r, 1, entryID{1<<64 - 1, 1}, 1<<64-1); answer.success {
		t.Errorf("%+v", answer)
	}

	p := newProgress(6)
	p.accepted(p.sent(9, 40), 9)
	for range 10 { // it has lost 6 to 9, which it acknowledged
		p.refused(p.sent(9, 0), 9, 5)
	}
	if p.matched != 9 || p.next != 10 {
		t.Errorf("matched %d, next %d", p.matched, p.next)
	}
}

// TestFault110_EveryLetterTwice: a whole history, with an election, a deposed
// leader and a join, whose every letter arrives again later, in another order.
func TestFault110_EveryLetterTwice(t *testing.T) {
	for seed := range uint64(200) {
		s := played(t, "cluster a b c batch=2\nserver d")
		var all []*letter
		run := func(commands string) {
			t.Helper()
			s.play(t, commands)
			for len(s.letters) > 0 {
				all = append(all, s.letters[0])
				s.arrive(s.take(0))
			}
		}
		run("timeout a")
		run("propose a x\njoin a d")
		run("silent b\nsilent c\ntimeout b")
		for _, command := range []string{"heartbeat b", "propose b y", "heartbeat b", "heartbeat b"} {
			run(command)
		}
		b := s.server("b")
		if s.leads() != "b" || b.commitIndex != b.log.end || s.server("d").log.last() != b.log.last() {
			t.Fatalf("%q leads; %v; %v", s.leads(), b, s.server("d"))
		}
		last := b.log.last()
		rng := rand.New(rand.NewPCG(seed, 110))
		rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		for _, l := range all {
			s.arrive(l)
		}
		s.play(t, "quiet\nheartbeat b\nquiet")
		if s.leads() != "b" || b.term != 2 || b.log.last() != last || b.commitIndex != last.index {
			t.Fatalf("seed %d: %q leads; %v", seed, s.leads(), b)
		}
	}
}
