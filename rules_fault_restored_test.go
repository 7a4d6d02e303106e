package raft

import (
	"testing"
)

// TestFault108_WhatShowsALoss: a follower stores what it has acknowledged for as
// long as the leader's term lasts (Figure 2: it deletes only what conflicts, and a
// leader's log never conflicts with itself). So an answer that was given later and
// tells of a shorter log shows a loss; one that may have been given earlier shows
// nothing.
func TestFault108_WhatShowsALoss(t *testing.T) {
	const (
		send   = iota // a request with one entry
		accept        // of the request n, up to match
		lose          // what is under way
	)
	type step struct{ what, n, match uint64 }
	for name, c := range map[string]struct {
		steps         []step
		sequence, end uint64
		want          bool
	}{
		"nothing was acknowledged":         {[]step{{send, 0, 0}}, 1, 0, false},
		"shorter, asked later":             {[]step{{send, 0, 0}, {accept, 1, 11}, {send, 0, 0}}, 2, 10, true},
		"empty, asked later":               {[]step{{send, 0, 0}, {accept, 1, 11}, {send, 0, 0}}, 2, 0, true},
		"as long, asked later":             {[]step{{send, 0, 0}, {accept, 1, 11}, {send, 0, 0}}, 2, 11, false},
		"longer, asked later":              {[]step{{send, 0, 0}, {accept, 1, 11}, {send, 0, 0}}, 2, 50, false},
		"asked before it was acknowledged": {[]step{{send, 0, 0}, {send, 0, 0}, {accept, 1, 11}}, 2, 10, false},
		"the acknowledged request itself":  {[]step{{send, 0, 0}, {accept, 1, 11}, {send, 0, 0}}, 1, 10, false},
		"asked before the last was acknowledged": {
			[]step{{send, 0, 0}, {accept, 1, 11}, {send, 0, 0}, {send, 0, 0}, {accept, 2, 12}}, 3, 5, false},
		"acknowledged again, which is no news": {
			[]step{{send, 0, 0}, {accept, 1, 11}, {send, 0, 0}, {accept, 1, 11}, {accept, 1, 9}}, 2, 10, true},
		"after a break": {
			[]step{{send, 0, 0}, {accept, 1, 11}, {send, 0, 0}, {lose, 0, 0}, {send, 0, 0}}, 3, 10, true},
		"a request that was never sent": {[]step{{send, 0, 0}, {accept, 1, 11}}, 9, 10, false},
	} {
		p := newProgress(11)
		for _, s := range c.steps {
			switch s.what {
			case send:
				p.sent(p.next, 1)
			case accept:
				p.accepted(s.n, s.match)
			case lose:
				p.lost()
			}
		}
		if got := p.forgotten(c.sequence, c.end); got != c.want {
			t.Errorf("%s: %t (%+v)", name, got, p)
		}
	}
}

// TestFault108_SentAgain: the leader begins anew with a log that has lost its end,
// and what was under way before shows no second loss.
func TestFault108_SentAgain(t *testing.T) {
	p := newProgress(11)
	p.accepted(p.sent(20, 1), 20)
	under, asked := p.sent(21, 1), p.sent(21, 0)
	if !p.forgotten(asked, 7) {
		t.Fatalf("no loss: %+v", p)
	}
	p.forgot(7)
	if p.next != 8 || p.matched != 0 || !p.probing || len(p.window) > 0 || p.bytes != 0 {
		t.Fatalf("%+v", p)
	}
	if p.refused(under, 20, 3); p.next != 8 || p.forgotten(under, 7) {
		t.Errorf("an answer of before: %+v", p)
	}
	p.accepted(p.sent(9, 1), 9)
	if p.matched != 9 || p.next != 10 || p.forgotten(p.sequence, 8) {
		t.Errorf("filled again: %+v", p)
	}
	if again := p.sent(9, 0); !p.forgotten(again, 8) {
		t.Errorf("lost again: %+v", p)
	}
	// Whatever the follower claims, nothing that it has lost is taken for shared.
	for _, shared := range []uint64{10, 9, 1 << 60, 0} {
		q := p
		if q.forgot(shared); q.next > 9 {
			t.Errorf("next is %d with %d shared", q.next, shared)
		}
	}
}

// TestFault108_ShowsByWholeAnswer: the sender takes an answer for proof only if it is
// of this term, from the store that acknowledged, and of the request that it came
// for.
func TestFault108_ShowsByWholeAnswer(t *testing.T) {
	for name, c := range map[string]struct {
		change func(r *AppendEntriesResponse)
		want   bool
	}{
		"proof":                 {func(*AppendEntriesResponse) {}, true},
		"success":               {func(r *AppendEntriesResponse) { r.success = true }, false},
		"an earlier term":       {func(r *AppendEntriesResponse) { r.term = 2 }, false},
		"a later term":          {func(r *AppendEntriesResponse) { r.term = 4 }, false},
		"refused":               {func(r *AppendEntriesResponse) { r.Refused = refusedLeader }, false},
		"another store":         {func(r *AppendEntriesResponse) { r.StoreID = 8 }, false},
		"no store":              {func(r *AppendEntriesResponse) { r.StoreID = 0 }, false},
		"of an earlier request": {func(r *AppendEntriesResponse) { r.Sequence = 1 }, false},
		"of no request":         {func(r *AppendEntriesResponse) { r.Sequence = 0 }, false},
		"all is there":          {func(r *AppendEntriesResponse) { r.index = 20 }, false},
	} {
		s := &sender{term: 3, store: 7, progress: newProgress(20)}
		s.progress.accepted(s.progress.sent(20, 1), 20)
		a := answer{sequence: s.progress.sent(20, 0), response: newAppendEntriesResponse(3, 19, 0, false)}
		a.response.StoreID, a.response.Sequence = 7, a.sequence
		c.change(a.response)
		if got := s.lost(&a); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

// TestFault108_FencedCountsForNothing: neither for what is committed (§5.3, §5.4.2),
// nor for the leader's majority (dissertation §6.2), nor as a successor (§3.10).
func TestFault108_FencedCountsForNothing(t *testing.T) {
	c := bound(1, "a", "b", "c", "d", "e")
	r := standing("a", 3, []uint64{1, 3, 3, 3}, c)
	l := newLeadership(r, 2, map[string]uint64{})
	everybody := func(index uint64, names ...string) {
		for _, name := range names {
			if l.answeredFrom(c, name, c.find(name).storeID) {
				l.stored(name, index)
			}
		}
	}
	l.stored("a", 4)
	everybody(3, "b", "c")
	if got := l.committed(c); got != 3 {
		t.Fatalf("three of five commit %d", got)
	}
	if !l.fence("b") || l.fence("b") {
		t.Error("the first fence is news, the second is none")
	}
	if l.match["b"] != 0 || l.heard["b"] || l.before["b"] {
		t.Errorf("b is counted: %+v", l)
	}
	everybody(4, "b", "c")
	if got := l.committed(c); got != 0 {
		t.Errorf("two of five and a fenced one commit %d", got)
	}
	if l.checkQuorum(c) {
		t.Error("two of five and a fenced one are a majority")
	}
	if everybody(4, "b", "c", "d"); l.committed(c) != 4 || !l.checkQuorum(c) {
		t.Error("three of five are none")
	}
	for _, m := range l.successors(c) {
		if m.name == "b" {
			t.Error("the fenced one is to lead")
		}
	}
	if l.answeredFrom(c, "b", 99) || !l.lost["b"] {
		t.Error("it was wiped after all, and nobody notices")
	}
	if l.forget("b"); l.fenced["b"] || !l.answeredFrom(c, "b", c.find("b").storeID) {
		t.Error("the new member of that name is fenced")
	}
}

// TestFault108_BeginsAnew: the leader makes a learner of the fenced member, another
// incarnation from the same store; a voter only while the others have a majority
// that answers.
func TestFault108_BeginsAnew(t *testing.T) {
	for name, c := range map[string]struct {
		voter   bool
		bound   bool
		lost    bool
		heard   []string
		checks  int
		err     error
		storeID uint64
	}{
		"a voter":                        {true, true, false, []string{"c"}, 1, nil, 2},
		"a voter, not bound":             {true, false, false, []string{"c"}, 1, nil, 42},
		"a learner":                      {false, true, false, []string{"c"}, 1, nil, 2},
		"the others are down":            {true, true, false, nil, 1, ErrNoQuorum, 0},
		"it answers itself":              {true, true, false, []string{"b"}, 1, ErrNoQuorum, 0},
		"too early":                      {true, true, false, nil, 0, errEarly, 0},
		"wiped, too, and somebody asked": {true, true, true, []string{"c"}, 1, nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			k := bound(1, "a", "b", "c")
			m := *k.find("b")
			if m.voter, m.rejoins = c.voter, true; !c.bound {
				m.storeID = 0
			}
			k = k.with(m).at(5)
			if !c.voter {
				k = k.with(member{name: "d", voter: true, storeID: 4}).at(5)
				c.heard = append(c.heard, "d")
			}
			l := newLeadership(standing("a", 1, []uint64{1, 1, 1, 1, 1}, k), 1, map[string]uint64{"b": 42})
			if l.fence("b"); c.lost {
				l.lost["b"] = true
			}
			for _, name := range c.heard {
				l.answeredFrom(k, name, k.find(name).storeID)
			}
			l.checks = c.checks
			after, err := l.changed(k, false, false, "b", "elsewhere")
			if err != c.err || err != nil && after != k {
				t.Fatalf("%v: %+v", err, after)
			}
			if err != nil {
				return
			}
			want := member{name: "b", connectionString: "elsewhere", incarnation: 6, storeID: c.storeID}
			if got := *after.at(6).find("b"); got != want {
				t.Errorf("%+v", got)
			}
			if left, err := l.changed(k, true, false, "b", ""); err != nil || left.find("b") != nil {
				t.Errorf("a leave: %v", err)
			}
		})
	}
}
