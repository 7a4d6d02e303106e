package raft

import (
	"math/rand/v2"
	"testing"
	"time"
)

// Faults whose property is one of many election timeouts, in the clocked world.

// peaceful checks that since a moment nobody else has led and no term has grown.
func (w *clockWorld) peaceful(t *testing.T, what string, led int, term uint64) {
	t.Helper()
	if len(w.failures) > 0 {
		t.Fatalf("%s: %v", what, w.failures)
	}
	if w.led != led || w.term() != term || w.leader() == nil {
		t.Errorf("%s: %d changes of the leader, terms grew from %d to %d", what, w.led-led, term, w.term())
	}
}

// TestFault008_CutOffForLong: two of five are cut off together for 200 election
// timeouts. Neither their terms nor the leader change, then or afterwards, and
// every command is committed.
func TestFault008_CutOffForLong(t *testing.T) {
	for seed := range uint64(rulesVolume(5, 50, 500)) {
		w := calmWorld(t, quietPlan(5, 150*time.Millisecond), seed, 0)
		led, term := w.led, w.term()
		w.partition(graph{0b00111, 0b00111, 0b00111, 0b11000, 0b11000})
		w.load()
		w.timeouts(200)
		w.peaceful(t, "cut off", led, term)
		w.partition(graph{31, 31, 31, 31, 31})
		w.timeouts(20)
		w.peaceful(t, "healed", led, term)
		w.queue = dropKinds(w.queue, clockCommand)
		w.timeouts(2)
		if reason := w.unsettled(); reason != "" || w.count.refused > 0 || w.count.commands < 100 {
			t.Errorf("%q, %d of %d commands refused", reason, w.count.refused, w.count.commands)
		}
	}
}

// TestFault008_BackAfterLong: a server comes back after 10,000 election timeouts.
// It finds the log where it left it or, after a compaction, is sent a snapshot; no
// leader notices.
func TestFault008_BackAfterLong(t *testing.T) {
	for _, compacted := range []bool{false, true} {
		plan := quietPlan(3, 150*time.Millisecond)
		plan.pause *= 4
		w := calmWorld(t, plan, 28, 0)
		led, term := w.led, w.term()
		w.partition(graph{0b011, 0b011, 0b100})
		w.load()
		w.timeouts(int64(rulesVolume(10_000, 10_000, 100_000)))
		if compacted {
			w.servers[0].compact(w.servers[0].commitIndex - 5)
		}
		w.partition(graph{7, 7, 7})
		w.timeouts(30)
		w.peaceful(t, "back", led, term)
		if c := w.servers[2]; c.commitIndex+20 < w.servers[0].commitIndex || compacted != (w.count.installs > 0) {
			t.Errorf("compacted %t: c is at %d of %d", compacted, c.commitIndex, w.servers[0].commitIndex)
		}
	}
}

// TestFault010_MixedRulesElect: whichever servers do without pre-votes, kills and
// partitions end with a leader and one log.
func TestFault010_MixedRulesElect(t *testing.T) {
	seeds, elections := uint64(rulesVolume(4, 25, 500)), 0
	for _, n := range []int{3, 5} {
		for without := range uint16(1 << n) {
			for seed := range seeds {
				rng := rand.New(rand.NewPCG(seed, uint64(without)<<8+uint64(n)))
				plan := quietPlan(n, 150*time.Millisecond)
				plan.withoutPreVote = without
				w := newClockWorld(plan, seed, &clockCounts{}, nil)
				w.faults.kinds = []clockFaultKind{cutOffFault, splitFault, oneWayFault, partialFault, flapFault, crashFault, killFault, pauseFault}
				w.faults.interval = plan.election * (1 + rng.Int64N(10))
				w.queue = dropKinds(w.queue, clockCommand)
				w.disturb()
				w.timeouts(40 + rng.Int64N(80))
				w.heal()
				w.settles()
				elections += w.count.elections
				if len(w.failures) > 0 {
					t.Fatalf("%d servers, %05b without pre-votes, seed %d: %v", n, without, seed, w.failures)
				}
			}
		}
	}
	t.Logf("%d seeds for each of 40 mixes, %d elections", seeds, elections)
	if elections < 2*40*int(seeds) {
		t.Error("kills and partitions changed few leaders")
	}
}

// TestFault015_HealthyClusterKeepsItsLeader: for as long as nothing goes wrong, at
// any length of the election timeout.
func TestFault015_HealthyClusterKeepsItsLeader(t *testing.T) {
	for _, election := range []time.Duration{50 * time.Millisecond, 150 * time.Millisecond, 200 * time.Millisecond, 999 * time.Millisecond} {
		for _, n := range []int{2, 3, 5} {
			w := calmWorld(t, quietPlan(n, election), 15, 0)
			led, term := w.led, w.term()
			w.load()
			w.timeouts(int64(rulesVolume(1000, 1000, 100_000)))
			w.peaceful(t, election.String(), led, term)
		}
	}
}

// TestFault025_OutsiderDisturbsNobody: c was removed while it was cut off and goes
// on asking for votes for 500 election timeouts: with pre-votes or without, hearing
// what it is answered or not.
func TestFault025_OutsiderDisturbsNobody(t *testing.T) {
	for _, preVote := range []bool{true, false} {
		for _, deaf := range []bool{false, true} {
			w := calmWorld(t, quietPlan(4, 150*time.Millisecond), 25, 0)
			a, c := w.servers[0], w.servers[2]
			c.preVote = preVote
			w.partition(graph{0b1011, 0b1011, 0b0100, 0b1011})
			a.request(true, "c")
			w.timeouts(10) // the leader has given it up by then
			if a.configuration().find("c") != nil || c.configuration().find("c") == nil {
				t.Fatal("c is not removed, or knows it")
			}
			led, term := w.led, uint64(0)
			for _, s := range []*clockServer{a, w.servers[1], w.servers[3]} {
				term = max(term, s.term)
			}
			w.load()
			before := c.term
			w.partition(graph{15, 15, 15, 15})
			if deaf {
				w.partition(graph{0b1011, 0b1011, 0b1111, 0b1011})
			}
			w.timeouts(500)
			for _, s := range []*clockServer{a, w.servers[1], w.servers[3]} {
				if s.term != term || w.led != led || a.role != Leader || len(w.failures) > 0 {
					t.Errorf("pre-vote %t, deaf %t: %s in term %d, was %d; %v", preVote, deaf, s.name, s.term, term, w.failures)
				}
			}
			if c.dismissed == deaf || !preVote && deaf && c.term < before+250 {
				t.Errorf("pre-vote %t, deaf %t: c is in term %d, dismissed %t", preVote, deaf, c.term, c.dismissed)
			}
		}
	}
}

// TestFlappingLink: one link comes and goes each half to three election timeouts,
// for an hour. The leader changes at most once in a hundred timeouts, and 95 of 100
// commands are served.
func TestFlappingLink(t *testing.T) {
	for _, n := range []int{3, 5} {
		for _, link := range [][2]uint8{{0, 1}, {1, 2}} {
			plan := quietPlan(n, 150*time.Millisecond)
			plan.pause /= 2
			w := calmWorld(t, plan, 26, 0)
			led, commits := w.led, len(w.commits)
			w.load()
			w.faults.cuts++
			w.at(w.flap(), clockEvent{kind: clockEnd, action: uint8(flapFault), server: link[0], peer: link[1], gen: w.faults.cuts})
			timeouts := int64(rulesVolume(2000, 24_000, 24_000))
			w.timeouts(timeouts)
			changes, served := w.led-led, len(w.commits)-commits
			if len(w.failures) > 0 || int64(changes)*100 > timeouts || int64(served)*100 < timeouts*95 {
				t.Errorf("%d servers, link %v: %d changes and %d commits in %d timeouts; %v", n, link, changes, served, timeouts, w.failures)
			}
		}
	}
}

// TestFault123_DifferentClockRates: clocks that differ by a tenth either way, in
// every order, leave the leader alone for 10,000 election timeouts.
func TestFault123_DifferentClockRates(t *testing.T) {
	for _, rates := range [][3]int64{{900, 1000, 1100}, {1000, 1100, 900}, {1100, 900, 1000}} {
		for _, n := range []int{3, 5} {
			plan := quietPlan(n, 150*time.Millisecond)
			plan.pause *= 4
			for i := range n {
				plan.rates[i] = rates[i%3]
			}
			w := calmWorld(t, plan, 123, 0)
			led, term := w.led, w.term()
			w.load()
			w.timeouts(int64(rulesVolume(10_000, 10_000, 100_000)) * 3 / int64(n))
			w.peaceful(t, "different clocks", led, term)
		}
	}
}
