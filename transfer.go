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
	l.promises.ballots = append(l.promises.ballots, answering(c.answer, response))
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

// pace is who stores in time what the leader has, as seen by looks at regular
// intervals, two in an election timeout.
type pace struct {
	ends [2]uint64      // where the log ended at the last look, and at the one before
	slow map[string]int // for how many looks more the voter counts as slow
}

// slowLooks is for how many looks a voter counts as slow after it was: an idle
// cluster shows for a moment only how its disks are.
const slowLooks = 20

// look takes notice of the voters that do not store all that the log held two looks
// ago, the end being where it ends now.
func (p *pace) look(c *configuration, match map[string]uint64, end uint64) {
	slow := make(map[string]int, len(p.slow))
	for i := range c.members {
		m := &c.members[i]
		if m.voter && match[m.name] < p.ends[1] {
			slow[m.name] = slowLooks
		} else if left := p.slow[m.name]; left > 1 {
			slow[m.name] = left - 1
		}
	}
	p.slow, p.ends = slow, [2]uint64{end, p.ends[0]}
}

// relieve has a leader whose disk is full or stalled give up its office to a voter
// that shows that its own is neither: it has stored what the leader could not. If
// nobody has, or the others that answer are no majority of the members, nobody could
// do better: they could neither elect nor commit without this very disk. Nor where
// the others' disks are slow, too, as on storage that all share: a leader with a slow
// disk commits, while elections need votes that are durable within their timeout.
func (l *eventLoop) relieve() {
	if l.raft.role != Leader {
		return
	}
	why, c := l.blocked(), l.raft.configuration()
	l.office.pace.look(c, l.office.match, l.raft.log.end)
	if why == "" || !l.office.spares(c, l.raft.name) {
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
