package raft

import (
	"errors"
	"log/slog"
	"testing"

	"github.com/goraft/raft/internal/vfs"
	"github.com/goraft/raft/internal/wal"
	"github.com/stretchr/testify/require"
)

// deaf is a Transporter that reaches nobody.
type deaf struct{}

func (deaf) SendVoteRequest(Server, *Peer, *RequestVoteRequest) *RequestVoteResponse { return nil }
func (deaf) SendAppendEntriesRequest(Server, *Peer, *AppendEntriesRequest) *AppendEntriesResponse {
	return nil
}
func (deaf) SendSnapshotRequest(Server, *Peer, *SnapshotRequest) *SnapshotResponse { return nil }
func (deaf) SendSnapshotRecoveryRequest(Server, *Peer, *SnapshotRecoveryRequest) *SnapshotRecoveryResponse {
	return nil
}

// handLoop is an event loop without goroutines: the test takes its turns and
// carries its orders out. It is server a of the list a, b, c.
type handLoop struct {
	*eventLoop
	t      *testing.T
	disk   *vfs.Mem
	writer *logWriter
	orders []*order // given and not carried out
}

func newHandLoop(t *testing.T) *handLoop {
	disk := vfs.NewMem()
	h := &handLoop{t: t, disk: disk, eventLoop: openLoop(t, disk)}
	h.writer = &logWriter{store: h.store, orders: h.run.orders, latency: new(smoothed), patience: h.settings.electionTimeout, done: func(w written) { h.inbox.put(w) }}
	require.NoError(t, h.initialize("b", ""))
	require.NoError(t, h.initialize("c", ""))
	h.begun = true
	h.turn(h.decide)
	h.carryOut()
	return h
}

// openLoop initializes server a on the disk, as Init does.
func openLoop(t *testing.T, disk *vfs.Mem) *eventLoop {
	made, err := NewServer("a", "/a", deaf{}, nil, nil, "", withFileSystem(disk), WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	s := made.(*server)
	require.NoError(t, s.Init())
	l := s.lifecycle.run.Load().loop
	l.raft.role = Follower
	return l
}

// given takes the orders that the loop has given.
func (h *handLoop) given() []*order {
	h.orders = append(h.orders, h.run.orders.take(nil)...)
	return h.orders
}

// carryOut makes all orders durable and lets the loop hear of it.
func (h *handLoop) carryOut() {
	h.writer.carryOut(h.given())
	h.orders = nil
	h.turn(h.decideLeading)
}

// lead makes the server the leader of a term.
func (h *handLoop) leadTerm(term uint64) {
	h.raft.ballot = ballot{term, "a"}
	h.raft.role, h.raft.leader, h.grants = Leader, "a", map[string]uint64{}
	h.takeOffice()
}

// caught remembers the answers to requests.
type caught struct{ answers []*AppendEntriesResponse }

func (c *caught) answerAppend(response *AppendEntriesResponse) {
	c.answers = append(c.answers, response)
}

// deliver puts a request of the leader b into the inbox: entries of the given
// terms behind prev.
func (h *handLoop) deliver(term uint64, prev entryID, commit uint64, terms ...uint64) *caught {
	req := &AppendEntriesRequest{
		Term: term, LeaderName: "b", PrevLogIndex: prev.index, PrevLogTerm: prev.term, CommitIndex: commit,
		ClusterID: 7, To: "a", InitialDigest: h.raft.initial.digest(),
	}
	if h.raft.clusterID != 0 {
		req.ClusterID = h.raft.clusterID
	}
	for i, entryTerm := range terms {
		record := nopRecord()
		wal.Record(record).Stamp(prev.index+uint64(i)+1, entryTerm, wal.Seed(req.ClusterID))
		req.records = append(req.records, record...)
	}
	to := &caught{}
	call := &appendCall{req: req, cluster: req.ClusterID, responder: to}
	require.NoError(h.t, call.read())
	h.inbox.put(call)
	return to
}

// stage gives the loop a proposal.
func (h *handLoop) stage() *proposal {
	p := &proposal{done: make(chan result, 1)}
	p.carry(nopRecord())
	h.proposals.put(p)
	h.waiting.Add(int64(len(p.record)))
	return p
}

func outcomeOf(p *proposal) error {
	select {
	case r := <-p.done:
		return r.err
	default:
		return errors.New("no answer")
	}
}

// Row 53: within one turn a leader may be deposed, have its entry replaced and
// hear that the other one is committed. Its caller must not get the other's
// result.
func TestLoopDeposedAndCommittedInOneTurn(t *testing.T) {
	h := newHandLoop(t)
	h.leadTerm(1)
	h.carryOut()
	p := h.stage()
	h.turn(h.decideLeading)
	require.Equal(t, entryID{2, 1}, p.id)
	h.deliver(2, entryID{1, 1}, 2, 2)
	h.turn(h.decideLeading)
	require.EqualValues(t, 2, h.raft.commitIndex)
	require.Empty(t, h.applier.callers.take(nil), "the caller would be told what another command did")
	require.ErrorIs(t, outcomeOf(p), ErrLost)
}

// A turn that replaces entries gives two orders. The first, with the entries to
// be replaced, must not carry the commit index that covers the new ones: after a
// crash between the two, the old entries would count as committed.
func TestLoopCommitIndexOfSupersededOrder(t *testing.T) {
	h := newHandLoop(t)
	h.deliver(1, entryID{}, 0, 1)
	h.turn(h.decide)
	h.carryOut()
	h.deliver(1, entryID{1, 1}, 1, 1, 1) // 2 and 3 of term 1
	h.deliver(2, entryID{1, 1}, 3, 2, 2) // replaced by 2 and 3 of term 2, committed
	h.turn(h.decide)
	require.EqualValues(t, 3, h.raft.commitIndex)
	orders := h.given()
	require.Len(t, orders, 2)
	require.NoError(t, h.writer.write(orders[:1]))
	l := openLoop(t, h.disk.CrashClone(vfs.Nothing))
	for i := uint64(2); i <= l.raft.commitIndex; i++ {
		require.EqualValues(t, 2, l.raft.log.termAt(i), "entry %d counts as committed after the crash", i)
	}
}

// A request whose entries are replaced before they are durable is answered all
// the same: its caller, and the connection's window, wait for it.
func TestLoopAnswersWithdrawnRequests(t *testing.T) {
	h := newHandLoop(t)
	old := h.deliver(1, entryID{}, 0, 1, 1)
	h.turn(h.decide)
	replaced := h.deliver(2, entryID{1, 1}, 0, 2)
	h.turn(h.decide)
	require.Empty(t, old.answers)
	h.carryOut()
	require.Len(t, replaced.answers, 1)
	require.True(t, replaced.answers[0].Success())
	require.Len(t, old.answers, 1)
	require.False(t, old.answers[0].Success())
	require.EqualValues(t, 2, old.answers[0].Term())
}

// What a server refuses to look at says nothing about this leader's office: an
// answer from another cluster is neither a member that is alive nor a later term.
func TestLoopRefusalsDoNotCount(t *testing.T) {
	h := newHandLoop(t)
	h.leadTerm(1)
	h.carryOut()
	for _, refused := range []uint32{refusedCluster, refusedAddressee, refusedStore, refusedAdoption, refusedTerm} {
		response := newAppendEntriesResponse(9, 0, 0, false)
		response.From, response.StoreID, response.ClusterID, response.Refused = "b", 99, 1234, refused
		h.inbox.put(&ack{term: 1, name: "b", response: response})
		h.turn(h.decideLeading)
		require.Equal(t, Leader, h.raft.role, "deposed by a server that refuses: %s", refusedText[refused])
		require.EqualValues(t, 1, h.raft.term)
		require.Zero(t, h.office.stores["b"])
		require.False(t, h.office.checkQuorum(h.raft.configuration()), "counted as alive: %s", refusedText[refused])
	}
	h.office.stores["b"] = 5
	response := newAppendEntriesResponse(9, 0, 0, false)
	response.StoreID, response.Refused = 99, refusedStore
	h.inbox.put(&ack{term: 1, name: "b", response: response})
	h.turn(h.decideLeading)
	require.True(t, h.office.lost["b"], "a lost store comes to light by its refusals")
}

// A crash between the cluster id and the first entry leaves a server that belongs
// to a cluster without a log. It must be able to begin that log.
func TestLoopCampaignsWithClusterButNoLog(t *testing.T) {
	h := newHandLoop(t)
	h.leadTerm(1)
	orders := h.given()
	require.Len(t, orders, 1)
	require.NoError(t, h.store.SaveIdentity(*orders[0].identity)) // and no more of it
	l := openLoop(t, h.disk.CrashClone(vfs.Nothing))
	require.NotZero(t, l.raft.clusterID)
	require.Zero(t, l.raft.log.end)
	require.True(t, l.mayCampaign())
}

// A join that changes nothing is answered when the leader has shown that it is one: it
// may have slept while others removed the member, itself even (simulation, seed 208).
func TestJoinOfAMemberIsConfirmed(t *testing.T) {
	for _, name := range []string{"a", "b"} {
		inLeading(t, 2, func(t *testing.T, h *handLoop) {
			join := func() *change {
				c := newJoin(name, h.raft.configuration().find(name).connectionString)
				c.asked = true
				h.inbox.put(control(func(l *eventLoop) { l.request(c) }))
				h.turn(h.decideLeading)
				h.carryOut()
				require.Empty(t, c.done, "answered by one server alone")
				return c
			}
			confirmed := join()
			h.acknowledge("c", 2, 2, h.raft.log.end)
			h.turn(h.decideLeading)
			require.NoError(t, <-confirmed.done)
			deposed := join()
			h.voteAsked(9)
			h.step()
			requireUnknown(t, <-deposed.done)
		})
	}
}
