//go:build simulation

package simulation

import "github.com/goraft/raft"

// What follows looks at single decisions of a server, by the rules that each has to
// obey, so that a wrong one shows before anything comes of it, and where by luck
// nothing does.

// drops checks what a log loses: only entries of terms before the server's, because
// whoever leads a term replaces none of its own (leader append-only, §5.3).
func (w *watch) drops(o *raft.Observation, lost []raft.ObservedEntry) {
	if last := lost[len(lost)-1]; last.Term >= o.Term {
		w.violated("I2", "%s drops %s in term %d", o.Name, span(lost), o.Term)
	}
}

// keeps checks that what was durable, and still is in the log, stays durable.
func (w *watch) keeps(last, o *raft.Observation) {
	if kept := min(last.Durable, o.From-1); o.Durable < kept {
		w.violated("I7", "%s had %d durable and has %d", o.Name, kept, o.Durable)
	}
}

// gives remembers where a log ended when its server gave its vote, or before.
func (w *watch) gives(last, o *raft.Observation, end entryID) {
	if o.VotedFor != "" && (o.Term != last.Term || last.VotedFor == "") {
		w.ended[candidacy{o.Name, o.Term}] = end
	}
}

// grants checks that a server tells nobody of a vote whose log is older than its own
// was (§5.4.1).
func (w *watch) grants(voter, candidate string, term uint64) {
	its, stood := w.stood[candidacy{candidate, term}]
	end, known := w.ended[candidacy{voter, term}]
	switch {
	case !stood:
		w.violated("I6", "%s votes for %s, which does not stand in term %d", voter, candidate, term)
	case known && (end.term > its.term || end.term == its.term && end.index > its.index):
		w.violated("I3", "%s, whose log ended with %+v, votes for %s, whose ends with %+v", voter, end, candidate, its)
	}
}

// elected checks that most of the voters have voted for a new leader, each from the
// store that its name is bound to (§5.2).
func (w *watch) elected(o *raft.Observation) {
	c, backers, n := latest(o), w.backers[candidacy{o.Name, o.Term}], 0
	for i, name := range c.Voters {
		id, voted := backers[name]
		if name == o.Name || voted && (c.Stores[i] == 0 || c.Stores[i] == id) {
			n++
		}
	}
	if len(c.Voters) > 0 && n <= len(c.Voters)/2 {
		w.violated("I6", "%s leads term %d by the votes of %v, the voters are %v", o.Name, o.Term, backers, c.Voters)
	}
}

// decides checks what a leader does: it commits by an entry of its own term (§5.4.2)
// that a majority holds durably, and changes the members after it has (dissertation
// §4.1 and its erratum).
func (w *watch) decides(last, o *raft.Observation, m *mirror) {
	if o.State != raft.Leader || last.State != raft.Leader || last.Term != o.Term {
		return
	}
	before, now := latest(last), latest(o)
	if now.Index > before.Index && m.termAt(o.Commit) != o.Term {
		w.violated("I10", "%s changes the members by entry %d, has committed %d, and nothing of term %d", o.Name, now.Index, o.Commit, o.Term)
	}
	e := m.at(o.Commit)
	if o.Commit == last.Commit || e == nil {
		return
	}
	if e.Term != o.Term {
		w.violated("I3", "%s leads term %d and commits up to %+v", o.Name, o.Term, *e)
	}
	// A turn may commit first and then change the members, or the other way around.
	if !w.majority(now, *e) && !w.majority(before, *e) {
		w.violated("I7", "%s commits %+v, which no majority of the voters %v holds durably", o.Name, *e, now.Voters)
	}
}

// latest is the configuration in force.
func latest(o *raft.Observation) (c raft.ObservedConfiguration) {
	if n := len(o.Configurations); n > 0 {
		c = o.Configurations[n-1]
	}
	return c
}

// majority reports whether most of the voters hold an entry.
func (w *watch) majority(c raft.ObservedConfiguration, e raft.ObservedEntry) bool {
	n := 0
	for i, name := range c.Voters {
		if w.holds(name, c.Stores[i], e) {
			n++
		}
	}
	return n > len(c.Voters)/2
}

// holds reports whether the server has an entry durable, or had in a life before, in
// the store that its name is bound to.
func (w *watch) holds(name string, id uint64, e raft.ObservedEntry) bool {
	has := func(m *mirror) bool {
		if m == nil || id != 0 && m.last.StoreID != id || m.last.Durable < e.Index {
			return false
		}
		here := m.at(e.Index)
		return e.Index <= m.base || here != nil && *here == e
	}
	now := w.logs[name]
	if has(now) || has(w.gone[store{name, id}]) {
		return true
	}
	return id == 0 && now != nil && has(w.gone[store{name, now.last.StoreID}])
}
