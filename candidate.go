package raft

import (
	"context"
	"sync/atomic"
	"time"
)

// voteAnswer is what a voter said to one election of this server.
type voteAnswer struct {
	election *election
	voter    string
	response *RequestVoteResponse
}

// candidateLoop stands for election: it asks whether an election would be won
// (dissertation §9.6), and if so holds it (§5.2). It ends when the server leads,
// follows somebody, or finds no majority in time, and then begins anew.
func (l *eventLoop) candidateLoop() {
	if !l.mayCampaign() {
		l.raft.role, l.summoned = Follower, 0
		return
	}
	ctx, cancel := context.WithCancel(l.ctx)
	defer cancel()
	switch summoned := l.summoned == l.raft.term && l.raft.votedFor == l.raft.name; {
	case summoned:
		l.election = newElection(l.raft, false)
		l.election.transfer = true
	case l.options.preVote:
		l.election = newElection(l.raft, true)
	default:
		l.stand()
	}
	l.summoned = 0
	defer func() { l.election, l.polled = nil, l.election }()
	l.solicit(ctx)
	timer := time.NewTimer(l.electionTimeout())
	defer timer.Stop()
	for l.raft.role == Candidate && !l.stopping() {
		if l.count(ctx) {
			timer.Reset(l.electionTimeout())
		}
		if l.raft.role != Candidate {
			return
		}
		select {
		case <-l.ctx.Done():
		case <-l.proposals.ready:
			l.gather()
		case <-l.asked():
			l.turn(l.decideStanding)
		case <-l.inbox.ready:
			l.turn(l.decideStanding)
		case <-timer.C:
			if l.inbox.waiting() {
				l.turn(l.decideStanding)
			}
			if l.count(ctx) || l.raft.role == Candidate && l.voting() {
				l.publish() // the disk that it waits for may have stalled
				timer.Reset(l.electionTimeout())
			} else if l.raft.role == Candidate {
				l.giveUp()
				return
			}
		}
	}
}

// giveUp ends a candidacy without an answer. One that asked for pre-votes in vain
// waits again as a follower would; one with a term begins the next at once.
func (l *eventLoop) giveUp() {
	if l.election.preVote {
		l.raft.role = Follower
	}
	l.publish()
}

// decideStanding settles an event as a candidate does.
func (l *eventLoop) decideStanding(event any) {
	answer, ok := event.(*voteAnswer)
	if !ok {
		l.decide(event)
		return
	}
	if l.raft.role != Candidate || answer.election != l.election {
		return
	}
	response := answer.response
	if response.ClusterID != 0 && l.raft.clusterID != 0 && response.ClusterID != l.raft.clusterID && !l.raft.provisional() {
		return
	}
	removed := response.Refused == refusedRemoved
	if response.Refused != refusedNot && !removed || response.From != "" && response.From != answer.voter {
		return
	}
	if response.Term > l.raft.term && !(response.VoteGranted && response.Term == l.election.term) {
		l.raft.observe(response.Term)
		if l.raft.role != Candidate {
			return
		}
	}
	if removed {
		l.election.dismissed(answer.voter, response.StoreID)
		return
	}
	// A voter that does not repeat the mark knows nothing of pre-votes and has
	// voted for good; it will say so again when it is asked for good.
	granted := response.VoteGranted && (l.election.preVote || !response.PreVote && response.Term == l.election.term)
	l.election.record(answer.voter, response.StoreID, granted)
}

// stand begins the election proper, in a new term.
func (l *eventLoop) stand() {
	l.raft.campaign()
	l.election = newElection(l.raft, false)
	l.save()
	l.publish()
}

// voting reports whether the candidate's own vote is not durable yet: then
// nobody could be asked, however long the disk takes.
func (l *eventLoop) voting() bool { return !l.election.preVote && l.written < l.balloted }

// count ends what the answers so far decide, and reports whether that begins
// the election proper.
func (l *eventLoop) count(ctx context.Context) bool {
	switch e := l.election; {
	case e.over():
		l.raft.dismissed, l.raft.role = true, Follower
		l.publish()
	case e.preVote && e.won():
		l.stand()
		l.solicit(ctx)
		return true
	case e.preVote && e.lost():
		l.raft.role = Follower // and listens again, as long as any follower
	case !e.preVote && e.won() && !l.voting():
		l.raft.role, l.raft.leader, l.grants = Leader, l.raft.name, e.stores
	}
	return false
}

// solicit asks the other voters. For a vote that binds, the candidate's own must
// be durable first: it must not vote again after a crash.
func (l *eventLoop) solicit(ctx context.Context) {
	e := l.election
	if e.preVote {
		l.askVoters(ctx, e)
		return
	}
	needs := l.balloted
	l.promises.ballots = append(l.promises.ballots, promise{own: true, needs: needs, deliver: func() {
		if l.election == e && l.raft.role == Candidate {
			l.askVoters(ctx, e)
		}
	}})
}

// askVoters sends the other voters the election's question.
func (l *eventLoop) askVoters(ctx context.Context, e *election) {
	for _, m := range e.configuration.members {
		if m.voter && m.name != l.raft.name {
			l.ask(ctx, e, m)
		}
	}
}

// ask sends one voter the election's question, on a goroutine of its own.
func (l *eventLoop) ask(ctx context.Context, e *election, m member) {
	last := l.raft.log.last()
	req := &RequestVoteRequest{
		Term: e.term, LastLogIndex: last.index, LastLogTerm: last.term, CandidateName: l.raft.name,
		ClusterID: l.raft.clusterID, To: m.name, StoreID: l.raft.storeID, ToStoreID: m.storeID,
		InitialDigest: l.raft.initialDigest(), PreVote: e.preVote, Transfer: e.transfer,
	}
	peer := &Peer{Name: m.name, ConnectionString: m.connectionString, storeID: m.storeID}
	l.call(ctx, l.busy(m.name), func(ctx context.Context, t Transporter) {
		if response := sendVote(ctx, t, l.server, peer, req); response != nil {
			l.inbox.put(&voteAnswer{election: e, voter: m.name, response: response})
		}
	})
}

// busy counts the calls to the member that are under way.
func (l *eventLoop) busy(name string) *atomic.Int32 {
	busy := l.asking[name]
	if busy == nil {
		busy = new(atomic.Int32)
		l.asking[name] = busy
	}
	return busy
}
