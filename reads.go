package raft

import (
	"context"
	"slices"
	"sync/atomic"
	"time"
)

// readers are the reads that wait for a leader's word on what they must have seen.
type readers struct {
	taken  []*read      // scratch of gatherReads
	held   []*read      // that nobody has been asked for yet
	pruned int          // how many of them there were when those who gave up were dropped
	rounds []readRound  // under way, of a leader
	open   []*question  // under way, to the leader that is followed
	calls  atomic.Int32 // for questions, also for those that were dropped
	shown  []*read      // that know what they must have seen, for the end of the turn
	word   *leadersWord
}

// leadersWord is what this server last had from a leader that a majority confirmed, as
// itself may be: reads that began until then are linearizable at that index.
type leadersWord struct {
	index uint64
	asked time.Time
}

// readRound is a round of heartbeats that confirms that this server leads, for the
// reads that waited when it began.
type readRound struct {
	number uint64
	leadersWord
	reads []*read
}

// question is one to the leader, for all the reads that waited when it left. Each has
// an identity of its own, so that no answer is taken for that to another.
type question struct {
	sequence uint64
	leader   string
	term     uint64
	asked    time.Time
	reads    []*read
	cancel   context.CancelFunc
}

// questionAnswer is what became of a question; index is what counts if it is ok.
type questionAnswer struct {
	*question
	ok    bool
	index uint64
}

// readIndexCall is a ReadIndex request on its way to its answer.
type readIndexCall struct {
	req    *ReadIndexRequest
	answer chan *ReadIndexResponse // holds one
}

// maxReadRounds is how many rounds, or questions, are under way while further reads
// gather: one that began before them, and cannot serve them, and one that can.
const maxReadRounds = 2

// asked is ready when reads wait and it is time to look at them.
func (l *eventLoop) asked() <-chan struct{} {
	if l.office != nil && len(l.readers.rounds) >= maxReadRounds || l.office == nil && len(l.readers.open) >= maxReadRounds {
		return nil
	}
	return l.reads.ready
}

// gatherReads takes the reads that wait. It does in every turn, so that those who give
// up do not pile up in the queue.
func (l *eventLoop) gatherReads() {
	select {
	case <-l.reads.ready: // this is what it was for, if it did not wake the loop
	default:
	}
	k := &l.readers
	k.taken = l.reads.take(k.taken)
	k.held = append(k.held, k.taken...)
	if len(k.held) > 2*k.pruned+64 {
		l.pruneReads()
	}
}

// pruneReads drops the reads that nobody waits for any more. Another server gives up
// after an election timeout, and asks anew.
func (l *eventLoop) pruneReads() {
	k := &l.readers
	late := time.Now().Add(-l.settings.electionTimeout())
	k.held = slices.DeleteFunc(k.held, func(q *read) bool {
		if q.remote != nil && q.since.Before(late) {
			q.answer(readOutcome{err: NotLeaderError})
			return true
		}
		return q.gone()
	})
	k.pruned = len(k.held)
}

// leadReads settles the rounds that a majority has answered, and begins the next. No
// round begins before the first entry of the term is committed: what earlier leaders
// committed is not known until then (§8).
func (l *eventLoop) leadReads() {
	o, k := l.office, &l.readers
	l.settleRounds()
	if len(k.held) == 0 || len(k.rounds) >= maxReadRounds || l.raft.commitIndex < o.start {
		return
	}
	// Callers that were answered together read again together; the first of them would
	// else have a round to itself.
	if _, ok := l.courtesy.extend(); ok {
		l.gatherReads()
	}
	k.rounds = append(k.rounds, readRound{o.beginRound(), leadersWord{l.raft.commitIndex, time.Now()}, k.held})
	k.held, k.pruned = nil, 0
	l.settleRounds() // a server alone needs nobody's answer
}

// settleRounds lets the reads go on whose rounds a majority has answered.
func (l *eventLoop) settleRounds() {
	k := &l.readers
	if len(k.rounds) == 0 {
		return
	}
	confirmed := l.office.confirmedRound(l.raft.configuration())
	for len(k.rounds) > 0 && k.rounds[0].number <= confirmed {
		l.readable(k.rounds[0].leadersWord, k.rounds[0].reads)
		k.rounds = slices.Delete(k.rounds, 0, 1)
	}
}

// readable takes notice that the reads need no more than what the word says.
func (l *eventLoop) readable(word leadersWord, reads []*read) {
	k := &l.readers
	if k.word == nil || k.word.asked.Before(word.asked) {
		k.word = &word
		l.word.Store(&word)
	}
	for _, q := range reads {
		q.index = word.index
		k.shown = append(k.shown, q)
	}
}

// showReads hands on the reads that know what they need, when the world knows of this
// turn.
func (l *eventLoop) showReads() {
	k := &l.readers
	for i, q := range k.shown {
		if k.shown[i] = nil; q.remote != nil {
			q.answer(readOutcome{index: q.index})
			continue
		}
		q.found.Store(true)
		l.applier.reads.add(q)
	}
	k.shown = k.shown[:0]
}

// reconsider has the reads of an office that is lost ask whoever leads next. Other
// servers' do that themselves.
func (l *eventLoop) reconsider() {
	k := &l.readers
	for _, r := range k.rounds {
		k.held = append(k.held, r.reads...)
	}
	k.rounds = nil
	k.held = slices.DeleteFunc(k.held, func(q *read) bool {
		if q.remote != nil {
			q.answer(readOutcome{err: NotLeaderError})
		}
		return q.remote != nil
	})
}

// askLeader asks the leader that this server follows for the reads that wait. Questions
// to one that it follows no more are dropped, and their reads wait for the next.
func (l *eventLoop) askLeader() {
	k, r := &l.readers, l.raft
	if len(k.open) > 0 && (l.office != nil || k.open[0].leader != r.leader || k.open[0].term != r.term) {
		for _, q := range k.open {
			q.cancel()
			k.held, q.reads = append(k.held, q.reads...), nil
		}
		k.open = nil
	}
	if len(k.held) == 0 || len(k.open) >= maxReadRounds || l.office != nil || r.role != Follower || r.leader == "" {
		return
	}
	m := r.configuration().find(r.leader)
	if m == nil {
		return
	}
	if _, able := l.transporter().(ReadIndexTransporter); !able {
		for _, q := range k.held {
			q.answer(readOutcome{err: NotLeaderError})
		}
		k.held = nil
		return
	}
	ctx, cancel := context.WithCancel(l.ctx)
	q := &question{sequence: nonzero(l.rand.Uint64), leader: m.name, term: r.term, asked: time.Now(), reads: k.held, cancel: cancel}
	req := &ReadIndexRequest{
		Term: r.term, Name: r.name, ClusterID: r.clusterID, To: m.name,
		StoreID: r.storeID, ToStoreID: m.storeID, Sequence: q.sequence,
	}
	peer := &Peer{Name: m.name, ConnectionString: m.connectionString, storeID: m.storeID}
	if !l.askFor(ctx, q, req, peer) {
		cancel() // so many calls do not return; the reads wait for one that does
		return
	}
	k.open = append(k.open, q)
	k.held, k.pruned = nil, 0
}

// askFor sends the question on a goroutine of its own, and reports whether it could. An
// answer that does not come, or is none, is reported after a pause, so that nobody is
// asked in a circle.
func (l *eventLoop) askFor(ctx context.Context, q *question, req *ReadIndexRequest, peer *Peer) bool {
	pause := l.settings.heartbeat()
	return l.call(ctx, &l.readers.calls, func(calling context.Context, t Transporter) {
		defer q.cancel()
		outcome := &questionAnswer{question: q}
		if t, able := t.(ReadIndexTransporter); able {
			response, err := t.ReadIndexContext(calling, l.server, peer, req)
			if outcome.ok = err == nil && response != nil && response.answers(req); outcome.ok {
				outcome.index = response.Index
			}
		}
		if !outcome.ok {
			timer := time.NewTimer(pause)
			defer timer.Stop()
			select {
			case <-timer.C:
			case <-ctx.Done():
			}
		}
		l.inbox.put(outcome)
	})
}

// answers reports whether the response says what the request asks for.
func (r *ReadIndexResponse) answers(req *ReadIndexRequest) bool {
	return r.Success && r.Refused == refusedNot && r.Sequence == req.Sequence && r.ClusterID == req.ClusterID &&
		(r.From == "" || r.From == req.To) && r.Index <= maxIndex
}

// leaderSaid takes the answer to a question. Without one the reads ask again, whoever
// leads by then. A question that was dropped has no reads any more.
func (l *eventLoop) leaderSaid(a *questionAnswer) {
	k := &l.readers
	k.open = slices.DeleteFunc(k.open, func(q *question) bool { return q == a.question })
	if a.ok {
		l.readable(leadersWord{a.index, a.asked}, a.reads)
		return
	}
	k.held = append(k.held, a.reads...)
}

// requestReadIndex settles another member's question, or keeps it until it can be.
func (l *eventLoop) requestReadIndex(c *readIndexCall) {
	r := l.raft
	response := &ReadIndexResponse{
		Term: r.term, Refused: r.refuseQuestion(c.req), Sequence: c.req.Sequence,
		ClusterID: r.clusterID, From: r.name, StoreID: r.storeID,
	}
	if response.Refused != refusedNot {
		l.countRefusal(response.Refused, c.req.Name)
	}
	if response.Refused != refusedNot || !l.leads() || len(l.readers.held) >= maxReads {
		l.promises.ballots = append(l.promises.ballots, answering(c.answer, response))
		return
	}
	// The term is durable: this server was elected in it.
	l.readers.held = append(l.readers.held, &read{since: time.Now(), remote: func(index uint64, ok bool) {
		response.Success, response.Index = ok, index
		c.answer <- response
	}})
}
