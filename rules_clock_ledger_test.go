package raft

import (
	"fmt"
	"slices"
)

// clockLedger holds what the servers of a clocked world do against the
// invariants, each at a cost that does not grow with the log: an entry knows the
// one before it and the configuration in force behind it, so that two logs that
// share an entry share all before it.
type clockLedger struct {
	failures []string
	book     []clockEntry // every entry that was ever made, by id; 0 is none
	reigns   map[uint64]*clockReign
	commits  []clockCommit
	newest   uint64 // the latest term that was led
	led      int    // terms that were led
	leaderOf uint8  // who led in it

	commitsCounted int
}

// clockEntry is an entry.
type clockEntry struct {
	term          uint64
	configuration *configuration // in force with it
	before        uint32         // the entry before it
	configures    bool           // it is the entry of the configuration
}

// clockReign is who led in a term, and the last entry that was made in it.
type clockReign struct {
	store, last uint64
}

// clockCommit is an entry and the earliest term in which it was known to be
// committed.
type clockCommit struct {
	id uint32
	in uint64
}

// clockVote is for whom a server said that it voted.
type clockVote struct {
	term uint64
	for_ uint8
}

func newClockLedger() clockLedger {
	return clockLedger{book: make([]clockEntry, 1, 1<<10), reigns: map[uint64]*clockReign{}}
}

func (l *clockLedger) fail(format string, args ...any) {
	l.failures = append(l.failures, fmt.Sprintf(format, args...))
}

// elected checks I1 and I3: a new leader has what earlier terms committed.
func (l *clockLedger) elected(s *clockServer) {
	if reign := l.reigns[s.term]; reign != nil {
		l.fail("I1: %s is a second leader in term %d", s.name, s.term)
	}
	l.reigns[s.term] = &clockReign{store: s.storeID}
	if s.term > l.newest {
		l.newest, l.leaderOf = s.term, s.id
		l.led++
	}
	for i := len(l.commits) - 1; i >= 0; i-- {
		if c := l.commits[i]; c.in >= s.term {
			continue
		} else if i >= len(s.entries) || s.entries[i] != c.id {
			l.fail("I3: %s leads in term %d without the committed entry %d.%d", s.name, s.term, i+1, l.book[c.id].term)
		}
		return // and with it, all before it
	}
}

// made notes a new entry of the leader's own, and checks that a term has one
// entry at an index (I2).
func (l *clockLedger) made(s *clockServer, index uint64, c *configuration) uint32 {
	e := clockEntry{term: s.term, configuration: c, configures: c != nil}
	if index > 1 {
		e.before = s.entries[index-2]
	}
	if c == nil {
		e.configuration = l.book[e.before].configuration
	}
	if reign := l.reigns[s.term]; reign == nil || reign.store != s.storeID || index <= reign.last {
		l.fail("I2: %s makes a second entry %d.%d", s.name, index, s.term)
	} else {
		reign.last = index
	}
	l.book = append(l.book, e)
	return uint32(len(l.book) - 1)
}

// reconfigured checks I10 of a configuration that a leader is about to append:
// the last one is committed, and so is an entry of the leader's own term; and they
// differ by one voter at most, so that their majorities share a server.
func (l *clockLedger) reconfigured(s *clockServer, c *configuration) {
	before := s.configuration()
	if s.log.end > 1 && (before.index > s.commitIndex || s.office.start > s.commitIndex) {
		l.fail("I10: %s changes the configuration of %d with %d committed, in office since %d", s.name, before.index, s.commitIndex, s.office.start)
	}
	differ := 0
	for i := range before.members {
		if m := &before.members[i]; m.voter && !c.votes(m.name) {
			differ++
		}
	}
	for i := range c.members {
		if m := &c.members[i]; m.voter && !before.votes(m.name) {
			differ++
		}
	}
	if differ > 1 {
		l.fail("I10: %s changes %d voters at once", s.name, differ)
	}
}

// appended checks I2 of a log that was changed from an index on: each entry is
// behind the one that its leader put it behind.
func (l *clockLedger) appended(s *clockServer, from uint64) {
	before := uint32(0)
	if from > 1 {
		before = s.entries[from-2]
	}
	for i := from; i <= uint64(len(s.entries)); i++ {
		id := s.entries[i-1]
		if l.book[id].before != before {
			l.fail("I2: %s has another prefix before %d.%d", s.name, i, l.book[id].term)
			return
		}
		before = id
	}
}

// committed checks I4 of the entries that the server's commit index passed: there
// is one history of them.
func (l *clockLedger) committed(s *clockServer, before uint64) {
	for i := before; i < s.commitIndex; i++ {
		if i >= uint64(len(s.entries)) {
			l.fail("I8: %s commits %d of %d entries", s.name, s.commitIndex, len(s.entries))
			return
		}
		id := s.entries[i]
		switch {
		case i > uint64(len(l.commits)):
			l.fail("I4: %s commits %d behind a gap", s.name, i+1)
			return
		case i == uint64(len(l.commits)):
			l.commits = append(l.commits, clockCommit{id, s.term})
		case l.commits[i].id != id:
			l.fail("I4: %s commits %d.%d where %d.%d was committed", s.name, i+1, l.book[id].term, i+1, l.book[l.commits[i].id].term)
			return
		case l.commits[i].in > s.term:
			l.commits[i].in = s.term
		}
	}
	s.w.count.commits += len(l.commits) - s.w.commitsCounted
	s.w.commitsCounted = len(l.commits)
}

// stored checks I7 of what a leader commits: it is on the disks of a majority. Who
// lost its disk, or had it put back, may have stored it before.
func (l *clockLedger) stored(s *clockServer) {
	c, n := s.configuration(), 0
	for i := range c.members {
		if m := &c.members[i]; m.voter {
			x := s.w.server(m.name)
			if x.holdsAt(s.commitIndex, s.entries[s.commitIndex-1]) || x.restored != nil || !c.accepts(m.name, x.disk.storeID) {
				n++
			}
		}
	}
	if n < c.quorum() {
		l.fail("I7: %s commits %d, which is on %d disks of %d voters", s.name, s.commitIndex, n, c.voters())
	}
}

// sent checks what a server says, as it says it: I5, I6 and I7.
func (l *clockLedger) sent(s *clockServer, m *clockLetter) {
	term := uint64(0)
	switch m.kind {
	case voteLetter:
		if !m.vote.PreVote && m.vote.Term > 0 {
			term = m.vote.Term
			l.voted(s, term, s.id)
		}
	case votedLetter:
		term = m.voted.Term
		if m.voted.VoteGranted && !m.voted.PreVote {
			l.voted(s, term, m.to)
		}
	case appendLetter:
		term = m.append.Term
	case appendedLetter:
		a := &m.appended
		term = a.term
		if a.success && a.index > 0 && (a.index > uint64(len(s.entries)) || !s.holdsAt(a.index, s.entries[a.index-1])) {
			l.fail("I7: %s acknowledges %d, which its disk does not hold", s.name, a.index)
		}
	}
	s.spoken = max(s.spoken, term)
	if s.disk.term < s.spoken {
		l.fail("I5: %s speaks of term %d with %d on its disk", s.name, s.spoken, s.disk.term)
	}
}

// voted checks I6: one vote a term, and on the disk before it is told.
func (l *clockLedger) voted(s *clockServer, term uint64, candidate uint8) {
	i, found := slices.BinarySearchFunc(s.votes, term, func(v clockVote, term uint64) int {
		switch {
		case v.term < term:
			return -1
		case v.term > term:
			return 1
		}
		return 0
	})
	switch {
	case !found:
		s.votes = slices.Insert(s.votes, i, clockVote{term, candidate})
	case s.votes[i].for_ != candidate:
		l.fail("I6: %s votes for %s and %s in term %d", s.name, clockName(int(s.votes[i].for_)), clockName(int(candidate)), term)
	}
	if s.disk.term < term || s.disk.term == term && s.disk.votedFor != clockName(int(candidate)) {
		l.fail("I6: %s votes for %s in term %d before its disk says so", s.name, clockName(int(candidate)), term)
	}
}

// booted checks a server that has just read its disk.
func (l *clockLedger) booted(s *clockServer) {
	if s.term < s.spoken {
		l.fail("I5: %s is back in term %d after %d", s.name, s.term, s.spoken)
	}
	s.seen = s.term
	l.check(s)
}

// check checks a server after each event: I5, I8 and I10.
func (l *clockLedger) check(s *clockServer) {
	if s.term < s.seen {
		l.fail("I5: %s went from term %d to %d", s.name, s.seen, s.term)
	}
	s.seen = s.term
	if s.commitIndex < s.told || s.commitIndex > s.log.end || s.log.base.index > s.commitIndex || s.log.end != uint64(len(s.entries)) {
		l.fail("I8: %s: base %d, commit %d after %d, last %d, %d entries", s.name, s.log.base.index, s.commitIndex, s.told, s.log.end, len(s.entries))
		return
	}
	want := s.initial
	if n := len(s.entries); n > 0 {
		e := &l.book[s.entries[n-1]]
		want = e.configuration
		if s.log.last().term != e.term {
			l.fail("%s: last term %d, entry's %d", s.name, s.log.last().term, e.term)
		}
	}
	if s.configuration() != want {
		l.fail("I10: %s: configuration of %d in force, not that of %d", s.name, s.configuration().index, want.index)
	}
	if s.role == Leader && len(s.configurations) > 2 {
		l.fail("I10: %s leads with two uncommitted configurations", s.name)
	}
}
