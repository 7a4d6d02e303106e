package raft

import "slices"

// This file puts disks back to what they were: see rules_simulation_test.go.

// restoredDisk is what a server has lost whose disk was put back to an older
// state. Until the cluster has taken notice, nothing stops it from giving a vote
// away a second time: this is the limit of decision 9, and not for the ledger to
// find. So nobody hears of its votes meanwhile.
type restoredDisk struct {
	lost  toyDisk
	since int // how many entries were committed
}

// silenced reports whether nobody hears of the letter.
func (s *toyServer) silenced(l *letter) bool {
	return s.restored != nil && (l.vote != nil || l.voted != nil && l.voted.VoteGranted)
}

// copyDisk keeps a copy of what is on the disk.
func (s *toyServer) copyDisk() {
	d := s.disk
	d.entries = slices.Clone(d.entries)
	s.copies = append(s.copies, d)
}

// restore starts the server from an older state of its disk. What it asked in its
// life before has nowhere to be answered.
func (s *toyServer) restore(d toyDisk) {
	s.restored = &restoredDisk{s.disk, len(s.world.commits[s.group])}
	s.disk = d
	s.disk.entries = slices.Clone(d.entries)
	s.seen, s.told = 0, 0
	s.world.pardon(s.storeID)
	s.life++
	s.boot(s.name)
}

// suspected checks that a leader fences only a server whose disk was put back.
func (w *world) suspected(by *toyServer, name string) {
	w.logf("%s: %s has lost what it acknowledged", by.name, name)
	if w.server(name).life == 0 {
		w.fail("%s fences %s, which keeps its promises", by.name, name)
	}
}

// pardon forgets the votes of a store that has itself forgotten them.
func (l *ledger) pardon(store uint64) {
	for key := range l.votes {
		if key.store == store {
			delete(l.votes, key)
		}
	}
}

// fencedOff reports whether it is committed that the server begins anew, or is no
// member: from then on its votes do no harm, whatever it has lost.
func (s *toyServer) fencedOff() bool {
	commits := s.world.commits[s.group]
	for _, e := range commits[min(s.restored.since, len(commits)):] {
		if e.configuration == nil {
			continue
		}
		if m := e.configuration.find(s.name); m == nil || m.incarnation > uint64(s.restored.since) {
			return true
		}
	}
	return false
}

// whole reports whether the server can keep all that it promised before its disk
// was put back.
func (s *toyServer) whole() bool {
	lost, last := s.restored.lost, entryID{uint64(len(s.restored.lost.entries)), 0}
	if last.index > 0 {
		last.term = lost.entries[last.index-1].term
	}
	now := entryID{uint64(len(s.disk.entries)), 0}
	if now.index > 0 {
		now.term = s.disk.entries[now.index-1].term
	}
	votes := s.disk.term > lost.term || s.disk.term == lost.term && (lost.votedFor == "" || s.disk.votedFor == lost.votedFor)
	return votes && !last.newerThan(now)
}

// vouch lets servers vote again that may.
func (s *simulator) vouch() {
	for _, x := range s.servers {
		if x.restored == nil {
			continue
		}
		switch {
		case x.fencedOff():
			s.done.fenced++
		case x.whole() && !s.suspected(x):
			s.done.recovered++
		default:
			continue
		}
		s.logf("%s: may vote", x.name)
		x.restored = nil
	}
}

// suspected reports whether a leader is about to have x begin anew.
func (s *simulator) suspected(x *toyServer) bool {
	return slices.ContainsFunc(s.servers, func(y *toyServer) bool {
		m := y.configuration().find(x.name)
		return !y.down && y.role == Leader && m != nil && (y.office.fenced[x.name] || m.incarnation > uint64(x.restored.since))
	})
}

// putBack copies the servers' disks or, while all others keep what they promise,
// puts such a copy in the place of what a server has: rather where a leader knows
// that it stores more.
func (s *simulator) putBack() {
	type older struct {
		x    *toyServer
		disk toyDisk
	}
	var missed, others []older
	for _, x := range s.servers {
		for _, old := range x.copies {
			switch c := configurationAt(old.entries); {
			case old.storeID != x.disk.storeID || len(old.entries) == len(x.disk.entries) && old.ballot == x.disk.ballot || !s.spares(x):
			case c == nil && len(x.initial.members) == 1 || c != nil && c.voters() == 1 && c.votes(x.name):
				// It would go on alone.
			case s.missed(x, uint64(len(old.entries))):
				missed = append(missed, older{x, old})
			default:
				others = append(others, older{x, old})
			}
		}
	}
	all := slices.Concat(missed, missed, missed, missed, others)
	if len(all) == 0 || s.rng.IntN(4) == 0 {
		for _, x := range s.servers {
			x.copyDisk()
		}
		return
	}
	chosen := all[s.rng.IntN(len(all))]
	s.done.restored++
	chosen.x.restore(chosen.disk)
	s.logf("%s: put back to %v, %d entries", chosen.x.name, chosen.disk.ballot, len(chosen.disk.entries))
}

// missed reports whether a leader knows that x stores more.
func (s *simulator) missed(x *toyServer, end uint64) bool {
	return slices.ContainsFunc(s.servers, func(y *toyServer) bool {
		return !y.down && y.role == Leader && y.office.match[x.name] > end
	})
}

// spares reports whether no configuration that may come to be in force depends on
// the promises of x.
func (s *simulator) spares(x *toyServer) bool {
	if x.restored != nil {
		return false
	}
	for _, y := range s.servers {
		for _, c := range append(slices.Clone(y.configurations), y.disk.initial, configurationAt(y.disk.entries)) {
			if c != nil && (s.wiped(c) || c.find(x.name) != nil && c.voters() < 3) {
				return false
			}
		}
	}
	return true
}
