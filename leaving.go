package raft

import (
	"slices"
	"time"
)

// leavingTimeouts is how many election timeouts after the commit a leader goes on
// serving a member that was removed, if that does not say that it knows.
const leavingTimeouts = 4

// departed is a member that was removed. The leader serves it until it knows, so
// that it need not find out by standing for election.
type departed struct {
	member
	index uint64    // of the entry that removed it
	until time.Time // zero before that is committed
}

// reformed takes notice of a configuration with other members: what is known of
// one that is gone, or begins anew, is nothing to the new one of that name.
func (o *office) reformed(before, after *configuration) {
	for i := range before.members {
		m := &before.members[i]
		if now := after.find(m.name); now == nil || now.incarnation != m.incarnation {
			o.forget(m.name)
			delete(o.activity, m.name)
			delete(o.joined, m.name)
		}
	}
	o.part(before, after)
}

// part takes notice of who has left between two configurations.
func (o *office) part(before, after *configuration) {
	for i := range before.members {
		if m := before.members[i]; after.find(m.name) == nil && m.name != o.self {
			o.departed = append(o.departed, departed{member: m, index: after.index})
		}
	}
	o.departed = slices.DeleteFunc(o.departed, func(d departed) bool { return after.find(d.name) != nil })
	o.leaving = !after.votes(o.self)
}

// farewell takes an answer of a server that is no member, or was one before: a
// member that was removed needs no more than to know it.
func (o *office) farewell(a *ack) {
	if a.response.Refused != refusedNot {
		return
	}
	o.departed = slices.DeleteFunc(o.departed, func(d departed) bool {
		from := a.response.StoreID
		return d.name == a.name && d.incarnation == a.incarnation && a.response.commitIndex >= d.index &&
			(from == 0 || d.storeID == 0 || from == d.storeID)
	})
}

// expireDeparted gives up on those that were removed and do not answer.
func (l *eventLoop) expireDeparted() {
	o := l.office
	if len(o.departed) == 0 {
		return
	}
	now := time.Now()
	for i := range o.departed {
		if d := &o.departed[i]; d.until.IsZero() && d.index <= l.raft.commitIndex {
			d.until = now.Add(leavingTimeouts * l.settings.electionTimeout())
		}
	}
	o.departed = slices.DeleteFunc(o.departed, func(d departed) bool { return !d.until.IsZero() && !now.Before(d.until) })
}

// served returns the member, or the one that was removed, that a sender of that
// name is for, or nil.
func (o *office) served(c *configuration, name string) *member {
	if m := c.find(name); m != nil {
		return m
	}
	for i := range o.departed {
		if o.departed[i].name == name {
			return &o.departed[i].member
		}
	}
	return nil
}

// inquire asks the voters whether this server still belongs to the cluster. One
// that may not stand, a learner or one whose log begins behind its removal, hears
// it from no vote that it is refused, and of a leader that has given it up nothing
// either. The question is a request for a pre-vote in term 0: nobody grants that,
// and nobody is disturbed by it.
func (l *eventLoop) inquire() {
	r := l.raft
	if r.clusterID == 0 || r.electable() || r.removed() {
		return
	}
	l.inquiry = newElection(r, true)
	l.inquiry.term = 0
	l.askVoters(l.ctx, l.inquiry)
}

// informed takes a voter's answer to inquire. It is about what this server knew
// when it asked: it counts only if that has not changed.
func (l *eventLoop) informed(a *voteAnswer) {
	r, e := l.raft, l.inquiry
	if e == nil || a.election != e || r.role != Follower || r.leader != "" || e.configuration != r.configuration() {
		return
	}
	if a.response.Refused != refusedRemoved || a.response.From != "" && a.response.From != a.voter {
		return
	}
	if e.dismissed(a.voter, a.response.StoreID); e.over() {
		r.dismissed, l.inquiry = true, nil
	}
}
