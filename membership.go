package raft

import (
	"slices"
	"strings"
)

// begins reports whether the command, given to a server with an empty log that
// belongs to no cluster, begins one: it names the server and is no leave. Joins
// and leaves have the same methods, so the command's name must tell them apart.
func begins(c JoinCommand, server string) bool {
	if _, leave := c.(*DefaultLeaveCommand); leave || c.NodeName() != server {
		return false
	}
	name := strings.ToLower(c.CommandName())
	return !strings.Contains(name, "leave") && !strings.Contains(name, "remove")
}

// change is a change of the configuration that somebody asked for: a join, which
// may only change the member's address, or a leave.
type change struct {
	leave            bool
	asked            bool   // by a join, maybe the member's own
	name             string // of the member
	connectionString string
	cause            string // the command that asked
	index            uint64 // of the entry, once appended
	done             chan error
}

func newJoin(name, connectionString string) *change {
	return &change{name: name, connectionString: connectionString, cause: joinCommand, done: make(chan error, 1)}
}

func newLeave(name string) *change {
	return &change{leave: true, name: name, cause: leaveCommand, done: make(chan error, 1)}
}

// The commands that cause changes, and what they return, as goraft's programs
// expect.
var (
	joinCommand  = (&DefaultJoinCommand{}).CommandName()
	leaveCommand = (&DefaultLeaveCommand{}).CommandName()
	joined       = []byte("join")
	left         = []byte("leave")
)

// changes reports whether the configuration is not what was asked for.
func (c *change) changes(k *configuration) bool {
	m := k.find(c.name)
	return c.leave != (m == nil) || m != nil && m.connectionString != c.connectionString
}

func (c *change) fail(cause, outcome error) { c.done <- failure(cause, outcome) }

// request queues a change, first in first out. On the server that waits to begin
// a cluster, or to be taken into one, it is refused.
func (l *eventLoop) request(c *change) {
	if l.office == nil || l.raft.role != Leader || l.office.leaving {
		m := l.raft.configurations[0].find(c.name)
		// Removed for all that it knows, though not yet for certain, it is none.
		stays := l.raft.configuration().find(c.name) != nil
		if !c.leave && c.name == l.raft.name && stays && m != nil && m.connectionString == c.connectionString && l.raft.commitIndex > 0 {
			c.done <- nil // one of several servers that began with the same list
			return
		}
		c.fail(NotLeaderError, ErrNotApplied)
		return
	}
	l.office.changes = append(l.office.changes, c)
}

// change settles the change that was committed, and appends the next one: one at
// a time, and none before the leader has committed an entry of its own term
// (the single-server change of dissertation §4.1, with its later correction).
// What was asked for goes before what the leader wants of itself, explicit
// changes before those that an Apply asked for.
func (l *eventLoop) change() {
	o, r := l.office, l.raft
	if o.current != nil && o.current.index <= r.commitIndex {
		l.settled = append(l.settled, o.current)
		o.current = nil
	}
	for len(o.confirming) > 0 && o.confirming[0].index <= r.commitIndex {
		l.settled, o.confirming = append(l.settled, o.confirming[0]), o.confirming[1:]
	}
	for r.mayConfigure(o.start) && !l.stopping() {
		switch {
		case o.leaving:
			l.log.Info("raft: leader was removed", "term", r.term)
			l.abdicate()
			return
		case len(o.changes) > 0:
			if !l.carryOut(o.changes[0]) {
				return
			}
			o.changes = o.changes[1:]
		case !l.takeUp() && !l.rejoin():
			l.promote()
			return
		}
	}
}

// answerChanges answers the changes that were committed in this turn.
func (l *eventLoop) answerChanges() {
	for _, c := range l.settled {
		c.done <- nil
	}
	l.settled = l.settled[:0]
}

// carryOut appends the configuration that the change asks for, if it differs. It
// reports false while that cannot be decided.
func (l *eventLoop) carryOut(c *change) bool {
	o, before := l.office, l.raft.configuration()
	after, err := o.changed(before, c.leave, c.asked, c.name, c.connectionString)
	switch {
	case err == errEarly:
		return false
	case err == errMember:
		c.fail(peerNotFound(c.name), ErrNotApplied)
	case err != nil:
		c.fail(err, ErrNotApplied)
	case after == before:
		o.joined[c.name] = true
		if !c.asked {
			c.done <- nil
			break
		}
		// So this leader believes. Whether it still is one, and the member one of the
		// others' members, shows when the next entry is committed.
		c.index = l.append(nopRecord()).index
		o.confirming = append(o.confirming, c)
	default:
		c.index = l.reform(after, c.cause, c.name)
		o.current = c
	}
	return true
}

// takeUp appends the configuration that the next intent asks for, if any waits.
// One that changes nothing, or is refused, is taken up with what comes behind it
// or by an entry with the same members: so it cannot come to life later.
func (l *eventLoop) takeUp() bool {
	o, before := l.office, l.raft.configuration()
	after, taken, cause, node := before, before.taken, "", ""
	for _, i := range before.waiting(l.intents) {
		next, err := o.changed(before, i.remove, true, i.name, i.connectionString)
		if err == errEarly {
			break
		}
		taken = i.intentID
		switch {
		case err == nil && next != before:
			after, cause, node = next, joinCommand, i.name
			if i.remove {
				cause = leaveCommand
			}
		case err != nil && err != errMember:
			l.log.Warn("raft: refused what Apply asked for", "remove", i.remove, "member", i.name, "index", i.index, "reason", err)
		}
		if after != before {
			break
		}
	}
	if taken == before.taken {
		return false
	}
	l.reform(after.upTo(taken), cause, node)
	return true
}

// rejoin adds a member anew that was joined while it was one, and has been found
// since to have lost its store: a server that was wiped may well join before the
// leader has noticed. Of one that stores the entry which says so, nothing more is
// to be expected. What AddPeer says outside of the log, which programs call for
// their whole list at every start, is remembered for the term of office only.
//
// A member that is fenced is added anew unasked: its store shows that it is the
// same server.
func (l *eventLoop) rejoin() bool {
	o, before := l.office, l.raft.configuration()
	for i := range before.members {
		m := &before.members[i]
		cause, lost := joinCommand, o.lost[m.name]
		switch {
		case o.fenced[m.name] && !lost:
			cause = ""
		case !m.rejoins && !o.joined[m.name]:
			continue
		case m.rejoins && !lost && o.match[m.name] >= before.index:
			l.configure(before.returned(m.name), "", m.name)
			return true
		case !lost:
			continue
		}
		if after, err := o.changed(before, false, false, m.name, m.connectionString); err == nil {
			l.reform(after, cause, m.name)
			return true
		}
	}
	return false
}

// reform appends a configuration with other members, or other addresses.
func (l *eventLoop) reform(c *configuration, cause, node string) uint64 {
	before := l.raft.configuration()
	index := l.configure(c, cause, node)
	l.office.reformed(before, l.raft.configuration())
	return index
}

// promote gives a vote to the first learner that has caught up, or else binds
// the names that were heard from for the first time.
func (l *eventLoop) promote() {
	o, before := l.office, l.raft.configuration()
	for _, m := range before.members {
		if m.voter || !o.heard[m.name] || o.stores[m.name] == 0 || !o.caughtUp(m.name, l.raft.log.end) {
			continue
		}
		if after, err := before.promote(m.name, o.stores[m.name]); err == nil {
			l.configure(after, "", m.name)
			return
		}
	}
	if after := before.bind(o.stores); after != before {
		l.configure(after, "", "")
	}
}

// configure appends a configuration and puts it in force; it returns the
// entry's index.
func (l *eventLoop) configure(c *configuration, cause, node string) uint64 {
	r := l.raft
	placed := c.at(r.log.end + 1)
	record, err := configurationRecord(placed, r.clusterID, cause, node)
	if err != nil {
		l.fail(err)
		return 0
	}
	l.append(record)
	r.configured(placed)
	return placed.index
}

// begin makes an unbound server with an empty log the first of a cluster, or one
// of the first: the initial configuration is what AddPeer named, and itself.
func (l *eventLoop) begin(connectionString string, done chan error) {
	r := l.raft
	if r.clusterID != 0 || r.log.end > 0 {
		// Another server of the same list was faster.
		if r.configuration().find(r.name) == nil {
			done <- failure(NotLeaderError, ErrNotApplied)
			return
		}
		l.joins = append(l.joins, done)
		l.committedJoins()
		return
	}
	if m := r.initial.find(r.name); m == nil || m.connectionString != connectionString {
		if err := l.initialize(r.name, connectionString); err != nil {
			done <- failure(err, ErrNotApplied)
			return
		}
	}
	l.joins = append(l.joins, done)
	l.begun = true
	if r.role == Follower {
		r.role, r.leader = Candidate, ""
	}
}

// initialize puts a name into the initial configuration, beside this server.
func (l *eventLoop) initialize(name, connectionString string) error {
	initial := l.raft.initial
	if initial.find(l.raft.name) == nil {
		initial = initial.with(member{name: l.raft.name, connectionString: l.connectionString, voter: true})
	}
	if m := initial.find(name); m == nil || m.connectionString != connectionString {
		initial = initial.with(member{name: name, connectionString: connectionString, voter: true})
	}
	if len(initial.members) > maxMembers {
		return ErrTooManyMembers
	}
	l.begunWith(initial)
	return nil
}

// begunWith makes c the initial configuration.
func (l *eventLoop) begunWith(c *configuration) {
	r := l.raft
	if c == r.initial {
		return
	}
	r.initial = c
	r.configurations = []*configuration{c}
	l.saveIdentity(false)
}

// outside is AddPeer and RemovePeer, called outside of the log, on the event
// loop. On a server that belongs to no cluster they make the initial
// configuration.
func (l *eventLoop) outside(c *change) {
	r := l.raft
	switch {
	case r.clusterID == 0 && r.log.end == 0 && !l.begun:
		if c.leave && r.initial.find(c.name) == nil {
			c.fail(peerNotFound(c.name), ErrNotApplied)
			return
		}
		if c.leave {
			l.begunWith(r.initial.without(c.name))
		} else if err := l.initialize(c.name, c.connectionString); err != nil {
			c.fail(err, ErrNotApplied)
			return
		}
		l.promises.ballots = append(l.promises.ballots, promise{own: true, deliver: func() { c.done <- nil }})
	case r.role == Leader:
		l.request(c)
	case !slices.ContainsFunc(r.configurations, c.changes):
		// Whichever of them stays. A program that tells its list of members at each
		// start must get by, too, where all servers were killed before they knew the
		// last one to be committed: nobody leads then, and nobody will if it gives up.
		c.done <- nil
	default:
		c.fail(NotLeaderError, ErrNotApplied)
	}
}

// committedJoins answers those who wait for this server to be a member of a
// cluster for certain.
func (l *eventLoop) committedJoins() {
	if len(l.joins) == 0 || l.raft.commitIndex == 0 || l.raft.configurations[0].find(l.raft.name) == nil {
		return
	}
	for _, done := range l.joins {
		done <- nil
	}
	l.joins = nil
}
