package raft

import (
	"context"
	"time"
)

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

// handing is a transfer of the office that was asked for (dissertation §3.10). The
// leader takes no proposals until it is over: it must send all that it has.
type handing struct {
	to       string        // "" before the most suitable is chosen
	cooldown time.Duration // for which this server then rests
	done     chan error    // holds one
	timer    *time.Timer
	told     bool // the other was told to stand
}

// handTo begins to hand over the office.
func (l *eventLoop) handTo(h *handing) {
	c := l.raft.configuration()
	switch {
	case !l.leads() || l.office.leaving:
		h.done <- NotLeaderError
		return
	case l.office.handing != nil:
		h.done <- noTransfer("another transfer is under way")
		return
	case h.to == l.raft.name:
		h.done <- nil
		return
	}
	if _, able := l.transporter().(TransferTransporter); !able {
		h.done <- noTransfer("the transporter cannot tell another server to stand")
		return
	}
	for _, m := range l.office.successors(c) {
		if h.to == "" && l.office.lately(m.name) || h.to == m.name {
			h.to = m.name
			h.timer = time.NewTimer(l.settings.electionTimeout())
			l.office.handing = h
			return
		}
	}
	switch {
	case h.to == "":
		h.done <- noTransfer("no other voter answers")
	case c.find(h.to) == nil:
		h.done <- peerNotFound(h.to)
	default:
		h.done <- noTransfer("%s has no vote", h.to)
	}
}

// overdue is ready when the office should have been handed over by now.
func (o *office) overdue() <-chan time.Time {
	if o.handing == nil {
		return nil
	}
	return o.handing.timer.C
}

// handOn tells the next leader to stand, when it stores all that this one has.
func (l *eventLoop) handOn() {
	o, r := l.office, l.raft
	h := o.handing
	if h == nil || h.told {
		return
	}
	m := r.configuration().find(h.to)
	switch {
	case m == nil || !m.voter || o.lost[h.to] || o.fenced[h.to]:
		o.keep(noTransfer("%s has no vote any more", h.to))
		return
	case o.match[h.to] < r.log.end:
		return
	}
	req := &TimeoutNowRequest{
		Term: r.term, LeaderName: r.name, ClusterID: r.clusterID, StoreID: r.storeID, To: m.name, ToStoreID: m.storeID,
	}
	peer := &Peer{Name: m.name, ConnectionString: m.connectionString, storeID: m.storeID}
	h.told = l.call(l.ctx, l.busy(m.name), func(ctx context.Context, t Transporter) {
		told, able := t.(TransferTransporter)
		if !able {
			return
		}
		// Without an answer it may well stand.
		if response, err := told.TimeoutNowContext(ctx, l.server, peer, req); err == nil && response != nil && !response.Success {
			l.inbox.put(control(func(l *eventLoop) { l.declined(h) }))
		}
	})
}

// declined takes the word of who was to lead that it does not stand.
func (l *eventLoop) declined(h *handing) {
	if l.leads() && l.office.handing == h {
		l.office.keep(noTransfer("%s does not stand for election", h.to))
	}
}

// keep goes on with the office, which nobody has taken.
func (o *office) keep(why error) {
	if h := o.handing; h != nil {
		h.timer.Stop()
		o.handing = nil
		h.done <- why
	}
}

// handed takes notice that an office is lost, as it was meant to be perhaps.
func (l *eventLoop) handed(o *office) {
	h := o.handing
	switch {
	case h == nil:
	case l.stopping():
		o.keep(StopError)
	case !h.told:
		o.keep(ErrLeadershipLost)
	default:
		l.rests = time.Now().Add(h.cooldown)
		o.keep(nil)
	}
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
