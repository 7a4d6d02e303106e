package raft

import "time"

// durability is what the event loop knows of its own disk: which orders the log
// writer has, how far it got, and what keeps it from going on.
type durability struct {
	ordered  uint64 // sequence of the last order given
	balloted uint64 // sequence of the last order with a ballot or an identity
	written  uint64 // sequence of the last order done
	appends  []span // orders with entries that are under way, oldest first
	durable  uint64 // the last entry of the log that is durable
	// since is when the log writer last showed that it goes on, or was given an
	// order while it had none.
	since time.Time
	full  error // the disk is: an order waits for space
}

// span is the last index that an order with entries wrote. A truncation lowers
// it, so that a late completion is never taken for newer entries.
type span struct{ sequence, last uint64 }

// gave takes notice of the next order, and of what is in it.
func (d *durability) gave(o *order) {
	if d.written == d.ordered {
		d.since = time.Now()
	}
	d.ordered++
	o.sequence = d.ordered
	if o.ballot != nil || o.identity != nil {
		d.balloted = d.ordered
	}
	if len(o.records) > 0 {
		d.appends = append(d.appends, span{d.ordered, o.last})
	}
}

// done takes the log writer's word that all orders up to sequence are durable.
func (d *durability) done(sequence uint64) {
	d.since, d.full = time.Now(), nil
	d.written = max(d.written, sequence)
	for len(d.appends) > 0 && d.appends[0].sequence <= d.written {
		d.durable = max(d.durable, d.appends[0].last)
		d.appends = d.appends[1:]
	}
}

// truncated takes notice that the log was cut before index.
func (d *durability) truncated(index uint64) {
	d.durable = min(d.durable, index-1)
	for i := range d.appends {
		d.appends[i].last = min(d.appends[i].last, index-1)
	}
}

// trouble says why this server can promise nothing new: its disk is full, or has
// not answered for longer than it may, or "" if neither is so.
func (d *durability) trouble(patience time.Duration) string {
	switch {
	case d.full != nil:
		return d.full.Error()
	case d.written < d.ordered && time.Since(d.since) >= patience:
		return "the disk has not answered for two election timeouts"
	}
	return ""
}
