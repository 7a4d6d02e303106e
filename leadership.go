package raft

import (
	"cmp"
	"slices"
)

// leadership is one term of office: what the leader knows of the others' logs,
// by evidence. It dies with the term.
type leadership struct {
	term  uint64
	self  string
	start uint64 // index of the term's first entry
	// match is the last index that each member is known to store durably, the
	// leader's own among them. It begins at 0, whatever nextIndex guesses (§5.3).
	match  map[string]uint64
	heard  map[string]bool   // who answered since the last check of the quorum
	before map[string]bool   // who did between the last two checks
	checks int               // of the quorum, so far
	stores map[string]uint64 // the store that each member answered from first
	lost   map[string]bool   // names that another store than theirs answers for
	fenced map[string]bool   // members whose store has lost what it had acknowledged
	rounds map[string]round  // of members that do not vote yet
	pace   pace
	// lastRound is the last round of heartbeats that was begun for reads, and confirmed the
	// last one that each member has answered a request of (dissertation §6.4).
	lastRound uint64
	confirmed map[string]uint64
	sorted    []uint64 // scratch for majority
}

// round is a learner's race to where the log ended when the round began
// (dissertation §4.2.1).
type round struct {
	target uint64
	checks int // quorum checks since it began
}

func newLeadership(r *replica, start uint64, stores map[string]uint64) *leadership {
	return &leadership{
		term: r.term, self: r.name, start: start,
		match:  map[string]uint64{},
		heard:  map[string]bool{},
		before: map[string]bool{},
		stores: stores,
		lost:   map[string]bool{},
		fenced: map[string]bool{},
		rounds: map[string]round{},

		confirmed: map[string]uint64{},
	}
}

// stored takes evidence that name stores the log durably up to index.
func (l *leadership) stored(name string, index uint64) {
	l.match[name] = max(l.match[name], index)
}

// answeredFrom takes notice that name answered from a store, and reports whether
// the answer counts: it does from the store that the name is bound to or, before
// that is in the log, from the first one that answered in this term of office. Of
// a member that is fenced nothing counts.
func (l *leadership) answeredFrom(c *configuration, name string, storeID uint64) bool {
	if c.find(name) == nil || l.elsewhere(c, name, storeID) {
		return false
	}
	if storeID != 0 {
		l.stores[name] = storeID
		delete(l.lost, name)
	}
	if l.fenced[name] {
		return false
	}
	l.heard[name] = true
	return true
}

// fence takes notice that the member's store has lost entries that it had
// acknowledged in this term of office, and reports whether that is news. What else
// it has lost, a vote maybe, nobody knows: until it is a member anew it counts
// neither for what is committed nor for the quorum.
func (l *leadership) fence(name string) bool {
	news := !l.fenced[name]
	delete(l.match, name)
	delete(l.heard, name)
	delete(l.before, name)
	delete(l.rounds, name)
	delete(l.confirmed, name)
	l.fenced[name] = true
	return news
}

// refusedFrom takes notice that whoever answers for name refused to look at what
// it was asked. That is no sign of a member that follows, and its term is no
// concern of this cluster; it may be how a lost store comes to light.
func (l *leadership) refusedFrom(c *configuration, name string, storeID uint64) {
	if c.find(name) != nil {
		l.elsewhere(c, name, storeID)
	}
}

// elsewhere reports whether a member answers from another store than its own,
// and remembers that it does.
func (l *leadership) elsewhere(c *configuration, name string, storeID uint64) bool {
	bound := c.find(name).storeID
	if bound == 0 {
		bound = l.stores[name]
	}
	if bound == 0 || storeID == 0 || bound == storeID {
		return false
	}
	l.lost[name] = true
	return true
}

// forget drops what is known of a name whose member is a new one.
func (l *leadership) forget(name string) {
	delete(l.match, name)
	delete(l.heard, name)
	delete(l.before, name)
	delete(l.stores, name)
	delete(l.lost, name)
	delete(l.fenced, name)
	delete(l.rounds, name)
	delete(l.confirmed, name)
}

// committed returns the highest index that a majority of the voters stores, or
// 0 while that is not yet an entry of the leader's own term: an older entry is
// committed only by one of ours behind it (§5.4.2, Figure 8).
func (l *leadership) committed(c *configuration) uint64 {
	index := l.majority(c, l.match)
	if index < l.start {
		return 0
	}
	return index
}

// majority returns the highest value that a majority of the voters has reached.
func (l *leadership) majority(c *configuration, reached map[string]uint64) uint64 {
	l.sorted = l.sorted[:0]
	for i := range c.members {
		if c.members[i].voter {
			l.sorted = append(l.sorted, reached[c.members[i].name])
		}
	}
	if len(l.sorted) == 0 {
		return 0
	}
	slices.Sort(l.sorted)
	return l.sorted[len(l.sorted)-c.quorum()]
}

// beginRound begins the next round of heartbeats for reads. Only what leaves from now
// on belongs to it: that a member answers it shows that this server led when the
// round began, or at least that the member knew of no later term then.
func (l *leadership) beginRound() uint64 {
	l.lastRound++
	l.confirmed[l.self] = l.lastRound
	return l.lastRound
}

// confirm takes a member's answer, in the leader's term, to a request of that round.
func (l *leadership) confirm(name string, round uint64) {
	if round = min(round, l.lastRound); round > l.confirmed[name] {
		l.confirmed[name] = round
	}
}

// confirmedRound returns the last round that a majority of the voters has answered: no
// other leader can have been elected before it began.
func (l *leadership) confirmedRound(c *configuration) uint64 { return l.majority(c, l.confirmed) }

// checkQuorum reports whether a majority of the voters has answered since the
// last check, and begins to count anew. A leader without one steps down
// (dissertation §6.2).
func (l *leadership) checkQuorum(c *configuration) bool {
	n := l.answering(c, "", func(name string) bool { return l.heard[name] })
	l.before, l.heard = l.heard, l.before
	clear(l.heard)
	l.checks++
	for name, r := range l.rounds {
		r.checks++
		l.rounds[name] = r
	}
	return n >= c.quorum()
}

// quorumWithout reports whether the voters other than name would have a
// majority among themselves that answers.
func (l *leadership) quorumWithout(c *configuration, name string) bool {
	remaining := c.voters()
	if c.votes(name) {
		remaining--
	}
	return remaining > 0 && l.answering(c, name, l.lately) >= remaining/2+1
}

// spares reports whether the voters other than name that answer, and store what they
// are sent in time, are a majority of all: they can elect and commit without it.
func (l *leadership) spares(c *configuration, name string) bool {
	return l.answering(c, name, func(name string) bool { return l.lately(name) && l.pace.slow[name] == 0 }) >= c.quorum()
}

// lately reports whether the member has answered since the last check of the quorum,
// or before that: it may have come a moment ago.
func (l *leadership) lately(name string) bool { return l.heard[name] || l.before[name] }

// answering counts the voters but one that answer, the leader included.
func (l *leadership) answering(c *configuration, but string, answers func(name string) bool) int {
	n := 0
	for i := range c.members {
		m := &c.members[i]
		if m.voter && m.name != but && (m.name == l.self || answers(m.name)) {
			n++
		}
	}
	return n
}

// changed returns the configuration that a join or a leave of the name makes of
// c, which is c itself if nothing changes; rejoins says that it may be the member
// itself that asked. A voter is given up, by a leave or because its store is lost
// or fenced, only while the others have a majority that answers: else the cluster
// could not go on, nor take the change back. errEarly says that the leader has not
// waited for answers long enough to tell.
func (l *leadership) changed(c *configuration, leave, rejoins bool, name, connectionString string) (*configuration, error) {
	if leave && c.find(name) == nil {
		return c, errMember
	}
	anew := l.lost[name] || l.fenced[name]
	if (leave && c.votes(name) || !leave && anew) && !l.quorumWithout(c, name) {
		if l.checks == 0 && c.voters() > 1 {
			return c, errEarly
		}
		return c, ErrNoQuorum
	}
	if leave {
		return c.without(name), nil
	}
	if name == l.self {
		rejoins = false
	}
	if l.fenced[name] && !l.lost[name] {
		return c.anew(name, connectionString, l.stores[name]), nil
	}
	after := c.join(name, connectionString, rejoins, l.lost[name])
	if len(after.members) > maxMembers {
		return c, ErrTooManyMembers
	}
	return after, nil
}

// caughtUp reports whether the learner has stored, within one check's time, all
// that the log held when its round began; else it begins a new round when the
// old one is done.
func (l *leadership) caughtUp(name string, end uint64) bool {
	r, racing := l.rounds[name]
	if !racing {
		l.rounds[name] = round{target: end}
		return false
	}
	if l.match[name] < r.target || l.match[name] < l.start {
		return false
	}
	if r.checks > 1 {
		l.rounds[name] = round{target: end}
		return false
	}
	return true
}

// successors returns the voters but the leader, those first that are most likely
// to be elected when it goes: who stores most, and rather who answers.
func (l *leadership) successors(c *configuration) []member {
	answers := func(m member) int {
		if l.lately(m.name) {
			return 1
		}
		return 0
	}
	all := slices.DeleteFunc(c.but(l.self), func(m member) bool { return !m.voter || l.lost[m.name] || l.fenced[m.name] })
	slices.SortStableFunc(all, func(a, b member) int {
		return cmp.Or(cmp.Compare(l.match[b.name], l.match[a.name]), cmp.Compare(answers(b), answers(a)))
	})
	return all
}
