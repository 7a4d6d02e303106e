package raft

import (
	"cmp"
	"slices"
	"time"
)

// What a leader's loop and its senders do, in the clocked world: see leader.go,
// peer.go, transfer.go.

// clockOffice is one term of leadership.
type clockOffice struct {
	leadership
	senders  [maxClock]*clockSender
	changes  []clockChange
	departed []clockDeparted
	joined   map[string]bool
	leaving  bool
	evidence bool           // of what others store, not yet counted
	counted  *configuration // by which the evidence was counted
	employed *configuration // for which there are senders
	waiting  bool           // one of its members is not served yet
	plain    bool           // nobody in it waits for a vote or a store
	shown    uint64         // the end of the log as the senders know it
	hired    uint8          // senders so far
	began    int64
}

// clockSender is what a leader knows of one peer's log.
type clockSender struct {
	member   member
	peer     uint8
	tag      uint8  // which of the office's senders it is
	link     uint32 // how often its stream was given up
	progress progress
	store    uint64
	request  AppendEntriesRequest
	lastSent int64
	offset   int64 // of its heartbeats from the office's beat
	interval int64 // from the last heartbeat to the next, if nothing else is sent
	lastWord int64
	held     bool
	shipping uint64 // the index of the snapshot that the peer is sent
	overdue  int64  // when the answer to that is
}

func (s *clockServer) takeOffice() {
	s.mode = Leader
	s.incoming = 0
	w := s.w
	w.count.elections++
	if w.trace != nil {
		w.logf("%s: leads in term %d, end %d", s.name, s.term, s.log.end)
	}
	o := &clockOffice{leadership: *newLeadership(s.replica, s.log.end+1, s.grants), joined: map[string]bool{}, evidence: true, began: w.now}
	s.office = o
	for i, c := range s.configurations[1:] {
		o.part(s.configurations[i], c)
	}
	w.elected(s)
	w.ambush(s)
	if s.log.end > 0 {
		s.add(nil)
	} else {
		if s.clusterID == 0 {
			s.clusterID = w.draw()
			s.out.identified = true
		}
		s.add(s.configuration().bind(s.grants))
	}
	w.at(s.checkInterval(), clockEvent{kind: clockCheck, server: s.id, gen: s.gen})
	w.at(s.et/2, clockEvent{kind: clockDisk, server: s.id, gen: s.gen})
}

func (s *clockServer) checkInterval() int64 { return s.et - s.w.rng.Int64N(s.et/10+1) }

func (s *clockServer) stepDown() { s.role, s.leader = Follower, "" }

// add appends an entry of the leader's own.
func (s *clockServer) add(c *configuration) {
	index := s.log.end + 1
	s.log.append(s.term, 1)
	if c != nil {
		c = c.at(index)
		s.w.reconfigured(s, c)
		s.configured(c)
	}
	s.entries = append(s.entries, s.w.made(s, index, c))
	s.out.write(index)
}

// propose is a client's command.
func (s *clockServer) propose() {
	if s.office == nil || s.office.leaving || s.blocked() || s.log.end-s.commitIndex > 4096 {
		s.w.count.refused++
		return
	}
	s.w.count.commands++
	s.add(nil)
	s.settle()
}

func (s *clockServer) checkQuorum() {
	if !s.office.checkQuorum(s.configuration()) {
		s.w.count.deposed++
		if s.w.trace != nil {
			s.w.logf("%s: no majority answers", s.name)
		}
		s.stepDown()
		s.settle()
		return
	}
	s.w.at(s.checkInterval(), clockEvent{kind: clockCheck, server: s.id, gen: s.gen})
}

// relieve has a leader whose disk is stalled give up its office.
func (s *clockServer) relieve() {
	c, o := s.configuration(), s.office
	o.pace.look(c, o.match, s.log.end)
	if s.blocked() && o.spares(c, s.name) {
		if next := o.successors(c); len(next) > 0 && o.match[next[0].name] > s.out.durable {
			s.w.count.relieved++
			s.abdicate()
			s.settle()
			return
		}
	}
	s.w.at(s.et/2, clockEvent{kind: clockDisk, server: s.id, gen: s.gen})
}

// abdicate gives up the office to the best successor, who is told to stand.
func (s *clockServer) abdicate() {
	s.handover = s.office.successors(s.configuration())
	s.tellSuccessor()
	s.stepDown()
}

func (s *clockServer) tellSuccessor() {
	if len(s.handover) == 0 {
		return
	}
	m := s.handover[0]
	s.handover = s.handover[1:]
	l := s.w.letter(timeoutNowLetter, s.w.server(m.name).id)
	l.timeoutNow = TimeoutNowRequest{
		Term: s.term, LeaderName: s.name, ClusterID: s.clusterID, To: m.name, StoreID: s.storeID, ToStoreID: m.storeID,
	}
	s.w.post(s, l)
}

// receiveTimedOut goes on with the next successor if this one does not stand.
func (s *clockServer) receiveTimedOut(l *clockLetter) {
	if !l.timedOut && s.role == Follower {
		s.tellSuccessor()
	}
}

// lead does what the evidence allows: commit, settle changes, show the senders
// the log.
func (s *clockServer) lead() {
	o := s.office
	if s.role != Leader || s.term != o.term {
		return
	}
	if s.out.durable > o.match[s.name] {
		o.stored(s.name, s.out.durable)
		o.evidence = true
	}
	if c := s.configuration(); o.evidence || o.counted != c {
		o.evidence, o.counted = false, c
		if s.commit(o.committed(c)) {
			s.w.stored(s)
		}
	}
	s.change()
	if s.role != Leader {
		return
	}
	s.expireDeparted()
	s.employ()
	if o.shown != s.log.end {
		o.shown = s.log.end
		for _, x := range o.senders {
			if x != nil {
				s.pump(x)
				s.ship(x)
			}
		}
	}
}

// employ keeps a sender for each other member, and for those that were removed
// and do not know it yet.
func (s *clockServer) employ() {
	o, c := s.office, s.configuration()
	if o.employed == c && !o.waiting && len(o.departed) == 0 {
		return
	}
	o.employed, o.waiting, o.plain = c, false, true
	for i, x := range o.senders {
		if x == nil {
			continue
		}
		if m := o.served(c, x.member.name); m == nil || m.incarnation != x.member.incarnation || m.storeID != x.member.storeID {
			o.senders[i] = nil
		}
	}
	for i := range c.members {
		m := &c.members[i]
		o.plain = o.plain && m.voter && m.storeID != 0 && !m.rejoins
		if s.mayServe(m) {
			s.serve(m)
		} else if m.name != s.name {
			o.waiting = true
		}
	}
	for i := range o.departed {
		s.serve(&o.departed[i].member)
	}
}

func (o *clockOffice) served(c *configuration, name string) *member {
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

// serve begins to send to the member, if nobody does.
func (s *clockServer) serve(m *member) {
	o, peer := s.office, s.w.server(m.name).id
	if o.senders[peer] != nil {
		return
	}
	next := o.start
	if match := o.match[m.name]; match > 0 {
		next = match + 1
	}
	x := &clockSender{
		member: *m, peer: peer, tag: o.hired, progress: newProgress(next),
		store: cmp.Or(m.storeID, o.stores[m.name]), lastSent: s.w.now, lastWord: s.w.now, overdue: none,
		request: AppendEntriesRequest{
			Term: s.term, LeaderName: s.name, ClusterID: s.clusterID, To: m.name,
			StoreID: s.storeID, ToStoreID: m.storeID, InitialDigest: s.initialDigest(),
		},
	}
	x.progress.matched = o.match[m.name]
	o.hired++
	o.senders[peer] = x
	x.interval = int64(beatOf(time.Duration(s.hb)))
	x.offset = int64(beatOffset(s.w.rng, time.Duration(x.interval)))
	s.w.at(s.untilBeat(x), clockEvent{kind: clockTick, server: s.id, peer: peer, gen: s.gen, action: x.tag})
	s.pump(x)
	s.ship(x)
}

func (s *clockServer) untilBeat(x *clockSender) int64 {
	return int64(untilBeat(time.Duration(s.w.now-s.office.began), time.Duration(x.offset), beatOf(time.Duration(s.hb))))
}

// tick sends a heartbeat if nothing was sent for an interval, and gives up on what
// is overdue.
func (s *clockServer) tick(e *clockEvent) {
	x := s.office.senders[e.peer]
	if x == nil || x.tag != e.action {
		return // it served the member that was there before
	}
	now := s.w.now
	x.held = false
	if now-x.lastWord > s.et {
		if !s.w.plan.calls {
			x.link++ // the stream is given up
			x.progress.lost()
		} else if len(x.progress.window) > 0 {
			x.progress.lost()
		}
		x.lastWord = now
	}
	if now > x.overdue {
		x.shipping, x.overdue = 0, none
	}
	wait := x.interval - (now - x.lastSent)
	if wait <= 0 {
		s.send(x, x.progress.next-1)
		x.interval = s.untilBeat(x)
		wait = x.interval
	}
	s.pump(x)
	s.ship(x)
	s.w.at(wait, clockEvent{kind: clockTick, server: s.id, peer: e.peer, gen: s.gen, action: x.tag})
	s.w.check(s)
}

// pump sends what the window and the link have room for.
func (s *clockServer) pump(x *clockSender) {
	p := &x.progress
	for p.next > s.log.base.index && p.next <= s.log.end && p.maySend() {
		if s.w.plan.calls && (x.held || len(p.window) > 0) {
			return
		}
		count := max(1, min(s.w.plan.batch, p.room()/s.w.plan.entryBytes))
		s.send(x, min(s.log.end, p.next+uint64(count)-1))
	}
}

// send sends one request with the entries from nextIndex to last, or none.
func (s *clockServer) send(x *clockSender, last uint64) {
	p := &x.progress
	first := p.next
	prev := max(first-1, s.log.base.index)
	l := s.w.letter(appendLetter, x.peer)
	l.sender, l.link = x, x.link
	l.append = x.request
	if last >= first {
		l.ids = append(l.ids, s.entries[first-1:last]...)
	}
	req := &l.append
	req.Sequence = p.sent(last, len(l.ids)*s.w.plan.entryBytes)
	req.PrevLogIndex, req.PrevLogTerm, req.CommitIndex = prev, s.log.termAt(prev), s.commitIndex
	x.lastSent = s.w.now
	s.w.post(s, l)
}

// answered takes the answer to a request: as a guess for what to send next, and
// as evidence.
func (s *clockServer) answered(l *clockLetter) {
	x, m := l.sender, &l.appended
	if s.office == nil || s.office.senders[x.peer] != x || l.link != x.link || m.success && m.index > s.log.end {
		return
	}
	x.lastWord = s.w.now
	lost := !m.success && m.refused == refusedNot && m.term == s.term && m.storeID != 0 && m.storeID == x.store &&
		x.progress.forgotten(m.sequence, m.index)
	switch {
	case m.term != s.term || m.refused != refusedNot:
	case m.success:
		x.progress.accepted(m.sequence, m.index)
		x.store = cmp.Or(x.store, m.storeID)
	case lost:
		x.progress.forgot(s.log.lastShared(m.hint).index)
	default:
		x.progress.refused(m.sequence, m.prev, s.log.lastShared(m.hint).index)
	}
	s.acknowledged(x, m, lost)
	s.settle()
	s.goOn(x)
}

// goOn sends what an answer made room for.
func (s *clockServer) goOn(x *clockSender) {
	if s.office != nil && s.office.senders[x.peer] == x {
		s.pump(x)
		s.ship(x)
	}
}

// acknowledged takes an answer as evidence of what the peer stores.
func (s *clockServer) acknowledged(x *clockSender, m *clockAppended, lost bool) {
	o, c, name := s.office, s.configuration(), x.member.name
	if to := c.find(name); to == nil || to.incarnation != x.member.incarnation {
		o.farewell(x, m)
		return
	}
	if m.refused != refusedNot {
		o.refusedFrom(c, name, m.storeID)
		return
	}
	if !o.answeredFrom(c, name, m.storeID) {
		return
	}
	if lost {
		if o.fence(name) {
			s.w.suspected(s, name)
		}
		return
	}
	if m.term > s.term {
		s.observe(m.term)
		return
	}
	if m.success && m.term == o.term && m.index <= s.log.end && m.index > o.match[name] {
		o.stored(name, m.index)
		o.evidence = true
	}
}

// ship tells a peer that is too far behind for the log of the snapshot.
func (s *clockServer) ship(x *clockSender) {
	if x.shipping != 0 || x.progress.next > s.log.base.index {
		return
	}
	s.post(x, offerLetter)
}

// post sends word of the newest snapshot, or the snapshot.
func (s *clockServer) post(x *clockSender, kind letterKind) {
	l := s.w.letter(kind, x.peer)
	l.sender = x
	l.claim = leaderClaim{term: s.term, leader: s.name, to: x.member.name, clusterID: s.clusterID, toStoreID: x.member.storeID}
	l.id = s.log.base
	if kind == snapshotLetter {
		l.ids = append(l.ids, s.entries[:l.id.index]...)
	}
	x.shipping = l.id.index
	x.overdue = s.w.now + 8*s.et
	s.w.post(s, l)
}

// shipped takes the answer to what was said of a snapshot.
func (s *clockServer) shipped(l *clockLetter) {
	x, m := l.sender, &l.offered
	if s.office == nil || s.office.senders[x.peer] != x {
		return
	}
	word := clockAppended{term: m.term, refused: m.refused, storeID: m.storeID, commit: m.commit}
	s.acknowledged(x, &word, false)
	s.settle()
	if s.office == nil || s.office.senders[x.peer] != x || m.term > s.term || m.refused != refusedNot || x.shipping != l.id.index {
		return
	}
	switch {
	case m.commit >= l.id.index:
		x.shipping, x.overdue = 0, none
		x.progress.shared(l.id.index)
		s.send(x, x.progress.next-1)
		s.goOn(x)
	case m.needed && !m.snapshot && l.id == s.log.base:
		s.post(x, snapshotLetter)
	case m.needed && !m.snapshot:
		x.shipping, x.overdue = 0, none // there is a newer one
		s.ship(x)
	}
}

// receiveSnapshot handles word of a snapshot, or the snapshot.
func (s *clockServer) receiveSnapshot(l *clockLetter) {
	needed, heard, refused := s.offered(l.claim, l.id)
	if heard {
		s.heard()
	}
	if needed && l.kind == snapshotLetter && s.incoming != l.id.index {
		s.incoming = l.id.index
		arriving := s.w.letter(snapshotLetter, s.id)
		arriving.from, arriving.sender, arriving.life, arriving.store = l.from, l.sender, l.life, l.store
		arriving.claim, arriving.id = l.claim, l.id
		arriving.ids = append(arriving.ids, l.ids...)
		s.w.at(s.w.plan.sync+s.w.rng.Int64N(s.hb<<s.w.rng.IntN(5)), clockEvent{kind: clockInstall, server: s.id, gen: s.life, letter: arriving})
		return // it is answered when it is in force
	}
	a := s.w.answer(l, offeredLetter)
	a.id = l.id
	a.offered = clockOffered{needed: needed, snapshot: l.kind == snapshotLetter, refused: refused, term: s.term, storeID: s.storeID, commit: s.commitIndex}
	s.promise(a)
}

// install puts a snapshot that has arrived in force, if it still is of use. Its
// file is durable, and so must be the term that it came in.
func (s *clockServer) install(l *clockLetter) {
	if s.out.written < s.out.balloted {
		s.w.at(s.hb, clockEvent{kind: clockInstall, server: s.id, gen: s.life, letter: l})
		return
	}
	s.incoming = 0
	w, id, before := s.w, l.id, s.commitIndex
	if s.role != Leader && l.claim.clusterID == s.clusterID && s.replica.install(id, w.book[l.ids[id.index-1]].configuration) {
		w.count.installs++
		if w.trace != nil {
			w.logf("%s: snapshot %d.%d is in force", s.name, id.index, id.term)
		}
		s.role = Follower
		s.truncated(before + 1)
		s.entries = append(s.entries[:0], l.ids...)
		s.disk.file = append(s.disk.file[:0], l.ids...)
		s.out.durable, s.out.balloted = id.index, s.out.ordered+1
		w.appended(s, 1)
	}
	a := w.answer(l, offeredLetter)
	a.id = id
	a.offered = clockOffered{snapshot: true, term: s.term, storeID: s.storeID, commit: s.commitIndex}
	s.promise(a)
	w.release(l)
	s.settle()
}

// compact has a snapshot stand for the log up to an index.
func (s *clockServer) compact(index uint64) {
	s.log.compact(entryID{index, s.log.termAt(index)})
	s.out.rebased = true
	s.settle()
}

// farewell takes an answer of one that was removed.
func (o *clockOffice) farewell(x *clockSender, m *clockAppended) {
	if m.refused != refusedNot {
		return
	}
	o.departed = slices.DeleteFunc(o.departed, func(d clockDeparted) bool {
		return d.name == x.member.name && d.incarnation == x.member.incarnation && m.commit >= d.index &&
			(m.storeID == 0 || d.storeID == 0 || m.storeID == d.storeID)
	})
	o.employed = nil
}
