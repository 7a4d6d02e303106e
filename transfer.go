package raft

import "context"

// timeoutNowCall is a TimeoutNow request on its way to its answer.
type timeoutNowCall struct {
	req    *TimeoutNowRequest
	answer chan *TimeoutNowResponse // holds one
}

// timeoutNow settles a leader's word that this server should stand for election
// at once. The answer leaves when the term that it tells is durable.
func (l *eventLoop) timeoutNow(c *timeoutNowCall) {
	r := l.raft
	stands, refused := r.timeoutNow(c.req)
	stands = stands && !l.halted && l.mayCampaign()
	if stands {
		// The term begins here and now: what the leader sent before may come after,
		// in the same turn, and must not make a follower of who has said that it stands.
		r.campaign()
		l.summoned = r.term
	}
	response := &TimeoutNowResponse{
		Term: r.term, Success: stands, Refused: refused, ClusterID: r.clusterID, From: r.name, StoreID: r.storeID,
	}
	if refused != refusedNot {
		l.countRefusal(refused, c.req.LeaderName)
	}
	l.promises.ballots = append(l.promises.ballots, promise{deliver: func() { c.answer <- response }})
}

// abdicate gives up the office to the voter that is most likely to be elected: it
// is told to stand at once, or the next one if it says that it does not. If none
// hears of that, or the transporter cannot tell, the others wait until their
// election timers end.
func (l *eventLoop) abdicate() {
	r := l.raft
	req := TimeoutNowRequest{Term: r.term, LeaderName: r.name, ClusterID: r.clusterID, StoreID: r.storeID}
	if successors := l.office.successors(r.configuration()); len(successors) > 0 {
		// A server that was removed is often stopped as soon as it knows.
		ctx := context.WithoutCancel(l.ctx)
		l.call(ctx, l.busy(successors[0].name), func(ctx context.Context, t Transporter) {
			if t, ok := t.(TransferTransporter); ok {
				handOver(ctx, t, l.server, req, successors)
			}
		})
	}
	l.stepDown()
}

// stalledTimeouts is how many election timeouts a call to the disk may take before
// the server counts as stalled.
const stalledTimeouts = 2

// relieve has a leader whose disk is full or stalled give up its office to a voter
// that shows that its own is neither: it has stored what the leader could not. If
// nobody has, or the others have no majority, nobody could do better.
func (l *eventLoop) relieve() {
	if l.raft.role != Leader {
		return
	}
	why, c := l.blocked(), l.raft.configuration()
	if why == "" || !l.office.quorumWithout(c, l.raft.name) {
		return
	}
	if next := l.office.successors(c); len(next) == 0 || l.office.match[next[0].name] <= l.durable {
		return
	}
	l.log.Warn("raft: hands over", "reason", why, "term", l.raft.term)
	l.abdicate()
}

// handOver tells the first of the successors to stand that does.
func handOver(ctx context.Context, t TransferTransporter, server Server, req TimeoutNowRequest, successors []member) {
	for i := range successors {
		m, word := &successors[i], req
		word.To, word.ToStoreID = m.name, m.storeID
		peer := &Peer{Name: m.name, ConnectionString: m.connectionString, storeID: m.storeID}
		response, err := t.TimeoutNowContext(ctx, server, peer, &word)
		// Without an answer it may well stand, and two would split the votes.
		if err != nil || response == nil || response.Success || ctx.Err() != nil {
			return
		}
	}
}
