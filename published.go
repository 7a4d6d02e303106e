package raft

import "github.com/goraft/raft/internal/wal"

// published is what the rest of the world may know of one finished turn. It
// never changes.
type published struct {
	status        Status
	configuration *configuration
	view          logView
	removed       bool // from the cluster, as far as this server knows
}

// publish tells the world what changed in this turn: the Status that getters
// read, and events.
func (l *eventLoop) publish() {
	r, old := l.raft, l.told
	now := &published{configuration: r.configuration(), view: l.view(), removed: r.removed()}
	now.status = Status{
		Name: r.name, State: r.role, Term: r.term, Leader: r.leader, VotedFor: r.votedFor,
		CommitIndex: r.commitIndex, LastApplied: l.applier.applied.Load(),
		FirstIndex: r.log.base.index + 1, LastIndex: r.log.end, LastTerm: r.log.last().term, DurableIndex: l.durable,
		ClusterID: r.clusterID, StoreID: r.storeID, ConfigurationIndex: now.configuration.index,
		UncommittedBytes: l.pendingBytes, DiskLatency: l.diskLatency.get(), ApplyLatency: l.applyLatency.get(), Refused: l.refusals, EventsDropped: l.events.dropped.Load(),
		StorageError: l.blocked(), ElectionTimeout: l.settings.electionTimeout(),
		Ready: l.office != nil && l.office.ready && !l.office.leaving,
	}
	if r.role != Leader {
		now.status.NotStanding = l.notStanding()
	}
	if r.leader != "" {
		l.polled = nil
	} else if l.polled != nil {
		now.status.Election = l.polled.status()
	}
	if l.office != nil && l.office.handing != nil {
		now.status.Transferring = l.office.handing.to
	}
	if r.role == Follower && l.arriving() {
		now.status.State = Snapshotting
	}
	if newest := l.newestSnapshot(); newest != nil {
		now.status.SnapshotIndex = newest.Index
	}
	if l.office != nil {
		now.status.Members = l.office.members(now.configuration, r.log.end)
	} else if old != nil && old.configuration == now.configuration && !old.leading() {
		now.status.Members = old.status.Members
	} else {
		now.status.Members = membersOf(now.configuration)
	}
	l.told = now
	l.published.Store(now)
	if old == nil || old.leader() != now.leader() {
		l.server.leaders.change()
	}
	if old != nil {
		l.announce(old, now)
	}
}

func (p *published) leading() bool { return p.status.State == Leader }

// announce turns the difference between two turns into events.
func (l *eventLoop) announce(old, now *published) {
	if old.status.Term != now.status.Term {
		l.events.dispatch(TermChangeEventType, now.status.Term, old.status.Term)
	}
	if old.status.State != now.status.State {
		l.log.Info("raft: state changes", "from", old.status.State, "to", now.status.State, "term", now.status.Term, "last", now.status.LastIndex)
		l.events.dispatch(StateChangeEventType, now.status.State, old.status.State)
	}
	if old.status.Leader != now.status.Leader {
		l.events.dispatch(LeaderChangeEventType, now.status.Leader, old.status.Leader)
	}
	if old.configuration != now.configuration {
		l.announceMembers(old.configuration, now.configuration)
	}
	if was, is := old.status.StorageError, now.status.StorageError; was != is {
		if is != "" {
			l.log.Warn("raft: the disk takes no writes", "reason", is, "term", now.status.Term, "durable", now.status.DurableIndex)
		} else {
			l.log.Info("raft: the disk takes writes again", "durable", now.status.DurableIndex)
		}
		l.events.dispatch(StorageEventType, is, was)
	}
	if now.removed && !old.removed {
		l.log.Warn("raft: this server was removed from the cluster", "commit", now.status.CommitIndex)
		l.events.dispatch(RemovePeerEventType, l.raft.name, nil)
	}
}

// announceMembers tells who came and who went but for this server, which is told
// of its own removal only when that is certain.
func (l *eventLoop) announceMembers(old, now *configuration) {
	for _, m := range now.members {
		if old.find(m.name) == nil && m.name != l.raft.name {
			l.events.dispatch(AddPeerEventType, m.name, nil)
		}
	}
	for _, m := range old.members {
		if now.find(m.name) == nil && m.name != l.raft.name {
			l.events.dispatch(RemovePeerEventType, m.name, nil)
		}
	}
}

func membersOf(c *configuration) []MemberStatus {
	members := make([]MemberStatus, len(c.members))
	for i, m := range c.members {
		members[i] = MemberStatus{Name: m.name, ConnectionString: m.connectionString, Voter: m.voter, Incarnation: m.incarnation, StoreID: m.storeID}
	}
	return members
}

// peers returns the members but this server as transports see them.
func (p *published) peers() map[string]*Peer {
	peers := make(map[string]*Peer, len(p.status.Members))
	for _, m := range p.status.Members {
		if m.Name != p.status.Name {
			peers[m.Name] = &Peer{Name: m.Name, ConnectionString: m.ConnectionString, storeID: m.StoreID, lastActivity: m.LastActivity}
		}
	}
	return peers
}

// entries returns the entries that are in memory, oldest first.
func (p *published) entries() []*LogEntry {
	var entries []*LogEntry
	for i := p.view.tail.first(); i != 0 && i <= p.view.terms.end; {
		records, last := p.view.tail.read(i, p.view.terms.end, chunkBytes)
		for len(records) > 0 {
			record, rest, err := wal.NextRecord(records)
			if err != nil {
				return entries
			}
			entries, records = append(entries, newLogEntry(record)), rest
		}
		i = last + 1
	}
	return entries
}
