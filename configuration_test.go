package raft

import "testing"

// TestPromotionNeverUnbinds: a transport that does not tell stores is no reason
// to forget the one that a name is bound to.
func TestPromotionNeverUnbinds(t *testing.T) {
	c := newConfiguration(1, []member{{name: "a", storeID: 1, voter: true}, {name: "b", storeID: 2}})
	promoted, err := c.promote("b", 0)
	if err != nil {
		t.Fatal(err)
	}
	if m := promoted.find("b"); !m.voter || m.storeID != 2 {
		t.Errorf("promoted as %+v", *m)
	}
}

// TestJoinedLeaderIsKnown: d joined a cluster that c was started with and never
// heard from. When d leads, or stands, c must know it for its own.
func TestJoinedLeaderIsKnown(t *testing.T) {
	initial := toyConfiguration("a", "b", "c")
	first := initial.bind(map[string]uint64{"a": 1, "b": 2}).at(1)
	learner := first.join("d", "at-d", false, false).at(2)
	voter, err := learner.promote("d", 4)
	if err != nil {
		t.Fatal(err)
	}
	data, err := encodeConfiguration(voter.at(3), 9, "", "d")
	if err != nil {
		t.Fatal(err)
	}
	last, err := decodeConfiguration(data, 3)
	if err != nil {
		t.Fatal(err)
	}
	d := standing("d", 4, []uint64{1, 1, 1}, first, learner, last)
	c := newReplica("c", identity{storeID: 3, initial: initial}, ballot{})
	d.campaign()
	if granted, refused := c.vote(ask(d, "c", 0), false); !granted {
		t.Errorf("c refuses its vote (%d)", refused)
	}
	req := &AppendEntriesRequest{Term: d.term, LeaderName: "d", ClusterID: 9, To: "c", InitialDigest: d.initialDigest()}
	answer, err := c.appendEntries(req, &batch{})
	if err != nil || !answer.success || !answer.adopted || c.clusterID != 9 {
		t.Errorf("c refuses its leader: %+v, %v", answer, err)
	}
}
