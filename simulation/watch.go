//go:build simulation

package simulation

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/goraft/raft"
)

// watch holds every turn of every server, and every message, against what was
// said and done before. The numbers are those of the invariants: see Invariants
// in docs/testing.md.
type watch struct {
	world *world

	mu         sync.Mutex
	leaders    map[uint64]string               // of each term (I1)
	entries    map[entryID]witness             // that any log ever held (I2)
	committed  []raft.ObservedEntry            // by index, the first is entry 1 (I3)
	votes      map[ballot]string               // for whom (I6)
	backers    map[candidacy]map[string]uint64 // who voted for a candidate, and from which store
	heard      map[store]uint64                // the highest term that each store has told of (I5)
	logs       map[string]*mirror              // of each server, as of its last turn
	configured map[entryID]string              // what the configurations of entries say (I10)
	promised   map[string]*mirror              // what a life that has ended held durably, of a server that is down (I7)
	gone       map[store]*mirror               // the last log of each store, of a life that has ended
	stood      map[candidacy]entryID           // the end of the log that each candidate has told
	ended      map[candidacy]entryID           // the end of the log with which each voter voted
	asked      map[question]uint64             // how much was known to be committed when a server asked for a read index (I9)
	elections  int
	commits    int
}

// candidacy is a server that stands for election in a term.
type candidacy struct {
	name string
	term uint64
}

type entryID struct{ index, term uint64 }

// witness is what an entry was when it was first seen: its bytes' checksum, and
// the term of the one before it, by which all before it are the same as well.
type witness struct {
	checksum uint32
	before   uint64
	source   string
}

type store struct {
	name string
	id   uint64
}

// question is one for a read index, by its asker and its number.
type question struct {
	name   string
	number uint64
}

type ballot struct {
	store
	term uint64
}

// mirror is a server's log as its observations tell it.
type mirror struct {
	base, baseTerm uint64
	entries        []raft.ObservedEntry
	checked        uint64           // its commit index that was looked at
	last           raft.Observation // its newest one
}

func (m *mirror) end() uint64 { return m.base + uint64(len(m.entries)) }

// at returns the entry at index, nil if the log does not reach to it or has a
// snapshot in its place.
func (m *mirror) at(index uint64) *raft.ObservedEntry {
	if index <= m.base || index > m.end() {
		return nil
	}
	return &m.entries[index-m.base-1]
}

// termAt is the term of the entry at index, 0 where it is not known.
func (m *mirror) termAt(index uint64) uint64 {
	if index == m.base {
		return m.baseTerm
	}
	if e := m.at(index); e != nil {
		return e.Term
	}
	return 0
}

func newWatch(w *world) *watch {
	return &watch{
		world: w, leaders: map[uint64]string{}, entries: map[entryID]witness{}, votes: map[ballot]string{}, heard: map[store]uint64{},
		logs: map[string]*mirror{}, configured: map[entryID]string{}, promised: map[string]*mirror{},
		gone: map[store]*mirror{}, backers: map[candidacy]map[string]uint64{}, stood: map[candidacy]entryID{}, ended: map[candidacy]entryID{},
		asked: map[question]uint64{},
	}
}

// violated fails the run.
func (w *watch) violated(invariant, format string, args ...any) {
	w.world.violated(invariant+": "+format, args...)
}

// observe takes a turn of a server.
func (w *watch) observe(o *raft.Observation) {
	w.mu.Lock()
	defer w.mu.Unlock()
	m := w.logs[o.Name]
	if m == nil || o.First {
		m = &mirror{}
		w.logs[o.Name] = m
	}
	last, end := m.last, entryID{m.end(), m.termAt(m.end())}
	w.log(m, o)
	m.last = *o
	m.last.Entries = nil
	if o.First {
		w.begins(o, m)
	} else {
		w.goesOn(&last, o)
		w.keeps(&last, o)
		w.gives(&last, o, end)
		w.decides(&last, o, m)
	}
	w.order(o, m)
	w.commit(o, m)
	w.configuration(o, m)
	w.role(&last, o, m)
	w.tell(&last, o)
}

// log brings a mirror up to date, and holds what is new against other logs (I2).
func (w *watch) log(m *mirror, o *raft.Observation) {
	switch {
	case o.First || o.Base >= m.end() || o.Base < m.base:
		m.entries = nil
	default:
		m.entries = slices.Delete(m.entries, 0, int(o.Base-m.base))
	}
	m.base, m.baseTerm = o.Base, o.BaseTerm
	if keep := int(o.From - m.base - 1); keep < len(m.entries) {
		w.drops(o, m.entries[keep:])
		m.entries = m.entries[:keep]
	}
	for _, e := range o.Entries {
		if e.Index != m.end()+1 {
			w.violated("I8", "%s has entry %d behind %d", o.Name, e.Index, m.end())
			return
		}
		seen := witness{e.Checksum, m.termAt(e.Index - 1), o.Name}
		if before, ok := w.entries[entryID{e.Index, e.Term}]; !ok {
			w.entries[entryID{e.Index, e.Term}] = seen
		} else if before.checksum != seen.checksum || before.before != seen.before {
			w.violated("I2", "%s has entry %d of term %d as %+v, %s had it as %+v", o.Name, e.Index, e.Term, seen, before.source, before)
		}
		m.entries = append(m.entries, e)
	}
}

// begins holds what a server remembers against what its life before had made
// durable, and had told others.
func (w *watch) begins(o *raft.Observation, m *mirror) {
	id := store{o.Name, o.StoreID}
	if o.Term < w.heard[id] {
		w.violated("I5", "%s begins in term %d and was in %d", o.Name, o.Term, w.heard[id])
	}
	if voted, ok := w.votes[ballot{id, o.Term}]; ok && o.VotedFor != voted {
		w.violated("I6", "%s begins with the vote %q in term %d, and has voted for %s", o.Name, o.VotedFor, o.Term, voted)
	}
	before := w.promised[o.Name]
	delete(w.promised, o.Name)
	if before == nil {
		return
	}
	for i := before.base + 1; i <= min(before.last.Durable, before.end()); i++ {
		if i <= m.base {
			continue
		}
		if now, was := m.at(i), before.at(i); now == nil || *now != *was {
			w.violated("I7", "%s had entry %+v durable and begins with %+v", o.Name, *was, now)
			return
		}
	}
}

// goesOn checks that nothing goes back within a life (I5, I6, I8).
func (w *watch) goesOn(last, o *raft.Observation) {
	switch {
	case o.Term < last.Term:
		w.violated("I5", "%s went from term %d to %d", o.Name, last.Term, o.Term)
	case o.Term == last.Term && last.VotedFor != "" && o.VotedFor != last.VotedFor:
		w.violated("I6", "%s changed its vote from %s to %s in term %d", o.Name, last.VotedFor, o.VotedFor, o.Term)
	case o.Commit < last.Commit || o.Applied < last.Applied:
		w.violated("I8", "%s went from commit %d, applied %d to %d, %d", o.Name, last.Commit, last.Applied, o.Commit, o.Applied)
	case o.StoreID != last.StoreID || last.ClusterID != 0 && o.ClusterID != last.ClusterID && last.Commit > 0:
		w.violated("I7", "%s became another server", o.Name)
	}
}

// order checks the order of a server's positions (I8).
func (w *watch) order(o *raft.Observation, m *mirror) {
	if o.Base > o.Commit || o.Applied > o.Commit || o.Commit > m.end() || o.Durable > m.end() || m.termAt(m.end()) > o.Term {
		w.violated("I8", "%s has base %d, applied %d, commit %d, durable %d, last %d of term %d in term %d",
			o.Name, o.Base, o.Applied, o.Commit, o.Durable, m.end(), m.termAt(m.end()), o.Term)
	}
}

// commit holds what is newly known to be committed against what was before (I4).
func (w *watch) commit(o *raft.Observation, m *mirror) {
	for i := max(m.base, m.checked) + 1; i <= o.Commit; i++ {
		e := m.at(i)
		if e == nil {
			w.violated("I8", "%s has committed %d and does not hold it", o.Name, i)
			return
		}
		for uint64(len(w.committed)) < i {
			w.committed = append(w.committed, raft.ObservedEntry{})
		}
		switch known := &w.committed[i-1]; {
		case known.Index == 0:
			*known = *e
			w.commits++
		case *known != *e:
			w.violated("I4", "%s has committed %+v, another server %+v", o.Name, *e, *known)
			return
		}
	}
	m.checked = o.Commit
}

// configuration checks that a configuration follows from the log, that at most
// one is not committed, and that neighbours share their quorums (I10).
func (w *watch) configuration(o *raft.Observation, m *mirror) {
	open := 0
	for i, c := range o.Configurations {
		if c.Index > o.Commit {
			open++
		}
		if i > 0 && changes(o.Configurations[i-1].Voters, c.Voters) > 1 {
			w.violated("I10", "%s: voters %v, then %v", o.Name, o.Configurations[i-1].Voters, c.Voters)
		}
		id := entryID{c.Index, m.termAt(c.Index)}
		if id.term == 0 {
			continue // of the beginning, or in a snapshot
		}
		if before, ok := w.configured[id]; ok && before != c.Members {
			w.violated("I10", "%s has configuration %d of term %d as %s, it was %s", o.Name, id.index, id.term, c.Members, before)
		}
		w.configured[id] = c.Members
	}
	if n := len(o.Configurations); n > 0 && o.Configurations[n-1].Index > m.end() {
		w.violated("I10", "%s has a configuration of entry %d, its log ends with %d", o.Name, o.Configurations[n-1].Index, m.end())
	}
	if open > 1 {
		w.violated("I10", "%s has %d configurations that are not committed", o.Name, open)
	}
}

// changes counts the voters that are in one of two configurations only.
func changes(a, b []string) (n int) {
	for _, name := range a {
		if !slices.Contains(b, name) {
			n++
		}
	}
	for _, name := range b {
		if !slices.Contains(a, name) {
			n++
		}
	}
	return n
}

// role checks who leads (I1), and that a new leader has all that is committed (I3).
func (w *watch) role(last, o *raft.Observation, m *mirror) {
	if o.Leader != "" {
		w.leads(o.Term, o.Leader, o.Name)
	}
	if o.State != raft.Leader {
		return
	}
	w.leads(o.Term, o.Name, o.Name)
	if last.State == raft.Leader && last.Term == o.Term && !o.First {
		return
	}
	w.elections++
	w.elected(o)
	for i := m.base + 1; i <= uint64(len(w.committed)); i++ {
		if c, e := w.committed[i-1], m.at(i); c.Index != 0 && (e == nil || *e != c) {
			w.violated("I3", "%s leads term %d without the committed entry %+v: it has %+v", o.Name, o.Term, c, e)
			return
		}
	}
}

// leads takes word of who leads a term.
func (w *watch) leads(term uint64, name, source string) {
	switch before := w.leaders[term]; before {
	case name:
	case "":
		w.leaders[term] = name
	default:
		w.violated("I1", "%s says that %s leads term %d, %s did", source, name, term, before)
	}
}

// voted takes word of a vote (I6).
func (w *watch) voted(voter string, id uint64, candidate string, term uint64) {
	b := ballot{store{voter, id}, term}
	if before, ok := w.votes[b]; ok && before != candidate {
		w.violated("I6", "%s voted for %s and %s in term %d", voter, before, candidate, term)
	}
	w.votes[b] = candidate
	of := candidacy{candidate, term}
	if w.backers[of] == nil {
		w.backers[of] = map[string]uint64{}
	}
	w.backers[of][voter] = id
}

// tell traces what a turn changed.
func (w *watch) tell(last, o *raft.Observation) {
	if o.First || last.State != o.State || last.Term != o.Term || last.VotedFor != o.VotedFor || last.Leader != o.Leader || last.Ready != o.Ready {
		w.world.trace.printf("%s is %s of term %d, vote %q, leader %q, ready %t", o.Name, o.State, o.Term, o.VotedFor, o.Leader, o.Ready)
	}
	if len(o.Entries) > 0 || last.Base != o.Base {
		w.world.trace.printf("%s has base %d/%d, appends %s", o.Name, o.Base, o.BaseTerm, span(o.Entries))
	}
	if last.Commit != o.Commit || last.Durable != o.Durable {
		w.world.trace.printf("%s has commit %d, durable %d", o.Name, o.Commit, o.Durable)
	}
}

// span names entries that follow each other.
func span(entries []raft.ObservedEntry) string {
	if len(entries) == 0 {
		return "nothing"
	}
	first, last := entries[0], entries[len(entries)-1]
	return fmt.Sprintf("%d/%d to %d/%d", first.Index, first.Term, last.Index, last.Term)
}

// logged tells what a server's log held at its last turn.
func (w *watch) logged(name string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	m := w.logs[name]
	if m == nil {
		return "unknown"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "up to %d/%d in the snapshot", m.base, m.baseTerm)
	for rest := m.entries; len(rest) > 0; {
		n := 1
		for n < len(rest) && rest[n].Term == rest[0].Term {
			n++
		}
		fmt.Fprintf(&b, ", %s", span(rest[:n]))
		rest = rest[n:]
	}
	fmt.Fprintf(&b, "; durable %d, commit %d, applied %d", m.last.Durable, m.last.Commit, m.last.Applied)
	return b.String()
}
