package raft

import (
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

var (
	clockSeeds = flag.Uint64("clock.seeds", 24, "how many seeds TestRulesClock runs")
	clockFirst = flag.Uint64("clock.first", 0, "the first seed of TestRulesClock")
)

// clockPlanOf draws what a seed is to be.
func clockPlanOf(rng *rand.Rand) clockPlan {
	between := func(least, most float64) float64 { return least * math.Exp(rng.Float64()*math.Log(most/least)) }
	chance := func(of ...uint16) uint16 { return of[rng.IntN(len(of))] }
	et := int64(between(50e6, 2e9))
	p := clockPlan{
		servers: 1 + rng.IntN(7), spares: rng.IntN(3),
		election: et, heartbeat: et / int64(3+rng.IntN(6)),
		delay: int64(between(float64(et)/5000, float64(et)/40)),
		loss:  chance(0, 0, 65, 650, 3200), copies: chance(0, 0, 65, 1300), late: chance(0, 0, 20, 200), lateBy: 20 * et,
		inOrder: rng.IntN(2) == 0, calls: rng.IntN(4) == 0,
		sync:  int64(between(float64(et)/10000, float64(et)/40)),
		batch: 1 + rng.IntN(64), entryBytes: int(between(64, 512<<10)),
		pause: et * 10 / int64(between(2, 60)),
	}
	p.jitter = int64(float64(p.delay) * 3 * rng.Float64())
	p.syncJitter = 1 + int64(float64(p.sync)*3*rng.Float64())
	switch rng.IntN(5) {
	case 0:
		p.withoutPreVote = math.MaxUint16
	case 1:
		p.withoutPreVote = uint16(rng.Uint32())
	}
	if rng.IntN(3) == 0 {
		for i := range p.rates {
			p.rates[i] = 900 + rng.Int64N(201)
		}
	}
	return p
}

// drawFaults draws what goes wrong: half of all kinds, at one rate.
func (w *clockWorld) drawFaults(rng *rand.Rand) {
	for kind := range clockFaultKinds {
		if rng.IntN(2) == 0 {
			w.faults.kinds = append(w.faults.kinds, kind)
		}
	}
	w.faults.interval = int64(float64(w.plan.election) * math.Exp(rng.Float64()*math.Log(40)))
	w.faults.ambush = rng.IntN(8) == 0
	if rng.IntN(2) == 0 {
		w.faults.operate = int64(float64(w.plan.election) * (2 + 40*rng.Float64()))
	}
}

// fullLength is the length of a seed: how many election timeouts are the unit in
// which it draws how long the faults last.
const fullLength = 100

// clocked runs one seed: rounds of faults, and of rest in which a leader must be
// found and everybody must agree with it. It returns the hash of all that
// happened, and what is wrong.
func clocked(seed uint64, length int64, count *clockCounts, trace func(string, ...any)) (uint64, []string) {
	rng := rand.New(rand.NewPCG(seed, 0))
	plan := clockPlanOf(rng)
	w := newClockWorld(plan, seed, count, trace)
	w.drawFaults(rng)
	w.queue = dropKinds(w.queue, clockCommand)
	count.planned(&plan)
	for range 1 + rng.IntN(4) {
		w.disturb()
		w.timeouts(20 + length*rng.Int64N(6))
		if len(w.failures) > 0 {
			break
		}
		w.heal()
		w.settles()
		if len(w.failures) > 0 {
			break
		}
		count.rounds++
	}
	count.time += time.Duration(w.now)
	count.timeouts += w.now / plan.election
	return w.hash, w.failures
}

// settles checks I11: a leader within ten election timeouts of the end of the
// faults, a command of that time that commits, and one log everywhere.
func (w *clockWorld) settles() {
	begin, led := w.now, int64(-1)
	step, patience := w.plan.election/4, int64(10)
	if w.plan.withoutPreVote != 0 {
		// One whose disk was wiped raises its term until a leader is not behind it.
		patience = 100
	}
	for range 4 * 300 {
		w.run(w.now + step)
		w.vouch()
		if len(w.failures) > 0 {
			return
		}
		leader := w.leader()
		if leader != nil && led < 0 && w.accepted(leader) {
			led = w.now - begin
			w.count.elected(float64(led)/float64(w.plan.election), w.plan.withoutPreVote == 0)
			leader.propose()
		}
		if led >= 0 && w.unsettled() == "" {
			w.count.slowestRest = max(w.count.slowestRest, float64(w.now-begin)/float64(w.plan.election))
			return
		}
		if led < 0 && w.now-begin > patience*w.plan.election {
			break
		}
	}
	w.fail("I11: %s", w.unsettled())
}

// accepted reports whether no member is in a later term than the leader.
func (w *clockWorld) accepted(leader *clockServer) bool {
	members := leader.configuration().members
	for i := range members {
		if w.server(members[i].name).term > leader.term {
			return false
		}
	}
	return true
}

func dropKinds(q clockQueue, kind clockKind) clockQueue {
	var kept clockQueue
	for _, e := range q {
		if e.kind != kind {
			kept.push(e)
		}
	}
	return kept
}

// TestRulesClock runs clusters that are nothing but the rules, with time: see
// rules_clock_test.go. RULES_HOURS says for how many hours of their time.
func TestRulesClock(t *testing.T) {
	var count clockCounts
	hours, _ := strconv.ParseFloat(os.Getenv("RULES_HOURS"), 64)
	seeds := scale(*clockSeeds)
	begin := time.Now()
	for seed := *clockFirst; seed < *clockFirst+seeds || count.time.Hours() < hours; seed++ {
		_, failures := clocked(seed, fullLength, &count, nil)
		if len(failures) > 0 {
			t.Fatalf("seed %d, after %d seeds and %.2f hours, again by -run TestRulesClock$ -clock.first=%d -clock.seeds=1: %s\n%s",
				seed, count.seeds, count.time.Hours(), seed, strings.Join(failures, "; "), clockTrace(seed, fullLength, 200))
		}
	}
	took := time.Since(begin)
	t.Logf("%d seeds (from %d on), %.1f cluster-hours, %d events: %.0f times as fast as real time, %.2f µs an event\n%v", count.seeds, *clockFirst,
		count.time.Hours(), count.events, count.time.Seconds()/took.Seconds(), took.Seconds()*1e6/float64(count.events), &count)
	if missed := count.missed(); count.seeds >= 300 && len(missed) > 0 {
		t.Errorf("never met with: %s", strings.Join(missed, ", "))
	}
}

// clockTrace is the end of what happens with a seed.
func clockTrace(seed uint64, length int64, lines int) string {
	var trace []string
	clocked(seed, length, &clockCounts{}, func(format string, args ...any) { trace = append(trace, fmt.Sprintf(format, args...)) })
	return strings.Join(trace[max(0, len(trace)-lines):], "\n")
}

// TestRulesClockRepeats runs seeds twice: all that happens is the same.
func TestRulesClockRepeats(t *testing.T) {
	hashes := map[uint64]bool{}
	seeds := scale(20)
	for seed := range seeds {
		first, _ := clocked(seed, 20, &clockCounts{}, nil)
		again, _ := clocked(seed, 20, &clockCounts{}, nil)
		if first != again {
			t.Errorf("seed %d: %x, then %x", seed, first, again)
		}
		hashes[first] = true
	}
	if len(hashes) != int(seeds) {
		t.Errorf("%d seeds have %d hashes", seeds, len(hashes))
	}
	if first, again := clockTrace(7, 20, 1000), clockTrace(7, 20, 1000); first != again {
		t.Error("a trace does not repeat")
	}
}
