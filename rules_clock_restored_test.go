package raft

import "slices"

// Lost disks, and disks that are put back, in the clocked world. What may happen
// without breaking what Raft rests on is as in rules_simulation_test.go and
// rules_restored_test.go.

// clockRestored is what a server has lost whose disk was put back; until the
// cluster has taken notice, nobody hears of its votes.
type clockRestored struct {
	lost  clockStore
	since int // how many entries were committed
}

// silenced reports whether nobody hears of the letter.
func (s *clockServer) silenced(l *clockLetter) bool {
	return s.restored != nil && (l.kind == voteLetter || l.kind == votedLetter && l.voted.VoteGranted)
}

func (d *clockStore) clone() clockStore {
	c := *d
	c.entries, c.file = slices.Clone(d.entries), slices.Clone(d.file)
	return c
}

// wipe gives a server that is down an empty disk with the configuration that it
// was first started with.
func (s *clockServer) wipe() {
	s.disk = clockStore{identity: identity{storeID: s.w.draw(), initial: s.disk.initial}}
	s.seen, s.spoken, s.votes = 0, 0, nil
	s.w.faults.copies[s.id] = nil
}

// restore starts the server from an older state of its disk.
func (s *clockServer) restore(d clockStore) {
	if !s.down {
		s.crash(len(s.out.orders))
	}
	s.restored = &clockRestored{s.disk, len(s.w.commits)}
	s.disk = d.clone()
	s.seen, s.spoken, s.votes = 0, 0, nil
	s.putBack++
	s.boot()
}

// suspected checks that a leader fences only a server whose disk was put back.
func (w *clockWorld) suspected(by *clockServer, name string) {
	w.count.fenced++
	if w.trace != nil {
		w.logf("%s: %s has lost what it acknowledged", by.name, name)
	}
	if w.server(name).putBack == 0 {
		w.fail("%s fences %s, which keeps its promises", by.name, name)
	}
}

// wiped reports whether a voter has lost the disk that its name is bound to, or
// what was on it.
func (w *clockWorld) wiped(c *configuration) bool {
	for _, x := range w.servers {
		if c.votes(x.name) && !c.accepts(x.name, x.disk.storeID) || c.find(x.name) != nil && x.restored != nil {
			return true
		}
	}
	return false
}

// configurationOf is the one in force behind the entries, or nil.
func (w *clockWorld) configurationOf(entries []uint32) *configuration {
	if len(entries) == 0 {
		return nil
	}
	return w.book[entries[len(entries)-1]].configuration
}

// binds reports whether the configuration can do without x and means its store.
func (w *clockWorld) binds(c *configuration, x *clockServer) bool {
	if c == nil || c.voters() < 3 || w.wiped(c) {
		return false
	}
	m := c.find(x.name)
	return m != nil && m.storeID == x.disk.storeID
}

// amnesia takes the disk of a server whose name is bound everywhere, while no
// other server is without the disk that its name is bound to.
func (w *clockWorld) amnesia(x *clockServer) bool {
	if n := len(x.disk.initial.members); n == 1 || n == 2 {
		return false // it would begin a cluster of its own
	}
	for _, y := range w.servers {
		if !y.begun && len(y.disk.entries) == 0 && y.clusterID == 0 {
			continue // waits to be joined
		}
		bound := false // by an entry that y cannot lose
		for i := uint64(len(y.disk.entries)); i > 0 && !bound; {
			c := w.book[y.disk.entries[i-1]].configuration
			at := c.index
			bound = at <= uint64(len(w.commits)) && w.commits[at-1].id == y.disk.entries[at-1] && w.binds(c, x)
			i = at - 1
		}
		for _, c := range y.configurations[min(1, len(y.configurations)-1):] {
			bound = bound && w.binds(c, x)
		}
		if !bound {
			return false
		}
	}
	x.crash(0)
	x.wipe()
	w.lasts(10, crashFault, x, x.life)
	return true
}

// putBack copies the servers' disks or, while all others keep what they promise,
// puts such a copy in the place of what a server has: rather where a leader knows
// that it stores more.
func (w *clockWorld) putBack() bool {
	type older struct {
		x    *clockServer
		disk *clockStore
	}
	var missed, others []older
	for _, x := range w.servers {
		copies := w.faults.copies[x.id]
		for i := range copies {
			old := &copies[i]
			switch c := w.configurationOf(old.entries); {
			case old.storeID != x.disk.storeID || len(old.entries) == len(x.disk.entries) && old.ballot == x.disk.ballot || !w.spares(x):
			case c == nil && len(x.disk.initial.members) == 1 || c != nil && c.voters() == 1 && c.votes(x.name):
				// It would go on alone.
			case w.missed(x, uint64(len(old.entries))):
				missed = append(missed, older{x, old})
			default:
				others = append(others, older{x, old})
			}
		}
	}
	all := slices.Concat(missed, missed, missed, missed, others)
	if len(all) == 0 || w.rng.IntN(4) == 0 {
		for _, x := range w.servers {
			copies := &w.faults.copies[x.id]
			if len(*copies) == 3 {
				*copies = slices.Delete(*copies, 0, 1)
			}
			*copies = append(*copies, x.disk.clone())
		}
		return false
	}
	chosen := all[w.rng.IntN(len(all))]
	chosen.x.restore(*chosen.disk)
	return true
}

// missed reports whether a leader knows that x stores more.
func (w *clockWorld) missed(x *clockServer, end uint64) bool {
	return slices.ContainsFunc(w.servers, func(y *clockServer) bool {
		return !y.down && y.role == Leader && y.office != nil && y.office.match[x.name] > end
	})
}

// spares reports whether no configuration that may come to be in force depends on
// the promises of x. On those of a server that was removed there may: it knows of
// removals before its own, and without that it could elect who was removed and does
// not know it.
func (w *clockWorld) spares(x *clockServer) bool {
	n := len(w.commits)
	if x.restored != nil || n == 0 || w.book[w.commits[n-1].id].configuration.find(x.name) == nil {
		return false
	}
	for _, y := range w.servers {
		for _, c := range append(slices.Clone(y.configurations), y.disk.initial, w.configurationOf(y.disk.entries)) {
			if c != nil && (w.wiped(c) || c.find(x.name) != nil && c.voters() < 3) {
				return false
			}
		}
	}
	return true
}

// fencedOff reports whether it is committed that the server begins anew, or is no
// member any more: from then on its votes do no harm, whatever it has lost.
func (s *clockServer) fencedOff() bool {
	since := uint64(s.restored.since)
	for i := uint64(len(s.w.commits)); i > since; {
		c := s.w.book[s.w.commits[i-1].id].configuration
		if c.index <= since {
			return false
		}
		if m := c.find(s.name); m == nil || m.incarnation > since {
			return true
		}
		i = c.index - 1
	}
	return false
}

// whole reports whether the server can keep all that it promised before its disk
// was put back.
func (s *clockServer) whole() bool {
	last := func(d *clockStore) entryID {
		n := len(d.entries)
		if n == 0 {
			return entryID{}
		}
		return entryID{uint64(n), s.w.book[d.entries[n-1]].term}
	}
	lost, now := &s.restored.lost, &s.disk
	votes := now.term > lost.term || now.term == lost.term && (lost.votedFor == "" || now.votedFor == lost.votedFor)
	return votes && !last(lost).newerThan(last(now))
}

// vouch lets servers vote again that may.
func (w *clockWorld) vouch() {
	for _, x := range w.servers {
		if x.restored == nil {
			continue
		}
		switch {
		case x.fencedOff():
			w.count.begunAnew++
		case x.whole() && !w.isSuspected(x):
			w.count.recovered++
		default:
			continue
		}
		x.restored = nil
	}
}

// isSuspected reports whether a leader is about to have x begin anew.
func (w *clockWorld) isSuspected(x *clockServer) bool {
	return slices.ContainsFunc(w.servers, func(y *clockServer) bool {
		m := y.configuration().find(x.name)
		return !y.down && y.role == Leader && m != nil && y.office != nil && (y.office.fenced[x.name] || m.incarnation > uint64(x.restored.since))
	})
}
