package raft

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// The clocked world: servers that are nothing but the rules, as in
// rules_harness_test.go, but with time. One goroutine takes one event after the
// other from a queue ordered by virtual time; what the loops of a real server do
// with timers, promises and senders, a clockServer does here. A seed decides
// everything: no map is ranged over where the order could show.

// maxClock is how many servers there may be in a clocked world.
const maxClock = 10

// clockKind is what an event is.
type clockKind uint8

const (
	clockDeliver clockKind = iota
	clockTimer             // of a follower or candidate
	clockCheck             // of the quorum
	clockDisk              // a leader looks at its disk
	clockTick              // of a leader's sender
	clockSynced            // the disk has done what it was asked
	clockInstall           // a snapshot that has arrived is a whole file
	clockCommand           // a client's
	clockFault             // the next fault
	clockEnd               // of one fault
	clockOperate           // the operator's next change
)

// clockEvent is something that happens at a moment. An event of an earlier life,
// or of an office or a candidacy that is over, has an old generation.
type clockEvent struct {
	at     int64
	seq    uint64 // in which they were made: decides between equal moments
	letter *clockLetter
	gen    uint32
	kind   clockKind
	server uint8
	peer   uint8
	action uint8
}

func (e *clockEvent) before(o *clockEvent) bool {
	return e.at < o.at || e.at == o.at && e.seq < o.seq
}

// clockQueue is a heap with four children a node.
type clockQueue []clockEvent

func (q *clockQueue) push(e clockEvent) {
	h := append(*q, e)
	i := len(h) - 1
	for i > 0 {
		up := (i - 1) / 4
		if !e.before(&h[up]) {
			break
		}
		h[i] = h[up]
		i = up
	}
	h[i] = e
	*q = h
}

func (q *clockQueue) pop() clockEvent {
	h := *q
	first, n := h[0], len(h)-1
	last := h[n]
	h[n].letter = nil
	h = h[:n]
	*q = h
	if n == 0 {
		return first
	}
	i := 0
	for {
		child := 4*i + 1
		if child >= n {
			break
		}
		least := child
		for c := child + 1; c < min(child+4, n); c++ {
			if h[c].before(&h[least]) {
				least = c
			}
		}
		if !h[least].before(&last) {
			break
		}
		h[i] = h[least]
		i = least
	}
	h[i] = last
	return first
}

// clockPlan is what a seed has drawn: the size, the timeouts, the links, the
// disks and the load. Chances are of 65536.
type clockPlan struct {
	servers, spares     int
	election, heartbeat int64
	delay, jitter       int64 // of a letter
	loss, copies, late  uint16
	lateBy              int64
	inOrder             bool // links keep the order, as streams do
	calls               bool // one request with entries at a time, as without streams
	sync, syncJitter    int64
	batch, entryBytes   int
	pause               int64 // between two commands, on average; 0: there are none
	withoutPreVote      uint16
	rates               [maxClock]int64 // of the clocks, in thousandths
}

// clockWorld is all servers, what is between them, and the time.
type clockWorld struct {
	plan    clockPlan
	now     int64
	seq     uint64
	queue   clockQueue
	rng     *rand.Rand
	servers []*clockServer // by name
	cut     [maxClock][maxClock]bool
	slow    [maxClock]int64           // how many times longer letters of and to a server take
	arrived [maxClock][maxClock]int64 // when the last letter of a link that keeps the order arrives
	free    []*clockLetter
	batch   batch // scratch
	calm    bool  // faults are over: nothing is lost any more
	hash    uint64
	count   *clockCounts
	trace   func(format string, args ...any)
	faults  clockFaults
	clockLedger
}

// newClockWorld starts a cluster and the servers that wait to join it.
func newClockWorld(plan clockPlan, seed uint64, count *clockCounts, trace func(format string, args ...any)) *clockWorld {
	w := &clockWorld{plan: plan, rng: rand.New(rand.NewPCG(seed, 1)), count: count, trace: trace, clockLedger: newClockLedger()}
	names := make([]string, plan.servers)
	for i := range names {
		names[i] = clockName(i)
	}
	for i := range plan.servers + plan.spares {
		s := &clockServer{w: w, id: uint8(i), rate: 1000, preVote: plan.withoutPreVote&(1<<i) == 0, begun: i < plan.servers}
		if plan.rates[i] != 0 {
			s.rate = plan.rates[i]
		}
		s.et, s.hb = plan.election*1000/s.rate, min(plan.heartbeat, plan.election/3)*1000/s.rate
		s.disk.storeID = w.draw()
		if i < plan.servers {
			s.disk.initial = toyConfiguration(names...)
		} else {
			s.disk.initial = newConfiguration(0, nil)
		}
		w.servers = append(w.servers, s)
		w.slow[i] = 1
		s.boot()
	}
	if plan.pause > 0 {
		w.at(plan.pause, clockEvent{kind: clockCommand})
	}
	return w
}

func clockName(i int) string { return string(rune('a' + i)) }

// server returns the server of that name.
func (w *clockWorld) server(name string) *clockServer { return w.servers[name[0]-'a'] }

// draw returns an id that is not 0.
func (w *clockWorld) draw() uint64 { return w.rng.Uint64() | 1 }

// spread draws a duration around an average.
func (w *clockWorld) spread(average int64) int64 { return average/2 + w.rng.Int64N(average+1) }

// at has an event happen in a while.
func (w *clockWorld) at(in int64, e clockEvent) {
	w.seq++
	e.at, e.seq = w.now+in, w.seq
	w.queue.push(e)
}

// run lets time pass until a moment.
func (w *clockWorld) run(until int64) {
	for len(w.queue) > 0 && w.queue[0].at <= until && len(w.failures) == 0 {
		e := w.queue.pop()
		w.now = e.at
		w.count.events++
		w.happen(&e)
	}
	w.now = until
}

// timeouts lets so many election timeouts pass.
func (w *clockWorld) timeouts(n int64) { w.run(w.now + n*w.plan.election) }

// happen lets one event happen.
func (w *clockWorld) happen(e *clockEvent) {
	w.mix(uint64(e.at)<<8 ^ uint64(e.kind)<<4 ^ uint64(e.server))
	switch e.kind {
	case clockDeliver:
		w.deliver(e.letter)
		return
	case clockCommand:
		w.command()
		return
	case clockFault, clockEnd, clockOperate:
		w.fault(e)
		return
	}
	s := w.servers[e.server]
	if s.down {
		return
	}
	if s.paused {
		s.inbox = append(s.inbox, *e)
		return
	}
	s.happen(e)
	w.mix(s.term<<32 ^ s.log.end<<8 ^ s.commitIndex)
}

// happen lets an event of the server itself happen.
func (s *clockServer) happen(e *clockEvent) {
	switch {
	case e.kind == clockDeliver:
		s.receive(e.letter)
		s.w.release(e.letter)
	case e.kind == clockSynced:
		if e.gen == s.life {
			s.synced()
		}
	case e.kind == clockInstall:
		if e.gen == s.life {
			s.install(e.letter)
		}
	case e.gen != s.gen:
	case e.kind == clockTimer:
		s.timer()
	case e.kind == clockCheck:
		s.checkQuorum()
	case e.kind == clockDisk:
		s.relieve()
	case e.kind == clockTick:
		s.tick(e)
	}
}

// mix makes the hash of all that happened.
func (w *clockWorld) mix(x uint64) { w.hash = (w.hash ^ x) * 0x9E3779B97F4A7C15 >> 1 }

// post puts a letter on its way.
func (w *clockWorld) post(s *clockServer, l *clockLetter) {
	l.from = s.id
	if !l.answers() {
		l.life, l.store = s.life, s.storeID
	}
	if s.silenced(l) {
		w.release(l)
		return
	}
	w.sent(s, l)
	if w.trace != nil {
		w.logf("  %s", l)
	}
	dice := w.rng.Uint64()
	if w.cut[l.from][l.to] || !w.calm && uint16(dice) < w.plan.loss {
		if !w.cut[l.from][l.to] {
			w.count.losses++
		}
		w.release(l)
		return
	}
	delay := w.plan.delay + w.plan.jitter*int64(dice>>48)>>16
	delay *= max(w.slow[l.from], w.slow[l.to])
	if l.kind == snapshotLetter {
		delay += w.plan.heartbeat * int64(dice>>40&0xff) >> 4
	}
	if !w.calm && uint16(dice>>16) < w.plan.copies {
		twin := w.letter(l.kind, l.to)
		ids := twin.ids
		*twin = *l
		twin.ids = append(ids[:0], l.ids...)
		w.count.copies++
		w.arrive(twin, delay+w.rng.Int64N(4*delay+1))
	}
	if !w.calm && uint16(dice>>32) < w.plan.late {
		w.count.late++
		w.at(delay+w.rng.Int64N(w.plan.lateBy), clockEvent{kind: clockDeliver, letter: l})
		return
	}
	w.arrive(l, delay)
}

// arrive has a letter arrive in a while, on a link that keeps the order not
// before the one that was sent before it.
func (w *clockWorld) arrive(l *clockLetter, delay int64) {
	last := &w.arrived[l.from][l.to]
	at := w.now + delay
	if at < *last {
		if w.plan.inOrder && l.kind != snapshotLetter {
			at = *last
		} else {
			w.count.reordered++
		}
	}
	if l.kind != snapshotLetter {
		*last = max(*last, at)
	}
	w.at(at-w.now, clockEvent{kind: clockDeliver, letter: l, server: l.to})
}

// deliver hands a letter over.
func (w *clockWorld) deliver(l *clockLetter) {
	to := w.servers[l.to]
	switch {
	case to.down || w.cut[l.from][l.to]:
		w.release(l)
		return
	case to.paused:
		to.inbox = append(to.inbox, clockEvent{kind: clockDeliver, letter: l})
		return
	}
	if w.trace != nil {
		w.logf("deliver %s", l)
	}
	to.receive(l)
	w.release(l)
	w.mix(to.term<<32 ^ to.log.end<<8 ^ to.commitIndex)
}

// command is a client's.
func (w *clockWorld) command() {
	for _, s := range w.servers {
		if !s.down && !s.paused && s.role == Leader {
			s.propose()
		}
	}
	w.at(w.spread(w.plan.pause), clockEvent{kind: clockCommand})
}

// leader returns the server that leads in the latest term, nil if none does.
func (w *clockWorld) leader() *clockServer {
	var leader *clockServer
	for _, s := range w.servers {
		if !s.down && s.role == Leader && (leader == nil || s.term > leader.term) {
			leader = s
		}
	}
	return leader
}

func (w *clockWorld) logf(format string, args ...any) {
	if w.trace != nil {
		w.trace("%10.3f "+format, append([]any{time.Duration(w.now).Seconds()}, args...)...)
	}
}

// letter returns a letter to fill in.
func (w *clockWorld) letter(kind letterKind, to uint8) *clockLetter {
	n := len(w.free)
	if n == 0 {
		return &clockLetter{kind: kind, to: to}
	}
	l := w.free[n-1]
	w.free = w.free[:n-1]
	l.kind, l.to = kind, to
	l.ids = l.ids[:0]
	return l
}

// release gives a letter back that nobody holds any more.
func (w *clockWorld) release(l *clockLetter) {
	l.election, l.sender = nil, nil
	w.free = append(w.free, l)
}

// answer returns the letter that answers another one.
func (w *clockWorld) answer(l *clockLetter, kind letterKind) *clockLetter {
	a := w.letter(kind, l.from)
	a.life, a.store, a.election, a.sender, a.link = l.life, l.store, l.election, l.sender, l.link
	return a
}

// letterKind is what a letter says.
type letterKind uint8

const (
	voteLetter letterKind = iota
	votedLetter
	appendLetter
	appendedLetter
	offerLetter // of a snapshot
	snapshotLetter
	offeredLetter // the answer to either
	timeoutNowLetter
	timedOutLetter
)

// clockLetter is one message under way.
type clockLetter struct {
	kind     letterKind
	from, to uint8
	life     uint32    // of the server that asked
	link     uint32    // of the sender that asked
	store    uint64    // that asked
	election *election // for which a vote is asked
	sender   *clockSender

	vote     RequestVoteRequest
	voted    RequestVoteResponse
	append   AppendEntriesRequest
	ids      []uint32 // of append: its entries; of a snapshot: all that it stands for
	appended clockAppended

	claim   leaderClaim
	id      entryID // of the snapshot
	offered clockOffered

	timeoutNow TimeoutNowRequest
	timedOut   bool
}

// answers reports whether the letter is an answer.
func (l *clockLetter) answers() bool {
	return l.kind == votedLetter || l.kind == appendedLetter || l.kind == offeredLetter || l.kind == timedOutLetter
}

// clockAppended is the answer to an append.
type clockAppended struct {
	success, heard bool
	refused        uint32
	term, storeID  uint64
	index, commit  uint64
	sequence, prev uint64
	hint           entryID
}

// clockOffered is the answer to what is said of a snapshot.
type clockOffered struct {
	needed, snapshot bool // snapshot: it was the snapshot itself
	refused          uint32
	term, storeID    uint64
	commit           uint64
}

func (l *clockLetter) String() string {
	way := fmt.Sprintf("%s->%s: ", clockName(int(l.from)), clockName(int(l.to)))
	switch l.kind {
	case appendLetter:
		return way + fmt.Sprintf("append term %d prev %d.%d commit %d +%d #%d", l.append.Term, l.append.PrevLogIndex, l.append.PrevLogTerm, l.append.CommitIndex, len(l.ids), l.append.Sequence)
	case appendedLetter:
		m := &l.appended
		return way + fmt.Sprintf("appended %t term %d index %d commit %d hint %d.%d #%d%s", m.success, m.term, m.index, m.commit, m.hint.index, m.hint.term, m.sequence, refusal(m.refused))
	case offerLetter:
		return way + fmt.Sprintf("offers snapshot %d.%d term %d", l.id.index, l.id.term, l.claim.term)
	case snapshotLetter:
		return way + fmt.Sprintf("snapshot %d.%d term %d", l.id.index, l.id.term, l.claim.term)
	case offeredLetter:
		return way + fmt.Sprintf("of snapshot %d.%d: needed %t, commit %d, term %d%s", l.id.index, l.id.term, l.offered.needed, l.offered.commit, l.offered.term, refusal(l.offered.refused))
	case timedOutLetter:
		return way + fmt.Sprintf("stands %t", l.timedOut)
	}
	toy := letter{from: clockName(int(l.from)), to: clockName(int(l.to))}
	switch l.kind {
	case voteLetter:
		toy.vote = &l.vote
	case votedLetter:
		toy.voted = &l.voted
	default:
		toy.timeoutNow = &l.timeoutNow
	}
	return toy.String()
}
