package raft

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/goraft/raft/internal/snapshot"
	"github.com/goraft/raft/internal/wal"
)

// run is one life of a server, from Init to Stop: what its goroutines share.
// Every field is fixed once they start, or safe to share.
type run struct {
	yielding
	server           *server
	name             string
	connectionString string
	options          *options
	settings         *settings
	events           *eventDispatcher
	log              *slog.Logger

	store                     *wal.Store
	snapshots                 *snapshot.Store
	found                     []snapshot.Info // the newest that are whole, when the run began
	inbox                     *queue[any]
	proposals                 *queue[*proposal]
	waiting                   atomic.Int64 // bytes of the proposals in the queue
	reads                     *queue[*read]
	reading                   atomic.Int64 // reads of this server's callers
	diskLatency, applyLatency smoothed
	word                      atomic.Pointer[leadersWord] // the last that this server has
	orders                    *queue[*order]
	applier                   *applier
	loop                      *eventLoop // until it starts
	published                 atomic.Pointer[published]

	ctx    context.Context // ends when the server stops
	cancel context.CancelFunc
	err    atomic.Pointer[error]
	saving atomic.Bool // a snapshot is being taken
	// snapshotError is why the last snapshot failed, nil if it did not.
	snapshotError atomic.Pointer[string]
	ended         chan struct{} // the event loop has ended: nobody answers any more
	tasks         tasks         // all goroutines but the following
	applies       tasks         // the applier, which the application may block
	hearers       tasks         // the delivery of events, which the application may block
	callers       tasks         // single calls, which a Transporter may block
}

// transporter returns the transporter in use.
func (r *run) transporter() Transporter { return r.server.Transporter() }

// failed stops the server by itself.
func (r *run) failed(err error) {
	r.err.CompareAndSwap(nil, &err)
	r.cancel()
}

// call makes a call to another server on a goroutine of its own, bounded by the
// election timeout where the transporter heeds contexts. It makes none, and says so,
// while as many as are allowed have not returned.
func (r *run) call(ctx context.Context, busy *atomic.Int32, f func(ctx context.Context, t Transporter)) bool {
	if busy.Add(1) > maxCalls {
		busy.Add(-1)
		return false
	}
	r.callers.Go("call", func() {
		defer busy.Add(-1)
		ctx, cancel := context.WithTimeout(ctx, r.settings.electionTimeout())
		defer cancel()
		r.yield("call")
		f(ctx, r.transporter())
	})
	return true
}

// recovered is what the log on disk says when a run begins.
type recovered struct {
	terms          history
	configurations []*configuration
	err            error
}

// Truncate takes back the entries from index on, all if it is 0.
func (r *recovered) Truncate(from uint64) {
	if from == 0 {
		r.terms, r.configurations = history{}, nil
		return
	}
	r.terms.truncate(from)
	n := len(r.configurations)
	for n > 0 && r.configurations[n-1].index >= from {
		n--
	}
	r.configurations = r.configurations[:n]
}

// Record takes the next entry.
func (r *recovered) Record(record wal.Record) {
	if before := record.Index() - 1; r.terms.end != before {
		// The first that is there. The term of the one before stands in a snapshot.
		r.terms = history{base: entryID{index: before}, end: before}
	}
	r.terms.extend(record.Term())
	if record.Kind() == kindConfiguration && r.err == nil {
		c, err := decodeConfiguration(record.Data(), record.Index())
		if err != nil {
			r.err = err
			return
		}
		r.configurations = append(r.configurations, c)
	}
}

// open reads the server's directory and makes the replica that it describes.
func (r *run) open(path string) (*replica, error) {
	snapshots, err := snapshot.Exists(r.options.fs, r.server.snapshotDir())
	if err == nil {
		err = r.server.checkWipe(snapshots)
	}
	if err != nil {
		return nil, err
	}
	var log recovered
	seed := r.options.seed
	r.store, err = wal.Open(wal.Options{
		FS: r.options.fs, Dir: path, MaxSegmentBytes: r.options.maxSegmentBytes,
		StoreID: func() uint64 { return nonzero(seed) },
		Visitor: &log,
	})
	if err != nil {
		return nil, fmt.Errorf("raft: opening %s: %w", path, err)
	}
	if torn := r.store.Torn(); torn != nil {
		r.log.Warn("raft: cut an unfinished write off the log", "torn", fmt.Sprintf("%+v", *torn))
	}
	if repaired := r.store.Repaired(); len(repaired) > 0 {
		r.log.Warn("raft: made files again from their other copies", "files", repaired)
	}
	if err := log.err; err != nil {
		return nil, err
	}
	return r.assemble(&log)
}

// assemble makes the replica of what the files say.
func (r *run) assemble(log *recovered) (*replica, error) {
	id, hard := r.store.Identity(), r.store.HardState()
	initial, err := decodeConfiguration(id.Initial, 0)
	if err != nil {
		return nil, err
	}
	replica := newReplica(r.name, identity{storeID: id.StoreID, clusterID: id.ClusterID, initial: initial}, ballot{hard.Term, hard.VotedFor})
	r.applier.cluster = clusterState{configuration: initial}
	if err := r.openSnapshots(); err != nil {
		return nil, err
	}
	if err := r.join(replica, log); err != nil {
		return nil, err
	}
	replica.commit(max(r.store.CommitIndex(), replica.log.base.index))
	if len(r.found) > 0 {
		replica.commit(r.found[0].Index)
	}
	if term := replica.log.last().term; term > replica.term {
		return nil, fmt.Errorf("%w: the log is of term %d, the hard state of term %d", ErrInvariant, term, replica.term)
	}
	return replica, nil
}

func nonzero(draw func() uint64) uint64 {
	for {
		if id := draw(); id != 0 {
			return id
		}
	}
}

// replay restores the newest snapshot and applies what is durably known to be
// committed behind it, before the server takes part in anything. An entry that
// cannot be applied halts the server as it would later; a snapshot that cannot be
// restored is an error of Init.
func (r *run) replay(replica *replica) error {
	r.applier.goroutine = goroutineID()
	if len(r.found) > 0 {
		if err := r.applier.recoverState(r.found[0].Label); err != nil {
			return err
		}
	}
	r.applier.apply(committed{
		index: replica.commitIndex,
		view:  logView{terms: replica.log, store: r.store},
	})
	return nil
}

// newLoop makes the event loop of a replica that was read from disk.
func (r *run) newLoop(replica *replica) *eventLoop {
	l := &eventLoop{
		run: r, raft: replica, seed: wal.Seed(replica.clusterID),
		rand:        rand.New(rand.NewPCG(r.options.seed(), r.options.seed())),
		savedBallot: replica.ballot, toldCommit: replica.commitIndex,
		durability: durability{durable: replica.log.end},
		asking:     map[string]*atomic.Int32{},
	}
	for _, info := range r.found {
		l.snapshots = append(l.snapshots, keptSnapshot{Info: info})
	}
	if r.applier.halt != nil {
		l.halted = true
	}
	// The last entry tells the name of the last command; if it cannot be read,
	// whoever needs it will say so.
	if last := replica.log.end; last > replica.log.base.index {
		if record, err := r.store.Read(nil, last, last, 0); err == nil {
			l.tail.append(last, record, []uint32{0})
		}
	}
	return l
}

// start begins the goroutines.
func (r *run) start(l *eventLoop) {
	w := &logWriter{yielding: r.yielding, store: r.store, orders: r.orders, commit: l.raft.commitIndex, patience: r.settings.electionTimeout, latency: &r.diskLatency, done: func(word written) { r.inbox.put(word) }}
	r.tasks.Go("log", w.run)
	r.applies.Go("apply", r.applier.run)
	r.tasks.Go("loop", func() {
		defer close(r.ended)
		l.loop()
	})
}

// end answers everybody who waits, when the event loop has ended, and lets the
// other goroutines end.
func (l *eventLoop) end() {
	l.inbox.close()
	l.yield("end")
	// Who is told that the server has stopped finds it stopped.
	l.raft.leader = ""
	l.raft.role = Stopped
	l.publish()
	l.applier.ranges.close()
	l.proposals.close()
	l.reads.close() // who waits is told by the end of the run
	for _, p := range append(l.gathered[l.dealt:], l.proposals.take(nil)...) {
		p.fail(StopError, ErrNotApplied)
	}
	// An Apply that blocks keeps nobody waiting any longer.
	l.applier.callers.close()
	failAll(l.applier.callers.take(nil), StopError)
	failAll(l.orphans, StopError)
	failAll(l.pending, StopError)
	l.orphans, l.pending = nil, nil
	for _, t := range l.expiries {
		t.Stop()
	}
	l.want().flush = true
	l.send(l.raft.commitIndex)
	l.orders.close()
}

// endWithin waits for the goroutines and says what the application still blocks
// when the time is over. The goroutine that calls is not waited for: Apply and
// listeners may call Stop.
func (r *run) endWithin(d time.Duration) error {
	deadline := time.Now().Add(d)
	for _, group := range []struct {
		tasks *tasks
		skip  bool
		what  string
	}{
		{&r.tasks, false, "a call to the disk"},
		{&r.applies, r.applier.inside.isCaller(), "Apply"},
		{&r.hearers, r.events.inside.isCaller(), "an event listener"},
		{&r.callers, false, "a call of the transporter"},
	} {
		if !group.skip && !group.tasks.endWithin(time.Until(deadline)) {
			return fmt.Errorf("%w: %s has not returned", ErrStillRunning, group.what)
		}
	}
	return nil
}
