package raft

// What the loops of a follower and of a candidate do, in the clocked world.

// clockServer is a server without goroutines and I/O.
type clockServer struct {
	*replica
	w        *clockWorld
	id       uint8
	preVote  bool
	begun    bool  // told to begin a cluster
	rate     int64 // of its clock
	et, hb   int64 // the timeouts, by its clock
	entries  []uint32
	disk     clockStore
	out      clockWriter
	promises []clockPromise // that wait for the ballot
	pledges  []clockPromise // that wait for entries
	bound    [2]int         // how many of each know what they need

	mode        string // whose loop runs: that of a follower, a candidate, a leader
	gen         uint32 // of the timers
	lastContact int64
	silence     int64
	contacted   bool // since silence was drawn
	told        uint64
	summoned    uint64
	election    *election
	inquiry     *election
	grants      map[string]uint64
	office      *clockOffice
	incoming    uint64 // the index of the snapshot that arrives
	handover    []member

	down, paused bool
	inbox        []clockEvent // while it is paused
	life         uint32       // how often it was started
	putBack      int          // how often its disk was put back
	restored     *clockRestored
	seen, spoken uint64 // the latest term that it was in, and that it spoke of
	votes        []clockVote
}

// boot makes the server what its disk says.
func (s *clockServer) boot() {
	s.disk.mend(s.w)
	s.life++
	d := &s.disk
	s.replica = newReplica(clockName(int(s.id)), d.identity, d.ballot)
	s.entries = append(s.entries[:0], d.entries...)
	if base := d.base; base.index > 0 {
		s.log = history{base: base, end: base.index}
		c := s.w.book[s.entries[base.index-1]].configuration
		s.configurations = []*configuration{c}
		s.recall(c)
		s.commitIndex = base.index
	}
	for _, id := range s.entries[s.log.end:] {
		e := &s.w.book[id]
		s.log.extend(e.term)
		if e.configures {
			s.configured(e.configuration)
		}
	}
	s.commit(d.commit)
	s.out = clockWriter{durable: s.log.end, saved: s.ballot, ids: s.out.ids}
	s.promises, s.pledges, s.bound = s.promises[:0], s.pledges[:0], [2]int{}
	s.told = s.commitIndex
	s.election, s.inquiry, s.office, s.grants, s.handover = nil, nil, nil, nil, nil
	s.summoned, s.incoming = 0, 0
	s.down, s.paused, s.inbox = false, false, s.inbox[:0]
	s.w.booted(s)
	if s.w.trace != nil {
		s.w.logf("%s: starts in term %d, commit %d, end %d", s.name, s.term, s.commitIndex, s.log.end)
	}
	s.follow()
}

// crash ends the server; so many of the orders to its disk were carried out.
func (s *clockServer) crash(kept int) {
	for i := range s.out.orders[:kept] {
		s.disk.carryOut(&s.out.orders[i])
	}
	s.down = true
	s.gen++
	s.life++
	for _, waiting := range [][]clockPromise{s.promises, s.pledges} {
		for i := range waiting {
			if waiting[i].letter != nil {
				s.w.release(waiting[i].letter)
			}
		}
	}
	s.promises, s.pledges = s.promises[:0], s.pledges[:0]
	s.office, s.election, s.inquiry = nil, nil, nil
	if s.w.trace != nil {
		s.w.logf("%s: down", s.name)
	}
}

// settle ends a turn: what was decided is done, and the loop is that of the role.
func (s *clockServer) settle() {
	s.flush()
	for len(s.w.failures) == 0 {
		if s.mode != s.role {
			s.enter()
			s.flush()
		} else if s.mode != Candidate || !s.count() {
			break
		}
	}
	s.w.check(s)
}

// enter begins the loop of the server's role.
func (s *clockServer) enter() {
	s.gen++
	s.office, s.election = nil, nil
	switch s.role {
	case Follower:
		s.follow()
	case Candidate:
		s.candidacy()
	case Leader:
		s.takeOffice()
	}
}

func (s *clockServer) follow() {
	s.mode = Follower
	s.lastContact = s.w.now
	s.rest()
}

// rest waits for a leader, from now on.
func (s *clockServer) rest() {
	s.silence, s.contacted = s.electionTimeout(), false
	s.arm(s.silence)
}

func (s *clockServer) electionTimeout() int64 { return s.et + s.w.rng.Int64N(s.et) }

func (s *clockServer) arm(in int64) {
	s.gen++
	s.w.at(in, clockEvent{kind: clockTimer, server: s.id, gen: s.gen})
}

func (s *clockServer) heard() { s.lastContact, s.contacted, s.summoned = s.w.now, true, 0 }

func (s *clockServer) leaderAlive() bool {
	return s.role == Leader || s.leader != "" && s.w.now-s.lastContact < s.et
}

// blocked reports whether the disk has not answered for two timeouts.
func (s *clockServer) blocked() bool {
	return s.out.written < s.out.ordered && s.w.now-s.out.since >= stalledTimeouts*s.et
}

func (s *clockServer) mayCampaign() bool {
	return !s.blocked() && s.electable() && (s.log.end > 0 || s.begun || s.clusterID != 0)
}

// timer is the election timer's end.
func (s *clockServer) timer() {
	if s.mode == Candidate {
		s.candidateTimer()
		return
	}
	if s.contacted { // the wait was drawn anew at the last contact
		s.silence, s.contacted = s.electionTimeout(), false
	}
	if rest := s.lastContact + s.silence - s.w.now; rest > 0 {
		s.arm(rest)
		return
	}
	if s.mayCampaign() {
		s.role, s.leader = Candidate, ""
		s.settle()
		return
	}
	s.leader = ""
	s.inquire()
	s.lastContact = s.w.now
	s.rest()
}

// candidacy stands for election.
func (s *clockServer) candidacy() {
	s.mode = Candidate
	if !s.mayCampaign() {
		s.role, s.summoned = Follower, 0
		return
	}
	switch {
	case s.summoned == s.term && s.votedFor == s.name:
		s.election = newElection(s.replica, false)
		s.election.transfer = true
	case s.preVote:
		s.election = newElection(s.replica, true)
	default:
		s.stand()
	}
	s.summoned = 0
	s.solicit()
	s.arm(s.electionTimeout())
}

func (s *clockServer) stand() {
	s.campaign()
	s.w.count.candidacies++
	if s.w.trace != nil {
		s.w.logf("%s: candidate in term %d", s.name, s.term)
	}
	s.election = newElection(s.replica, false)
	s.save()
}

// voting reports whether the candidate's own vote is not durable yet.
func (s *clockServer) voting() bool {
	return !s.election.preVote && s.out.written < s.out.balloted
}

// count ends what the answers so far decide, and reports whether there is more
// to decide.
func (s *clockServer) count() bool {
	switch e := s.election; {
	case e.over():
		s.dismissed, s.role = true, Follower
		s.w.count.dismissed++
	case e.preVote && e.won():
		s.stand()
		s.solicit()
		s.arm(s.electionTimeout())
		s.flush()
	case e.preVote && e.lost():
		s.role = Follower
	case !e.preVote && e.won() && !s.voting():
		s.role, s.leader, s.grants = Leader, s.name, e.stores
	default:
		return false
	}
	return true
}

func (s *clockServer) candidateTimer() {
	switch {
	case s.voting():
		s.arm(s.electionTimeout())
		return
	case s.election.preVote:
		s.role = Follower
	default:
		s.election = nil
		s.candidacy()
	}
	s.settle()
}

// solicit asks the other voters, once the candidate's own vote is durable.
func (s *clockServer) solicit() {
	if s.election.preVote {
		s.ask(s.election)
		return
	}
	s.promises = append(s.promises, clockPromise{election: s.election})
}

func (s *clockServer) ask(e *election) {
	last := s.log.last()
	for i := range e.configuration.members {
		m := &e.configuration.members[i]
		if !m.voter || m.name == s.name {
			continue
		}
		l := s.w.letter(voteLetter, s.w.server(m.name).id)
		l.election = e
		l.vote = RequestVoteRequest{
			Term: e.term, LastLogIndex: last.index, LastLogTerm: last.term, CandidateName: s.name,
			ClusterID: s.clusterID, To: m.name, StoreID: s.storeID, ToStoreID: m.storeID,
			InitialDigest: s.initialDigest(), PreVote: e.preVote, Transfer: e.transfer,
		}
		s.w.post(s, l)
	}
}

// inquire asks whether the server still belongs to the cluster.
func (s *clockServer) inquire() {
	if s.clusterID == 0 || s.electable() || s.removed() {
		return
	}
	s.inquiry = newElection(s.replica, true)
	s.inquiry.term = 0
	s.ask(s.inquiry)
}

// receive handles a letter.
func (s *clockServer) receive(l *clockLetter) {
	if l.answers() && (l.life != s.life || l.store != s.storeID) {
		return
	}
	switch l.kind {
	case voteLetter:
		s.receiveVote(l)
	case votedLetter:
		s.receiveVoted(l)
	case appendLetter:
		s.receiveAppend(l)
	case appendedLetter:
		s.answered(l) // settles by itself
		return
	case offerLetter, snapshotLetter:
		s.receiveSnapshot(l)
	case offeredLetter:
		s.shipped(l)
		return
	case timeoutNowLetter:
		s.receiveTimeoutNow(l)
	case timedOutLetter:
		s.receiveTimedOut(l)
	}
	s.settle()
}

func (s *clockServer) receiveVote(l *clockLetter) {
	req := &l.vote
	if req.PreVote && !s.preVote {
		req.PreVote = false
	}
	granted, refused := s.vote(req, s.leaderAlive())
	if granted && !req.PreVote {
		s.lastContact, s.contacted = s.w.now, true
	}
	a := s.w.answer(l, votedLetter)
	a.voted = RequestVoteResponse{
		Term: s.term, VoteGranted: granted, Refused: refused, PreVote: req.PreVote,
		ClusterID: s.clusterID, From: s.name, StoreID: s.storeID,
	}
	s.promise(a)
}

func (s *clockServer) receiveVoted(l *clockLetter) {
	m, voter := &l.voted, clockName(int(l.from))
	if s.mode != Candidate || s.role != Candidate {
		s.informed(l.election, m, voter)
		return
	}
	if l.election != s.election {
		return
	}
	if m.ClusterID != 0 && s.clusterID != 0 && m.ClusterID != s.clusterID && !s.provisional() {
		return
	}
	removed := m.Refused == refusedRemoved
	if m.Refused != refusedNot && !removed {
		return
	}
	if m.Term > s.term && !(m.VoteGranted && m.Term == s.election.term) {
		s.observe(m.Term)
		if s.role != Candidate {
			return
		}
	}
	if removed {
		s.election.dismissed(voter, m.StoreID)
		return
	}
	granted := m.VoteGranted && (s.election.preVote || !m.PreVote && m.Term == s.election.term)
	s.election.record(voter, m.StoreID, granted)
}

// informed takes a voter's answer to inquire.
func (s *clockServer) informed(e *election, m *RequestVoteResponse, voter string) {
	if e == nil || e != s.inquiry || s.role != Follower || s.leader != "" || e.configuration != s.configuration() || m.Refused != refusedRemoved {
		return
	}
	if e.dismissed(voter, m.StoreID); e.over() {
		s.dismissed, s.inquiry = true, nil
		s.w.count.dismissed++
	}
}

func (s *clockServer) receiveTimeoutNow(l *clockLetter) {
	stands, _ := s.timeoutNow(&l.timeoutNow)
	stands = stands && s.mayCampaign()
	if stands {
		s.campaign()
		s.summoned = s.term
	}
	a := s.w.answer(l, timedOutLetter)
	a.timedOut = stands
	s.promise(a)
}

// receiveAppend settles a leader's request.
func (s *clockServer) receiveAppend(l *clockLetter) {
	w, req, b := s.w, &l.append, &s.w.batch
	b.history = history{base: entryID{req.PrevLogIndex, req.PrevLogTerm}, end: req.PrevLogIndex, runs: b.runs[:0]}
	b.configurations = b.configurations[:0]
	for _, id := range l.ids {
		e := &w.book[id]
		b.extend(e.term)
		if e.configures {
			b.configurations = append(b.configurations, e.configuration)
		}
	}
	answer, err := s.appendEntries(req, b)
	if err != nil {
		w.fail("%s: %v", s.name, err)
		return
	}
	if answer.heard {
		s.heard()
	}
	if answer.adopted {
		s.out.identified = true
		if answer.reset {
			w.count.resets++
			s.truncated(1)
			s.entries = s.entries[:0]
		}
	}
	if from := answer.appendFrom; from > 0 {
		if from <= uint64(len(s.entries)) {
			w.count.truncations++
			s.truncated(from)
		}
		s.entries = append(s.entries[:from-1], l.ids[from-1-req.PrevLogIndex:]...)
		s.out.write(from)
		w.appended(s, from)
	}
	a := w.answer(l, appendedLetter)
	a.appended = clockAppended{
		success: answer.success, heard: answer.heard, refused: answer.refused, term: s.term, storeID: s.storeID,
		index: answer.match, commit: s.commitIndex, sequence: req.Sequence, prev: req.PrevLogIndex, hint: answer.hint,
	}
	if answer.success && len(l.ids) > 0 {
		s.pledges = append(s.pledges, clockPromise{letter: a})
		return
	}
	if answer.success {
		a.appended.index = min(answer.match, s.out.durable)
	} else {
		a.appended.index = s.log.end
	}
	s.promise(a)
}
