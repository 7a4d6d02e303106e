package raft

import (
	"math/bits"
	"math/rand/v2"
	"os"
	"testing"
	"time"
)

// Partial partitions in the clocked world: every graph of who reaches whom.

// rulesVolume is how much of something a run of the rules does: the default run,
// the one of CI, the long one. The environment variable RULES says which.
func rulesVolume(short, ci, long int) int {
	switch os.Getenv("RULES") {
	case "ci":
		return ci
	case "long":
		return long
	}
	return int(scale(uint64(short)))
}

// quietPlan is a cluster in which nothing goes wrong but what a test does to it.
func quietPlan(servers int, election time.Duration) clockPlan {
	et := int64(election)
	return clockPlan{
		servers: servers, election: et, heartbeat: et / 3, delay: et / 1000, jitter: et / 50, inOrder: true,
		sync: et / 1000, syncJitter: et / 100, batch: 64, entryBytes: 64, pause: 2 * et,
	}
}

// calmWorld starts a quiet cluster that the given server leads, with all logs
// equal.
func calmWorld(t *testing.T, plan clockPlan, seed uint64, leader int) *clockWorld {
	t.Helper()
	w := newClockWorld(plan, seed, &clockCounts{}, nil)
	s := w.servers[leader]
	s.role = Candidate
	s.settle()
	w.timeouts(3)
	w.queue = dropKinds(w.queue, clockCommand)
	w.timeouts(2)
	if reason := w.unsettled(); w.leader() != s || reason != "" || len(w.failures) > 0 {
		t.Fatalf("%d does not lead a cluster at rest: %s %v", leader, reason, w.failures)
	}
	return w
}

// load begins with clients' commands.
func (w *clockWorld) load() {
	w.at(w.spread(w.plan.pause), clockEvent{kind: clockCommand})
}

// term is the highest term of all servers.
func (w *clockWorld) term() uint64 {
	term := uint64(0)
	for _, s := range w.servers {
		term = max(term, s.term)
	}
	return term
}

// graph says which servers reach which: bit j of row i, that i reaches j.
type graph []uint8

// undirected makes the graph of which a number has a bit for each pair.
func undirected(n int, number uint32) graph {
	g := make(graph, n)
	for i := range n {
		for j := range i {
			if number&1 != 0 {
				g[i] |= 1 << j
				g[j] |= 1 << i
			}
			number >>= 1
		}
	}
	return g
}

// directed makes the graph of which a number has a bit for each ordered pair.
func directed(n int, number uint32) graph {
	g := make(graph, n)
	for i := range n {
		for j := range n {
			if i != j {
				g[i] |= uint8(number&1) << j
				number >>= 1
			}
		}
	}
	return g
}

// hub reports whether the server reaches a majority both ways, itself included.
func (g graph) hub(i int) bool {
	both := 0
	for j := range g {
		both += int(g[i]>>j&1) & int(g[j]>>i&1)
	}
	return both+1 > len(g)/2
}

// hubs are the servers that do.
func (g graph) hubs() uint8 {
	all := uint8(0)
	for i := range g {
		if g.hub(i) {
			all |= 1 << i
		}
	}
	return all
}

// partition leaves the links of the graph.
func (w *clockWorld) partition(g graph) {
	for i := range g {
		for j := range g {
			w.cut[i][j] = i != j && g[i]>>j&1 == 0
		}
	}
}

// graphCounts sums up runs under partial partitions.
type graphCounts struct {
	Graphs, Runs, Led, Leaderless int
	Changes                       int // of the leader after it had settled
	MostChanges                   int
	TermGrowth                    uint64 // the most, where nobody could lead
	SlowestLeader                 int64  // election timeouts
	Limits                        int    // where only a server with an old log reaches a majority
	Timeouts                      int64
}

// endure runs a world under a graph: where a server in able reaches a majority
// both ways, there is a leader after at most ten election timeouts, who stays
// and commits; elsewhere there is none, and terms do not grow.
func (w *clockWorld) endure(t *testing.T, g graph, able uint8, watch int64, count *graphCounts) {
	t.Helper()
	w.partition(g)
	w.load()
	count.Runs++
	begin, term := w.now, w.term()
	can := g.hubs()&able != 0
	settled, commits := int64(10), len(w.commits)
	for n := int64(1); n <= settled; n++ {
		w.timeouts(1)
		if can && len(w.commits) == commits {
			count.SlowestLeader = max(count.SlowestLeader, n)
		}
	}
	if can && w.leader() == nil && !w.electable(g) {
		can = false
		count.Limits++
	}
	led, commits := w.led, len(w.commits)
	w.timeouts(watch)
	count.Timeouts += (w.now - begin) / w.plan.election
	changes, commits := w.led-led, len(w.commits)-commits
	switch {
	case len(w.failures) > 0:
		t.Fatalf("graph %v: %v", g, w.failures)
	case can:
		count.Led++
		count.Changes += changes
		count.MostChanges = max(count.MostChanges, changes)
		if w.leader() == nil || changes > 1 || commits < int(watch)/4 {
			t.Errorf("graph %v, able %05b: %d changes of the leader, %d commits in %d timeouts", g, able, changes, commits, watch)
		}
	default:
		count.Leaderless++
		count.TermGrowth = max(count.TermGrowth, w.term()-term)
		if w.leader() != nil || w.term()-term > 2 || commits > 0 {
			t.Errorf("graph %v, able %05b: nobody could lead, but terms grew by %d, %d commits", g, able, w.term()-term, commits)
		}
	}
}

// restart kills all servers and starts them again.
func (w *clockWorld) restart() {
	for _, s := range w.servers {
		s.crash(len(s.out.orders))
		s.boot()
	}
}

// electable reports whether under a graph some server could get the votes of a
// majority: those that it reaches both ways and whose logs are no newer.
func (w *clockWorld) electable(g graph) bool {
	for i, s := range w.servers {
		votes := 1
		for j, x := range w.servers {
			if i != j && g[i]>>j&g[j]>>i&1 != 0 && !x.log.last().newerThan(s.log.last()) {
				votes++
			}
		}
		if votes > len(g)/2 {
			return true
		}
	}
	return false
}

// graphRun starts a cluster whose first leader is start or, if that is none of
// the servers, one in which all are started anew, and leaves it the graph.
func graphRun(t *testing.T, g graph, start int, seed uint64, watch int64, count *graphCounts) {
	t.Helper()
	n := len(g)
	w := calmWorld(t, quietPlan(n, 150*time.Millisecond), seed, start%n)
	if start >= n {
		w.restart()
	}
	w.endure(t, g, 1<<n-1, watch, count)
}

// TestFault012_EveryGraphOfFive runs five servers under every undirected graph,
// from each leader and from none.
func TestFault012_EveryGraphOfFive(t *testing.T) {
	starts, watch := rulesVolume(1, 6, 6), int64(rulesVolume(30, 100, 1000))
	step := uint32(oneOf(1, 1, 1) | 1) // odd, or some would never lead at first
	var count graphCounts
	leaderless := 0
	for number := uint32(0); number < 1<<10; number += step {
		g := undirected(5, number)
		if g.hubs() == 0 {
			leaderless += starts
		}
		count.Graphs++
		for i := range starts {
			graphRun(t, g, (int(number)+i)%6, uint64(number), watch, &count)
		}
	}
	t.Logf("%+v", count)
	if count.Limits > 0 {
		t.Errorf("in %d graphs the logs let nobody lead", count.Limits)
	}
	// Of 1,024 graphs, 26 have no server with two neighbours: no edge, one edge, or
	// two that do not meet.
	if step == 1 && leaderless != 26*starts {
		t.Errorf("%d runs of graphs in which nobody can lead", leaderless)
	}
	if count.Leaderless != leaderless || count.Led != count.Runs-leaderless {
		t.Errorf("%d graphs without a leader", count.Leaderless)
	}
}

// TestFault012_DirectedGraphs does the same where a link may work one way only:
// every graph of three servers, and samples of those of five. A leader that is cut
// off may leave its last entries, one way, with a server that can never lead and
// whose vote is needed: then nobody can, as in TestFault014, and nothing may flap.
func TestFault012_DirectedGraphs(t *testing.T) {
	watch := int64(rulesVolume(30, 100, 100))
	var three, five graphCounts
	for number := range uint32(1 << 6) {
		three.Graphs++
		for start := range 4 {
			graphRun(t, directed(3, number), start, uint64(number), watch, &three)
		}
	}
	t.Logf("three servers: %+v", three)
	rng := rand.New(rand.NewPCG(12, 12))
	for range max(200, rulesVolume(200, 2000, 10_000)) { // in fewer there may be none without a leader
		number := rng.Uint32() | rng.Uint32() // links work rather than not
		five.Graphs++
		graphRun(t, directed(5, number), int(number>>20)%6, uint64(number), watch, &five)
	}
	t.Logf("five servers: %+v", five)
	if three.Leaderless == 0 || five.Leaderless == 0 {
		t.Error("every graph had a leader")
	}
}

// TestFault014_OnlyAHubBehindCouldLead: up to two of five servers lack the last
// committed entries. Where only such a server reaches a majority, nobody can lead:
// this is a limit of Raft. Nothing flaps meanwhile, and once the hub can be caught
// up, it is, and can lead.
func TestFault014_OnlyAHubBehindCouldLead(t *testing.T) {
	step := max(1, 260/rulesVolume(4, 40, 260))
	var count graphCounts
	limits, cases := 0, 0
	for number := range uint32(1 << 10) {
		g := undirected(5, number)
		for behind := range uint8(1 << 5) {
			if n := bits.OnesCount8(behind); n == 0 || n > 2 {
				continue
			}
			cases++
			limit := g.hubs() != 0 && g.hubs()&^behind == 0
			if limit {
				limits++
			}
			if cases%step == 0 {
				behindRun(t, g, behind, limit, &count)
			}
		}
	}
	t.Logf("of %d graphs with one or two servers behind, in %d only those reach a majority; %+v", cases, limits, count)
	if count.Limits == 0 || count.Led == 0 {
		t.Error("not both happened")
	}
}

// behindRun has the servers in behind miss some entries, then leaves the graph.
func behindRun(t *testing.T, g graph, behind uint8, limit bool, count *graphCounts) {
	t.Helper()
	first := bits.TrailingZeros8(^behind)
	w := calmWorld(t, quietPlan(5, 150*time.Millisecond), uint64(behind)<<16+uint64(g[4]), first)
	ahead := make(graph, 5)
	for i := range ahead {
		if behind>>i&1 == 0 {
			ahead[i] = ^behind
		}
	}
	w.partition(ahead)
	for range 3 {
		w.servers[first].propose()
		w.timeouts(1)
	}
	for i, s := range w.servers {
		if short := s.log.end < w.servers[first].log.end; short != (behind>>i&1 != 0) {
			t.Fatalf("behind %05b: %s ends at %d", behind, s.name, s.log.end)
		}
	}
	w.restart() // a leader could catch the hub up before it finds itself alone
	w.endure(t, g, ^behind, 40, count)
	if limit {
		count.Limits++
		w.catchUp(t, g, behind)
	}
}

// catchUp lets all servers that are not behind reach each other and a hub for a
// while: it is brought up to date, and then leads under the graph as it was.
func (w *clockWorld) catchUp(t *testing.T, g graph, behind uint8) {
	t.Helper()
	hub := bits.TrailingZeros8(g.hubs())
	mended, all := append(graph(nil), g...), ^behind|1<<hub
	for i := range g {
		if all>>i&1 != 0 {
			mended[i] |= all &^ (1 << i)
		}
	}
	w.queue = dropKinds(w.queue, clockCommand)
	w.partition(mended)
	w.timeouts(15)
	if leader := w.leader(); leader == nil || w.servers[hub].log.last() != leader.log.last() {
		t.Fatalf("graph %v: %d is not caught up", mended, hub)
	}
	var again graphCounts
	w.endure(t, g, w.upToDate(), 40, &again)
	if again.Led != 1 {
		t.Errorf("graph %v: nobody leads after %d was caught up", g, hub)
	}
}

// upToDate are the servers whose log is as long as any.
func (w *clockWorld) upToDate() uint8 {
	all := uint8(0)
	for i, s := range w.servers {
		newest := true
		for _, x := range w.servers {
			newest = newest && !x.log.last().newerThan(s.log.last())
		}
		if newest {
			all |= 1 << i
		}
	}
	return all
}
