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
	response := &TimeoutNowResponse{
		Term: r.term, Success: stands, Refused: refused, ClusterID: r.clusterID, From: r.name, StoreID: r.storeID,
	}
	if refused != refusedNot {
		l.countRefusal(refused, c.req.LeaderName)
	}
	if stands {
		r.role, r.leader = Candidate, ""
		l.summoned = true
	}
	l.promises.ballots = append(l.promises.ballots, promise{deliver: func() { c.answer <- response }})
}

// abdicate gives up the office to the voter that is most likely to be elected: it
// is told to stand at once. If it does not hear of that, or the transporter
// cannot tell it, the others wait until their election timers end.
func (l *eventLoop) abdicate() {
	r := l.raft
	if m := l.office.successor(r.configuration()); m != nil {
		req := &TimeoutNowRequest{
			Term: r.term, LeaderName: r.name,
			ClusterID: r.clusterID, To: m.name, StoreID: r.storeID, ToStoreID: m.storeID,
		}
		peer := &Peer{Name: m.name, ConnectionString: m.connectionString, storeID: m.storeID}
		l.call(l.ctx, l.busy(m.name), func(ctx context.Context, t Transporter) {
			if t, ok := t.(TransferTransporter); ok {
				_, _ = t.TimeoutNowContext(ctx, l.server, peer, req)
			}
		})
	}
	l.stepDown()
}
