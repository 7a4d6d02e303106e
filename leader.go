package raft

import (
	"context"
	"slices"
	"time"
)

// office is one term of leadership with its goroutines; it ends with the term.
type office struct {
	leadership
	began    time.Time
	ctx      context.Context
	cancel   context.CancelFunc
	senders  map[string]*sender
	activity map[string]time.Time
	ready    bool      // the first entry of the term is applied
	batches  []uint64  // the last entry of each batch of proposals under way
	changes  []*change // asked for and not yet appended, in the order of asking
	current  *change   // appended and not yet committed
	// confirming are changes that change nothing, each with an entry that shows, when
	// it is committed, that the leader was still one.
	confirming []*change
	departed   []departed
	handing    *handing        // of the office to another server, nil if none is under way
	joined     map[string]bool // members that AddPeer named although they were members
	leaving    bool            // the configuration in force has this server's vote no more
}

// ack is what a follower answered to a sender of this server.
type ack struct {
	term        uint64 // of the office that asked
	name        string
	incarnation uint64 // of the member that was asked
	response    *AppendEntriesResponse
	round       uint64        // of heartbeats for reads that the request was of
	lost        bool          // it shows that the member has lost what it had acknowledged
	at          time.Time     // when the answer was here
	took        time.Duration // since the request left, for the heartbeat event
}

// leaderLoop serves one term of office: it takes proposals and acknowledgements
// until a later term is seen, or no majority answers any more.
func (l *eventLoop) leaderLoop() {
	l.takeOffice()
	defer l.leaveOffice()
	checked := time.Now()
	check := time.NewTimer(l.checkInterval())
	defer check.Stop()
	disk := time.NewTicker(l.diskInterval())
	defer disk.Stop()
	for l.raft.role == Leader && !l.stopping() {
		select {
		case <-l.ctx.Done():
		case <-l.proposed():
			l.turn(l.decideLeading)
		case <-l.asked():
			l.turn(l.decideLeading)
		case <-l.office.overdue():
			l.turn(l.decideLeading)
			l.office.keep(noTransfer("it took longer than an election timeout"))
		case <-l.inbox.ready:
			l.turn(l.decideLeading)
			if l.rearm {
				l.rearm = false
				check.Reset(l.checkInterval() - time.Since(checked))
				disk.Reset(l.diskInterval())
			}
		case <-disk.C:
			l.turn(l.decideLeading)
			l.pruneReads()
			l.relieve()
		case <-check.C:
			l.turn(l.decideLeading)
			if l.raft.role == Leader && !l.office.checkQuorum(l.raft.configuration()) {
				l.log.Warn("raft: no majority answers", "term", l.raft.term)
				l.stepDown()
			}
			if l.raft.role == Leader && l.halted && l.raft.commitIndex >= l.office.start {
				l.abdicate() // the others have what only it had, and can apply it
			}
			checked = time.Now()
			check.Reset(l.checkInterval())
		}
	}
}

// checkInterval is the time between two checks of the quorum: an election
// timeout, less up to a tenth, so that nothing else that takes one ends together
// with it.
func (l *eventLoop) checkInterval() time.Duration {
	d := l.settings.electionTimeout()
	return d - time.Duration(l.rand.Int64N(int64(d/10)+1))
}

// diskInterval is the time between two looks at what keeps the disk.
func (l *eventLoop) diskInterval() time.Duration { return max(1, l.settings.electionTimeout()/2) }

// stepDown gives up the office without a new term.
func (l *eventLoop) stepDown() { l.raft.role, l.raft.leader = Follower, "" }

// takeOffice begins a term with an entry of its own, so that what older terms
// left can be committed (§5.4.2, §8). The first entry of a log is the initial
// configuration, in which the cluster gets its identity.
func (l *eventLoop) takeOffice() {
	r := l.raft
	l.dropIncoming()
	ctx, cancel := context.WithCancel(l.ctx)
	l.office = &office{
		leadership: *newLeadership(r, r.log.end+1, l.grants),
		began:      time.Now(),
		ctx:        ctx, cancel: cancel,
		senders:  map[string]*sender{},
		activity: map[string]time.Time{},
		joined:   map[string]bool{},
	}
	for i, c := range r.configurations[1:] {
		l.office.part(r.configurations[i], c)
	}
	if r.log.end > 0 {
		l.append(nopRecord())
		l.flush()
		return
	}
	if r.clusterID == 0 {
		for r.clusterID == 0 {
			r.clusterID = l.rand.Uint64()
		}
		l.saveIdentity(false)
	}
	l.configure(r.configuration().bind(l.grants), NOPCommand{}.CommandName(), "")
	l.flush()
}

// leaveOffice ends the office's goroutines. Callers whose commands are staged
// wait a little longer: they may yet learn what became of them.
func (l *eventLoop) leaveOffice() {
	o := l.office
	l.office = nil
	o.cancel()
	begun, waiting := ErrLeadershipLost, NotLeaderError
	if l.stopping() {
		begun, waiting = StopError, StopError
	}
	if o.current != nil {
		o.current.fail(begun, ErrOutcomeUnknown)
	}
	for _, c := range o.confirming {
		c.fail(begun, ErrOutcomeUnknown)
	}
	for _, c := range o.changes {
		c.fail(waiting, ErrNotApplied)
	}
	l.orphans = append(l.orphans, l.pending...)
	l.reconsider()
	clear(l.pending)
	l.pending, l.pendingBytes = l.pending[:0], 0
	l.publish()
	l.handed(o)
	l.askLeader()
	if l.stopping() {
		return
	}
	l.gather() // who waits hears that this server does not lead
	if len(l.orphans) == 0 {
		return
	}
	l.expiries = append(l.expiries, time.AfterFunc(2*l.settings.electionTimeout(), func() {
		l.inbox.add(control(func(l *eventLoop) { l.expire(o.term) })) // Stop does not wait for this
	}))
}

// expire gives up on the proposals of an office that was lost.
func (l *eventLoop) expire(term uint64) {
	l.orphans = slices.DeleteFunc(l.orphans, func(p *proposal) bool {
		if p.id.term > term {
			return false
		}
		p.fail(ErrLeadershipLost, ErrOutcomeUnknown)
		return true
	})
}

// decideLeading settles an event as a leader does.
func (l *eventLoop) decideLeading(event any) {
	if l.leads() {
		if a, ok := event.(*ack); ok {
			l.acknowledged(a)
			return
		}
	}
	l.decide(event)
}

// maxBatches is how many batches of proposals are under way while the next one
// gathers: one that the disk writes, and one that waits for it. A batch is under
// way until this server has it on its disk, or the others have committed it, so
// neither a slow disk here nor a long way to the others holds up the next.
const maxBatches = 2

// enoughBytes of proposals need not gather any further: they fill a message, and a
// turn stages no more of them.
const enoughBytes = maxBatchBytes

// mayGather reports whether it is time to take the proposals that wait. What would
// have to be refused waits for no batch, and an office that is lost gathers no more:
// when it is left, and the world knows, who waits is refused.
func (l *eventLoop) mayGather() bool {
	if l.office == nil {
		return true
	}
	waiting := l.waiting.Load()
	if l.leads() && l.office.handing != nil {
		return waiting > int64(l.options.maxUncommittedBytes) // to be refused
	}
	return l.leads() && (l.full != nil || waiting >= enoughBytes ||
		int64(l.pendingBytes)+waiting > int64(l.options.maxUncommittedBytes) ||
		l.office.underWay(max(l.durable, l.raft.commitIndex)) < maxBatches)
}

// A batch is held open for callers that are about to propose, but not for long.
const (
	lingerRounds = 16
	lingerFor    = time.Millisecond
)

// linger lets the goroutines that are ready to run go first, as long as that brings
// more proposals: callers that were answered together come back together, and the
// first of them would else have a batch, and its syncs, to itself. Where nothing else
// is ready to run it takes no time.
func (l *eventLoop) linger() {
	begun, before, quiet := time.Now(), l.waiting.Load(), 0
	for round := 0; round < lingerRounds && quiet < 2 && time.Since(begun) < lingerFor; round++ {
		// Now and then the scheduler hands over to nobody, so one quiet round says little.
		took, ok := l.courtesy.extend()
		if !ok {
			return
		}
		waiting := l.waiting.Load()
		if quiet++; waiting > before {
			before, quiet = waiting, 0
		} else if took >= lingerFor {
			l.courtesy.rue(took)
		}
	}
}

// leads reports whether the office is that of the term, and not lost in this turn.
func (l *eventLoop) leads() bool {
	return l.office != nil && l.raft.role == Leader && l.raft.term == l.office.term
}

// proposed is ready when proposals wait and it is time to take them.
func (l *eventLoop) proposed() <-chan struct{} {
	if l.mayGather() {
		return l.proposals.ready
	}
	return nil
}

// gather stages the proposals that wait, as one batch, if it is time for the next;
// who does not lead refuses them.
func (l *eventLoop) gather() {
	if l.mayGather() {
		l.deal()
	}
	// The queue's token may be what woke the loop. It is for those who still wait.
	if l.dealt < len(l.gathered) || l.proposals.waiting() {
		l.proposals.signal()
	}
}

// deal stages or refuses proposals, a message's worth if there are that many.
func (l *eventLoop) deal() {
	if l.dealt == len(l.gathered) {
		if l.leads() && l.waiting.Load() > 0 {
			l.linger()
		}
		select {
		case <-l.proposals.ready: // this is what it was for
		default:
		}
		l.gathered, l.dealt = l.proposals.take(l.gathered), 0
	}
	leading, before := l.leads(), l.raft.log.end
	for bytes := 0; l.dealt < len(l.gathered) && (!leading || bytes < enoughBytes); l.dealt++ {
		p := l.gathered[l.dealt]
		l.waiting.Add(-int64(p.size))
		bytes += p.size
		if leading {
			l.propose(p)
		} else {
			p.fail(NotLeaderError, ErrNotApplied)
		}
	}
	if end := l.raft.log.end; end > before {
		l.office.batches = append(l.office.batches, end)
	}
}

// underWay counts the batches that are not settled up to that index.
func (o *office) underWay(settled uint64) int {
	n := 0
	for n < len(o.batches) && o.batches[n] <= settled {
		n++
	}
	o.batches = slices.Delete(o.batches, 0, n)
	return len(o.batches)
}

// propose stages a command, or refuses it: a leader that leaves takes none, so
// that its removal is the last entry that it waits for.
func (l *eventLoop) propose(p *proposal) {
	if l.office.leaving {
		p.fail(NotLeaderError, ErrNotApplied)
		return
	}
	if l.full != nil {
		p.fail(ErrNoSpace, ErrNotApplied)
		return
	}
	if l.office.handing != nil {
		p.fail(ErrOverloaded, ErrNotApplied)
		return
	}
	// The tail is larger than it should be only while this server's own disk is
	// behind: the others can commit without it, but memory must not take its place.
	behind := l.tail.size > tailBytes+l.options.maxUncommittedBytes
	if behind || l.pendingBytes+p.size > l.options.maxUncommittedBytes {
		p.fail(ErrOverloaded, ErrNotApplied)
		return
	}
	if p.id = l.append(p.record); p.size >= ownChunkBytes {
		p.record = nil
	}
	l.pending = append(l.pending, p)
	l.pendingBytes += p.size
}

// append stages a record as the next entry of this term. A record of ownChunkBytes
// or more belongs to the log from now on.
func (l *eventLoop) append(record []byte) entryID {
	id := entryID{l.raft.log.end + 1, l.raft.term}
	l.want().add(id.index, id.index, l.tail.stage(record, id, l.seed))
	l.raft.log.append(id.term, 1)
	return id
}

// acknowledged takes a follower's answer as evidence of what it stores.
func (l *eventLoop) acknowledged(a *ack) {
	o, r, response := l.office, l.raft, a.response
	if a.term != o.term || response.From != "" && response.From != a.name {
		return
	}
	if response.ClusterID != 0 && response.ClusterID != r.clusterID && response.success {
		return
	}
	if m := r.configuration().find(a.name); m == nil || m.incarnation != a.incarnation {
		o.farewell(a)
		return
	}
	if response.Refused != refusedNot {
		o.refusedFrom(r.configuration(), a.name, response.StoreID)
		return
	}
	if !o.answeredFrom(r.configuration(), a.name, response.StoreID) {
		return
	}
	if a.lost {
		l.fence(a)
		return
	}
	o.activity[a.name] = a.at
	if l.events.listens(HeartbeatEventType) {
		l.events.dispatch(HeartbeatEventType, a.took, nil)
	}
	if response.term > r.term {
		r.observe(response.term)
		return
	}
	if response.term == o.term {
		o.confirm(a.name, a.round)
	}
	if response.success && response.term == o.term && response.index <= r.log.end {
		o.stored(a.name, response.index)
	}
}

// fence takes notice that a member's store has lost what it had acknowledged.
func (l *eventLoop) fence(a *ack) {
	if match := l.office.match[a.name]; l.office.fence(a.name) {
		l.log.Error("raft: a member has lost entries that it had acknowledged: it counts no more and is to be added anew",
			"member", a.name, "term", a.term, "acknowledged", match, "end", a.response.index)
	}
}

// lead does what a turn's evidence allows: commit, settle changes of the
// configuration, and show the senders the log.
func (l *eventLoop) lead() {
	o, r := l.office, l.raft
	if r.role != Leader || r.term != o.term {
		return
	}
	o.stored(r.name, l.durable)
	r.commit(o.committed(r.configuration()))
	l.change()
	if r.role != Leader {
		return
	}
	l.leadReads()
	l.handOn()
	l.expireDeparted()
	l.employ()
	view := &leaderView{logView: l.view(), term: r.term, round: o.lastRound, commitIndex: r.commitIndex, snapshot: l.newestSnapshot()}
	for _, s := range o.senders {
		s.show(view)
	}
}

// employ keeps one sender for each other member of the configuration in force,
// and for those that were removed and do not know it yet.
func (l *eventLoop) employ() {
	o, c := l.office, l.raft.configuration()
	for name, s := range o.senders {
		if m := o.served(c, name); m == nil || !s.serves(m) {
			s.cancel()
			delete(o.senders, name)
		}
	}
	for i := range c.members {
		if m := &c.members[i]; l.raft.mayServe(m) {
			l.serve(m)
		}
	}
	for i := range o.departed {
		l.serve(&o.departed[i].member)
	}
}

// serve begins to send to the member, if nobody does.
func (l *eventLoop) serve(m *member) {
	o := l.office
	if o.senders[m.name] != nil {
		return
	}
	next := o.start
	if match := o.match[m.name]; match > 0 {
		next = match + 1
	}
	o.senders[m.name] = l.newSender(o, m, next)
}

// trouble says why nothing counts that a member says.
func (o *office) trouble(name string) string {
	switch {
	case o.lost[name]:
		return "another store answers under its name: it has lost its own"
	case o.fenced[name]:
		return "its store has lost entries that it had acknowledged"
	}
	return ""
}

// members tells of each member what the leader knows.
func (o *office) members(c *configuration, end uint64) []MemberStatus {
	members, now := membersOf(c), time.Now()
	for i := range members {
		members[i].Match = o.match[members[i].Name]
		members[i].LastActivity = o.activity[members[i].Name]
		members[i].Trouble = o.trouble(members[i].Name)
		if last := members[i].LastActivity; last.IsZero() {
			members[i].SilentFor = now.Sub(o.began)
		} else {
			members[i].SilentFor = now.Sub(last)
		}
		members[i].Lag = end - min(end, members[i].Match)
		if s := o.senders[members[i].Name]; s != nil {
			s.tell(&members[i])
		}
	}
	return members
}
