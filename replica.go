package raft

import (
	"errors"
	"slices"
)

// maxTerm bounds what a server believes of others: a term this high was never
// reached by elections, and one step below 2^64 the next would wrap.
const maxTerm = 1<<63 - 1

// maxIndex bounds the last entry of a snapshot likewise: a log goes on behind it.
const maxIndex = 1<<63 - 1

// Why a request was refused before its content was looked at; the values travel
// in the Refused field of responses.
const (
	refusedNot       uint32 = iota
	refusedCluster          // it is for another cluster
	refusedAddressee        // it is for a server of another name
	refusedStore            // it is for, or from, another store of that name
	refusedAdoption         // this server belongs to no cluster and may not join this one
	refusedTerm             // its term is out of range
	refusedLeader           // another server leads in its term
	refusedRemoved          // its sender belongs to the cluster no more: a refused vote says so
)

// errConflict says that a leader's entry contradicts one that is committed here:
// one of the two servers broke the protocol or lost its log.
var errConflict = errors.New("an entry of the leader contradicts a committed one")

// ballot is what must be durable before a server speaks of it: the latest term
// it has seen, and whom it voted for in that term (Figure 2, persistent state).
type ballot struct {
	term     uint64
	votedFor string
}

// identity is which log this is: what the bootstrap record holds.
type identity struct {
	storeID   uint64
	clusterID uint64         // 0 while the server belongs to no cluster
	initial   *configuration // as of index 0; no members for one that waits to be joined
}

// replica is a server's protocol state and the rules for all servers
// (Figure 2). A method takes an observation, changes the value and returns the
// answer; making the change durable before the answer leaves is its owner's
// duty.
type replica struct {
	name string
	identity
	ballot
	role        string
	leader      string // whom this server follows in the current term, or ""
	log         history
	commitIndex uint64
	// configurations are those in force at the commit index and after it, oldest
	// first; the last one decides, committed or not (§6).
	configurations []*configuration
	// belonged says that the cluster once had this very store for a member, as far
	// as is known to be committed here; dismissed, that voters who know better say
	// that it has no more.
	belonged, dismissed bool
}

func newReplica(name string, id identity, b ballot) *replica {
	if id.initial == nil {
		id.initial = newConfiguration(0, nil)
	}
	return &replica{name: name, identity: id, ballot: b, role: Follower, configurations: []*configuration{id.initial}}
}

// configuration returns the configuration in force.
func (r *replica) configuration() *configuration {
	return r.configurations[len(r.configurations)-1]
}

// configured puts configurations of new entries in force, oldest first.
func (r *replica) configured(configurations ...*configuration) {
	r.configurations = append(r.configurations[:len(r.configurations):len(r.configurations)], configurations...)
}

// initialDigest is the digest of the cluster's initial configuration, or 0 if
// this server waits to be joined.
func (r *replica) initialDigest() uint64 {
	if digest := r.configuration().initial; digest != 0 {
		return digest
	}
	return r.initial.digest()
}

// electable reports whether the server may stand for election: it is a voter
// from this very store, and a later term is left. One that the last
// configuration took the vote from still stands until that is committed here,
// without counting its own vote: it may hold the only log that can win
// (dissertation §4.2.2). The owner adds that its log has begun.
func (r *replica) electable() bool {
	if m := r.configuration().find(r.name); m != nil && !r.configuration().accepts(r.name, r.storeID) {
		return false // refilled after it lost its store: not the voter that the name means
	}
	return !r.dismissed && r.term < maxTerm && slices.ContainsFunc(r.configurations, func(c *configuration) bool {
		return c.votes(r.name)
	})
}

// mayServe reports whether the leader may send to the member: not before the entry
// that added it is committed. A name may have lost its store, and a new store
// that is filled too early holds a log in which the name still votes; until a
// majority knows better, it could win, or help another to win, against what the
// old store had promised.
func (r *replica) mayServe(m *member) bool {
	return m.name != r.name && m.incarnation <= r.commitIndex
}

// mayConfigure reports whether a leader may change the configuration: the last
// change is committed, and so is an entry of its own term, the first of which
// stands at start. Without the latter two leaders could each change one member
// and end with quorums that share no server (the correction of 2015 to
// dissertation §4.1).
func (r *replica) mayConfigure(start uint64) bool {
	return r.commitIndex >= start && r.configuration().index <= r.commitIndex
}

// observe takes notice of a term: a later one than the current makes the server
// a follower without a vote (§5.1).
func (r *replica) observe(term uint64) {
	if term > r.term && term <= maxTerm {
		r.ballot = ballot{term: term}
		r.role, r.leader = Follower, ""
	}
}

// timeoutNow reports whether the server should stand for election at once because
// the leader says so (dissertation §3.10), and why it did not look at the word
// otherwise. It heeds the leader that it follows in the current term, and only
// if the configuration in force has its vote, from this very store: a learner, or
// a server that was removed, could not lead.
func (r *replica) timeoutNow(req *TimeoutNowRequest) (stands bool, refused uint32) {
	switch {
	case req.Term > maxTerm:
		return false, refusedTerm
	case req.To != "" && req.To != r.name, req.LeaderName == r.name, req.LeaderName == "":
		return false, refusedAddressee
	case req.ToStoreID != 0 && req.ToStoreID != r.storeID:
		return false, refusedStore
	case r.clusterID == 0, req.ClusterID != 0 && req.ClusterID != r.clusterID:
		return false, refusedCluster
	}
	c := r.configuration()
	return req.Term == r.term && r.role == Follower && r.leader == req.LeaderName && r.log.end > 0 &&
		c.votes(r.name) && c.accepts(r.name, r.storeID) && r.electable(), refusedNot
}

// campaign begins a term of the server's own, with its vote for itself (§5.2).
func (r *replica) campaign() {
	r.ballot = ballot{term: r.term + 1, votedFor: r.name}
	r.role, r.leader = Candidate, ""
}

// provisional reports whether the server may still find that its cluster is
// another one: nothing is known to be committed here, so the entry that named
// the cluster may yet be replaced.
func (r *replica) provisional() bool { return r.commitIndex == 0 }

// vote answers a request for a vote or, if it is so marked, for a pre-vote,
// which changes nothing (dissertation §9.6). leaderAlive says that a leader was
// heard of within the least election timeout: then the request is refused
// without taking notice of its term, so that a server that was cut off does not
// depose a leader (dissertation §4.2.3), unless the leader itself asked for the
// election.
func (r *replica) vote(req *RequestVoteRequest, leaderAlive bool) (granted bool, refused uint32) {
	if refused := r.refuseVote(req); refused != refusedNot {
		return false, refused
	}
	if leaderAlive && !req.Transfer {
		return false, r.dismissal(req)
	}
	if !req.PreVote {
		r.observe(req.Term)
	}
	free := req.Term > r.term || r.votedFor == "" || r.votedFor == req.CandidateName
	if req.Term < r.term || !free || r.log.last().newerThan(entryID{req.LastLogIndex, req.LastLogTerm}) {
		return false, r.dismissal(req)
	}
	if !req.PreVote {
		r.votedFor = req.CandidateName
	}
	return true, refusedNot
}

// dismissal is what a candidate that gets no vote is told beside: that it was
// removed, if this is committed here, no later configuration has it again, and
// it knows nothing that this server does not. It never costs a vote: a member
// may well be unknown to a server that is behind (dissertation §4.2.2).
func (r *replica) dismissal(req *RequestVoteRequest) uint32 {
	belongs := func(c *configuration) bool { return c.find(req.CandidateName) != nil }
	candidate := entryID{req.LastLogIndex, req.LastLogTerm}
	if r.commitIndex == 0 || candidate.newerThan(r.log.last()) || slices.ContainsFunc(r.configurations, belongs) {
		return refusedNot
	}
	return refusedRemoved
}

// removed reports whether the server belonged to the cluster and does no more.
// One that is joined again is not told from others before that is committed here.
func (r *replica) removed() bool {
	return r.dismissed || r.belonged && r.configurations[0].find(r.name) == nil
}

// refuseVote says whether the request is from somebody who cannot be a candidate
// here. From which store a candidate stands is its own to judge (electable): its
// log may be ahead of this one and bind the name anew.
func (r *replica) refuseVote(req *RequestVoteRequest) uint32 {
	switch {
	case req.Term > maxTerm:
		return refusedTerm
	case req.To != "" && req.To != r.name, req.CandidateName == r.name, req.CandidateName == "":
		return refusedAddressee
	case req.ToStoreID != 0 && req.ToStoreID != r.storeID:
		return refusedStore
	case r.clusterID != 0 && (req.ClusterID == r.clusterID || req.ClusterID == 0 && req.InitialDigest == 0):
		return refusedNot // 0 and 0: a transport that does not tell
	}
	// Without a cluster in common, the two were at least started with the same
	// list of names, or they have nothing to do with each other.
	if !r.provisional() {
		return refusedCluster
	}
	if digest := r.initial.digest(); digest == 0 || digest != req.InitialDigest {
		return refusedAdoption
	}
	return refusedNot
}

// batch is the entries of one AppendEntries request as the rules see them: a
// history whose base is the entry before the first, and the configurations
// among them.
type batch struct {
	history
	configurations []*configuration
}

// appendAnswer is what a server says to an AppendEntries request, and what its
// owner must do.
type appendAnswer struct {
	success bool
	refused uint32
	match   uint64  // on success: the last entry that the two logs share for sure
	hint    entryID // on failure: the last entry here that the logs may still share
	heard   bool    // the sender is the leader of the current term

	adopted    bool   // the server's cluster changed: identity must be saved
	reset      bool   // with the log emptied before
	appendFrom uint64 // entries of the request from this index on are new, 0 if none
	truncated  bool   // and replace others
}

// appendEntries is the receiver's side of AppendEntries (Figure 2): it verifies
// that the logs agree before the request's entries, replaces what conflicts and
// nothing else, and commits no further than this very message has verified.
func (r *replica) appendEntries(req *AppendEntriesRequest, b *batch) (appendAnswer, error) {
	if refused := r.refuseAppend(req); refused != refusedNot {
		return appendAnswer{refused: refused}, nil
	}
	if req.Term < r.term {
		return appendAnswer{}, nil
	}
	if req.Term == r.term && (r.role == Leader || r.leader != "" && r.leader != req.LeaderName) {
		return appendAnswer{refused: refusedLeader}, nil
	}
	r.observe(req.Term)
	r.role, r.leader = Follower, req.LeaderName
	answer := appendAnswer{heard: true}
	if req.ClusterID != 0 && r.clusterID != req.ClusterID {
		// A log that is here was begun in another cluster, which never committed
		// anything, or this leader would have it.
		answer.adopted, answer.reset = true, r.log.end > 0
		r.adopt(req.ClusterID)
	}
	switch {
	case r.log.holds(b.base), b.base.index < r.log.base.index && (b.end < r.log.base.index || b.holds(r.log.base)):
		return r.take(answer, req, b)
	case b.base.index <= r.commitIndex:
		return answer, errConflict
	}
	answer.hint = r.log.lastShared(b.base)
	return answer, nil
}

// take brings the log in line with the request's entries, which follow one that
// it holds or that its snapshot covers (§5.3).
func (r *replica) take(answer appendAnswer, req *AppendEntriesRequest, b *batch) (appendAnswer, error) {
	if from := r.log.firstConflict(&b.history); from <= b.end {
		if from <= r.commitIndex {
			return answer, errConflict
		}
		answer.appendFrom, answer.truncated = from, from <= r.log.end
		r.truncate(from)
		r.extend(b, from)
	}
	answer.success, answer.match = true, b.end
	r.commit(min(req.CommitIndex, b.end))
	if r.commitIndex > 0 && req.CommitIndex <= r.commitIndex {
		// A leader serves members only, from when that is committed, and those
		// that were: whichever this server is, the log tells by now.
		r.belonged = true
	}
	return answer, nil
}

// refuseAppend says whether the request is from somebody who cannot be the
// leader here.
func (r *replica) refuseAppend(req *AppendEntriesRequest) uint32 {
	switch {
	case req.Term > maxTerm:
		return refusedTerm
	case req.To != "" && req.To != r.name, req.LeaderName == r.name, req.LeaderName == "":
		return refusedAddressee
	case req.ToStoreID != 0 && req.ToStoreID != r.storeID:
		return refusedStore
	case r.clusterID != 0 && (req.ClusterID == 0 || req.ClusterID == r.clusterID):
		return refusedNot
	case !r.provisional():
		return refusedCluster
	case req.ClusterID == 0 || req.To == "":
		return refusedAdoption // only a leader that names cluster and addressee
	}
	if digest := r.initial.digest(); digest != 0 && digest != req.InitialDigest {
		return refusedAdoption
	}
	if r.initial.digest() == 0 && r.clusterID != 0 && r.log.end > 0 {
		return refusedCluster // joined elsewhere, by a leader's word
	}
	return refusedNot
}

// refuseQuestion says whether a question for a read index is not for this server. An
// index of another cluster would be worse than none.
func (r *replica) refuseQuestion(req *ReadIndexRequest) uint32 {
	switch {
	case req.To != "" && req.To != r.name, req.Name == r.name, req.Name == "":
		return refusedAddressee
	case req.ToStoreID != 0 && req.ToStoreID != r.storeID:
		return refusedStore
	case r.clusterID == 0 || req.ClusterID != r.clusterID:
		return refusedCluster
	case r.configuration().find(req.Name) == nil:
		return refusedRemoved // it will never apply what it asks for
	}
	return refusedNot
}

// leaderClaim is what a message of a leader says about who speaks to whom.
type leaderClaim struct {
	term      uint64
	leader    string
	to        string
	clusterID uint64
	toStoreID uint64
}

// offered settles a leader's word that it has a snapshot for this server, as far
// as it is one of a leader: heard says so. needed says that the log lacks the
// snapshot's last entry. A log that holds it is the leader's up to there, and
// committed up to there.
//
// A cluster is adopted by AppendEntries only; the term of the snapshot itself is
// nobody's current term, and never later than the leader's.
func (r *replica) offered(c leaderClaim, id entryID) (needed, heard bool, refused uint32) {
	switch {
	case c.term > maxTerm:
		return false, false, refusedTerm
	case c.to != "" && c.to != r.name, c.leader == r.name, c.leader == "":
		return false, false, refusedAddressee
	case c.toStoreID != 0 && c.toStoreID != r.storeID:
		return false, false, refusedStore
	case r.clusterID == 0:
		return false, false, refusedAdoption
	case c.clusterID != 0 && c.clusterID != r.clusterID:
		return false, false, refusedCluster
	case c.term < r.term:
		return false, false, refusedNot
	case id.term > c.term, id.index > maxIndex:
		return false, false, refusedTerm
	case c.term == r.term && (r.role == Leader || r.leader != "" && r.leader != c.leader):
		return false, false, refusedLeader
	}
	r.observe(c.term)
	r.role, r.leader = Follower, c.leader
	if r.log.holds(id) {
		r.commit(id.index)
	}
	return id.index > r.commitIndex, true, refusedNot
}

// install puts a snapshot in the place of the whole log, and reports whether it
// did: not if what it covers is committed here already (§7). Of a log that does
// not hold the snapshot's last entry nothing is kept, not even what lies behind:
// it is another leader's.
func (r *replica) install(id entryID, c *configuration) bool {
	if id.index <= r.commitIndex {
		return false
	}
	if r.log.holds(id) {
		r.commit(id.index)
		return false
	}
	r.log = history{base: id, end: id.index}
	r.configurations = []*configuration{c}
	r.commitIndex = id.index
	r.recall(c)
	return true
}

// adopt binds the server to a cluster with an empty log.
func (r *replica) adopt(clusterID uint64) {
	r.clusterID = clusterID
	r.log = history{}
	r.configurations = []*configuration{r.initial}
}

// truncate drops the entries from index on, and what they configured.
func (r *replica) truncate(index uint64) {
	r.log.truncate(index)
	n := len(r.configurations)
	for n > 1 && r.configurations[n-1].index >= index {
		n--
	}
	r.configurations = r.configurations[:n]
}

// extend appends the batch's entries from index on.
func (r *replica) extend(b *batch, from uint64) {
	for i := from; i <= b.end; {
		term, end := b.runEnd(i)
		r.log.append(term, end-i+1)
		i = end + 1
	}
	for _, c := range b.configurations {
		if c.index >= from {
			r.configured(c)
		}
	}
}

// commit moves the commit index up to index, never down and never past the log.
// It forgets the configurations that no truncation can bring back.
func (r *replica) commit(index uint64) bool {
	index = min(index, r.log.end)
	if index <= r.commitIndex {
		return false
	}
	r.commitIndex = index
	for len(r.configurations) > 1 && r.configurations[1].index <= index {
		r.configurations = r.configurations[1:]
		r.recall(r.configurations[0])
	}
	return true
}

// recall takes notice of a configuration that is committed.
func (r *replica) recall(c *configuration) {
	m := c.find(r.name)
	r.belonged = r.belonged || m != nil && m.storeID == r.storeID
	r.dismissed = r.dismissed && m == nil
}
