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
	clockSeeds = flag.Uint64("clock.seeds", 40, "how many seeds TestRulesClock runs")
	clockFirst = flag.Uint64("clock.first", 0, "the first seed of TestRulesClock")
)

// clockCounts says what clocked worlds met with.
type clockCounts struct {
	Seeds, Events                                                     int
	Time                                                              time.Duration // of the clusters
	Timeouts                                                          int64         // the same in election timeouts
	Elections, Candidacies, Deposed, Relieved, Resigned               int
	Commands, Refused, Commits, Truncations, Resets                   int
	Joins, Leaves, Rejoins, Promotions, Dismissed, Installs           int
	Fenced, BegunAnew, Recovered                                      int
	Losses, Copies, Late, Reordered                                   int
	Faults                                                            [clockFaultKinds]int
	Rounds                                                            int     // of faults and rest
	SlowestLeader, SlowestRest                                        float64 // in election timeouts
	Sizes                                                             [8]int
	Rates, MixedPreVotes, WithoutPreVotes, Calls, OutOfOrder, Batched int // seeds with that
}

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
	if rng.IntN(2) == 0 {
		w.faults.operate = int64(float64(w.plan.election) * (2 + 40*rng.Float64()))
	}
}

// clocked runs one seed: rounds of faults, and of rest in which a leader must be
// found and everybody must agree with it. It returns the hash of all that
// happened, and what is wrong.
func clocked(seed uint64, count *clockCounts, trace func(string, ...any)) (uint64, []string) {
	rng := rand.New(rand.NewPCG(seed, 0))
	plan := clockPlanOf(rng)
	w := newClockWorld(plan, seed, count, trace)
	w.drawFaults(rng)
	w.queue = dropKinds(w.queue, clockCommand)
	count.planned(&plan)
	for range 1 + rng.IntN(4) {
		w.disturb()
		w.timeouts(20 + rng.Int64N(600))
		if len(w.failures) > 0 {
			break
		}
		w.heal()
		w.settles()
		if len(w.failures) > 0 {
			break
		}
		count.Rounds++
	}
	count.Time += time.Duration(w.now)
	count.Timeouts += w.now / plan.election
	return w.hash, w.failures
}

// settles checks I11: a leader within ten election timeouts of the end of the
// faults, a command of its own time that commits, and one log everywhere.
func (w *clockWorld) settles() {
	begin, led := w.now, int64(-1)
	step := w.plan.election / 4
	for range 4 * 300 {
		w.run(w.now + step)
		w.vouch()
		if len(w.failures) > 0 {
			return
		}
		leader := w.leader()
		if leader != nil && led < 0 && leader.commitIndex >= leader.office.start {
			led = w.now - begin
			w.count.SlowestLeader = max(w.count.SlowestLeader, float64(led)/float64(w.plan.election))
			leader.propose()
		}
		if led >= 0 && w.unsettled() == "" {
			w.count.SlowestRest = max(w.count.SlowestRest, float64(w.now-begin)/float64(w.plan.election))
			return
		}
		if led < 0 && w.now-begin > 10*w.plan.election {
			break
		}
	}
	w.fail("I11: %s", w.unsettled())
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

func (c *clockCounts) planned(p *clockPlan) {
	c.Seeds++
	c.Sizes[p.servers]++
	count := func(n *int, yes bool) {
		if yes {
			*n++
		}
	}
	count(&c.Rates, p.rates[0] != 0)
	count(&c.WithoutPreVotes, p.withoutPreVote == math.MaxUint16)
	count(&c.MixedPreVotes, p.withoutPreVote != 0 && p.withoutPreVote != math.MaxUint16)
	count(&c.Calls, p.calls)
	count(&c.OutOfOrder, !p.inOrder)
	count(&c.Batched, p.batch > 1)
}

// TestRulesClock runs clusters that are nothing but the rules, with time: see
// rules_clock_test.go. RULES_HOURS says for how many hours of their time.
func TestRulesClock(t *testing.T) {
	var count clockCounts
	hours, _ := strconv.ParseFloat(os.Getenv("RULES_HOURS"), 64)
	seeds := scale(*clockSeeds)
	begin := time.Now()
	for seed := *clockFirst; seed < *clockFirst+seeds || count.Time.Hours() < hours; seed++ {
		_, failures := clocked(seed, &count, nil)
		if len(failures) == 0 {
			continue
		}
		var trace []string
		clocked(seed, &clockCounts{}, func(format string, args ...any) { trace = append(trace, fmt.Sprintf(format, args...)) })
		t.Fatalf("seed %d after %d seeds, %.2f hours: %s\n%s", seed, count.Seeds, count.Time.Hours(), strings.Join(failures, "; "), strings.Join(trace[max(0, len(trace)-200):], "\n"))
	}
	took := time.Since(begin)
	t.Logf("%d seeds, %.1f cluster-hours, %.0f times as fast as real time, %.2f µs an event\n%+v", count.Seeds, count.Time.Hours(),
		count.Time.Seconds()/took.Seconds(), took.Seconds()*1e6/float64(count.Events), count)
}
