package raft

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/goraft/raft/internal/snapshot"
)

// Peer is another member as Peers and transporters see it.
type Peer struct {
	Name             string `json:"name"`
	ConnectionString string `json:"connectionString"`
	// RWMutex is goraft's; nothing here uses it.
	sync.RWMutex

	storeID      uint64 // that the configuration binds the name to, 0 if none
	lastActivity time.Time
}

// LastActivity is when the peer last answered this server while it led, as of at most
// half an election timeout ago, or the zero time.
func (p *Peer) LastActivity() time.Time { return p.lastActivity }

// leaderView is what a leader's senders may see: the log of one term as of one
// turn. A deposed leader shows no more, so that nothing of a later term ever
// leaves in its name.
type leaderView struct {
	logView
	term        uint64
	round       uint64 // of heartbeats for reads
	commitIndex uint64
	snapshot    *snapshot.Info // the newest, nil if there is none
}

// sender is the heartbeat goroutine of one peer: it brings the peer's log in
// line with the leader's and tells it that the leader lives. It owns nextIndex
// and what is under way, a guess; what the peer stores is for the event loop to
// know.
type sender struct {
	*run
	ctx      context.Context
	cancel   context.CancelFunc
	term     uint64
	member   member
	peer     *Peer
	rand     *rand.Rand
	view     atomic.Pointer[leaderView]
	wake     chan struct{} // holds a token when there is a new view
	answers  chan answer
	progress progress
	store    uint64               // from which the peer's answers come, 0 before the first
	request  AppendEntriesRequest // of the stream, used again
	digest   uint64
	busy     atomic.Int32 // single calls under way
	link     link
	held     bool // no entries by single calls before the next tick: one was lost
	lastSent time.Time
	began    time.Time     // when the office did
	offset   time.Duration // of its heartbeats from the office's beat
	interval time.Duration // from the last heartbeat to the next, if nothing else is sent
	probed   uint64        // the last round for reads that a heartbeat was of
	heard    uint64        // and the last that an answer was to
	rtt      smoothed      // of a heartbeat and its answer
	gauged   atomic.Pointer[sending]
	lastWord time.Time // of the peer

	// shipping is the index of the snapshot that the peer is sent, or was and has
	// not caught up from, 0 if there is none: its file and the log behind it stay.
	shipping atomic.Uint64
	shipped  chan uint64  // what became of it: its index, or 0; nil if none is under way
	shipBusy atomic.Int32 // calls for it under way
}

// answer is what became of one request.
type answer struct {
	link     uint64 // generation of the stream that it came by, 0 for a call
	sequence uint64
	prev     uint64 // the request's PrevLogIndex, for a call
	sent     time.Time
	round    uint64                 // for reads, of the request
	beat     bool                   // the request was a heartbeat
	response *AppendEntriesResponse // nil if there is none
}

// newSender starts to serve a member; next is the first entry that it may lack.
func (l *eventLoop) newSender(o *office, m *member, next uint64) *sender {
	ctx, cancel := context.WithCancel(o.ctx)
	s := &sender{
		run: l.run, ctx: ctx, cancel: cancel, term: o.term, member: *m,
		peer:     &Peer{Name: m.name, ConnectionString: m.connectionString, storeID: m.storeID},
		rand:     rand.New(rand.NewPCG(l.rand.Uint64(), l.rand.Uint64())),
		wake:     make(chan struct{}, 1),
		answers:  make(chan answer, 2*maxInFlight),
		progress: newProgress(next),
		store:    cmp.Or(m.storeID, o.stores[m.name]),
		digest:   l.raft.initialDigest(),
		lastSent: time.Now(), // the beat may be a moment away, and the stream has to open first
		lastWord: time.Now(),
		began:    o.began,
		interval: beatOf(l.settings.heartbeat()),
	}
	s.offset = beatOffset(s.rand, s.interval)
	s.progress.matched = o.match[m.name]
	s.request = AppendEntriesRequest{
		Term: o.term, LeaderName: l.raft.name, ClusterID: l.raft.clusterID, To: m.name,
		StoreID: l.raft.storeID, ToStoreID: m.storeID, InitialDigest: s.digest,
	}
	s.gauge()
	s.tasks.Go("peer:"+m.name, s.loop)
	return s
}

// serves reports whether the sender still suits the member.
func (s *sender) serves(m *member) bool {
	return s.member.incarnation == m.incarnation && s.member.connectionString == m.connectionString && s.member.storeID == m.storeID
}

// show gives the sender a newer view.
func (s *sender) show(view *leaderView) {
	old := s.view.Swap(view)
	if old != nil && old.terms.end == view.terms.end && old.round == view.round {
		return // a commit index alone waits for the next heartbeat
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// loop serves the peer until the office ends or the member changes.
func (s *sender) loop() {
	defer s.link.end()
	timer := time.NewTimer(untilBeat(time.Since(s.began), s.offset, s.interval))
	defer timer.Stop()
	for s.ctx.Err() == nil {
		select {
		case <-s.ctx.Done():
			return
		case <-s.wake:
		case a := <-s.answers:
			s.answered(a)
		case o := <-s.link.opened():
			s.opened(o)
		case index := <-s.shipped:
			s.delivered(index)
		case <-timer.C:
			timer.Reset(s.tick())
			s.gauge()
		}
		s.connect()
		s.probe()
		s.pump()
		s.ship()
	}
}

// beatOffset draws how long after an office's beat a sender sends its heartbeats: so
// short that idle servers are woken once for all of them, and with no two at one time.
func beatOffset(rand *rand.Rand, interval time.Duration) time.Duration {
	return 1 + time.Duration(rand.Int64N(int64(interval/1000)+1))
}

// beatOf is the time between two heartbeats: a little less than the setting, so that the
// third of three, the first two of which are lost, comes before an election timeout of three is over.
func beatOf(heartbeat time.Duration) time.Duration { return heartbeat - heartbeat/20 }

// untilBeat is how long it is to a sender's next heartbeat, at most an interval, when
// some time has passed since the office began.
func untilBeat(passed, offset, interval time.Duration) time.Duration {
	return interval - (passed+interval-offset)%interval
}

// tick sends a heartbeat if nothing was sent for an interval, and gives up on
// what is overdue. It returns when to look again.
func (s *sender) tick() time.Duration {
	now := time.Now()
	s.held = false
	if overdue := s.settings.electionTimeout(); now.Sub(s.lastWord) > overdue {
		if s.link.stream != nil {
			s.broken()
		} else if len(s.progress.window) > 0 {
			s.progress.lost()
		}
		s.lastWord = now
	}
	// A shorter setting counts at once: while entries flow there may be no heartbeat.
	if rest := min(s.interval, beatOf(s.settings.heartbeat())) - now.Sub(s.lastSent); rest > 0 {
		return rest
	}
	if s.link.opening != nil {
		s.link.single = true // a stream that is slow to open must not silence the leader
	}
	s.heartbeat()
	s.interval = untilBeat(now.Sub(s.began), s.offset, beatOf(s.settings.heartbeat()))
	return s.interval
}

// pump sends what the window and the link have room for.
func (s *sender) pump() {
	s.yield("view")
	view := s.view.Load()
	for view != nil && s.ctx.Err() == nil && s.mayCarry() && !s.behind(view) && s.progress.next <= view.terms.end && s.progress.maySend() {
		records, last, err := view.read(s.progress.next, view.terms.end, s.progress.room())
		if err != nil {
			s.unreadable(err)
			return
		}
		if !s.send(view, records, last) {
			return
		}
	}
}

// mayCarry reports whether the link takes entries now: a stream any number, single
// calls one after the other.
func (s *sender) mayCarry() bool {
	return s.link.stream != nil || s.link.calls() && !s.held && len(s.progress.window) == 0 && s.busy.Load() < maxCalls
}

// heartbeat tells the peer that the leader lives, and what is committed. It names
// the last entry sent, so that the loss of one comes to light.
func (s *sender) heartbeat() {
	if view := s.view.Load(); view != nil && (s.link.stream != nil || s.link.calls() && s.busy.Load() < maxCalls) {
		s.send(view, nil, s.progress.next-1)
	}
}

// probe sends a heartbeat for reads that wait, whose answer does not wait for the
// disk as those to entries do. To a peer that does not answer no more than some go, and
// none overtakes a single call with entries.
func (s *sender) probe() {
	if s.link.calls() && len(s.progress.window) > 0 {
		return
	}
	if view := s.view.Load(); view != nil && view.round > s.probed && s.probed < s.heard+maxReadRounds {
		s.heartbeat()
	}
}

// send sends one request with the records from nextIndex to last, or none.
func (s *sender) send(view *leaderView, records []byte, last uint64) bool {
	// One that needs a snapshot is asked whether it has got it.
	prev := max(s.progress.next-1, view.terms.base.index)
	sequence := s.progress.sent(last, len(records))
	if s.lastSent = time.Now(); len(records) == 0 {
		s.probed = view.round
	}
	req := &s.request
	if s.link.stream == nil {
		req = new(AppendEntriesRequest)
		*req = s.request
	}
	req.PrevLogIndex, req.PrevLogTerm = prev, view.terms.termAt(prev)
	req.CommitIndex, req.Sequence, req.records = view.commitIndex, sequence, records
	if s.link.stream == nil {
		s.callAppend(req, view.round, len(records) == 0)
		return true
	}
	s.yield("send")
	if err := s.link.stream.Send(req); err != nil {
		s.broken()
		return false
	}
	s.link.note(flightNote{sequence: sequence, prev: prev, round: view.round, beat: len(records) == 0, sent: s.lastSent})
	return true
}

// answered takes an answer: as a guess for what to send next, and to the event
// loop as evidence.
func (s *sender) answered(a answer) {
	if a.link != 0 && (s.link.stream == nil || a.link != s.link.generation) {
		return // from a connection that was given up
	}
	if a.response == nil {
		s.unanswered(a)
		return
	}
	if a.link != 0 {
		note, ok := s.link.find(a.response.Sequence)
		if !ok {
			return
		}
		a.sequence, a.prev, a.round, a.beat, a.sent = note.sequence, note.prev, note.round, note.beat, note.sent
	} else if a.response.Sequence != a.sequence && a.response.Sequence != 0 {
		a.round = 0 // a transporter that mixes up answers confirms nothing
	}
	response, view := a.response, s.view.Load()
	if response.From != "" && response.From != s.member.name || response.success && response.index > view.terms.end {
		return
	}
	if s.lastWord = time.Now(); a.beat {
		s.rtt.observe(s.lastWord.Sub(a.sent))
	}
	lost := s.lost(&a)
	tell := s.inbox.put
	if !lost && a.round <= s.heard && s.foreseen(response) {
		tell = s.inbox.leave
	}
	tell(&ack{
		term: s.term, name: s.member.name, incarnation: s.member.incarnation, response: response,
		round: a.round, lost: lost, at: s.lastWord, took: s.lastWord.Sub(a.sent),
	})
	if response.term == s.term && response.Refused == refusedNot {
		s.heard = max(s.heard, a.round)
	}
	hint := entryID{response.ConflictIndex, response.ConflictTerm}
	switch {
	case response.term != s.term || response.Refused != refusedNot:
	case response.success:
		s.progress.accepted(a.sequence, response.index)
		s.store = cmp.Or(s.store, response.StoreID)
	case lost:
		s.progress.forgot(view.terms.lastShared(hint).index)
	default:
		s.progress.refused(a.sequence, a.prev, view.terms.lastShared(hint).index)
	}
}

// foreseen reports whether an answer says nothing but that the peer still follows, as
// those to most heartbeats do. It counts when the quorum is checked, and is taken then
// or earlier, so the event loop sleeps on.
func (s *sender) foreseen(r *AppendEntriesResponse) bool {
	return r.success && r.Refused == refusedNot && r.term == s.term && r.index == s.progress.matched &&
		r.StoreID != 0 && r.StoreID == s.store && !s.events.listens(HeartbeatEventType)
}

// lost reports whether the answer shows that the peer has lost what it had
// acknowledged. It must be of this term, in which nobody else may have cut its
// log, from the store that acknowledged, and of this very request: what a
// transporter mixed up shows nothing.
func (s *sender) lost(a *answer) bool {
	r := a.response
	return !r.success && r.Refused == refusedNot && r.term == s.term && r.StoreID != 0 && r.StoreID == s.store &&
		r.Sequence == a.sequence && s.progress.forgotten(a.sequence, r.index)
}

// unanswered takes notice that a request got no answer.
func (s *sender) unanswered(a answer) {
	if s.events.listens(HeartbeatIntervalEventType) {
		s.events.dispatch(HeartbeatIntervalEventType, &Peer{Name: s.peer.Name, ConnectionString: s.peer.ConnectionString}, nil)
	}
	if a.link != 0 {
		s.broken()
		return
	}
	s.held = true // a peer that is down may refuse as fast as it is asked
	if a.sequence > s.progress.restarts {
		s.progress.lost()
	}
}

// broken gives up the stream and what was under way on it.
func (s *sender) broken() {
	s.link.drop(s.settings.heartbeat())
	s.progress.lost()
	s.probed = s.heard
}

// unreadable takes notice that the log cannot be read. A view that is out of date
// is no harm.
func (s *sender) unreadable(err error) {
	if errors.Is(err, errUnreadable) {
		s.inbox.put(control(func(l *eventLoop) { l.fail(err) }))
	}
	s.progress.lost()
}
