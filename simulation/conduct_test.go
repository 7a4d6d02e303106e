//go:build simulation

package simulation

import (
	"testing"

	"github.com/goraft/raft"
)

var (
	threeVoters = raft.ObservedConfiguration{Index: 1, Voters: []string{"a", "b", "c"}, Stores: []uint64{7, 7, 7}, Members: "a b c"}
	fourVoters  = raft.ObservedConfiguration{Index: 4, Voters: []string{"a", "b", "c", "d"}, Stores: []uint64{7, 7, 7, 7}, Members: "a b c d"}
)

func entryOf(index, term uint64) raft.ObservedEntry {
	return raft.ObservedEntry{Index: index, Term: term, Checksum: uint32(index*100 + term)}
}

func turnOf(name, state string, term, commit, durable, from uint64, first bool, entries ...raft.ObservedEntry) *raft.Observation {
	return &raft.Observation{
		Name: name, State: state, Term: term, StoreID: 7, ClusterID: 9, Commit: commit, Applied: min(commit, 1), Durable: durable,
		From: from, First: first, Entries: entries, Configurations: []raft.ObservedConfiguration{threeVoters},
	}
}

// with lets the watch see a turn before the rest.
func with(o *raft.Observation, do func(w *watch)) func(w *watch) {
	return func(w *watch) { w.observe(o); do(w) }
}

// TestConductIsNoticed shows each check of single decisions one that is wrong, and
// one that is not.
func TestConductIsNoticed(t *testing.T) {
	entry, turn, four := entryOf, turnOf, fourVoters
	follower := func(name string, durable uint64, entries ...raft.ObservedEntry) *raft.Observation {
		return turn(name, raft.Follower, 2, 1, durable, 1, true, entries...)
	}
	leader := func(commit, durable uint64, changes ...raft.ObservedConfiguration) func(w *watch) {
		return func(w *watch) {
			w.backers[candidacy{"a", 2}] = map[string]uint64{"b": 7}
			w.observe(turn("a", raft.Leader, 2, 1, 2, 1, true, entry(1, 1), entry(2, 1), entry(3, 2)))
			o := turn("a", raft.Leader, 2, commit, durable, 4, false)
			if len(changes) > 0 {
				o.Entries, o.Configurations = []raft.ObservedEntry{entry(4, 2)}, append(o.Configurations, changes...)
			}
			w.observe(o)
		}
	}
	b := follower("b", 3, entry(1, 1), entry(2, 1), entry(3, 2))
	voted := func(its entryID) func(w *watch) {
		return func(w *watch) {
			w.observe(follower("a", 2, entry(1, 1), entry(2, 1)))
			w.stood[candidacy{"b", 3}] = its
			o := turn("a", raft.Follower, 3, 1, 2, 3, false)
			o.VotedFor = "b"
			w.observe(o)
			w.sent(raft.MemoryMessage{From: "a", To: "b", Answer: true, Message: &raft.RequestVoteResponse{Term: 3, VoteGranted: true, StoreID: 7}})
		}
	}
	elected := func(backers map[string]uint64) func(w *watch) {
		return func(w *watch) {
			w.backers[candidacy{"a", 2}] = backers
			w.observe(turn("a", raft.Leader, 2, 1, 1, 1, true, entry(1, 1)))
		}
	}
	for name, c := range map[string]struct {
		do   func(w *watch)
		want string
	}{
		"elected":                       {elected(map[string]uint64{"b": 7}), ""},
		"elected by itself":             {elected(nil), "I6"},
		"elected by a stranger":         {elected(map[string]uint64{"d": 7}), "I6"},
		"elected by another store":      {elected(map[string]uint64{"b": 8}), "I6"},
		"commits its own":               {with(b, leader(3, 3)), ""},
		"commits an earlier term's":     {with(b, leader(2, 3)), "I3"},
		"commits by itself":             {leader(3, 3), "I7"},
		"counts itself too early":       {with(b, leader(3, 2)), "I7"},
		"counts what is not durable":    {with(follower("b", 2, entry(1, 1), entry(2, 1), entry(3, 2)), leader(3, 3)), "I7"},
		"counts another store":          {with(func() *raft.Observation { o := *b; o.StoreID = 8; return &o }(), leader(3, 3)), "I7"},
		"changes after its own":         {with(b, leader(3, 3, four)), ""},
		"changes before its own":        {with(b, leader(1, 3, four)), "I10"},
		"a configuration of no entry":   {func(w *watch) { o := *b; o.Configurations = append(o.Configurations, four); w.observe(&o) }, "I10"},
		"votes for a newer log":         {voted(entryID{2, 2}), ""},
		"votes for as new a log":        {voted(entryID{2, 1}), ""},
		"votes for a shorter log":       {voted(entryID{1, 1}), "I3"},
		"votes for an earlier term's":   {voted(entryID{9, 0}), "I3"},
		"drops an earlier term's entry": {with(follower("a", 2, entry(1, 1), entry(2, 1)), func(w *watch) { w.observe(turn("a", raft.Follower, 2, 1, 1, 2, false, entry(2, 2))) }), ""},
		"drops this term's entry":       {with(follower("a", 2, entry(1, 1), entry(2, 2)), func(w *watch) { w.observe(turn("a", raft.Follower, 2, 1, 1, 2, false)) }), "I2"},
		"what is kept stays durable":    {with(follower("a", 2, entry(1, 1), entry(2, 1)), func(w *watch) { w.observe(turn("a", raft.Follower, 2, 1, 1, 3, false)) }), "I7"},
	} {
		t.Run(name, func(t *testing.T) {
			w := quietWorld()
			for _, server := range []string{"a", "b"} {
				w.addNode(server)
			}
			c.do(w.watch)
			expect(t, w, c.want)
		})
	}
}
