package raft

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

var (
	simulationSeeds = flag.Uint64("rules.seeds", 5000, "how many seeds TestRulesSimulation runs")
	simulationFirst = flag.Uint64("rules.first", 0, "the first seed of TestRulesSimulation")
)

// TestRulesSimulation runs clusters that are nothing but the rules under random
// schedules: letters are lost, repeated, delayed and overtaken, servers crash
// with what is not yet on their disks, are cut off, join, and lose their disks.
// Every invariant is checked after every event, and at the end, with all faults
// gone, a leader must be found and everybody must agree with it.
func TestRulesSimulation(t *testing.T) {
	seeds := scale(*simulationSeeds)
	var done statistics
	for seed := *simulationFirst; seed < *simulationFirst+seeds; seed++ {
		failures := simulate(seed, &done, nil)
		if len(failures) == 0 {
			continue
		}
		var trace strings.Builder
		simulate(seed, &statistics{}, func(format string, args ...any) { fmt.Fprintf(&trace, format+"\n", args...) })
		lines := strings.Split(trace.String(), "\n")
		t.Fatalf("seed %d: %s\n%s", seed, strings.Join(failures, "; "), strings.Join(lines[max(0, len(lines)-250):], "\n"))
	}
	t.Logf("%+v", done)
	if done.elections < int(seeds) || done.commits < int(seeds) || done.truncations == 0 || done.joins == 0 || done.wipes == 0 || done.installs < int(seeds)/10 || done.resets == 0 ||
		done.removals == 0 || done.resignations == 0 || done.dismissals == 0 || done.restored < int(seeds)/5 || done.fenced < int(seeds)/20 || done.recovered == 0 {
		t.Errorf("the simulation is too tame: %+v", done)
	}
}

// statistics says what simulations met with.
type statistics struct {
	events, elections, commits, truncations, resets, joins, removals, resignations, dismissals, crashes, wipes int
	compactions, installs                                                                                      int
	restored, fenced, recovered                                                                                int
}

// simulator is a world with its dice.
type simulator struct {
	*world
	rng     *rand.Rand
	done    *statistics
	cut     map[[2]string]bool
	spare   []string // names that never joined
	values  int
	onTrace func(format string, args ...any)
}

func simulate(seed uint64, done *statistics, trace func(string, ...any)) []string {
	w := newWorld()
	s := &simulator{world: w, rng: rand.New(rand.NewPCG(seed, 0)), done: done, cut: map[[2]string]bool{}, onTrace: trace}
	w.trace = trace
	w.preVote = s.rng.IntN(2) == 0
	w.maxEntries = 1 + s.rng.IntN(4)
	w.slowInstalls = seed%2 == 0
	names := []string{"a", "b", "c", "d", "e"}
	n := 1 + s.rng.IntN(5)
	w.cluster(names[:n]...)
	for _, name := range []string{"f", "g"} {
		w.start(name, "")
		s.spare = append(s.spare, name)
	}
	for range 300 + s.rng.IntN(600) {
		s.step()
		s.vouch()
		if len(w.failures) > 0 {
			return w.failures
		}
	}
	s.heal()
	s.account()
	for _, x := range w.servers {
		w.logf("%s store %d %v", x, x.storeID, x.configuration())
	}
	return w.failures
}

// step lets one thing happen.
func (s *simulator) step() {
	s.done.events++
	switch p := s.rng.IntN(1000); {
	case p < 600:
		s.deliver()
	case p < 640:
		s.lose()
	case p < 790:
		s.timers(s.pick())
	case p < 860:
		s.command()
	case p < 910:
		x := s.pick()
		if !x.down {
			x.held = s.rng.IntN(2) == 0
			x.flush(s.rng.IntN(3))
		}
	case p < 930:
		x := s.pick()
		if x.down {
			x.boot(x.name)
		} else if s.rng.IntN(3) == 0 {
			s.done.crashes++
			x.crash(s.rng.IntN(len(x.orders) + 1))
		}
		s.logf("%s: down %t", x.name, x.down)
	case p < 950:
		s.partition()
	case p < 970:
		s.change()
	case p < 977:
		s.amnesia()
	case p < 985:
		s.putBack()
	case p < 994:
		if x := s.pick(); !x.down && x.commitIndex > x.log.base.index {
			s.done.compactions++
			x.compact(x.log.base.index + 1 + s.rng.Uint64N(x.commitIndex-x.log.base.index))
		}
	default:
		s.install()
	}
}

// install puts in force what has arrived and not been put in force at once.
func (s *simulator) install() {
	for _, x := range s.servers {
		before := x.commitIndex
		x.installArrived()
		if x.commitIndex > before {
			s.committed(x, before)
		}
		x.settle()
	}
}

// pick draws a server, those that never joined less often.
func (s *simulator) pick() *toyServer {
	x := s.servers[s.rng.IntN(len(s.servers))]
	if x.clusterID == 0 && len(x.initial.members) == 0 {
		x = s.servers[s.rng.IntN(len(s.servers))]
	}
	return x
}

// deliver hands over a letter, mostly an old one, and sometimes keeps it to be
// delivered again.
func (s *simulator) deliver() {
	if len(s.letters) == 0 {
		return
	}
	i := s.rng.IntN(len(s.letters))
	if s.rng.IntN(3) > 0 {
		i = s.rng.IntN(min(3, len(s.letters)))
	}
	l := s.letters[i]
	if s.rng.IntN(20) > 0 {
		s.letters = append(s.letters[:i:i], s.letters[i+1:]...)
	}
	if !s.cut[[2]string{l.from, l.to}] {
		s.handOver(l)
	}
}

func (s *simulator) handOver(l *letter) {
	to := s.server(l.to)
	if to.down {
		return
	}
	s.logf("  deliver %s", l)
	end, cluster := to.log.end, to.clusterID
	to.receive(l)
	if to.log.end < end {
		s.done.truncations++
	}
	if l.voted != nil && l.voted.Refused == refusedRemoved && to.dismissed {
		s.done.dismissals++
	}
	if cluster != 0 && to.clusterID != cluster {
		s.done.resets++
	}
}

func (s *simulator) lose() {
	if len(s.letters) == 0 {
		return
	}
	i := s.rng.IntN(len(s.letters))
	s.letters = append(s.letters[:i:i], s.letters[i+1:]...)
}

// timers fires one of the server's timers.
func (s *simulator) timers(x *toyServer) {
	switch {
	case x.down:
	case x.role != Leader:
		if s.rng.IntN(3) == 0 {
			x.timeout()
		} else {
			x.alive = false
		}
	case s.rng.IntN(4) == 0:
		if !x.office.checkQuorum(x.configuration()) {
			x.stepDown()
			x.settle()
		}
	default:
		for _, name := range slices.Sorted(maps.Keys(x.peers)) {
			if s.rng.IntN(3) == 0 {
				x.peers[name].lost()
			}
		}
		x.heartbeat()
		x.housekeep()
		x.settle()
	}
}

func (s *simulator) command() {
	for _, x := range s.servers {
		if !x.down && x.role == Leader && s.rng.IntN(2) == 0 {
			s.values++
			x.propose(fmt.Sprint(s.values))
			x.settle()
		}
	}
}

// partition cuts and mends links, each way by itself.
func (s *simulator) partition() {
	clear(s.cut)
	if s.rng.IntN(2) == 0 {
		return
	}
	for _, x := range s.servers {
		for _, y := range s.servers {
			if s.rng.IntN(4) == 0 {
				s.cut[[2]string{x.name, y.name}] = true
			}
		}
	}
}

// change asks leaders for another configuration.
func (s *simulator) change() {
	for _, x := range s.servers {
		if x.down || x.role != Leader {
			continue
		}
		name := s.pick().name
		if s.rng.IntN(3) == 0 {
			if c := x.configuration(); c.find(name) != nil && !s.wiped(c.without(name)) && x.remove(name) {
				s.done.removals++
				if name == x.name {
					s.done.resignations++
				}
			}
		} else if x.join(name) {
			s.done.joins++
		}
		x.settle()
	}
}

// amnesia takes the disk of a server whose name is bound everywhere, while no
// other server is without the disk that its name is bound to.
func (s *simulator) amnesia() {
	x := s.pick()
	if n := len(x.initial.members); n == 1 || n == 2 {
		return // it would begin a cluster of its own
	}
	for _, y := range s.servers {
		if len(y.initial.members) == 0 && len(y.disk.entries) == 0 && y.clusterID == 0 {
			continue // waits to be joined
		}
		bound := false // by an entry that y cannot lose
		for i, e := range y.disk.entries {
			bound = bound || i < len(s.commits[""]) && s.commits[""][i].chain == e.chain && s.binds(e.configuration, x)
		}
		for _, c := range y.configurations[min(1, len(y.configurations)-1):] {
			bound = bound && s.binds(c, x)
		}
		if !bound {
			return
		}
	}
	s.done.wipes++
	x.down, x.orders = true, nil
	x.wipe()
	s.logf("%s: wiped", x.name)
}

// binds reports whether the configuration can do without x and means its store.
func (s *simulator) binds(c *configuration, x *toyServer) bool {
	if c == nil || c.voters() < 3 || s.wiped(c) {
		return false
	}
	m := c.find(x.name)
	return m != nil && m.storeID == x.disk.storeID
}

// wiped reports whether a voter has lost the disk that its name is bound to, or
// what was on it.
func (s *simulator) wiped(c *configuration) bool {
	for _, x := range s.servers {
		if c.votes(x.name) && !c.accepts(x.name, x.disk.storeID) || c.find(x.name) != nil && x.restored != nil {
			return true
		}
	}
	return false
}

// heal ends all faults and lets the cluster come to rest.
func (s *simulator) heal() {
	s.logf("heal")
	clear(s.cut)
	for _, x := range s.servers {
		if x.down {
			x.boot(x.name)
		}
		x.held = false
		x.flush(len(x.orders))
	}
	for round := range 200 {
		for len(s.letters) > 0 {
			l := s.letters[0]
			s.letters = s.letters[1:]
			s.handOver(l)
		}
		s.install()
		s.vouch()
		if len(s.failures) > 0 || s.unsettled() == "" {
			return
		}
		s.quietRound(round)
	}
	s.fail("I11: %s", s.unsettled())
}

// quietRound fires the timers as an undisturbed cluster would: a leader's
// heartbeats, or else one server's election.
func (s *simulator) quietRound(round int) {
	leaders := 0
	for _, x := range s.servers {
		if x.role != Leader {
			continue
		}
		leaders++
		if round%2 == 1 && !x.office.checkQuorum(x.configuration()) {
			x.stepDown()
			x.settle()
			continue
		}
		for _, p := range x.peers {
			if len(p.window) > 0 {
				p.lost()
			}
		}
		x.heartbeat()
		x.housekeep()
		x.settle()
	}
	if leaders == 0 {
		for _, x := range s.servers {
			x.alive = false
		}
		s.pick().timeout()
	}
}

// unsettled says what lacks of I11: there is a leader, and its members have its
// log and know that it is committed.
func (s *simulator) unsettled() string {
	var leader *toyServer
	for _, x := range s.servers {
		if x.role == Leader && (leader == nil || x.term > leader.term) {
			leader = x
		}
	}
	if leader == nil {
		return "no leader"
	}
	for _, m := range leader.configuration().members {
		x := s.server(m.name)
		if m.storeID != 0 && m.storeID != x.storeID {
			continue // wiped and not yet joined again
		}
		if leader.office.fenced[m.name] {
			return fmt.Sprintf("%s is fenced", x.name)
		}
		if x.log.last() != leader.log.last() || x.commitIndex != leader.log.end {
			return fmt.Sprintf("%s is not where the leader %s is", x.name, leader.name)
		}
	}
	return ""
}

func (s *simulator) account() {
	s.done.elections += len(s.leaders)
	s.done.commits += len(s.commits[""])
	for _, x := range s.servers {
		s.done.installs += x.installs
	}
}
