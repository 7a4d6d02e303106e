package raft

import "testing"

// offeredIn is the claim of the leader of cluster 9, to the server s of store 1.
func offeredIn(term uint64) leaderClaim {
	return leaderClaim{term: term, leader: "l", to: "s", clusterID: 9, toStoreID: 1}
}

// snapshotReceiver is the follower s of term 5 with entries 1 to 6 of the terms
// 1 1 2 2 2 5, of which 3 are committed.
func snapshotReceiver() *replica {
	r := standing("s", 1, []uint64{1, 1, 2, 2, 2, 5}, bound(1, "s", "l", "m"))
	r.votedFor = "m"
	r.commit(3)
	return r
}

// TestSnapshotOffered: who may offer a snapshot, and who needs it (§7).
func TestSnapshotOffered(t *testing.T) {
	change := func(f func(*leaderClaim)) leaderClaim {
		c := offeredIn(5)
		f(&c)
		return c
	}
	beyond := entryID{9, 5}
	for _, c := range []struct {
		name    string
		claim   leaderClaim
		id      entryID
		before  func(*replica)
		needed  bool
		heard   bool
		refused uint32
		term    uint64
		leader  string
		voted   string
		commit  uint64
	}{
		{name: "behind the log", claim: offeredIn(5), id: beyond, needed: true, heard: true, term: 5, leader: "l", voted: "m", commit: 3},
		{name: "of a later term", claim: offeredIn(7), id: beyond, needed: true, heard: true, term: 7, leader: "l", commit: 3},
		{name: "row 86: of an old term", claim: offeredIn(4), id: beyond, term: 5, voted: "m", commit: 3},
		{name: "row 86: of a late entry, in an old term", claim: offeredIn(4), id: entryID{9, 4}, term: 5, voted: "m", commit: 3},
		{name: "committed here", claim: offeredIn(5), id: entryID{3, 2}, heard: true, term: 5, leader: "l", voted: "m", commit: 3},
		{name: "committed here, another term", claim: offeredIn(5), id: entryID{2, 2}, heard: true, term: 5, leader: "l", voted: "m", commit: 3},
		{name: "held, not committed", claim: offeredIn(5), id: entryID{5, 2}, heard: true, term: 5, leader: "l", voted: "m", commit: 5},
		{name: "the last entry", claim: offeredIn(5), id: entryID{6, 5}, heard: true, term: 5, leader: "l", voted: "m", commit: 6},
		{name: "row 84: another entry there", claim: offeredIn(5), id: entryID{5, 3}, needed: true, heard: true, term: 5, leader: "l", voted: "m", commit: 3},
		{name: "of its leader", claim: offeredIn(5), id: beyond, before: func(r *replica) { r.leader = "l" }, needed: true, heard: true, term: 5, leader: "l", voted: "m", commit: 3},
		{name: "of a second leader", claim: offeredIn(5), id: beyond, before: func(r *replica) { r.leader = "m" }, refused: refusedLeader, term: 5, leader: "m", voted: "m", commit: 3},
		{name: "to a leader", claim: offeredIn(5), id: beyond, before: func(r *replica) { r.role, r.leader = Leader, "s" }, refused: refusedLeader, term: 5, leader: "s", voted: "m", commit: 3},
		{name: "to a leader, of a later term", claim: offeredIn(6), id: beyond, before: func(r *replica) { r.role, r.leader = Leader, "s" }, needed: true, heard: true, term: 6, leader: "l", commit: 3},
		{name: "to a candidate", claim: offeredIn(5), id: beyond, before: func(r *replica) { r.role, r.votedFor = Candidate, "s" }, needed: true, heard: true, term: 5, leader: "l", voted: "s", commit: 3},
		{name: "row 146: out of range", claim: offeredIn(maxTerm + 1), id: beyond, refused: refusedTerm, term: 5, voted: "m", commit: 3},
		{name: "to another", claim: change(func(c *leaderClaim) { c.to = "m" }), id: beyond, refused: refusedAddressee, term: 5, voted: "m", commit: 3},
		{name: "in its own name", claim: change(func(c *leaderClaim) { c.leader = "s" }), id: beyond, refused: refusedAddressee, term: 5, voted: "m", commit: 3},
		{name: "in no name", claim: change(func(c *leaderClaim) { c.leader = "" }), id: beyond, refused: refusedAddressee, term: 5, voted: "m", commit: 3},
		{name: "to another store", claim: change(func(c *leaderClaim) { c.toStoreID = 2 }), id: beyond, refused: refusedStore, term: 5, voted: "m", commit: 3},
		{name: "of another cluster", claim: change(func(c *leaderClaim) { c.clusterID = 8; c.term = 99 }), id: beyond, refused: refusedCluster, term: 5, voted: "m", commit: 3},
		{name: "to one without a cluster", claim: offeredIn(99), id: beyond, before: func(r *replica) { r.clusterID = 0 }, refused: refusedAdoption, term: 5, voted: "m", commit: 3},
		{name: "by a transport that tells nothing", claim: leaderClaim{term: 5, leader: "l"}, id: beyond, needed: true, heard: true, term: 5, leader: "l", voted: "m", commit: 3},
	} {
		r := snapshotReceiver()
		if c.before != nil {
			c.before(r)
		}
		needed, heard, refused := r.offered(c.claim, c.id)
		if needed != c.needed || heard != c.heard || refused != c.refused {
			t.Errorf("%s: needed %t, heard %t, refused %d", c.name, needed, heard, refused)
		}
		if r.term != c.term || r.leader != c.leader || r.votedFor != c.voted || r.commitIndex != c.commit {
			t.Errorf("%s: term %d, leader %q, vote %q, commit %d", c.name, r.term, r.leader, r.votedFor, r.commitIndex)
		}
		if heard && r.role != Follower || !heard && r.log.end != 6 || r.log.end != 6 {
			t.Errorf("%s: %s with a log to %d", c.name, r.role, r.log.end)
		}
	}
}

// TestSnapshotInstall: what a snapshot leaves of a log (§7).
func TestSnapshotInstall(t *testing.T) {
	of := bound(4, "s", "l", "m", "n")
	for _, c := range []struct {
		name      string
		id        entryID
		installed bool
		base      entryID
		last      entryID
		commit    uint64
		index     uint64 // of the configuration in force
	}{
		{"row 85: committed here", entryID{2, 1}, false, entryID{}, entryID{6, 5}, 3, 5},
		{"row 85: the commit index itself", entryID{3, 2}, false, entryID{}, entryID{6, 5}, 3, 5},
		{"row 85: the commit index, another term", entryID{3, 3}, false, entryID{}, entryID{6, 5}, 3, 5},
		{"held", entryID{4, 2}, false, entryID{}, entryID{6, 5}, 4, 5},
		{"the last entry", entryID{6, 5}, false, entryID{}, entryID{6, 5}, 6, 5},
		{"row 84: another entry there, and more behind", entryID{4, 3}, true, entryID{4, 3}, entryID{4, 3}, 4, 4},
		{"row 84: another last entry", entryID{6, 6}, true, entryID{6, 6}, entryID{6, 6}, 6, 4},
		{"behind the log", entryID{9, 5}, true, entryID{9, 5}, entryID{9, 5}, 9, 4},
	} {
		r := snapshotReceiver()
		r.configured(bound(5, "s", "l", "m", "o"))
		if got := r.install(c.id, of); got != c.installed || r.log.base != c.base || r.log.last() != c.last || r.commitIndex != c.commit || r.configuration().index != c.index {
			t.Errorf("%s: %t, base %v, last %v, commit %d, the configuration of %d", c.name, got, r.log.base, r.log.last(), r.commitIndex, r.configuration().index)
		}
		if c.installed {
			if again := r.install(c.id, of); again {
				t.Errorf("%s: installed twice", c.name)
			}
			// The leader goes on from there, at the first attempt.
			if answer := appendTo(t, r, 7, c.id, c.id.index, 7); !answer.success || answer.truncated || answer.match != c.id.index+1 {
				t.Errorf("%s: then %+v", c.name, answer)
			}
		}
	}
}

// TestLastSharedBelowTheBase: of what lies before a log's beginning nothing is
// known but that it is committed.
func TestLastSharedBelowTheBase(t *testing.T) {
	h := history{base: entryID{10, 3}, end: 10}
	h.append(3, 2) // 11, 12
	h.append(6, 3) // 13 to 15
	for _, c := range []struct{ id, want entryID }{
		{entryID{}, entryID{}},
		{entryID{4, 1}, entryID{4, 1}},
		{entryID{9, 9}, entryID{9, 9}},
		{entryID{10, 3}, entryID{10, 3}},
		{entryID{10, 2}, entryID{10, 3}}, // not shared, and the request that asks will say so
		{entryID{10, 7}, entryID{10, 3}},
		{entryID{11, 3}, entryID{11, 3}},
		{entryID{14, 2}, entryID{10, 3}},
		{entryID{14, 3}, entryID{12, 3}},
		{entryID{14, 5}, entryID{12, 3}},
		{entryID{14, 6}, entryID{14, 6}},
		{entryID{99, 99}, entryID{15, 6}},
	} {
		if got := h.lastShared(c.id); got != c.want {
			t.Errorf("%v: %v, want %v", c.id, got, c.want)
		}
	}
}

// TestFault084_DivergentEntryAtTheSnapshotsEnd: each wrong guess about such a
// follower costs one request, and then it is known to need the snapshot.
func TestFault084_DivergentEntryAtTheSnapshotsEnd(t *testing.T) {
	for _, end := range []uint64{10, 15, 20} {
		leader := history{base: entryID{15, 3}, end: 15}
		leader.append(3, 5)
		f := standing("s", 1, []uint64{1, 1, 1, 1, 1, 1, 1, 1, 1}, bound(1, "s", "l", "m"))
		f.log.append(2, end-9)
		f.term = 2
		p := newProgress(leader.end + 1)
		requests := 0
		for ; p.next > leader.base.index; requests++ {
			if requests == 5 {
				t.Fatalf("log to %d: still asked for %d", end, p.next)
			}
			prev := entryID{p.next - 1, leader.termAt(p.next - 1)}
			answer := appendTo(t, f, 4, prev, 15)
			if answer.success {
				t.Fatalf("log to %d: took entries behind %v", end, prev)
			}
			p.refused(p.sent(p.next-1, 0), prev.index, leader.lastShared(answer.hint).index)
		}
		if needed, _, _ := f.offered(offeredIn(4), leader.base); !needed || !f.install(leader.base, bound(1, "s", "l", "m")) {
			t.Fatalf("log to %d: not installed", end)
		}
		p.shared(leader.base.index)
		if answer := appendTo(t, f, 4, leader.base, 20, 3, 3, 3, 3, 3); !answer.success || f.commitIndex != 20 {
			t.Errorf("log to %d: %+v", end, answer)
		}
	}
}

// TestFault070_ConfigurationsTruncatedAroundASnapshot: configurations at 5 and 9,
// a snapshot at 6; a truncation brings back the one that is in force before.
func TestFault070_ConfigurationsTruncatedAroundASnapshot(t *testing.T) {
	first, fifth, ninth := bound(1, "a", "b", "c"), bound(5, "a", "b", "c", "d"), bound(9, "a", "b", "c", "d", "e")
	for _, c := range []struct {
		snapshot, commit, from uint64
		want                   *configuration
	}{
		{6, 6, 10, ninth}, {6, 6, 9, fifth}, {6, 6, 8, fifth}, {6, 6, 7, fifth},
		{5, 5, 9, fifth}, {5, 5, 6, fifth}, {4, 4, 5, first}, {4, 4, 9, fifth},
		{8, 8, 9, fifth}, {6, 8, 9, fifth},
	} {
		inForce := map[uint64]*configuration{4: first, 5: fifth, 6: fifth, 8: fifth}[c.snapshot]
		compacted := standing("a", 1, []uint64{1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, first, fifth, ninth)
		compacted.commit(c.commit)
		compacted.log.compact(entryID{c.snapshot, 1})

		// A restart knows the snapshot's configuration and those behind it.
		restarted := newReplica("a", compacted.identity, compacted.ballot)
		restarted.log = compacted.log
		restarted.configurations = []*configuration{inForce}
		for _, later := range []*configuration{fifth, ninth} {
			if later.index > c.snapshot {
				restarted.configured(later)
			}
		}
		restarted.commit(c.commit)

		// So does a server that had it installed and got the rest from the log.
		installed := standing("a", 1, []uint64{1, 1}, first)
		installed.install(entryID{c.snapshot, 1}, inForce)
		for i := c.snapshot + 1; i <= 10; i++ {
			req, b := appending(1, entryID{i - 1, 1}, c.commit, 1)
			for _, later := range []*configuration{fifth, ninth} {
				if later.index == i {
					b.configurations = append(b.configurations, later)
				}
			}
			if answer, err := installed.appendEntries(req, b); err != nil || !answer.success {
				t.Fatalf("%+v: %+v, %v", c, answer, err)
			}
		}
		for name, r := range map[string]*replica{"compacted": compacted, "restarted": restarted, "installed": installed} {
			r.leader = ""
			appendTo(t, r, 2, entryID{c.from - 1, 1}, 0, 2)
			if r.configuration() != c.want {
				t.Errorf("%s: snapshot at %d, commit %d, truncated from %d: the configuration of %d", name, c.snapshot, c.commit, c.from, r.configuration().index)
			}
		}
	}
}
