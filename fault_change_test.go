package raft

import (
	"testing"
)

// promotions counts the entries of a log that make a learner a voter.
func (s *toyServer) promotions(name string) (count int) {
	before := false
	for _, e := range s.entries {
		if e.configuration == nil {
			continue
		}
		now := e.configuration.votes(name)
		if now && !before {
			count++
		}
		before = now
	}
	return count
}

// TestFault073_LeaderDeposedAtEachMessageOfAJoin: a join takes two entries, that of
// the learner and that of its vote. The leader is deposed after each message of it in
// turn: whoever leads then ends what was begun, unasked, or nothing was begun.
func TestFault073_LeaderDeposedAtEachMessageOfAJoin(t *testing.T) {
	finished, never := 0, 0
	for letters := 0; ; letters++ {
		s := played(t, "cluster a b c\ntimeout a\nquiet\nheartbeat a\nquiet\nserver d\njoin a d")
		delivered := 0
		for ; delivered < letters; delivered++ {
			if len(s.letters) == 0 {
				if a := s.server("a"); a.configuration().votes("d") {
					break // the join is done
				}
				s.play(t, "heartbeat a")
			}
			s.arrive(s.take(0))
		}
		if delivered < letters {
			break
		}
		s.play(t, "drop\ncheckquorum a\ncheckquorum a") // what a has under way is lost, and its office
		leader := s.another(t, "b", "c")
		if leader == nil || leader.commitIndex != leader.log.end {
			t.Fatalf("after %d messages: %v", letters, leader)
		}
		switch m := leader.configuration().find("d"); {
		case m == nil:
			never++
		case !m.voter:
			t.Errorf("after %d messages d is a learner for good: %v", letters, leader)
		default:
			finished++
			if d := s.server("d"); d.log.last() != leader.log.last() || leader.promotions("d") != 1 {
				t.Errorf("after %d messages: %v; %v", letters, leader, d)
			}
		}
		if len(s.failures) > 0 {
			t.Fatalf("after %d messages: %v", letters, s.failures)
		}
	}
	if finished < 5 || never == 0 {
		t.Errorf("%d joins were finished, %d never begun", finished, never)
	}
}

// another has one of the servers lead that are named, and do what there is to do.
func (s *scriptWorld) another(t *testing.T, names ...string) *toyServer {
	t.Helper()
	for range 3 {
		for _, name := range names {
			for _, x := range s.servers {
				x.alive = false
			}
			s.play(t, "timeout "+name+"\nquiet")
			if s.leads() != name {
				continue
			}
			for range 8 {
				s.play(t, "heartbeat "+name+"\nquiet")
			}
			return s.server(name)
		}
	}
	return nil
}

// TestFault074_SecondStepWaitsForTheFirst: the next leader finds the learner's entry
// in its log, not committed, and reaches nobody who could commit it. However often it
// looks, it adds no vote for the learner; when it can commit, it does so once.
func TestFault074_SecondStepWaitsForTheFirst(t *testing.T) {
	s := played(t, `cluster a b c
		timeout a
		quiet
		heartbeat a
		quiet
		server d
		join a d
		deliver a->b
		crash a
		drop
		silent b
		silent c
		timeout b
		deliver b->c
		deliver c->b
		drop`)
	b := s.server("b")
	if s.leads() != "b" || b.configuration().find("d") == nil || b.configuration().index <= b.commitIndex {
		t.Fatalf("%q leads; %v", s.leads(), b)
	}
	end := b.log.end
	for range 50 {
		s.play(t, "lost b\nheartbeat b")
		for _, l := range s.letters {
			if l.to == "d" {
				t.Fatalf("d is sent something: %v", l)
			}
		}
		s.play(t, "drop")
		if b.log.end != end || b.configuration().votes("d") || b.commitIndex >= b.configuration().index {
			t.Fatalf("the second step: %v", b)
		}
	}
	s.play(t, "lost b")
	for range 8 {
		s.play(t, "heartbeat b\nquiet")
	}
	if !b.configuration().votes("d") || b.promotions("d") != 1 || b.commitIndex != b.log.end {
		t.Errorf("%v, with %d promotions", b, b.promotions("d"))
	}
}

// TestFault079_NewAddressLeavesTheRole: whatever a member is, a join with another
// address changes the address and nothing else of it.
func TestFault079_NewAddressLeavesTheRole(t *testing.T) {
	for name, m := range map[string]member{
		"a learner, not bound":   {name: "d", connectionString: "old", incarnation: 4},
		"a learner":              {name: "d", connectionString: "old", incarnation: 4, storeID: 40},
		"a learner that rejoins": {name: "d", connectionString: "old", incarnation: 4, storeID: 40, rejoins: true},
		"a voter":                {name: "d", connectionString: "old", incarnation: 4, storeID: 40, voter: true},
		"a voter, not bound":     {name: "d", connectionString: "old", incarnation: 4, voter: true},
	} {
		t.Run(name, func(t *testing.T) {
			c := bound(1, "a", "b", "c").with(m).at(4)
			l := newLeadership(standing("a", 1, []uint64{1, 1, 1, 1}, c), 1, map[string]uint64{})
			for _, other := range []string{"b", "c"} {
				l.answeredFrom(c, other, c.find(other).storeID)
			}
			for round := range 3 {
				after, err := l.changed(c, false, false, "d", "new")
				if err != nil {
					t.Fatal(err)
				}
				want := m
				want.connectionString = "new"
				if got := *after.at(5).find("d"); got != want {
					t.Errorf("round %d: %+v, not %+v", round, got, want)
				}
				if after.voters() != c.voters() || after.quorum() != c.quorum() {
					t.Errorf("round %d: %d voters of %d", round, after.voters(), c.voters())
				}
				c = after.at(5)
			}
			if c.votes("d") != m.voter {
				t.Error("another role")
			}
		})
	}
}
