package raft

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"github.com/goraft/raft/internal/wal"
)

// eventLoop owns the protocol state of a running server. It is made, and only
// ever touched, by its own goroutine; everything else talks to it through the
// inbox.
//
// A turn is take, decide, flush: take all that waits, let the rules decide each
// event, then make the world agree.
type eventLoop struct {
	*run
	raft *replica
	tail tail
	seed uint32 // of the cluster's checksums
	rand *rand.Rand

	// What the world was last told; flush tells it the difference.
	savedBallot ballot
	toldCommit  uint64
	told        *published

	order *order // what this turn wants durable, nil if nothing
	durability
	promises     promises
	gathered     []*proposal // taken from the queue
	dealt        int         // how many of those are staged or refused
	mine         []*proposal // scratch of commit
	pending      []*proposal // staged and not committed, in the order of the log
	pendingBytes int
	orphans      []*proposal   // of offices that are lost, not known to be committed
	expiries     []*time.Timer // end the wait of proposals of offices that are lost

	lastContact time.Time         // with a leader
	begun       bool              // told to begin a cluster
	summoned    uint64            // the term in which the leader has told it to stand for election
	rests       time.Time         // it does not stand for election before
	intents     []intent          // that Apply asked for, as of the last applied entry
	office      *office           // while leading
	election    *election         // while a candidate
	polled      *election         // the last one that there was, until a leader is known
	inquiry     *election         // in which nobody votes: see inquire
	grants      map[string]uint64 // the stores of those who elected this server
	halted      bool
	rearm       bool                     // the election timeout was changed
	refusals    uint64                   // requests that were not for this server
	asking      map[string]*atomic.Int32 // calls for votes and the like under way, by member
	joins       []chan error             // that wait for this server to be a member
	settled     []*change                // that are committed, to be answered at the end of the turn
	snapshots   []keptSnapshot           // the newest first
	incoming    *incoming                // a snapshot that arrives, nil if none
	covering    covering                 // a snapshot of this server that waits for the log
	readers     readers
	taken       []any    // scratch of turn
	courtesy    courtesy // to callers
	observed    observed
}

// control is an event that is seldom enough to be a function. It runs on the
// event loop.
type control func(l *eventLoop)

// appendCall is an AppendEntries request on its way to its answer.
type appendCall struct {
	req       *AppendEntriesRequest
	batch     batch
	cluster   uint64   // whose seed the records were verified with
	offsets   []uint32 // where each of req.records begins
	responder appendResponder
}

// loop runs the server until it is stopped.
func (l *eventLoop) loop() {
	for !l.stopping() {
		switch l.raft.role {
		case Follower:
			l.follow()
		case Candidate:
			l.candidateLoop()
		case Leader:
			l.leaderLoop()
		}
	}
	l.end()
}

func (l *eventLoop) stopping() bool { return l.ctx.Err() != nil }

// turn lets decide settle every waiting event, then flushes the outcome.
func (l *eventLoop) turn(decide func(event any)) {
	l.taken = l.inbox.take(l.taken)
	for _, event := range l.taken {
		decide(event)
	}
	l.gather()
	l.gatherReads()
	l.flush()
}

// decide settles an event as every role does.
func (l *eventLoop) decide(event any) {
	switch event := event.(type) {
	case *appendCall:
		l.appendEntries(event)
	case *voteCall:
		l.requestVote(event)
	case *voteAnswer:
		l.informed(event)
	case *snapshotCall:
		l.requestSnapshot(event)
	case *recoveryCall:
		l.requestRecovery(event)
	case *timeoutNowCall:
		l.timeoutNow(event)
	case *readIndexCall:
		l.requestReadIndex(event)
	case *questionAnswer:
		l.leaderSaid(event)
	case written:
		l.wrote(event)
	case control:
		event(l)
	}
}

// flush makes the world agree with the decisions of this turn, in the one safe
// order: nothing is promised before it is durable, and nothing is applied
// before it is committed.
func (l *eventLoop) flush() {
	if l.office != nil {
		l.lead()
	}
	l.save()
	l.yield("saved")
	now := l.commit()
	// Only now: what was committed is applied from the memory that it is in.
	l.tail.trim(tailBytes, min(l.durable, l.raft.commitIndex))
	l.yield("committed")
	l.publish()
	l.observed.show(l, l.options.observing)
	l.yield("published")
	// Whoever is answered finds in the server what the answer says.
	l.keep()
	l.answerChanges()
	l.yield("answered")
	l.apply(now)
	l.askLeader()
	l.showReads()
}

// want returns the order of this turn, for a decision to add to.
func (l *eventLoop) want() *order {
	if l.order == nil {
		l.order = &order{}
	}
	return l.order
}

// save gives the turn's order to the log writer, and tells the turn's promises
// what they wait for.
func (l *eventLoop) save() {
	l.send(l.raft.commitIndex)
	l.promises.bind(l.balloted, l.ordered)
}

// split gives the log writer what was wanted before the decision at hand, which
// replaces entries. The commit index that goes with it is that of the turn
// before: the one of now may cover what replaces them, and with a crash between
// the two orders would make the replaced entries committed ones.
func (l *eventLoop) split() {
	if l.order != nil {
		l.send(l.toldCommit)
	}
}

// send gives the log writer what is wanted so far, with a commit index that is
// true of it.
func (l *eventLoop) send(commit uint64) {
	if l.raft.ballot != l.savedBallot {
		b := l.raft.ballot
		l.want().ballot, l.savedBallot = &b, b
	}
	if l.order == nil {
		return
	}
	l.gave(l.order)
	l.order.commit = commit
	l.orders.put(l.order)
	l.order = nil
}

// saveIdentity wants the identity durable, in the order of the entries that
// follow it and not of those before.
func (l *eventLoop) saveIdentity(reset bool) {
	id, err := encodeIdentity(&l.raft.identity)
	if err != nil {
		l.fail(err)
		return
	}
	l.split()
	l.seed = wal.Seed(l.raft.clusterID)
	l.want().identity, l.want().reset = id, reset
}

// wrote takes the log writer's word.
func (l *eventLoop) wrote(word written) {
	switch {
	case word.err != nil:
		l.fail(word.err)
	case word.full != nil:
		l.full = word.full
	default:
		l.done(word.sequence)
	}
}

// blocked says why the disk takes no writes at the moment, "" if it does. Such a
// server neither stands for election nor takes commands that it could not store.
func (l *eventLoop) blocked() string {
	return l.trouble(stalledTimeouts * l.settings.electionTimeout())
}

// truncated takes notice that the log was cut before index.
func (l *eventLoop) truncated(index uint64) {
	l.tail.truncate(index)
	// Their senders wait for an answer all the same. It tells them of the term in
	// which their entries were replaced.
	for _, p := range l.promises.withdraw(index) {
		p.response.success, p.response.term, p.response.index = false, l.raft.term, l.raft.log.end
		l.promises.ballots = append(l.promises.ballots, p)
	}
	l.durability.truncated(index)
}

// keep keeps the promises whose orders are durable.
func (l *eventLoop) keep() {
	l.promises.keep(l.written)
	l.cover()
}

// commit settles what has been committed in this turn; it returns what is to be
// applied, which is nothing if its index is 0.
func (l *eventLoop) commit() committed {
	commit := l.raft.commitIndex
	if l.incoming != nil && l.incoming.label.Index <= commit {
		l.dropIncoming() // the log has gone past it
	}
	if commit == l.toldCommit {
		return committed{}
	}
	l.toldCommit = commit
	l.outrun(commit)
	mine := l.adopted(commit, l.mine[:0])
	n, _ := slices.BinarySearchFunc(l.pending, commit+1, func(p *proposal, index uint64) int { return cmp.Compare(p.id.index, index) })
	for _, p := range l.pending[:n] {
		l.pendingBytes -= p.size
		if l.raft.log.termAt(p.id.index) == p.id.term {
			mine = append(mine, p)
		} else {
			p.fail(ErrLost, ErrNotApplied) // the office was lost in this very turn
		}
	}
	l.pending = slices.Delete(l.pending, 0, n)
	l.mine = mine
	l.applier.waiting.Add(int64(len(mine)))
	l.applier.callers.addAll(mine)
	return committed{index: commit, view: l.view()}
}

// apply gives the applier what has been committed. While Apply is slow one range
// waits, the latest, so that no more of the log is held in memory for it than the tail.
func (l *eventLoop) apply(now committed) {
	if now.index == 0 {
		return
	}
	l.applier.ranges.merge(now, func(last *committed) bool {
		if !last.entries() {
			return false
		}
		last.index, last.view = now.index, now.view
		return true
	})
	l.committedJoins()
}

// adopted settles the proposals of lost offices up to the commit index: some
// other leader committed them, or other entries in their place. The former are
// added to mine.
func (l *eventLoop) adopted(commit uint64, mine []*proposal) []*proposal {
	l.orphans = slices.DeleteFunc(l.orphans, func(p *proposal) bool {
		switch {
		case p.id.index > commit:
			return false
		case l.raft.log.termAt(p.id.index) == p.id.term:
			mine = append(mine, p)
		default:
			p.fail(ErrLost, ErrNotApplied)
		}
		return true
	})
	return mine
}

// view returns the log as it stands.
func (l *eventLoop) view() logView {
	return logView{terms: l.raft.log, tail: l.tail, store: l.store}
}

// appendEntries settles a request of a leader, or of one who thinks so.
func (l *eventLoop) appendEntries(c *appendCall) {
	r := l.raft
	if c.req.ClusterID == 0 && c.cluster != r.clusterID {
		// The cluster was adopted since the records were verified.
		l.answer(c, &appendAnswer{refused: refusedCluster})
		return
	}
	answer, err := r.appendEntries(c.req, &c.batch)
	if err != nil {
		l.fail(fmt.Errorf("%w: %w: leader %s, term %d", ErrInvariant, err, c.req.LeaderName, c.req.Term))
		return
	}
	if answer.refused != refusedNot {
		l.countRefusal(answer.refused, c.req.LeaderName)
	}
	if answer.heard {
		l.heardLeader()
	}
	if answer.adopted {
		if answer.reset {
			l.truncated(1)
		}
		l.saveIdentity(answer.reset)
	}
	if answer.appendFrom > 0 {
		l.take(c, answer.appendFrom, answer.truncated)
	}
	l.answer(c, &answer)
}

// answer promises the sender what the rules say. A heartbeat's answer promises
// no more than what is durable already, so that it does not wait for the disk.
func (l *eventLoop) answer(c *appendCall, answer *appendAnswer) {
	r := l.raft
	response := newAppendEntriesResponse(r.term, answer.match, r.commitIndex, answer.success)
	response.Refused, response.Sequence, response.PreVote = answer.refused, c.req.Sequence, l.options.preVote
	response.ConflictIndex, response.ConflictTerm = answer.hint.index, answer.hint.term
	response.ClusterID, response.From, response.StoreID = r.clusterID, r.name, r.storeID
	p := promise{responder: c.responder, response: response}
	if w, ok := c.responder.(waitingResponder); ok {
		p.drop = w.unanswered
	}
	if answer.success && len(c.offsets) > 0 {
		l.promises.entries = append(l.promises.entries, p)
		return
	}
	if answer.success {
		response.index = min(answer.match, l.durable)
	} else {
		response.index = r.log.end
	}
	l.promises.ballots = append(l.promises.ballots, p)
}

// take appends a request's entries from index on.
func (l *eventLoop) take(c *appendCall, index uint64, truncated bool) {
	skip := int(index - c.batch.base.index - 1)
	start := c.offsets[skip]
	records, offsets := c.req.records[start:], c.offsets[skip:]
	if start > 0 {
		offsets = slices.Clone(offsets)
		for i := range offsets {
			offsets[i] -= start
		}
	}
	if truncated {
		l.split()
		l.truncated(index)
		l.want().truncate = index
	}
	l.want().add(index, c.batch.end, l.tail.append(index, records, offsets))
}

// fail stops the server for good: it can keep no further promise. What it has
// on disk stays as it is. A leader hands over first.
func (l *eventLoop) fail(err error) {
	if l.ctx.Err() != nil {
		return
	}
	if l.raft.role == Leader && l.office != nil {
		l.abdicate()
	}
	l.log.Error("raft: server stops", "error", err, "term", l.raft.term, "commit", l.raft.commitIndex)
	l.failed(err)
	l.events.dispatch(FailureEventType, err, nil)
}

// encodeIdentity is the bootstrap record of an identity.
func encodeIdentity(id *identity) (*wal.Identity, error) {
	initial, err := encodeConfiguration(id.initial, id.clusterID, "", "")
	if err != nil {
		return nil, err
	}
	return &wal.Identity{StoreID: id.storeID, ClusterID: id.clusterID, Initial: initial}, nil
}
