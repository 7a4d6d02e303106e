package raft

import "slices"

// What goes wrong in the clocked world. A seed draws which kinds of faults there
// are, how often, and how bad they are.

// clockFaultKind is what goes wrong.
type clockFaultKind uint8

const (
	cutOffFault  clockFaultKind = iota // one server from all others
	splitFault                         // the servers in two
	oneWayFault                        // one direction of some links
	partialFault                       // some links
	flapFault                          // one link, again and again
	crashFault
	killFault
	pauseFault
	stallFault // of a disk
	slowDiskFault
	slowLinkFault
	wipeFault
	putBackFault
	compactFault
	transferFault
	clockFaultKinds
)

var clockFaultNames = [clockFaultKinds]string{
	"cut off", "split", "one-way cut", "partial cut", "flapping link", "crash", "kill", "pause", "stalled disk", "slow disk", "slow links",
	"wiped disk", "disk put back", "compaction", "transfer",
}

// clockFaults is what the seed has drawn about faults, and those under way.
type clockFaults struct {
	kinds    []clockFaultKind
	interval int64  // between two, on average
	operate  int64  // between two changes that the operator asks for, 0: none
	chapter  uint32 // times of faults and times of rest, counted
	cuts     uint32
	slowdown uint32
	copies   [maxClock][]clockStore
	ambush   bool // the next leader is cut off at once
}

// fault lets a fault begin or end, or the operator act.
func (w *clockWorld) fault(e *clockEvent) {
	switch e.kind {
	case clockOperate:
		if e.gen == w.faults.chapter {
			w.operate()
		}
	case clockEnd:
		w.mended(e)
	default:
		if !w.calm {
			kind := w.faults.kinds[w.rng.IntN(len(w.faults.kinds))]
			if w.goWrong(kind, w.pick()) {
				w.count.faults[kind]++
				if w.trace != nil {
					w.logf("fault: %s", clockFaultNames[kind])
				}
			}
			w.at(w.spread(w.faults.interval), clockEvent{kind: clockFault})
		}
	}
	w.vouch()
}

// pick draws a server, those that never joined less often.
func (w *clockWorld) pick() *clockServer {
	s := w.servers[w.rng.IntN(len(w.servers))]
	if s.clusterID == 0 && !s.begun {
		s = w.servers[w.rng.IntN(len(w.servers))]
	}
	return s
}

// lasts has a fault end between a quarter and so many election timeouts from now.
func (w *clockWorld) lasts(timeouts int64, kind clockFaultKind, s *clockServer, gen uint32) {
	least := w.plan.election / 4
	w.at(least+w.rng.Int64N(timeouts*w.plan.election-least), clockEvent{kind: clockEnd, action: uint8(kind), server: s.id, gen: gen})
}

// goWrong lets one thing go wrong, and reports whether it could.
func (w *clockWorld) goWrong(kind clockFaultKind, s *clockServer) bool {
	switch kind {
	case cutOffFault, splitFault, oneWayFault, partialFault, flapFault:
		if len(w.servers) == 1 {
			return false
		}
		w.cutLinks(kind, s)
		return true
	case slowLinkFault:
		w.slow[s.id] = 2 + w.rng.Int64N(30)
		w.faults.slowdown++
		w.lasts(20, kind, s, w.faults.slowdown)
		return true
	case putBackFault:
		return w.putBack()
	case transferFault:
		w.faults.ambush = w.rng.IntN(4) == 0
	case wipeFault:
		return !s.down && w.amnesia(s)
	}
	if s.down || s.paused {
		return false
	}
	switch kind {
	case crashFault:
		s.crash(w.rng.IntN(len(s.out.orders) + 1))
		w.lasts(1+w.rng.Int64N(20), kind, s, s.life)
	case killFault:
		s.crash(len(s.out.orders))
		w.lasts(1+w.rng.Int64N(5), kind, s, s.life)
	case pauseFault:
		s.paused = true
		w.lasts(1+w.rng.Int64N(10), kind, s, s.life)
	case stallFault:
		s.out.stalled = w.now + w.plan.election/4 + w.rng.Int64N(8*w.plan.election)
	case slowDiskFault:
		s.out.slow = 2 + w.rng.Int64N(30)
		w.lasts(20, kind, s, s.life)
	case compactFault:
		if s.commitIndex <= s.log.base.index {
			return false
		}
		s.compact(s.log.base.index + 1 + w.rng.Uint64N(s.commitIndex-s.log.base.index))
	case transferFault:
		if s = w.leader(); s == nil || s.paused || len(s.office.successors(s.configuration())) == 0 {
			return false
		}
		s.abdicate()
		s.settle()
	}
	return true
}

// ambush cuts a leader off before anybody hears of its first entry.
func (w *clockWorld) ambush(s *clockServer) {
	if !w.faults.ambush || w.calm || len(w.servers) == 1 {
		return
	}
	w.faults.ambush = false
	w.count.ambushes++
	w.cutLinks(cutOffFault, s)
}

// mended ends a fault.
func (w *clockWorld) mended(e *clockEvent) {
	s := w.servers[e.server]
	switch kind := clockFaultKind(e.action); kind {
	case cutOffFault, splitFault, oneWayFault, partialFault:
		if e.gen == w.faults.cuts {
			w.cut = [maxClock][maxClock]bool{}
		}
	case flapFault:
		if e.gen == w.faults.cuts && !w.calm {
			cut := &w.cut[e.server][e.peer]
			*cut = !*cut
			w.cut[e.peer][e.server] = *cut
			w.at(w.flap(), *e)
		}
	case slowLinkFault:
		if e.gen == w.faults.slowdown {
			for i := range w.slow {
				w.slow[i] = 1
			}
		}
	case crashFault, killFault:
		if s.down && e.gen == s.life {
			s.boot()
		}
	case pauseFault:
		if s.paused && e.gen == s.life {
			s.resume()
		}
	case slowDiskFault:
		if e.gen == s.life {
			s.out.slow = 0
		}
	}
}

// resume goes on with what has gathered. What letters say is heard before timers.
func (s *clockServer) resume() {
	s.paused = false
	gathered := s.inbox
	s.inbox = nil
	for _, letters := range []bool{true, false} {
		for i := range gathered {
			e := &gathered[i]
			if (e.kind == clockDeliver) == letters {
				s.happen(e)
			}
		}
	}
	s.inbox = gathered[:0]
}

// flap draws how long a flapping link stays as it is.
func (w *clockWorld) flap() int64 {
	return w.plan.election/2 + w.rng.Int64N(5*w.plan.election/2)
}

// cutLinks cuts links, in place of those that were cut.
func (w *clockWorld) cutLinks(kind clockFaultKind, s *clockServer) {
	w.faults.cuts++
	gen := w.faults.cuts
	w.cut = [maxClock][maxClock]bool{}
	n := len(w.servers)
	if kind == flapFault {
		other := uint8((int(s.id) + 1 + w.rng.IntN(n-1)) % n)
		w.cut[s.id][other], w.cut[other][s.id] = true, true
		w.at(w.flap(), clockEvent{kind: clockEnd, action: uint8(kind), server: s.id, peer: other, gen: gen})
		return
	}
	side := w.rng.Uint32()
	for i := range n {
		for j := range i {
			cut, back := false, false
			switch kind {
			case cutOffFault:
				cut = i == int(s.id) || j == int(s.id)
				back = cut
			case splitFault:
				cut = side>>i&1 != side>>j&1
				back = cut
			case oneWayFault:
				cut, back = w.rng.IntN(4) == 0, w.rng.IntN(4) == 0
			case partialFault:
				cut = w.rng.IntN(3) == 0
				back = cut
			}
			w.cut[i][j], w.cut[j][i] = cut, back
		}
	}
	w.lasts(1+w.rng.Int64N(30), kind, s, gen)
}

// operate asks leaders for another configuration, or only, when the faults are
// over, for what is needed to have everybody back.
func (w *clockWorld) operate() {
	for _, s := range w.servers {
		if s.down || s.paused || s.role != Leader {
			continue
		}
		c := s.configuration()
		x := w.pick()
		switch m := c.find(x.name); {
		case w.calm:
			for _, x := range w.servers {
				if m := c.find(x.name); m != nil && m.storeID != 0 && m.storeID != x.storeID {
					s.request(false, x.name)
				}
			}
		case m != nil && w.rng.IntN(3) == 0:
			if !w.wiped(c.without(x.name)) && !w.wiped(c) {
				s.request(true, x.name)
			}
		case m == nil || m.storeID != 0 && m.storeID != x.disk.storeID:
			s.request(false, x.name)
		}
	}
	wait := w.spread(w.faults.operate)
	if w.calm {
		wait = w.plan.election
	}
	w.at(wait, clockEvent{kind: clockOperate, gen: w.faults.chapter})
}

// heal ends all faults.
func (w *clockWorld) heal() {
	w.logf("heal")
	w.calm = true
	w.cut = [maxClock][maxClock]bool{}
	waiting := slices.Clone(w.queue)
	w.queue = w.queue[:0]
	slices.SortFunc(waiting, func(a, b clockEvent) int {
		if a.before(&b) {
			return -1
		}
		return 1
	})
	for _, e := range waiting {
		switch {
		case e.kind == clockDeliver && e.at > w.now+w.plan.election:
			w.release(e.letter)
			continue
		case e.kind == clockEnd || e.kind == clockFault || e.kind == clockOperate || e.kind == clockCommand:
			continue
		case e.kind == clockSynced:
			e.at = min(e.at, w.now+w.plan.election/10)
		}
		w.queue.push(e)
	}
	for i, s := range w.servers {
		w.slow[i] = 1
		s.out.stalled, s.out.slow = 0, 0
		switch {
		case s.down:
			s.boot()
		case s.paused:
			s.resume()
		}
	}
	w.faults.chapter++
	w.at(w.plan.election/2, clockEvent{kind: clockOperate, gen: w.faults.chapter})
}

// disturb begins the faults.
func (w *clockWorld) disturb() {
	w.calm = false
	w.faults.chapter++
	if len(w.faults.kinds) > 0 {
		w.at(w.spread(w.faults.interval), clockEvent{kind: clockFault})
	}
	if w.faults.operate > 0 {
		w.at(w.spread(w.faults.operate), clockEvent{kind: clockOperate, gen: w.faults.chapter})
	}
	if w.plan.pause > 0 {
		w.at(w.spread(w.plan.pause), clockEvent{kind: clockCommand})
	}
}

// unsettled says what lacks of I11: there is a leader, and its members have its
// log and know that it is committed.
func (w *clockWorld) unsettled() string {
	leader := w.leader()
	if leader == nil {
		return "no leader"
	}
	members := leader.configuration().members
	for i := range members {
		m := &members[i]
		x := w.server(m.name)
		switch {
		case m.storeID != x.storeID:
			return x.name + " is not joined again"
		case leader.office.fenced[m.name]:
			return x.name + " is fenced"
		case x.log.last() != leader.log.last() || x.commitIndex != leader.log.end:
			return x.name + " is not where the leader " + leader.name + " is"
		}
	}
	return ""
}
