package raft

import "fmt"

// ledger remembers what every server of a world ever did, and holds it against
// the invariants: I1 one leader a term, I2 log matching, I3 leader
// completeness, I4 one history of committed entries, I5 terms never go down, I6
// one vote a term, I7 what was acknowledged is on the disk, I8 order of
// positions, I10 the configuration is a function of the log.
type ledger struct {
	failures []string
	leaders  map[groupTerm]uint64 // the store that led
	chains   map[groupEntry]uint64
	commits  map[string][]toyCommit
	votes    map[storeTerm]string
}

type groupTerm struct {
	group string
	term  uint64
}

type groupEntry struct {
	group       string
	index, term uint64
}

type storeTerm struct{ store, term uint64 }

// toyCommit is an entry and the term in which it was first known to be committed.
type toyCommit struct {
	toyEntry
	in uint64
}

func newLedger() ledger {
	return ledger{
		leaders: map[groupTerm]uint64{},
		chains:  map[groupEntry]uint64{},
		commits: map[string][]toyCommit{},
		votes:   map[storeTerm]string{},
	}
}

func (l *ledger) fail(format string, args ...any) {
	l.failures = append(l.failures, fmt.Sprintf(format, args...))
}

// elected checks I1 and I3: a new leader has what earlier terms committed. (One
// that hears late of its votes may find that a later term has gone on.)
func (l *ledger) elected(s *toyServer) {
	key := groupTerm{s.group, s.term}
	if other, ok := l.leaders[key]; ok && other != s.storeID {
		l.fail("I1: %s is a second leader in term %d", s.name, s.term)
	}
	l.leaders[key] = s.storeID
	for i, e := range l.commits[s.group] {
		if e.in < s.term && (i >= len(s.entries) || s.entries[i].chain != e.chain) {
			l.fail("I3: %s leads in term %d without the committed entry %d.%d", s.name, s.term, i+1, e.term)
			return
		}
	}
}

// appended checks I2: the chain holds the entry and all before it.
func (l *ledger) appended(s *toyServer, index uint64) {
	e := s.entries[index-1]
	key := groupEntry{s.group, index, e.term}
	if chain, ok := l.chains[key]; ok && chain != e.chain {
		l.fail("I2: %s has another entry or prefix at %d.%d", s.name, index, e.term)
	}
	l.chains[key] = e.chain
}

// committed checks I4 for the entries that the server's commit index passed.
func (l *ledger) committed(s *toyServer, before uint64) {
	for i := before; i < s.commitIndex; i++ {
		known := l.commits[s.group]
		e := s.entries[i]
		switch {
		case i < uint64(len(known)) && known[i].chain != e.chain:
			l.fail("I4: %s commits %d.%d where %d.%d was committed", s.name, i+1, e.term, i+1, known[i].term)
			return
		case i == uint64(len(known)):
			l.commits[s.group] = append(known, toyCommit{e, s.term})
		case i > uint64(len(known)):
			l.fail("I4: %s commits %d behind a gap", s.name, i+1)
			return
		}
	}
}

// sent checks what a server says, as it says it: I6 and I7.
func (l *ledger) sent(s *toyServer, m *letter) {
	switch {
	case m.vote != nil:
		if !m.vote.PreVote {
			s.told = max(s.told, m.vote.Term)
			l.voted(s, m.vote.Term, s.name)
		}
	case m.voted != nil:
		s.told = max(s.told, m.voted.Term)
		if m.voted.VoteGranted && !m.voted.PreVote {
			l.voted(s, m.voted.Term, m.to)
		}
	case m.append != nil:
		s.told = max(s.told, m.append.Term)
	case m.appended != nil:
		s.told = max(s.told, m.appended.term)
		if m.appended.success && m.appended.match > uint64(len(s.disk.entries)) {
			l.fail("I7: %s acknowledges %d with %d entries on its disk", s.name, m.appended.match, len(s.disk.entries))
		}
	}
	if s.disk.term < s.told {
		l.fail("I5: %s speaks of term %d with %d on its disk", s.name, s.told, s.disk.term)
	}
}

func (l *ledger) voted(s *toyServer, term uint64, candidate string) {
	key := storeTerm{s.storeID, term}
	if other, ok := l.votes[key]; ok && other != candidate {
		l.fail("I6: %s votes for %s and %s in term %d", s.name, other, candidate, term)
	}
	l.votes[key] = candidate
	if s.disk.term == term && s.disk.votedFor != candidate {
		l.fail("I6: %s votes for %s in term %d before its disk says so", s.name, candidate, term)
	}
}

// booted checks a server that has just read its disk.
func (l *ledger) booted(s *toyServer) {
	if s.term < s.told {
		l.fail("I5: %s is back in term %d after %d", s.name, s.term, s.told)
	}
	s.seen = s.term
	l.check(s)
}

// check checks a server after each event: I5, I8 and I10.
func (l *ledger) check(s *toyServer) {
	if s.term < s.seen {
		l.fail("I5: %s went from term %d to %d", s.name, s.seen, s.term)
	}
	s.seen = s.term
	if s.commitIndex > s.log.end || s.log.end != uint64(len(s.entries)) {
		l.fail("I8: %s: commit %d, last %d, %d entries", s.name, s.commitIndex, s.log.end, len(s.entries))
		return
	}
	if n := len(s.entries); n > 0 && s.log.last().term != s.entries[n-1].term {
		l.fail("%s: last term %d, entry's %d", s.name, s.log.last().term, s.entries[n-1].term)
	}
	want := s.initial
	for i := len(s.entries) - 1; i >= 0; i-- {
		if c := s.entries[i].configuration; c != nil {
			want = c
			break
		}
	}
	if s.configuration() != want {
		l.fail("I10: %s: configuration of %d in force, not that of %d", s.name, s.configuration().index, want.index)
	}
	if c := s.configuration(); s.role == Leader && len(s.configurations) > 2 {
		l.fail("I10: %s leads with two uncommitted configurations, the last of %d", s.name, c.index)
	}
}
