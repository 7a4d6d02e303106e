package raft

import (
	"errors"
	"slices"
	"time"

	"github.com/goraft/raft/internal/wal"
)

// order is what one turn of the event loop wants durable. The log writer carries
// orders out in sequence, each whole before it says so.
type order struct {
	sequence uint64
	reset    bool // drop the whole log first
	identity *wal.Identity
	ballot   *ballot
	truncate uint64 // drop the entries from here on, if no records replace them
	first    uint64 // index of the first record
	last     uint64 // and of the last
	records  [][]byte
	bytes    int // of the records
	commit   uint64
	flush    bool   // make the commit index exact
	restart  uint64 // the log is emptied and goes on from here, behind a snapshot; 0: it is not
	compact  uint64 // what lies before this index may go; 0: nothing
}

// add puts records behind those that the order has. Bytes that lie right behind
// each other in memory become one piece.
func (o *order) add(first, last uint64, records []byte) {
	o.bytes += len(records)
	if o.last = last; len(o.records) == 0 {
		o.first = first
	} else if end := &o.records[len(o.records)-1]; follows(*end, records) {
		*end = (*end)[:len(*end)+len(records)]
		return
	}
	o.records = append(o.records, records)
}

// written is the log writer's word that all orders up to sequence are durable,
// or the error after which none will be; or why the next one has to wait, which
// the next word takes back.
type written struct {
	sequence uint64
	err      error
	full     error
}

// sealAfter is how long the log writer waits, with nothing to do, before it
// marks the end of the log as clean.
const sealAfter = 50 * time.Millisecond

// While the disk is full the log writer tries again after fullRetry, and then
// after twice as long each time, up to maxFullRetry, or to an election timeout if that
// is less: when there is space the others have to wait no longer than for an election.
const (
	fullRetry    = 50 * time.Millisecond
	maxFullRetry = time.Second
)

// logWriter owns the write end of the log. While it syncs, the orders of the
// next turns gather, and become one write and one sync: group commit.
type logWriter struct {
	yielding
	store    *wal.Store
	orders   *queue[*order]
	patience func() time.Duration // the election timeout
	latency  *smoothed            // of a write with entries, with its sync
	done     func(written)        // hands word to the event loop
	under    []*order             // the order that is carried out, and those behind it
	later    []*order             // taken from the queue while an order waits for space
	batch    [][]byte
	commit   uint64 // the highest that is true of what the store holds
	failed   bool

	courtesy courtesy // to senders
}

// run carries out orders until the queue is closed and empty, then closes the
// store.
func (w *logWriter) run() {
	var orders []*order
	idle := time.NewTimer(sealAfter)
	defer idle.Stop()
	for {
		select {
		case <-w.orders.ready:
			closed := w.orders.closed()
			orders = w.orders.take(orders)
			w.carryOut(orders)
			for len(w.later) > 0 {
				later := w.later
				w.later = nil
				w.carryOut(later)
			}
			if closed || w.orders.closed() && !w.orders.waiting() {
				w.close()
				return
			}
			idle.Reset(sealAfter)
		case <-idle.C:
			err := w.seal()
			w.yield("sealed")
			w.report(written{err: err})
		}
	}
}

// carryOut makes the orders durable, joining appends that follow each other.
func (w *logWriter) carryOut(orders []*order) {
	for len(orders) > 0 && !w.failed {
		w.under = orders
		n := joinable(orders)
		w.yield("write")
		// The senders first: the sync keeps this processor, and would keep from it the
		// messages that the same turn of the event loop has ready (dissertation §10.2.1).
		w.courtesy.extend()
		began := time.Now()
		err := w.write(orders[:n])
		if orders[0].records != nil {
			w.latency.observe(time.Since(began))
		}
		w.yield("written")
		w.report(written{sequence: orders[n-1].sequence, err: err})
		orders = orders[n:]
	}
}

// maxWriteBytes bounds the orders that are joined to one write. A sync of so much
// takes far longer than what another one adds.
const maxWriteBytes = 4 << 20

// joinable counts the orders at the front that one write can serve: the first,
// and those behind it that only append to where it ends.
func joinable(orders []*order) int {
	n, bytes := 1, orders[0].bytes
	for ; n < len(orders) && bytes+orders[n].bytes <= maxWriteBytes && orders[n].appendsOnly() && (orders[n-1].records != nil || len(orders[n].records) == 0); n++ {
		bytes += orders[n].bytes
	}
	return n
}

// appendsOnly reports whether the order neither drops entries nor saves anything
// beside the log.
func (o *order) appendsOnly() bool {
	return !o.reset && o.identity == nil && o.ballot == nil && o.truncate == 0 && !o.flush &&
		o.restart == 0 && o.compact == 0
}

// write carries out one order and the appends that were joined to it.
func (w *logWriter) write(orders []*order) error {
	o := orders[0]
	commit := max(w.commit, orders[len(orders)-1].commit)
	if o.reset {
		commit, w.commit = 0, 0
	}
	err := w.step(orders, commit)
	if err != nil {
		commit = w.told()
	}
	w.commit = commit
	return err
}

// told returns the highest commit index that is true of what the store holds without
// the orders that wait. Those that leave its entries as they are may tell a newer one.
func (w *logWriter) told() uint64 {
	commit := w.commit
	_, last := w.store.Bounds()
	for _, o := range slices.Concat(w.under, w.later) {
		if o.reset || o.restart != 0 || o.truncate != 0 {
			break
		}
		commit = max(commit, min(o.commit, last))
	}
	return commit
}

// step is write, with the commit index that is true of the outcome.
func (w *logWriter) step(orders []*order, commit uint64) error {
	o := orders[0]
	if err := w.prepare(o, commit); err != nil {
		return err
	}
	w.batch = w.batch[:0]
	for _, o := range orders {
		w.batch = append(w.batch, o.records...)
	}
	defer clear(w.batch)
	var err error
	switch {
	case len(w.batch) > 0:
		err = w.insist(func() error { return w.store.Append(o.first, commit, w.batch...) })
	case o.truncate != 0:
		err = w.insist(func() error { return w.store.Truncate(o.truncate, commit) })
	case o.flush:
		err = w.insist(func() error { return w.store.Seal(commit) })
	}
	if err == nil && o.compact != 0 {
		err = w.insist(func() error { return w.store.Compact(o.compact) })
	}
	return err
}

// insist carries out one step of an order. On a full disk the step has changed
// nothing, and is tried again until there is space, or the server stops.
func (w *logWriter) insist(step func() error) error {
	err := step()
	if !errors.Is(err, wal.ErrNoSpace) {
		return err
	}
	w.report(written{full: err})
	for wait := fullRetry; errors.Is(err, wal.ErrNoSpace) && w.pause(wait); wait = min(2*wait, maxFullRetry, max(fullRetry, w.patience())) {
		err = step()
	}
	return err
}

// pause waits before the next attempt, and reports false when the server stops. A
// compaction that has been ordered is carried out ahead of its turn, and ends the
// pause if it gives space back: what waits for space may be all that it waits for.
func (w *logWriter) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for !w.compact() {
		// The word that nothing more comes may have come with the orders at hand.
		if w.orders.closed() {
			w.later = append(w.later, w.orders.take(nil)...)
			return false
		}
		select {
		case <-timer.C:
			return true
		case <-w.orders.ready:
			w.later = append(w.later, w.orders.take(nil)...)
		}
	}
	return true
}

// compact removes what the orders that wait do not need any more, and reports
// whether that was anything. It stops short of an order that empties the log, and of
// where one that replaces entries begins.
func (w *logWriter) compact() bool {
	before, last := w.store.Bounds()
	upTo, limit := uint64(0), last+1
	for _, o := range slices.Concat(w.under, w.later) {
		if o.reset || o.restart != 0 {
			break
		}
		if o.truncate != 0 {
			limit = min(limit, o.truncate)
		}
		upTo = max(upTo, min(o.compact, limit))
	}
	err := w.store.Compact(upTo)
	first, _ := w.store.Bounds()
	return err == nil && first > before
}

// prepare carries out what must be durable before the order's entries.
func (w *logWriter) prepare(o *order, commit uint64) error {
	if o.reset {
		if err := w.insist(func() error { return w.store.Truncate(1, 0) }); err != nil {
			return err
		}
	}
	if o.identity != nil {
		if err := w.insist(func() error { return w.store.SaveIdentity(*o.identity) }); err != nil {
			return err
		}
	}
	if o.ballot != nil {
		h := wal.HardState{Term: o.ballot.term, VotedFor: o.ballot.votedFor}
		if err := w.insist(func() error { return w.store.SaveHardState(h) }); err != nil {
			return err
		}
	}
	if o.restart == 0 {
		return nil
	}
	if err := w.insist(func() error { return w.store.Reset(o.restart, commit) }); err != nil {
		return err
	}
	return w.insist(func() error { return w.store.Compact(o.restart) })
}

// seal marks the end of the log as clean. Nothing depends on it, so a full disk
// is no reason to stop.
func (w *logWriter) seal() error {
	if w.failed {
		return nil
	}
	if err := w.store.Seal(w.commit); !errors.Is(err, wal.ErrNoSpace) {
		return err
	}
	return nil
}

// report hands word on; after an error it is the last.
func (w *logWriter) report(word written) {
	if w.failed || word == (written{}) {
		return
	}
	w.failed = word.err != nil
	w.done(word)
}

// close ends the log cleanly, if it can be, and lets go of the directory.
func (w *logWriter) close() {
	_ = w.store.Seal(w.commit) // Close says what it has to say again
	if err := w.store.Close(); err != nil && !w.failed {
		w.report(written{err: err})
	}
}
