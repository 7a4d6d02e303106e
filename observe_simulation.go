//go:build simulation

package raft

import (
	"fmt"
	"strings"

	"github.com/goraft/raft/internal/wal"
)

// Observation is a server's protocol state at the end of one turn of its event
// loop, as only a simulation sees it. It shares nothing with the server.
type Observation struct {
	Name               string
	State              string
	Term               uint64
	VotedFor           string
	Leader             string
	StoreID, ClusterID uint64
	Commit, Applied    uint64
	Durable            uint64
	Ready              bool
	// Base and BaseTerm are the entry before the first of the log.
	Base, BaseTerm uint64
	// Since the turn before, the log was cut at From and Entries were appended
	// there: both together are the difference. The first turn of a life tells the
	// whole log.
	From    uint64
	Entries []ObservedEntry
	// Configurations are those in force at the commit index and after it, oldest
	// first.
	Configurations []ObservedConfiguration
	// First says that a life begins.
	First bool
}

// ObservedEntry is an entry of the log. Checksum is that of all its bytes.
type ObservedEntry struct {
	Index, Term uint64
	Checksum    uint32
}

// ObservedConfiguration is a configuration, and the index of its entry.
type ObservedConfiguration struct {
	Index   uint64
	Voters  []string
	Stores  []uint64 // that the voters' names are bound to, 0 if not yet
	Members string   // all of it, to be compared
}

// WithObserver has f told of every turn of the server's event loop, on the loop's
// goroutine, before anybody is answered. It must not wait for anything.
func WithObserver(f func(*Observation)) Option {
	return func(o *options) { o.observing.tell = f }
}

// WithoutPreVote turns pre-vote off, as on a server that is too old to know it.
func WithoutPreVote() Option {
	return func(o *options) { o.preVote = false }
}

// observing is who is told.
type observing struct{ tell func(*Observation) }

// observed is what was told last.
type observed struct {
	log  history
	told bool
}

// show tells the observer of this turn.
func (last *observed) show(l *eventLoop, to observing) {
	if to.tell == nil {
		return
	}
	r := l.raft
	seen := Observation{
		Name: r.name, State: r.role, Term: r.term, VotedFor: r.votedFor, Leader: r.leader,
		StoreID: r.storeID, ClusterID: r.clusterID, Commit: r.commitIndex, Applied: l.applier.applied.Load(),
		Durable: l.durable, Ready: l.told.status.Ready, Base: r.log.base.index, BaseTerm: r.log.base.term,
		From: r.log.base.index + 1, First: !last.told,
	}
	if last.told && r.log.base.index <= last.log.end {
		seen.From = max(last.log.firstConflict(&r.log), r.log.base.index+1)
	}
	var err error
	if seen.Entries, err = l.entriesFrom(seen.From); err != nil {
		return // the disk has crashed, or was told to fail: the next turn tells it all
	}
	for _, c := range r.configurations {
		seen.Configurations = append(seen.Configurations, observedConfiguration(c))
	}
	*last = observed{r.log, true}
	to.tell(&seen)
}

// entriesFrom reads the log from an index on.
func (l *eventLoop) entriesFrom(from uint64) (entries []ObservedEntry, err error) {
	view := l.view()
	for from <= l.raft.log.end {
		records, last, err := view.read(from, l.raft.log.end, 1<<20)
		if err != nil {
			return entries, err
		}
		for len(records) > 0 {
			record, rest, err := wal.NextRecord(records)
			if err != nil {
				return entries, err
			}
			entries = append(entries, ObservedEntry{record.Index(), record.Term(), record.Checksum()})
			records = rest
		}
		from = last + 1
	}
	return entries, nil
}

func observedConfiguration(c *configuration) ObservedConfiguration {
	seen := ObservedConfiguration{Index: c.index}
	var all strings.Builder
	for _, m := range c.members {
		if m.voter {
			seen.Voters, seen.Stores = append(seen.Voters, m.name), append(seen.Stores, m.storeID)
		}
		fmt.Fprintf(&all, "%+v ", m)
	}
	seen.Members = all.String()
	return seen
}
