package raft

import "slices"

// What toyServers do about their members; see rules_harness_test.go.

// mayConfigure reports whether the leader may change the configuration: one
// change at a time, and none before an entry of its own term is committed.
func (s *toyServer) mayConfigure() bool {
	return s.office != nil && s.replica.mayConfigure(s.office.start)
}

// housekeep makes the changes of the configuration that nobody asks for:
// binding names to stores, and the promotion of learners.
func (s *toyServer) housekeep() {
	if !s.mayConfigure() {
		return
	}
	c := s.configuration()
	for _, m := range c.members {
		if s.office.fenced[m.name] && !s.office.lost[m.name] && s.change(false, m.name) {
			return
		}
	}
	if bound := c.bind(s.office.stores); bound != c {
		s.add("", bound)
		s.heartbeat()
		return
	}
	for i := range c.members {
		m := &c.members[i]
		if m.voter || !s.office.caughtUp(m.name, s.log.end) {
			continue
		}
		if promoted, err := c.promote(m.name, s.office.stores[m.name]); err == nil {
			s.add("", promoted)
			s.heartbeat()
			return
		}
	}
}

// join makes name a member, and reports whether the leader could take the
// request; remove takes it out of the configuration.
func (s *toyServer) join(name string) bool { return s.change(false, name) }

func (s *toyServer) remove(name string) bool { return s.change(true, name) }

func (s *toyServer) change(leave bool, name string) bool {
	if !s.mayConfigure() {
		return false
	}
	before := s.configuration()
	after, err := s.office.changed(before, leave, false, name, "at-"+name)
	if err != nil || after == before {
		return err == nil
	}
	if fresh := after.find(name); fresh == nil || fresh.incarnation == unborn {
		s.office.forget(name)
	}
	if fresh := after.find(name); fresh != nil && fresh.incarnation == unborn {
		delete(s.peers, name)
	}
	s.add("", after)
	s.part(before, s.configuration())
	s.heartbeat()
	return true
}

// part takes notice of who left between two configurations: it is served until it
// knows.
func (s *toyServer) part(before, after *configuration) {
	for _, m := range before.members {
		if after.find(m.name) == nil && m.name != s.name {
			s.departed = append(s.departed, departed{member: m, index: after.index})
		}
	}
	s.departed = slices.DeleteFunc(s.departed, func(d departed) bool { return after.find(d.name) != nil })
}

// farewell takes an answer of one that was removed.
func (s *toyServer) farewell(from string, m *toyAppended) {
	s.departed = slices.DeleteFunc(s.departed, func(d departed) bool { return d.name == from && m.commit >= d.index })
	if m.term == s.term && s.peers[from] != nil {
		if m.success {
			s.peers[from].accepted(m.sequence, m.match)
		} else {
			s.peers[from].refused(m.sequence, m.prev, s.log.lastShared(m.hint).index)
		}
	}
}

// served are the members that the leader sends to, and those that left.
func (s *toyServer) served() []member {
	all := slices.Clone(s.configuration().members)
	for _, d := range s.departed {
		all = append(all, d.member)
	}
	return all
}

// abdicate gives up the office to the best successor, who is told to stand.
func (s *toyServer) abdicate() {
	if all := s.office.successors(s.configuration()); len(all) > 0 {
		m := all[0]
		s.post(&letter{to: m.name, timeoutNow: &TimeoutNowRequest{
			Term: s.term, LeaderName: s.name, ClusterID: s.clusterID, To: m.name, StoreID: s.storeID, ToStoreID: m.storeID,
		}})
	}
	s.stepDown()
}

// receiveTimeoutNow is told to stand for election at once.
func (s *toyServer) receiveTimeoutNow(req *TimeoutNowRequest) {
	if stands, refused := s.timeoutNow(req); !stands {
		s.world.logf("%s: does not stand%s", s.name, refusal(refused))
		return
	}
	s.leader = ""
	s.stand(false, true)
}
