package raft

import (
	"fmt"
	"strconv"
)

// This file gives the servers of rules_harness_test.go snapshots. A toy server
// keeps the entries that a snapshot stands for, as the state that they are; the
// rules see a log that begins behind it.

// toyOffer is a leader's word of a snapshot, and the snapshot.
type toyOffer struct {
	leaderClaim
	id      entryID
	storeID uint64 // the leader's
}

// toyOffered is the answer to either.
type toyOffered struct {
	id            entryID
	needed, heard bool
	refused       uint32
	term, commit  uint64
	storeID       uint64
	ofTheSnapshot bool
}

// snapshotText says what a letter about a snapshot says.
func (l *letter) snapshotText() string {
	switch {
	case l.offer != nil:
		return fmt.Sprintf("offers snapshot %d.%d term %d", l.offer.id.index, l.offer.id.term, l.offer.term)
	case l.snapshot != nil:
		return fmt.Sprintf("snapshot %d.%d term %d", l.snapshot.id.index, l.snapshot.id.term, l.snapshot.term)
	case l.offered.needed:
		return fmt.Sprintf("wants snapshot %d.%d, term %d", l.offered.id.index, l.offered.id.term, l.offered.term)
	case l.offered.heard:
		return fmt.Sprintf("has snapshot %d.%d, commit %d, term %d", l.offered.id.index, l.offered.id.term, l.offered.commit, l.offered.term)
	}
	return fmt.Sprintf("refuses snapshot %d.%d, term %d%s", l.offered.id.index, l.offered.id.term, l.offered.term, refusal(l.offered.refused))
}

// bootSnapshot begins the log behind the snapshot on the disk.
func (s *toyServer) bootSnapshot() {
	base := s.disk.base
	s.log = history{base: base, end: base.index}
	if c := configurationAt(s.entries[:base.index]); c != nil {
		s.configurations = []*configuration{c}
	}
	s.commitIndex = base.index
}

// configurationAt is the last one among the entries, or nil.
func configurationAt(entries []toyEntry) *configuration {
	for i := len(entries) - 1; i >= 0; i-- {
		if c := entries[i].configuration; c != nil {
			return c
		}
	}
	return nil
}

// compact is the script's command.
func (s *scriptWorld) compact(x *toyServer, index string) string {
	i, _ := strconv.ParseUint(index, 10, 64)
	if i > x.commitIndex {
		return "not committed"
	}
	x.compact(i)
	return ""
}

// compact has a snapshot stand for the log up to an index.
func (s *toyServer) compact(index uint64) {
	s.log.compact(entryID{index, s.log.termAt(index)})
	s.settle()
}

// offer tells a member that is too far behind for the log of the snapshot.
func (s *toyServer) offer(m *member, p *progress, heartbeat bool) bool {
	if !heartbeat {
		return false
	}
	base := s.log.base
	sequence := p.sent(p.next-1, 0)
	s.post(&letter{to: m.name, incarnation: m.incarnation, append: &AppendEntriesRequest{
		Term: s.term, PrevLogIndex: base.index, PrevLogTerm: base.term, CommitIndex: s.commitIndex,
		LeaderName: s.name, ClusterID: s.clusterID, To: m.name, StoreID: s.storeID, ToStoreID: m.storeID,
		InitialDigest: s.initialDigest(), Sequence: sequence,
	}})
	s.post(&letter{to: m.name, offer: &toyOffer{s.claim(m.name, m.storeID), base, s.storeID}})
	return false
}

func (s *toyServer) claim(to string, toStoreID uint64) leaderClaim {
	return leaderClaim{term: s.term, leader: s.name, to: to, clusterID: s.clusterID, toStoreID: toStoreID}
}

// receiveSnapshot handles a letter about a snapshot.
func (s *toyServer) receiveSnapshot(l *letter) {
	if l.offered != nil {
		s.receiveOffered(l.from, l.offered)
		return
	}
	o := l.offer
	if o == nil {
		o = l.snapshot
	}
	before := s.commitIndex
	needed, heard, refused := s.offered(o.leaderClaim, o.id)
	if heard {
		s.alive = true
	}
	if needed && l.snapshot != nil {
		s.arrived = append(s.arrived, l)
		if !s.world.slowInstalls {
			s.installArrived()
		}
	}
	if s.commitIndex > before {
		s.world.logf("%s: committed %d", s.name, s.commitIndex)
		s.world.committed(s, before)
	}
	s.promise(&letter{to: l.from, store: o.storeID, offered: &toyOffered{
		id: o.id, needed: needed && s.commitIndex < o.id.index, heard: heard, refused: refused, term: s.term, commit: s.commitIndex,
		storeID: s.storeID, ofTheSnapshot: l.snapshot != nil,
	}})
}

// installArrived puts in force what arrived, whatever happened since: it is
// verified to be of this cluster, and committed.
func (s *toyServer) installArrived() {
	for _, l := range s.arrived {
		id := l.snapshot.id
		if s.role == Leader || !s.install(id, configurationAt(l.entries)) {
			continue
		}
		s.role = Follower
		s.entries = l.entries[:id.index:id.index]
		s.installs++
		s.world.logf("%s: snapshot %d.%d is in force", s.name, id.index, id.term)
		for i := uint64(1); i <= id.index; i++ {
			s.world.appended(s, i)
		}
	}
	s.arrived = nil
}

// receiveOffered handles an answer about a snapshot, as a leader does.
func (s *toyServer) receiveOffered(from string, m *toyOffered) {
	switch {
	case m.refused != refusedNot:
		if s.office != nil {
			s.office.refusedFrom(s.configuration(), from, m.storeID)
		}
		return
	case m.term > s.term:
		s.observe(m.term)
		return
	case s.office == nil || m.term != s.term || s.peers[from] == nil || !s.office.answeredFrom(s.configuration(), from, m.storeID):
		return
	case m.commit >= m.id.index:
		if p := s.peers[from]; p.next <= m.id.index {
			p.shared(m.id.index)
		}
		s.heartbeat()
	case m.needed && !m.ofTheSnapshot && m.id == s.log.base:
		to := s.configuration().find(from)
		s.post(&letter{to: from, entries: s.entries[:m.id.index:m.id.index], snapshot: &toyOffer{s.claim(from, to.storeID), m.id, s.storeID}})
	}
}
