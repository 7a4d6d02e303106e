package raft

import "strings"

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

// change is a change of the configuration that somebody asked for.
type change struct {
	name             string // of the member to join
	connectionString string
	cause            string // the command that asked
	index            uint64 // of the entry, once appended
	done             chan error
}

func (c *change) fail(cause, outcome error) { c.done <- failure(cause, outcome) }

// joined is what a join returns, and goraft's programs expect.
var joined = []byte("join")

// request queues a change, first in first out. On the server that waits to begin
// a cluster, or to be taken into one, it is refused.
func (l *eventLoop) request(c *change) {
	if l.office == nil || l.raft.role != Leader {
		m := l.raft.configurations[0].find(c.name)
		if c.name == l.raft.name && m != nil && m.connectionString == c.connectionString && l.raft.commitIndex > 0 {
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
// What was asked for goes before what the leader wants of itself.
func (l *eventLoop) change() {
	o, r := l.office, l.raft
	if o.current != nil && o.current.index <= r.commitIndex {
		o.current.done <- nil
		o.current = nil
	}
	for r.mayConfigure(o.start) {
		if len(o.changes) == 0 {
			l.promote()
			return
		}
		next := o.changes[0]
		o.changes = o.changes[1:]
		l.join(next)
	}
}

// join appends the configuration that the change asks for, if it differs.
func (l *eventLoop) join(c *change) {
	o, r := l.office, l.raft
	before := r.configuration()
	after := before.join(c.name, c.connectionString, o.lost[c.name])
	if after == before {
		c.done <- nil
		return
	}
	if o.lost[c.name] && !o.quorumWithout(before, c.name) {
		c.fail(ErrNoQuorum, ErrNotApplied)
		return
	}
	if before.find(c.name) == nil || o.lost[c.name] {
		o.forget(c.name)
	}
	c.index = l.configure(after, c.cause, c.name)
	o.current = c
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
		l.initialize(r.name, connectionString)
	}
	l.joins = append(l.joins, done)
	l.begun = true
	if r.role == Follower {
		r.role, r.leader = Candidate, ""
	}
}

// initialize puts a name into the initial configuration, beside this server.
func (l *eventLoop) initialize(name, connectionString string) {
	r := l.raft
	initial := r.initial
	if initial.find(r.name) == nil {
		initial = initial.with(member{name: r.name, connectionString: l.connectionString, voter: true})
	}
	if m := initial.find(name); m == nil || m.connectionString != connectionString {
		initial = initial.with(member{name: name, connectionString: connectionString, voter: true})
	}
	if initial == r.initial {
		return
	}
	r.initial = initial
	r.configurations = []*configuration{initial}
	l.saveIdentity(false)
}

// addPeer is AddPeer on the event loop.
func (l *eventLoop) addPeer(c *change) {
	r := l.raft
	switch m := r.configuration().find(c.name); {
	case r.clusterID == 0 && r.log.end == 0 && !l.begun:
		l.initialize(c.name, c.connectionString)
		l.promises.ballots = append(l.promises.ballots, promise{deliver: func() { c.done <- nil }})
	case r.role == Leader:
		l.request(c)
	case m != nil && m.connectionString == c.connectionString && r.configuration().index <= r.commitIndex:
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
