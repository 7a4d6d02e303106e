package raft

import "time"

// follow is a follower's time between two other roles. The election timer runs
// through it, whether a snapshot arrives meanwhile or not.
func (l *eventLoop) follow() {
	l.lastContact = time.Now()
	for l.raft.role == Follower && !l.stopping() {
		if l.arriving() {
			l.snapshottingLoop()
		} else {
			l.followerLoop()
		}
	}
}

// followerLoop listens to a leader, and stands for election when it falls silent
// (§5.2).
func (l *eventLoop) followerLoop() {
	l.listen(func() bool { return !l.arriving() })
}

// listen waits for the leader's silence, while the condition holds.
func (l *eventLoop) listen(while func() bool) {
	silence := l.electionTimeout()
	timer := time.NewTimer(silence - time.Since(l.lastContact))
	defer timer.Stop()
	for l.raft.role == Follower && !l.stopping() && while() {
		select {
		case <-l.ctx.Done():
		case <-l.proposals.ready:
			l.gather()
		case <-l.asked():
			l.turn(l.decide)
		case <-l.inbox.ready:
			before := l.lastContact
			l.turn(l.decide)
			if l.lastContact != before {
				silence = l.electionTimeout()
			}
			if l.rearm {
				l.rearm = false
				silence = l.electionTimeout()
				timer.Reset(silence - time.Since(l.lastContact))
			}
		case <-timer.C:
			// What the leader has said is heard before it is called silent.
			if l.inbox.waiting() {
				l.turn(l.decide)
			}
			if rest := silence - time.Since(l.lastContact); rest > 0 {
				timer.Reset(rest)
				continue
			}
			if l.mayCampaign() {
				l.raft.role, l.raft.leader = Candidate, ""
				l.publish()
				return
			}
			l.raft.leader = "" // silent, for whoever asks and for those who want a vote
			l.publish()
			l.inquire()
			l.lastContact = time.Now()
			silence = l.electionTimeout()
			timer.Reset(silence)
		}
	}
}

// electionTimeout draws how long to wait for a leader or for votes: one to two
// times the setting, anew each time, so that servers that began together do not
// go on together. A halted server, which would lead without applying, gives the
// others two more timeouts.
func (l *eventLoop) electionTimeout() time.Duration {
	least := l.settings.electionTimeout()
	if l.halted {
		return 3*least + time.Duration(l.rand.Int64N(int64(least)))
	}
	return least + time.Duration(l.rand.Int64N(int64(least)))
}

// mayCampaign reports whether this server may stand for election: it is a voter,
// and its log has begun, or it was told to begin one, or a crash has kept it from
// that after the cluster had got its id. One whose disk takes no writes would lead
// without storing. One that has stepped down rests for as long as it was told.
func (l *eventLoop) mayCampaign() bool { return l.notStanding() == "" }

// notStanding says why this server may not.
func (l *eventLoop) notStanding() string {
	r := l.raft
	switch blocked := l.blocked(); {
	case blocked != "":
		return blocked
	case time.Now().Before(l.rests):
		return "it has stepped down, and rests"
	case r.removed():
		return "it was removed from the cluster"
	case r.dismissed:
		return "other voters say that it was removed"
	case !r.electable():
		return "it has no vote"
	case r.log.end == 0 && !l.begun && r.clusterID == 0:
		return "it belongs to no cluster"
	}
	return ""
}

// heardLeader takes notice of a valid message of the leader.
func (l *eventLoop) heardLeader() {
	now := time.Now()
	l.summoned = 0
	if silent := now.Sub(l.lastContact); l.events.listens(ElectionTimeoutThresholdEventType) &&
		silent > time.Duration(float64(l.settings.electionTimeout())*ElectionTimeoutThresholdPercent) {
		l.events.dispatch(ElectionTimeoutThresholdEventType, silent, nil)
	}
	l.lastContact = now
}

// leaderAlive reports whether a leader was heard of within the least election
// timeout, or this server is one: then nobody else needs a vote.
func (l *eventLoop) leaderAlive() bool {
	return l.raft.role == Leader ||
		l.raft.leader != "" && time.Since(l.lastContact) < l.settings.electionTimeout()
}

// voteCall is a RequestVote request on its way to its answer.
type voteCall struct {
	req    *RequestVoteRequest
	answer chan *RequestVoteResponse // holds one
}

// requestVote settles a request for a vote. The answer leaves when the vote, or
// the term that it tells, is durable.
func (l *eventLoop) requestVote(c *voteCall) {
	r := l.raft
	if c.req.PreVote && !l.options.preVote {
		c.req.PreVote = false // as a server does that does not know the mark
	}
	granted, refused := r.vote(c.req, l.leaderAlive())
	if refused != refusedNot {
		l.countRefusal(refused, c.req.CandidateName)
	}
	if granted && !c.req.PreVote {
		l.lastContact = time.Now() // a grant gives the candidate time (§5.2)
	}
	response := &RequestVoteResponse{
		Term: r.term, VoteGranted: granted, Refused: refused, PreVote: c.req.PreVote,
		ClusterID: r.clusterID, From: r.name, StoreID: r.storeID,
	}
	l.promises.ballots = append(l.promises.ballots, answering(c.answer, response))
}

// countRefusal notes a request that was not for this server; the log tells of
// the first, and of each that follows a thousand others.
func (l *eventLoop) countRefusal(refused uint32, from string) {
	if l.refusals%1000 == 0 {
		l.log.Warn("raft: refused a request", "reason", refusedText[refused], "from", from, "count", l.refusals+1)
	}
	l.refusals++
}

var refusedText = map[uint32]string{
	refusedCluster:   "another cluster",
	refusedAddressee: "another addressee",
	refusedStore:     "another store",
	refusedAdoption:  "this server belongs to no cluster",
	refusedTerm:      "term out of range",
	refusedLeader:    "another server leads in its term",
	refusedRemoved:   "its sender was removed from the cluster",
}
