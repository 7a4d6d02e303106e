package raft

import "testing"

// bound is a configuration of voters that are bound to the stores 1, 2, ….
func bound(index uint64, names ...string) *configuration {
	c := toyConfiguration(names...)
	for i := range c.members {
		c.members[i].storeID = uint64(i) + 1
	}
	return c.at(index)
}

// standing is a server of cluster 9 with a log of the given terms and
// configurations.
func standing(name string, storeID uint64, terms []uint64, configurations ...*configuration) *replica {
	r := newReplica(name, identity{storeID: storeID, clusterID: 9}, ballot{term: 1})
	for _, term := range terms {
		r.log.append(term, 1)
		r.term = max(r.term, term)
	}
	r.configured(configurations...)
	return r
}

// ask is what the server asks of others when it stands for election.
func ask(r *replica, to string, toStoreID uint64) *RequestVoteRequest {
	last := r.log.last()
	return &RequestVoteRequest{
		Term: r.term, LastLogIndex: last.index, LastLogTerm: last.term, CandidateName: r.name,
		ClusterID: r.clusterID, To: to, StoreID: r.storeID, ToStoreID: toStoreID, InitialDigest: r.initialDigest(),
	}
}

// TestRemovedServerStillStands: dissertation §4.2.2. The leader d appended its
// own removal and stepped down before anybody got it. Of the voters a, b, c and d
// of the configuration before, c is down: only d's log can win.
func TestRemovedServerStillStands(t *testing.T) {
	all, without := bound(1, "a", "b", "c", "d"), bound(3, "a", "b", "c")
	d := standing("d", 4, []uint64{1, 1, 1}, all, without)
	a, b := standing("a", 1, []uint64{1, 1}, all), standing("b", 2, []uint64{1, 1}, all)
	if a.campaign(); true {
		if granted, _ := d.vote(ask(a, "d", 4), false); granted {
			t.Fatal("d votes for a shorter log")
		}
	}
	if !d.electable() {
		t.Fatal("d does not stand, and a and b cannot win")
	}
	d.campaign()
	e := newElection(d, false)
	if e.won() {
		t.Fatal("d counts its own vote")
	}
	for _, voter := range []*replica{a, b} {
		granted, refused := voter.vote(ask(d, voter.name, voter.storeID), false)
		if !granted {
			t.Fatalf("%s refuses d its vote (%d)", voter.name, refused)
		}
		if e.won() {
			t.Fatal("won without a majority of the voters")
		}
		e.record(voter.name, voter.storeID, granted)
	}
	if !e.won() {
		t.Fatal("d has not won with two of three voters")
	}
	d.commit(3)
	if d.electable() {
		t.Error("d stands although its removal is committed")
	}
}

// TestRefilledStoreDoesNotStand: b lost its store and is being refilled by the
// leader a, which crashes. b's log is a prefix of the old one, in which the name
// b is a voter: from another store. If b won with the vote of c, which was behind
// when b was bound, what the old b helped to commit would be lost.
func TestRefilledStoreDoesNotStand(t *testing.T) {
	first := toyConfiguration("a", "b", "c").bind(map[string]uint64{"a": 1, "c": 3}).at(1)
	b := standing("b", 7, []uint64{1, 1, 1}, first, bound(3, "a", "b", "c"))
	if b.electable() {
		t.Error("b stands as the voter whose store it is not")
	}
	b.truncate(3)
	if !b.electable() {
		t.Error("b does not stand before the name is bound")
	}
}

// TestVoterWithAnOldBindingVotes: c lost its store, was joined again and
// promoted, which a, b and c committed; e was behind, and now a and b are down.
// Only c's log can win, and e must not hold against it that e knows the name c
// by another store.
func TestVoterWithAnOldBindingVotes(t *testing.T) {
	old := bound(1, "a", "b", "c", "d", "e")
	joined := old.join("c", "at-c", false, true).at(3)
	promoted, err := joined.promote("c", 7)
	if err != nil {
		t.Fatal(err)
	}
	c := standing("c", 7, []uint64{1, 1, 1, 1}, old, joined, promoted.at(4))
	d := standing("d", 4, []uint64{1, 1, 1}, old, joined)
	e := standing("e", 5, []uint64{1, 1}, old)
	c.campaign()
	count := newElection(c, false)
	for _, voter := range []*replica{d, e} {
		granted, refused := voter.vote(ask(c, voter.name, voter.storeID), false)
		if !granted {
			t.Errorf("%s refuses the only log that can win (%d)", voter.name, refused)
		}
		count.record(voter.name, voter.storeID, granted)
	}
	if !count.won() {
		t.Error("three voters of five, and no leader")
	}
}

// TestUnboundStrangerIsRefused: an unbound candidate that was started with other
// names has nothing to do with this cluster: its term is no news.
func TestUnboundStrangerIsRefused(t *testing.T) {
	a := standing("a", 1, []uint64{1}, bound(1, "a", "b", "c"))
	stranger := newReplica("x", identity{storeID: 8, initial: toyConfiguration("a", "x")}, ballot{term: 6})
	stranger.campaign()
	granted, refused := a.vote(ask(stranger, "a", 0), false)
	if granted || refused == refusedNot || a.term != 1 {
		t.Errorf("granted %t, refused %d, term %d", granted, refused, a.term)
	}
	// One of goraft's messages names neither cluster nor names.
	bare := &RequestVoteRequest{Term: 2, LastLogIndex: 1, LastLogTerm: 1, CandidateName: "b"}
	if granted, refused := a.vote(bare, false); !granted {
		t.Errorf("a message without identity is refused (%d)", refused)
	}
}

// TestLeaderAgainstTheSnapshot: entries that replace what a snapshot covers
// contradict something committed, wherever the request begins.
func TestLeaderAgainstTheSnapshot(t *testing.T) {
	r := standing("a", 1, []uint64{1, 1, 2, 2, 2}, bound(1, "a", "b", "c"))
	r.commit(4)
	r.log.compact(entryID{4, 2})
	req := &AppendEntriesRequest{Term: 3, LeaderName: "b", ClusterID: 9, PrevLogIndex: 2, PrevLogTerm: 1}
	b := &batch{history: history{base: entryID{2, 1}, end: 2}}
	b.append(3, 4)
	if _, err := r.appendEntries(req, b); err == nil {
		t.Error("entries of term 3 from 3 on are taken although 4.2 is committed")
	}
	good := &batch{history: history{base: entryID{2, 1}, end: 2}}
	good.append(2, 3)
	good.append(3, 1)
	if answer, err := r.appendEntries(req, good); err != nil || answer.match != 6 || answer.appendFrom != 6 {
		t.Errorf("%+v, %v", answer, err)
	}
}
