package raft

import "slices"

// What a leader does about its members, in the clocked world: see membership.go
// and leaving.go.

// clockChange is a change of the configuration that the operator asked for.
type clockChange struct {
	leave bool
	name  string
}

// clockDeparted is a member that was removed.
type clockDeparted struct {
	member
	index uint64
	until int64 // 0 before that is committed
}

// request asks the leader for a change.
func (s *clockServer) request(leave bool, name string) {
	if s.office == nil || s.role != Leader || s.office.leaving || len(s.office.changes) > 0 {
		return
	}
	s.office.changes = append(s.office.changes, clockChange{leave, name})
	s.settle()
}

// change appends the next change of the configuration: one at a time, and none
// before the leader has committed an entry of its own term.
func (s *clockServer) change() {
	o := s.office
	if o.plain && o.employed == s.configuration() && !o.leaving && len(o.changes) == 0 && len(o.lost)+len(o.fenced) == 0 {
		return
	}
	for s.mayConfigure(o.start) {
		switch {
		case o.leaving:
			s.w.count.resigned++
			s.abdicate()
			return
		case len(o.changes) > 0:
			if !s.changeNow(o.changes[0]) {
				return
			}
			o.changes = o.changes[:0]
		case !s.rejoin():
			s.promote()
			return
		}
	}
}

// changeNow appends the configuration that the change asks for, if it differs. It
// reports false while that cannot be decided.
func (s *clockServer) changeNow(c clockChange) bool {
	o, before := s.office, s.configuration()
	after, err := o.changed(before, c.leave, false, c.name, "at-"+c.name)
	switch {
	case err == errEarly:
		return false
	case err != nil:
		s.w.count.refused++
	case after == before:
		o.joined[c.name] = true
	default:
		switch {
		case c.leave:
			s.w.count.leaves++
		case before.find(c.name) != nil:
			s.w.count.rejoins++
		default:
			s.w.count.joins++
		}
		s.reform(after)
	}
	return true
}

// rejoin adds a member anew that was found to have lost its store.
func (s *clockServer) rejoin() bool {
	o, before := s.office, s.configuration()
	for i := range before.members {
		m := &before.members[i]
		lost := o.lost[m.name]
		switch {
		case o.fenced[m.name] && !lost:
		case !m.rejoins && !o.joined[m.name]:
			continue
		case m.rejoins && !lost && o.match[m.name] >= before.index:
			s.add(before.returned(m.name))
			return true
		case !lost:
			continue
		}
		if after, err := o.changed(before, false, false, m.name, m.connectionString); err == nil {
			s.w.count.rejoins++
			s.reform(after)
			return true
		}
	}
	return false
}

func (s *clockServer) reform(c *configuration) {
	before := s.configuration()
	s.add(c)
	s.office.reformed(before, s.configuration())
}

// promote gives a vote to the first learner that has caught up, or else binds the
// names that were heard from for the first time.
func (s *clockServer) promote() {
	o, before := s.office, s.configuration()
	for i := range before.members {
		m := &before.members[i]
		if m.voter || !o.heard[m.name] || o.stores[m.name] == 0 || !o.caughtUp(m.name, s.log.end) {
			continue
		}
		if after, err := before.promote(m.name, o.stores[m.name]); err == nil {
			s.w.count.promotions++
			s.add(after)
			return
		}
	}
	if after := before.bind(o.stores); after != before {
		s.add(after)
	}
}

// reformed takes notice of a configuration with other members.
func (o *clockOffice) reformed(before, after *configuration) {
	for i := range before.members {
		m := &before.members[i]
		if now := after.find(m.name); now == nil || now.incarnation != m.incarnation {
			o.forget(m.name)
			delete(o.joined, m.name)
		}
	}
	o.part(before, after)
}

// part takes notice of who has left between two configurations.
func (o *clockOffice) part(before, after *configuration) {
	for i := range before.members {
		if m := before.members[i]; after.find(m.name) == nil && m.name != o.self {
			o.departed = append(o.departed, clockDeparted{member: m, index: after.index})
		}
	}
	o.departed = slices.DeleteFunc(o.departed, func(d clockDeparted) bool { return after.find(d.name) != nil })
	o.leaving = !after.votes(o.self)
}

// expireDeparted gives up on those that were removed and do not answer.
func (s *clockServer) expireDeparted() {
	o := s.office
	if len(o.departed) == 0 {
		return
	}
	for i := range o.departed {
		if d := &o.departed[i]; d.until == 0 && d.index <= s.commitIndex {
			d.until = s.w.now + leavingTimeouts*s.et
		}
	}
	o.departed = slices.DeleteFunc(o.departed, func(d clockDeparted) bool { return d.until != 0 && s.w.now >= d.until })
	o.employed = nil
}
