package raft

import (
	"cmp"
	"slices"
)

// This file is where tests of whole clusters touch the rules: a world of servers
// that are nothing but the rules, with a toy log, a toy disk and a queue of
// letters between them. What the loops do in a real server, a toyServer does
// here, one event at a time.

// toyEntry is an entry with its content.
type toyEntry struct {
	term          uint64
	value         string
	configuration *configuration
	chain         uint64 // hash of this entry and of all before it
}

// toyDisk is what survives a crash.
type toyDisk struct {
	identity
	ballot
	entries []toyEntry
	base    entryID // a snapshot stands for the entries up to here
	commit  uint64
}

// toyOrder is a state on its way to the disk, and what may be said once it is
// there.
type toyOrder struct {
	disk     toyDisk
	promises []func()
}

// toyServer is a server without goroutines, clock and I/O.
type toyServer struct {
	*replica
	world    *world
	group    string // servers of different groups were never meant to meet
	disk     toyDisk
	orders   []toyOrder
	promises []func() // of the event that is being handled
	entries  []toyEntry
	election *election
	office   *leadership
	peers    map[string]*progress
	departed []departed // members that were removed and do not know it yet
	alive    bool       // a leader was heard of lately
	down     bool
	held     bool          // the disk is slow: orders wait for flush
	arrived  []*letter     // snapshots that are whole and not in force yet
	installs int           // snapshots that were put in force
	seen     uint64        // the latest term that the server was in
	told     uint64        // the latest term that it spoke of
	restored *restoredDisk // nil unless its disk was put back and it may not vote yet
	copies   []toyDisk     // of its disk, as it was
	life     int           // how often its disk was put back
	askedBy  int           // the life that sent the letter at hand
}

// world is all servers and what is between them.
type world struct {
	servers    []*toyServer // by name
	letters    []*letter
	preVote    bool
	maxEntries int // in one message
	// slowInstalls leaves it to somebody else to call installArrived.
	slowInstalls bool
	drawn        uint64
	trace        func(format string, args ...any)
	ledger
}

func newWorld() *world { return &world{maxEntries: 1 << 30, ledger: newLedger()} }

func (w *world) logf(format string, args ...any) {
	if w.trace != nil {
		w.trace(format, args...)
	}
}

func (w *world) draw() uint64 {
	w.drawn++
	return w.drawn
}

// server returns the server of that name.
func (w *world) server(name string) *toyServer {
	i, found := slices.BinarySearchFunc(w.servers, name, func(s *toyServer, name string) int { return cmp.Compare(s.name, name) })
	if !found {
		panic("no server " + name)
	}
	return w.servers[i]
}

// start adds a server with an empty disk. Without names it waits to be joined.
func (w *world) start(name, group string, names ...string) *toyServer {
	s := &toyServer{world: w, group: group}
	s.disk.initial = toyConfiguration(names...)
	s.disk.storeID = w.draw()
	w.servers = append(w.servers, s)
	s.boot(name)
	slices.SortFunc(w.servers, func(a, b *toyServer) int { return cmp.Compare(a.name, b.name) })
	return s
}

// cluster starts servers with each other's names.
func (w *world) cluster(names ...string) {
	for _, name := range names {
		w.start(name, "", names...)
	}
}

func toyConfiguration(names ...string) *configuration {
	members := make([]member, len(names))
	for i, name := range names {
		members[i] = member{name: name, connectionString: "at-" + name, voter: true}
	}
	return newConfiguration(0, members)
}

// boot makes the server what its disk says.
func (s *toyServer) boot(name string) {
	s.replica = newReplica(name, s.disk.identity, s.disk.ballot)
	s.entries = s.disk.entries
	s.bootSnapshot()
	for _, e := range s.entries[s.log.end:] {
		s.log.append(e.term, 1)
		if e.configuration != nil {
			s.configured(e.configuration)
		}
	}
	s.commit(s.disk.commit)
	s.orders, s.promises, s.election, s.office, s.peers, s.departed = nil, nil, nil, nil, nil, nil
	s.alive, s.down, s.held, s.arrived = false, false, false, nil
	s.world.booted(s)
}

// crash loses what is not on the disk, but for the first orders, which get there
// without anybody hearing of it.
func (s *toyServer) crash(kept int) {
	if kept > 0 {
		s.disk = s.orders[kept-1].disk
	}
	s.down, s.orders = true, nil
}

// wipe gives a server that is down an empty disk with the configuration that it
// was first started with.
func (s *toyServer) wipe() {
	s.disk = toyDisk{identity: identity{storeID: s.world.draw(), initial: s.disk.initial}}
	s.seen, s.told = 0, 0
}

// settle ends the handling of an event: what changed goes to the disk, and what
// was promised waits for it.
func (s *toyServer) settle() {
	s.retire()
	s.world.check(s)
	now := toyDisk{s.identity, s.ballot, s.entries, s.log.base, s.commitIndex}
	before := s.disk
	if n := len(s.orders); n > 0 {
		before = s.orders[n-1].disk
	}
	promises := s.promises
	s.promises = nil
	if len(s.orders) == 0 && now.same(before) {
		s.keep(promises)
		return
	}
	s.orders = append(s.orders, toyOrder{now, promises})
	if !s.held {
		s.flush(len(s.orders))
	}
}

func (d toyDisk) same(other toyDisk) bool {
	n := len(d.entries)
	return d.identity == other.identity && d.ballot == other.ballot && d.base == other.base && n == len(other.entries) &&
		(n == 0 || d.entries[n-1].chain == other.entries[n-1].chain)
}

// flush makes the oldest orders durable.
func (s *toyServer) flush(count int) {
	for ; count > 0 && len(s.orders) > 0; count-- {
		order := s.orders[0]
		s.orders = s.orders[1:]
		s.disk = order.disk
		s.keep(order.promises)
	}
}

// keep keeps promises: what they promise is durable.
func (s *toyServer) keep(promises []func()) {
	for _, promise := range promises {
		promise()
	}
	if len(s.promises) > 0 || len(s.orders) == 0 && !s.disk.same(toyDisk{s.identity, s.ballot, s.entries, s.log.base, 0}) {
		s.settle()
	}
}

// retire drops what does not outlive a change of term or role.
func (s *toyServer) retire() {
	if e := s.election; e != nil {
		if e.preVote && (e.term != s.term+1 || s.leader != "") || !e.preVote && (e.term != s.term || s.role != Candidate) {
			s.election = nil
		}
	}
	if s.office != nil && (s.office.term != s.term || s.role != Leader) {
		s.office, s.peers, s.departed = nil, nil, nil
	}
}

// post sends a letter at once; promise does so when what it says is durable.
func (s *toyServer) post(l *letter) {
	l.from = s.name
	if !l.answers() {
		l.life = s.life
	}
	if s.silenced(l) {
		return
	}
	s.world.sent(s, l)
	s.world.logf("%s", l)
	s.world.letters = append(s.world.letters, l)
}

func (s *toyServer) promise(l *letter) {
	l.life = s.askedBy
	s.promises = append(s.promises, func() { s.post(l) })
}

// receive handles a letter.
func (s *toyServer) receive(l *letter) {
	if l.store != 0 && l.store != s.storeID || l.answers() && l.life != s.life {
		return
	}
	s.askedBy = l.life
	switch {
	case l.vote != nil:
		s.receiveVote(l.vote)
	case l.voted != nil:
		s.receiveVoted(l.voted)
	case l.append != nil:
		s.receiveAppend(l)
	case l.appended != nil:
		s.receiveAppended(l.from, l.appended)
	case l.timeoutNow != nil:
		s.receiveTimeoutNow(l.timeoutNow)
	default:
		s.receiveSnapshot(l)
	}
	s.settle()
}

// timeout is the election timer's.
func (s *toyServer) timeout() {
	if s.role == Leader {
		return
	}
	s.alive = false
	s.leader = ""
	if !s.electable() {
		s.world.logf("%s: not electable", s.name)
		return
	}
	s.stand(s.world.preVote, false)
	s.settle()
}

// stand asks all voters for a pre-vote or a vote.
func (s *toyServer) stand(preVote, transfer bool) {
	if !preVote {
		s.campaign()
		s.world.logf("%s: candidate in term %d", s.name, s.term)
	}
	e := newElection(s.replica, preVote)
	s.election = e
	for i := range e.configuration.members {
		m := &e.configuration.members[i]
		if !m.voter || m.name == s.name {
			continue
		}
		last := s.log.last()
		s.promise(&letter{to: m.name, vote: &RequestVoteRequest{
			Term: e.term, LastLogIndex: last.index, LastLogTerm: last.term, CandidateName: s.name,
			ClusterID: s.clusterID, To: m.name, StoreID: s.storeID, ToStoreID: m.storeID,
			InitialDigest: s.initialDigest(), PreVote: preVote, Transfer: transfer,
		}})
	}
	s.promises = append(s.promises, func() { s.countVotes(e) })
}

func (s *toyServer) receiveVote(req *RequestVoteRequest) {
	granted, refused := s.vote(req, s.alive || s.role == Leader)
	s.promise(&letter{to: req.CandidateName, store: req.StoreID, voted: &RequestVoteResponse{
		Term: s.term, VoteGranted: granted, ClusterID: s.clusterID, From: s.name, StoreID: s.storeID,
		PreVote: req.PreVote, Refused: refused,
	}})
}

func (s *toyServer) receiveVoted(m *RequestVoteResponse) {
	e := s.election
	if m.Refused != refusedNot && m.Refused != refusedRemoved {
		return
	}
	if m.Term > s.term && !(m.PreVote && m.VoteGranted) {
		s.observe(m.Term)
		return
	}
	if e == nil || e.preVote != m.PreVote {
		return
	}
	if m.Refused == refusedRemoved {
		e.dismissed(m.From, m.StoreID)
		if e.over() {
			s.dismissed, s.role, s.election = true, Follower, nil
			s.world.logf("%s: was removed", s.name)
		}
		return
	}
	if !m.PreVote && m.Term != e.term {
		return
	}
	e.record(m.From, m.StoreID, m.VoteGranted)
	s.countVotes(e)
}

func (s *toyServer) countVotes(e *election) {
	s.retire()
	if s.election != e || !e.won() {
		return
	}
	if e.preVote {
		s.stand(false, false)
		return
	}
	s.lead()
}

// lead takes office: the first entry of the term, and word to everybody.
func (s *toyServer) lead() {
	s.role, s.leader = Leader, s.name
	s.world.logf("%s: leader in term %d", s.name, s.term)
	if s.clusterID == 0 {
		s.clusterID = s.world.draw()
	}
	s.office = newLeadership(s.replica, s.log.end+1, s.election.stores)
	s.peers = map[string]*progress{}
	for i, c := range s.configurations[1:] {
		s.part(s.configurations[i], c)
	}
	s.world.elected(s)
	if s.log.end == 0 {
		s.add("", s.initial.bind(s.office.stores))
	} else {
		s.add("", nil)
	}
	s.heartbeat()
}

// add appends an entry to the leader's log.
func (s *toyServer) add(value string, c *configuration) {
	index := s.log.end + 1
	s.log.append(s.term, 1)
	if c != nil {
		c = c.at(index)
		s.configured(c)
	}
	s.entries = append(s.entries, newToyEntry(s.entries, s.term, value, c))
	s.world.appended(s, index)
	office := s.office
	s.promises = append(s.promises, func() {
		if s.office == office && office != nil {
			office.stored(s.name, index)
			s.advance()
		}
	})
}

func newToyEntry(before []toyEntry, term uint64, value string, c *configuration) toyEntry {
	chain := uint64(14695981039346656037)
	if n := len(before); n > 0 {
		chain = before[n-1].chain
	}
	chain = (chain ^ term) * 1099511628211
	for _, b := range []byte(value) {
		chain = (chain ^ uint64(b)) * 1099511628211
	}
	return toyEntry{term, value, c, chain}
}

// advance commits what a majority stores.
func (s *toyServer) advance() {
	before := s.commitIndex
	if s.commit(s.office.committed(s.configuration())) {
		s.world.logf("%s: committed %d", s.name, s.commitIndex)
		s.world.committed(s, before)
	}
	if s.mayConfigure() && !s.configuration().votes(s.name) {
		s.abdicate()
	}
}

// stepDown leaves office within the term.
func (s *toyServer) stepDown() {
	s.role, s.leader = Follower, ""
	s.world.logf("%s: steps down in term %d", s.name, s.term)
	s.retire()
}

func (s *toyServer) propose(value string) bool {
	if s.role != Leader {
		return false
	}
	s.add(value, nil)
	s.pump()
	return true
}

// heartbeat sends to every member, with or without entries.
func (s *toyServer) heartbeat() {
	for _, m := range s.served() {
		s.send(&m, true)
	}
}

// pump sends what there is and fits.
func (s *toyServer) pump() {
	for _, m := range s.served() {
		for s.send(&m, false) {
		}
	}
}

// send sends one request to the member, and reports whether it had entries.
func (s *toyServer) send(m *member, heartbeat bool) bool {
	if !s.mayServe(m) {
		return false
	}
	p := s.peers[m.name]
	if p == nil {
		fresh := newProgress(s.log.end + 1)
		if s.office.start == s.log.end {
			fresh = newProgress(s.log.end)
		}
		fresh.matched = s.office.match[m.name]
		p = &fresh
		s.peers[m.name] = p
	}
	if p.next <= s.log.base.index {
		return s.offer(m, p, heartbeat)
	}
	first, last, bytes := p.next, p.next-1, 0
	for p.maySend() && last < s.log.end && bytes < p.room() && int(last+1-first) < s.world.maxEntries {
		last++
		bytes += 64 + len(s.entries[last-1].value)
	}
	if last < first && !heartbeat {
		return false
	}
	sequence := p.sent(last, bytes)
	s.post(&letter{to: m.name, incarnation: m.incarnation, entries: s.entries[first-1 : last : last], append: &AppendEntriesRequest{
		Term: s.term, PrevLogIndex: first - 1, PrevLogTerm: s.log.termAt(first - 1), CommitIndex: s.commitIndex,
		LeaderName: s.name, ClusterID: s.clusterID, To: m.name, StoreID: s.storeID, ToStoreID: m.storeID,
		InitialDigest: s.initialDigest(), Sequence: sequence,
	}})
	return last >= first
}

// toyBatch is a request's entries as the rules see them.
func toyBatch(req *AppendEntriesRequest, entries []toyEntry) *batch {
	b := &batch{history: history{base: entryID{req.PrevLogIndex, req.PrevLogTerm}, end: req.PrevLogIndex}}
	for _, e := range entries {
		b.append(e.term, 1)
		if e.configuration != nil {
			b.configurations = append(b.configurations, e.configuration)
		}
	}
	return b
}

func (s *toyServer) receiveAppend(l *letter) {
	before := s.commitIndex
	answer, err := s.appendEntries(l.append, toyBatch(l.append, l.entries))
	if err != nil {
		s.world.fail("%s: %v", s.name, err)
	}
	if answer.reset {
		s.world.logf("%s: drops the log of a cluster that never was", s.name)
		s.entries = nil
	}
	if from := answer.appendFrom; from > 0 {
		if from <= uint64(len(s.entries)) {
			s.world.logf("%s: replaces its entries from %d on", s.name, from)
		}
		s.entries = append(s.entries[:from-1:from-1], l.entries[from-1-l.append.PrevLogIndex:]...)
		for i := from; i <= s.log.end; i++ {
			s.world.appended(s, i)
		}
	}
	if answer.heard {
		s.alive = true
	}
	if s.commitIndex > before {
		s.world.logf("%s: committed %d", s.name, s.commitIndex)
		s.world.committed(s, before)
	}
	s.promise(&letter{to: l.from, store: l.append.StoreID, appended: &toyAppended{
		appendAnswer: answer, term: s.term, storeID: s.storeID, incarnation: l.incarnation,
		sequence: l.append.Sequence, prev: l.append.PrevLogIndex, end: s.log.end, commit: s.commitIndex,
	}})
}

func (s *toyServer) receiveAppended(from string, m *toyAppended) {
	if s.office != nil {
		to := s.configuration().find(from)
		if to == nil {
			s.farewell(from, m)
		} else if to.incarnation != m.incarnation {
			return // to the member that it was before
		}
	}
	switch {
	case m.refused != refusedNot:
		if s.office != nil {
			s.office.refusedFrom(s.configuration(), from, m.storeID)
		}
		return
	case m.term > s.term:
		s.observe(m.term)
		return
	case s.office == nil || m.term != s.term || s.peers[from] == nil:
		return
	case !s.office.answeredFrom(s.configuration(), from, m.storeID):
		return
	}
	if !m.success && s.peers[from].forgotten(m.sequence, m.end) {
		s.world.suspected(s, from)
		s.office.fence(from)
		s.peers[from].forgot(s.log.lastShared(m.hint).index)
	} else if !m.success {
		s.peers[from].refused(m.sequence, m.prev, s.log.lastShared(m.hint).index)
	} else {
		s.office.stored(from, m.match)
		s.peers[from].accepted(m.sequence, m.match)
		s.advance()
	}
	if s.office != nil {
		s.housekeep()
		s.pump()
	}
}
