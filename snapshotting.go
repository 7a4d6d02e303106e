package raft

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/goraft/raft/internal/snapshot"
)

// snapshottingLoop is followerLoop while a snapshot arrives: the leader's silence
// ends it as that of any leader does, and so does the end of the pieces.
func (l *eventLoop) snapshottingLoop() {
	l.listen(l.arriving)
	l.publish()
}

// arrivalTimeouts is how many election timeouts without a piece it takes for a
// snapshot to count as no longer arriving. What there is of it is kept.
const arrivalTimeouts = 2

// arriving reports whether a snapshot is on its way into this server.
func (l *eventLoop) arriving() bool {
	in := l.incoming
	return in != nil && (in.complete() || time.Since(in.touched) < arrivalTimeouts*l.settings.electionTimeout())
}

// incoming is a snapshot that a leader sends. The event loop decides who may add
// to it; a task of its own does, and owns the file.
type incoming struct {
	label   snapshot.Label
	id      uint64
	size    int64
	whole   *wholeState // instead of pieces
	cancel  context.CancelFunc
	pieces  chan *piece
	offset  atomic.Int64  // how much of the file is there
	touched time.Time     // when the last piece came; the event loop's
	done    chan struct{} // closed when the snapshot is in force, or nothing will come of it
}

// piece is bytes of the file on their way into it.
type piece struct {
	offset int64
	bytes  []byte
	stored chan error // holds one
}

// wholeState is a snapshot as goraft sent it, in one request.
type wholeState struct {
	cluster clusterState
	state   []byte
}

func (in *incoming) complete() bool { return in.whole != nil || in.offset.Load() == in.size }

// is reports whether a piece belongs to this file.
func (in *incoming) is(req *SnapshotRecoveryRequest) bool {
	return in != nil && in.whole == nil && in.label == labelOf(req.LastIndex, req.LastTerm) && in.id == req.SnapshotID && in.size == int64(req.Size)
}

func labelOf(index, term uint64) snapshot.Label { return snapshot.Label{Index: index, Term: term} }

// snapshotCall is an offer of a snapshot on its way to its answer.
type snapshotCall struct {
	req    *SnapshotRequest
	answer chan *SnapshotResponse // holds one
}

// requestSnapshot settles a leader's offer of a snapshot: whether it is needed,
// and how much of it is here already. The answer leaves when the term that it
// tells is durable.
func (l *eventLoop) requestSnapshot(c *snapshotCall) {
	r, req := l.raft, c.req
	needed, refused := l.offered(leaderClaim{
		term: cmp.Or(req.Term, req.LastTerm), leader: req.LeaderName, to: req.To, clusterID: req.ClusterID, toStoreID: req.ToStoreID,
	}, entryID{req.LastIndex, req.LastTerm})
	response := &SnapshotResponse{
		Success: needed, Refused: refused, Term: r.term, CommitIndex: r.commitIndex,
		ClusterID: r.clusterID, From: r.name, StoreID: r.storeID,
	}
	if needed && req.SnapshotID != 0 {
		in := l.receive(labelOf(req.LastIndex, req.LastTerm), req.SnapshotID, int64(req.Size))
		response.Offset = uint64(in.offset.Load())
	}
	l.promises.ballots = append(l.promises.ballots, answering(c.answer, response))
}

// offered lets the rules judge a message about a snapshot.
func (l *eventLoop) offered(c leaderClaim, id entryID) (needed bool, refused uint32) {
	needed, heard, refused := l.raft.offered(c, id)
	if refused != refusedNot {
		l.countRefusal(refused, c.leader)
	}
	if heard {
		l.heardLeader()
	}
	return needed, refused
}

// receive returns the snapshot of that name as it arrives; another one that was
// arriving gives way.
func (l *eventLoop) receive(label snapshot.Label, id uint64, size int64) *incoming {
	if in := l.incoming; in != nil && in.whole == nil && in.label == label && in.id == id && in.size == size {
		in.touched = time.Now()
		return in
	}
	in := &incoming{label: label, id: id, size: size}
	l.admit(in)
	return in
}

// admit makes a snapshot the one that arrives.
func (l *eventLoop) admit(in *incoming) {
	l.dropIncoming()
	ctx, cancel := context.WithCancel(l.ctx)
	in.cancel, in.touched = cancel, time.Now()
	in.pieces, in.done = make(chan *piece), make(chan struct{})
	l.incoming = in
	l.log.Info("raft: a snapshot arrives", "index", in.label.Index, "term", in.label.Term, "bytes", in.size, "leader", l.raft.leader)
	l.tasks.Go("install", func() { l.run.install(ctx, in) })
}

// dropIncoming gives up the snapshot that arrives, if any.
func (l *eventLoop) dropIncoming() {
	if l.incoming != nil {
		l.incoming.cancel()
		l.incoming = nil
	}
}

// outrun gives up a snapshot that has come in part, and that the log has outrun:
// another leader had the entries. Its file may be large, and nobody goes on with it.
func (l *eventLoop) outrun(commit uint64) {
	if in := l.incoming; in != nil && !in.complete() && in.label.Index <= commit {
		l.dropIncoming()
	}
}

// install writes the pieces of a snapshot, and hands the published file to the
// event loop.
func (r *run) install(ctx context.Context, in *incoming) {
	defer in.cancel()
	info, err := r.collect(ctx, in)
	put := r.inbox.put(control(func(l *eventLoop) {
		if l.incoming == in {
			l.incoming = nil
		}
		if err != nil {
			if ctx.Err() == nil {
				l.log.Warn("raft: receiving a snapshot", "index", in.label.Index, "error", err)
			}
			close(in.done)
			return
		}
		l.installed(info, in.done)
	}))
	if !put {
		close(in.done)
	}
}

// collect makes the file of a snapshot. Before it, the term and the cluster that it
// came in must be durable: the next start takes no snapshot of others.
func (r *run) collect(ctx context.Context, in *incoming) (snapshot.Info, error) {
	if !r.flush() {
		return snapshot.Info{}, StopError
	}
	if in.whole != nil {
		return r.writeWhole(in)
	}
	file, err := r.snapshots.Receive(in.label, in.id, in.size)
	if err != nil {
		return snapshot.Info{}, err
	}
	file.Until(ctx.Err)
	for file.Offset() < in.size {
		select {
		case p := <-in.pieces:
			err := file.Append(p.offset, p.bytes)
			r.yield("piece stored")
			in.offset.Store(file.Offset())
			p.stored <- err
			if err != nil && !errors.Is(err, snapshot.ErrOffset) {
				return snapshot.Info{}, errors.Join(err, file.Abort())
			}
		case <-ctx.Done():
			return snapshot.Info{}, errors.Join(ctx.Err(), file.Abort())
		}
	}
	info, err := file.Verify()
	if err == nil {
		err = r.judge(info)
	}
	if err != nil {
		return snapshot.Info{}, errors.Join(err, file.Abort())
	}
	return file.Publish()
}

// judge looks at a snapshot before it gets its name, which the next start would
// trust.
func (r *run) judge(info snapshot.Info) error {
	if info.ClusterID != r.server.ClusterID() {
		return fmt.Errorf("raft: a snapshot of cluster %x", info.ClusterID)
	}
	_, err := decodeClusterState(info.Meta)
	return err
}

// writeWhole makes a file of a state that came in one request.
func (r *run) writeWhole(in *incoming) (snapshot.Info, error) {
	clusterID := r.server.ClusterID()
	meta, err := encodeClusterState(&in.whole.cluster, clusterID)
	if err != nil {
		return snapshot.Info{}, err
	}
	w, err := r.snapshots.Create(snapshot.Header{Label: in.label, ClusterID: clusterID, ID: in.id, Meta: meta})
	if err != nil {
		return snapshot.Info{}, err
	}
	w.Until(r.unlessStopped)
	if _, err = w.Write(in.whole.state); err == nil {
		err = w.Finish()
	}
	if err != nil {
		return snapshot.Info{}, errors.Join(err, w.Abort())
	}
	return w.Publish()
}

// installed puts a snapshot that was received in force, if it still is of use:
// the log goes on behind it, and the applier restores it. done is closed when
// that is durable.
func (l *eventLoop) installed(info snapshot.Info, done chan struct{}) {
	r := l.raft
	cluster, err := decodeClusterState(info.Meta)
	before := r.commitIndex
	id := entryID{info.Index, info.Term}
	switch {
	case err != nil:
		l.log.Error("raft: a snapshot that cannot be used", "index", info.Index, "error", err)
		close(done)
		return
	case r.role == Leader || !r.install(id, cluster.configuration):
		if info.Index <= r.commitIndex {
			l.keepSnapshot(keptSnapshot{Info: info})
		} else {
			l.remove(info.Label)
		}
		close(done)
		return
	}
	r.role = Follower
	l.split()
	l.truncated(before + 1)
	l.tail = tail{}
	l.durable = id.index // by the file
	l.want().restart = id.index + 1
	l.balloted = l.ordered + 1
	l.promises.ballots = append(l.promises.ballots, promise{own: true, deliver: func() { close(done) }})
	l.covered(id.index)
	l.applier.jump.Store(id.index)
	label := info.Label
	l.applier.ranges.put(committed{restore: &label})
	l.toldCommit = id.index
	l.keepSnapshot(keptSnapshot{Info: info})
	l.committedJoins()
	l.log.Info("raft: a snapshot is in force", "index", info.Index, "term", info.Term)
}

// covered settles the proposals of lost offices that a snapshot covers: applied,
// or replaced, nobody here knows.
func (l *eventLoop) covered(index uint64) {
	kept := l.orphans[:0]
	for _, p := range l.orphans {
		if p.id.index > index {
			kept = append(kept, p)
			continue
		}
		p.fail(ErrLeadershipLost, ErrOutcomeUnknown)
	}
	clear(l.orphans[len(kept):])
	l.orphans = kept
}

// recoveryCall is a piece of a snapshot, or a whole one, on its way to whoever
// stores it.
type recoveryCall struct {
	req    *SnapshotRecoveryRequest
	answer chan *recoveryGrant // holds one
}

// recoveryGrant says what to do with a recoveryCall: store it, or answer.
type recoveryGrant struct {
	into     *incoming
	response *SnapshotRecoveryResponse
}

// requestRecovery settles whether a leader's bytes are taken.
func (l *eventLoop) requestRecovery(c *recoveryCall) {
	r, req := l.raft, c.req
	needed, refused := l.offered(leaderClaim{
		term: cmp.Or(req.Term, req.LastTerm), leader: req.LeaderName, to: req.To, clusterID: req.ClusterID, toStoreID: req.ToStoreID,
	}, entryID{req.LastIndex, req.LastTerm})
	grant := &recoveryGrant{response: l.recoveryResponse(refused)}
	switch in := l.incoming; {
	case !needed:
		grant.response.Success = refused == refusedNot && req.LastIndex <= r.commitIndex && r.leader == req.LeaderName
	case in.is(req):
		in.touched = time.Now()
		grant.into = in
	case req.SnapshotID == 0 && (in == nil || in.whole == nil):
		grant.into = &incoming{
			label: labelOf(req.LastIndex, req.LastTerm), id: nonzero(l.rand.Uint64), size: int64(len(req.State)),
			whole: &wholeState{cluster: clusterState{configuration: r.configuration().named(req.LastIndex, addressesOf(req.Peers))}, state: req.State},
		}
		l.admit(grant.into)
	}
	l.promises.ballots = append(l.promises.ballots, answering(c.answer, grant))
}

// addressesOf are the addresses of peers by name.
func addressesOf(peers []*Peer) map[string]string {
	addresses := make(map[string]string, len(peers))
	for _, p := range peers {
		if p != nil && p.Name != "" {
			addresses[p.Name] = p.ConnectionString
		}
	}
	return addresses
}

// recoveryResponse is the answer to a recovery request as of now.
func (l *eventLoop) recoveryResponse(refused uint32) *SnapshotRecoveryResponse {
	r := l.raft
	return &SnapshotRecoveryResponse{
		Term: r.term, CommitIndex: r.commitIndex, Refused: refused,
		ClusterID: r.clusterID, From: r.name, StoreID: r.storeID,
	}
}

func (s *server) SnapshotRecoveryRequest(req *SnapshotRecoveryRequest) *SnapshotRecoveryResponse {
	if req == nil || req.SnapshotID == 0 && snapshot.IsFile(req.State) {
		return nil // on the way it lost the fields that say what the bytes are
	}
	copied := *req
	if req.SnapshotID == 0 {
		copied.State = bytes.Clone(req.State) // the caller's again, whenever this returns
	}
	grant := await(s, func(answer chan *recoveryGrant) any { return &recoveryCall{&copied, answer} })
	if grant == nil {
		return nil
	}
	r := s.lifecycle.run.Load()
	response, in := grant.response, grant.into
	if in == nil {
		return response
	}
	if in.whole == nil {
		r.yield("piece")
		response.Success = in.store(&copied, r.ended)
		response.Offset = uint64(in.offset.Load())
		if !in.complete() {
			return response
		}
	}
	patience := time.NewTimer(r.settings.electionTimeout())
	defer patience.Stop()
	if in.whole != nil {
		patience.Stop() // goraft's callers know nothing but the end
	}
	select {
	case <-in.done:
		response.CommitIndex = s.CommitIndex()
		response.Success = response.CommitIndex >= req.LastIndex
	case <-patience.C: // it is still being verified; the leader asks again
	case <-r.ended:
		return nil
	}
	return response
}

// store gives the piece to the task that writes it, and reports whether it is
// written.
func (in *incoming) store(req *SnapshotRecoveryRequest, ended <-chan struct{}) bool {
	p := &piece{int64(req.Offset), req.State, make(chan error, 1)}
	select {
	case in.pieces <- p:
		return <-p.stored == nil
	case <-in.done:
	case <-ended:
	}
	return false
}
