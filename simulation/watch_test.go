//go:build simulation

package simulation

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/goraft/raft"
)

// TestWatchNotices shows each check what it is there for: two servers' turns, of
// which the last breaks an invariant.
func TestWatchNotices(t *testing.T) {
	entry := func(index, term uint64) raft.ObservedEntry {
		return raft.ObservedEntry{Index: index, Term: term, Checksum: uint32(index*100 + term)}
	}
	turn := func(name string, change func(*raft.Observation)) *raft.Observation {
		o := &raft.Observation{
			Name: name, State: raft.Follower, Term: 2, StoreID: 7, ClusterID: 9, Commit: 2, Applied: 2, Durable: 3, From: 1, First: true,
			Entries: []raft.ObservedEntry{entry(1, 1), entry(2, 1), entry(3, 2)},
		}
		change(o)
		return o
	}
	as := func(*raft.Observation) {}
	next := func(change func(*raft.Observation)) func(*raft.Observation) {
		return func(o *raft.Observation) {
			o.First, o.From, o.Entries = false, 4, nil
			change(o)
		}
	}
	voters := func(index uint64, names ...string) raft.ObservedConfiguration {
		return raft.ObservedConfiguration{Index: index, Voters: names, Stores: make([]uint64, len(names)), Members: strings.Join(names, " ")}
	}
	leads := func(o *raft.Observation) { o.State = raft.Leader }
	for name, c := range map[string]struct {
		turns []*raft.Observation
		want  string
	}{
		"nothing":        {[]*raft.Observation{turn("a", as), turn("b", leads)}, ""},
		"two leaders":    {[]*raft.Observation{turn("a", leads), turn("b", leads)}, "I1"},
		"two followed":   {[]*raft.Observation{turn("a", leads), turn("b", func(o *raft.Observation) { o.Leader = "c" })}, "I1"},
		"another entry":  {[]*raft.Observation{turn("a", as), turn("b", func(o *raft.Observation) { o.Entries[2].Checksum++ })}, "I2"},
		"another prefix": {[]*raft.Observation{turn("a", as), turn("b", func(o *raft.Observation) { o.Commit, o.Applied, o.Entries[1] = 0, 0, entry(2, 2) })}, "I2"},
		"leader without": {[]*raft.Observation{turn("a", as), turn("b", func(o *raft.Observation) {
			leads(o)
			o.Commit, o.Applied, o.Durable, o.Entries = 1, 1, 1, o.Entries[:1]
		})}, "I3"},
		"another commit": {[]*raft.Observation{turn("a", as), turn("b", func(o *raft.Observation) {
			o.Entries[1] = raft.ObservedEntry{Index: 2, Term: 2}
			o.Entries = o.Entries[:2]
			o.Durable = 2
		})}, "I4"},
		"an earlier term":          {[]*raft.Observation{turn("a", as), turn("a", next(func(o *raft.Observation) { o.Term = 1 }))}, "I5"},
		"another vote":             {[]*raft.Observation{turn("a", func(o *raft.Observation) { o.VotedFor = "b" }), turn("a", next(func(o *raft.Observation) { o.VotedFor = "c" }))}, "I6"},
		"an earlier commit":        {[]*raft.Observation{turn("a", as), turn("a", next(func(o *raft.Observation) { o.Commit, o.Applied = 1, 1 }))}, "I8"},
		"applied before commit":    {[]*raft.Observation{turn("a", func(o *raft.Observation) { o.Applied = 3 })}, "I8"},
		"durable behind the end":   {[]*raft.Observation{turn("a", func(o *raft.Observation) { o.Durable = 4 })}, "I8"},
		"committed behind the end": {[]*raft.Observation{turn("a", func(o *raft.Observation) { o.Commit, o.Applied = 4, 3 })}, "I8"},
		"a gap":                    {[]*raft.Observation{turn("a", func(o *raft.Observation) { o.Entries[1] = entry(3, 1) })}, "I8"},
		"a later log":              {[]*raft.Observation{turn("a", func(o *raft.Observation) { o.Term = 1 })}, "I8"},
		"two open configurations": {[]*raft.Observation{turn("a", func(o *raft.Observation) {
			o.Commit, o.Applied = 1, 1
			o.Configurations = []raft.ObservedConfiguration{voters(2, "a"), voters(3, "a", "b")}
		})}, "I10"},
		"two at once": {[]*raft.Observation{turn("a", func(o *raft.Observation) {
			o.Configurations = []raft.ObservedConfiguration{voters(2, "a"), voters(3, "b")}
		})}, "I10"},
		"another configuration": {[]*raft.Observation{
			turn("a", func(o *raft.Observation) { o.Configurations = []raft.ObservedConfiguration{voters(2, "a")} }),
			turn("b", func(o *raft.Observation) { o.Configurations = []raft.ObservedConfiguration{voters(2, "a", "b")} }),
		}, "I10"},
	} {
		t.Run(name, func(t *testing.T) {
			w := quietWorld()
			for _, o := range c.turns {
				w.watch.observe(o)
			}
			expect(t, w, c.want)
		})
	}
}

// TestWatchNoticesLives shows the checks of what outlives a life, and of messages.
func TestWatchNoticesLives(t *testing.T) {
	life := func(term, durable uint64, entries ...raft.ObservedEntry) *raft.Observation {
		return &raft.Observation{Name: "a", State: raft.Follower, Term: term, StoreID: 7, Durable: durable, From: 1, First: true, Entries: entries}
	}
	one, other := raft.ObservedEntry{Index: 1, Term: 1, Checksum: 1}, raft.ObservedEntry{Index: 1, Term: 2, Checksum: 2}
	vote := func(to string, term uint64) raft.MemoryMessage {
		return raft.MemoryMessage{From: "a", To: to, Answer: true, Message: &raft.RequestVoteResponse{Term: term, VoteGranted: true, StoreID: 7}}
	}
	acknowledges := func(term, index uint64) raft.MemoryMessage {
		answer := &raft.AppendEntriesResponse{}
		if _, err := answer.Decode(bytes.NewReader([]byte{1 << 3, byte(term), 2 << 3, byte(index), 3 << 3, 0, 4 << 3, 1})); err != nil {
			t.Fatal(err)
		}
		answer.StoreID = 7
		return raft.MemoryMessage{From: "a", To: "b", Answer: true, Message: answer}
	}
	commits := func(w *watch) {
		o := life(2, 1, one)
		o.Commit = 1
		w.observe(o)
	}
	voted := func(w *watch, to ...string) {
		for _, candidate := range to {
			w.stood[candidacy{candidate, 5}] = entryID{}
			w.sent(vote(candidate, 5))
		}
	}
	for name, c := range map[string]struct {
		do   func(w *watch)
		want string
	}{
		"all is there":          {func(w *watch) { w.observe(life(2, 1, one)); w.ends("a"); w.observe(life(2, 1, one)) }, ""},
		"an entry is not":       {func(w *watch) { w.observe(life(2, 1, one)); w.ends("a"); w.observe(life(2, 0)) }, "I7"},
		"another is":            {func(w *watch) { w.observe(life(2, 1, one)); w.ends("a"); w.observe(life(2, 1, other)) }, "I7"},
		"not durable":           {func(w *watch) { w.observe(life(2, 0, one)); w.ends("a"); w.observe(life(2, 0)) }, ""},
		"wiped":                 {func(w *watch) { w.observe(life(2, 1, one)); w.ends("a"); w.forgets("a"); w.observe(life(0, 0)) }, ""},
		"a term is not":         {func(w *watch) { voted(w, "b"); w.observe(life(4, 0)) }, "I5"},
		"two votes":             {func(w *watch) { voted(w, "b", "c") }, "I6"},
		"one vote twice":        {func(w *watch) { voted(w, "b", "b") }, ""},
		"acknowledged":          {func(w *watch) { w.observe(life(2, 1, one)); w.sent(acknowledges(2, 1)) }, ""},
		"acknowledged too soon": {func(w *watch) { w.observe(life(2, 0, one)); w.sent(acknowledges(2, 1)) }, "I7"},
		"another store": {func(w *watch) {
			w.observe(life(2, 1, one))
			o := life(2, 1)
			o.First, o.From, o.StoreID = false, 2, 8
			w.observe(o)
		}, "I7"},
		"a vote is not":   {func(w *watch) { voted(w, "b"); w.ends("a"); w.observe(life(5, 0)) }, "I6"},
		"not a candidate": {func(w *watch) { w.sent(vote("b", 5)) }, "I6"},
		"told to read":    {func(w *watch) { commits(w); asks(w); tells(w, 1) }, ""},
		"committed since": {func(w *watch) { asks(w); commits(w); tells(w, 0) }, ""},
		"told too little": {func(w *watch) { commits(w); asks(w); tells(w, 0) }, "I9"},
		"told unasked":    {func(w *watch) { tells(w, 1) }, "I9"},
		"told by another": {func(w *watch) { w.leads(2, "b", "b"); asks(w); tells(w, 1) }, "I1"},
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

// asks has b ask a for a read index, tells has a answer.
func asks(w *watch) {
	w.sent(raft.MemoryMessage{From: "b", To: "a", Message: &raft.ReadIndexRequest{Sequence: 5}})
}

func tells(w *watch, index uint64) {
	answer := &raft.ReadIndexResponse{Term: 2, Success: true, Index: index, Sequence: 5, StoreID: 7}
	w.sent(raft.MemoryMessage{From: "a", To: "b", Answer: true, Message: answer})
}

func quietWorld() *world {
	w := &world{plan: draw(1, false), counts: map[string]int{}, trace: newTrace(nil), fail: func() {}}
	w.watch = newWatch(w)
	return w
}

// expect checks that the first thing that a world noticed is of that invariant, or
// that it noticed nothing.
func expect(t *testing.T, w *world, want string) {
	t.Helper()
	switch {
	case want == "" && len(w.failures) > 0:
		t.Errorf("noticed %q, and nothing is wrong", w.failures)
	case want != "" && (len(w.failures) == 0 || !strings.HasPrefix(w.failures[0], want+":")):
		t.Errorf("noticed %q, want %s", w.failures, want)
	}
}

// TestOracleNotices shows the oracle answers that cannot be.
func TestOracleNotices(t *testing.T) {
	first := applied{index: 5, term: 1, value: value{1, 1}, chain: 11}
	second := applied{index: 6, term: 1, value: value{1, 2}, chain: 12}
	mine := &command{value: value{1, 1}}
	got := func(outcome int, index uint64) []*client {
		return []*client{{id: 1, sent: []sent{{outcome: outcome, index: index}}}}
	}
	for name, c := range map[string]struct {
		do   func(o *oracle)
		want string
	}{
		"the same":        {func(o *oracle) { o.applies("a", 1, first); o.applies("b", 1, first); o.settle(got(done, 5)) }, ""},
		"another command": {func(o *oracle) { o.applies("a", 1, first); o.applies("b", 1, second) }, "I4"},
		"one left out":    {func(o *oracle) { o.applies("a", 2, second) }, "I4"},
		"a strange state": {func(o *oracle) { o.applies("a", 1, first); o.restores("b", 1, second) }, "I4"},
		"twice": {func(o *oracle) {
			o.applies("a", 1, first)
			again := first
			again.index = 6
			o.applies("a", 2, again)
			o.settle(got(unknown, 0))
		}, "I4"},
		"a strange answer": {func(o *oracle) {
			o.applies("a", 1, second)
			o.received(mine, receipt{index: 6, chain: 12, place: 1}, 0)
		}, "I9"},
		"a stale answer": {func(o *oracle) { o.applies("a", 1, first); o.received(mine, receipt{index: 5, chain: 11, place: 1}, 5) }, "I9"},
		"lost":           {func(o *oracle) { o.settle(got(done, 5)) }, "I7"},
		"a phantom":      {func(o *oracle) { o.applies("a", 1, second); o.settle(got(unknown, 0)) }, "I9"},
		"denied":         {func(o *oracle) { o.applies("a", 1, first); o.settle(got(notApplied, 0)) }, "I9"},
	} {
		t.Run(name, func(t *testing.T) {
			w := quietWorld()
			c.do(&oracle{world: w})
			expect(t, w, c.want)
		})
	}
}

// TestHistory shows the model histories with and without an order.
func TestHistory(t *testing.T) {
	write := func(began, ended int, before value, outcome int) sent {
		return sent{kind: put, began: 1 + time.Duration(began), ended: 1 + time.Duration(ended), outcome: outcome, before: before}
	}
	read := func(began, ended int, before value) sent {
		return sent{kind: get, began: 1 + time.Duration(began), ended: 1 + time.Duration(ended), outcome: done, before: before}
	}
	a, b := value{1, 1}, value{2, 1}
	for name, c := range map[string]struct {
		one, two []sent
		want     bool
	}{
		"in order":               {[]sent{write(0, 1, value{}, done)}, []sent{write(2, 3, a, done), read(4, 5, b)}, true},
		"a stale read":           {[]sent{write(0, 1, value{}, done)}, []sent{read(2, 3, value{})}, false},
		"a read of nothing":      {[]sent{write(0, 9, value{}, done)}, []sent{read(2, 3, value{})}, true},
		"unknown, seen later":    {[]sent{write(0, 1, value{}, unknown)}, []sent{read(2, 3, value{}), read(4, 5, a)}, true},
		"unknown, seen too soon": {[]sent{write(4, 5, value{}, unknown)}, []sent{read(2, 3, a)}, false},
		"unknown, and gone":      {[]sent{write(0, 1, value{}, unknown)}, []sent{read(2, 3, a), read(4, 5, value{})}, false},
		"refused, and seen":      {[]sent{write(0, 1, value{}, notApplied)}, []sent{read(2, 3, a)}, false},
		"lost":                   {[]sent{write(0, 1, value{}, done)}, []sent{write(2, 3, value{}, done)}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := linearizable(history([]*client{{id: 1, sent: c.one}, {id: 2, sent: c.two}})); got != c.want {
				t.Errorf("linearizable: %t", got)
			}
		})
	}
}
