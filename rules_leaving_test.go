package raft

import (
	"strings"
	"testing"
)

// TestFault022_WhoMayTakeOver: only a voter that follows the very leader that
// says so, in its term, stands when it is told to (dissertation §3.10).
func TestFault022_WhoMayTakeOver(t *testing.T) {
	voters := bound(1, "a", "b", "c")
	for name, c := range map[string]struct {
		configurations []*configuration
		spoil          func(r *replica, req *TimeoutNowRequest)
		stands         bool
		refused        uint32
	}{
		"a voter":                 {stands: true},
		"without ids":             {spoil: func(_ *replica, req *TimeoutNowRequest) { req.To, req.ClusterID, req.ToStoreID = "", 0, 0 }, stands: true},
		"a voter by the last":     {configurations: []*configuration{bound(1, "a", "c").with(member{name: "b"}).at(1), bound(2, "a", "b", "c")}, stands: true},
		"a learner":               {configurations: []*configuration{bound(1, "a", "c").with(member{name: "b"}).at(1)}},
		"to be promoted, unheard": {configurations: []*configuration{bound(1, "a", "c"), bound(1, "a", "c").with(member{name: "b", incarnation: 2}).at(2)}},
		"removed":                 {configurations: []*configuration{voters, bound(2, "a", "c")}},
		"from another store":      {configurations: []*configuration{bound(1, "b", "c", "d")}},
		"never a member":          {configurations: []*configuration{bound(1, "a", "c")}},
		"dismissed":               {spoil: func(r *replica, _ *TimeoutNowRequest) { r.dismissed = true }},
		"with an empty log":       {spoil: func(r *replica, _ *TimeoutNowRequest) { r.log = history{} }},
		"an old term":             {spoil: func(_ *replica, req *TimeoutNowRequest) { req.Term = 1 }},
		"a later term":            {spoil: func(_ *replica, req *TimeoutNowRequest) { req.Term = 3 }},
		"no term of all":          {spoil: func(_ *replica, req *TimeoutNowRequest) { req.Term = 1 << 63 }, refused: refusedTerm},
		"another leader":          {spoil: func(r *replica, _ *TimeoutNowRequest) { r.leader = "c" }},
		"no leader":               {spoil: func(r *replica, _ *TimeoutNowRequest) { r.leader = "" }},
		"a candidate":             {spoil: func(r *replica, _ *TimeoutNowRequest) { r.role, r.leader = Candidate, "" }},
		"a leader":                {spoil: func(r *replica, _ *TimeoutNowRequest) { r.role, r.leader = Leader, "b" }},
		"the last term":           {spoil: func(r *replica, req *TimeoutNowRequest) { r.term, req.Term = maxTerm, maxTerm }},
		"its own":                 {spoil: func(_ *replica, req *TimeoutNowRequest) { req.LeaderName = "b" }, refused: refusedAddressee},
		"nobody's":                {spoil: func(_ *replica, req *TimeoutNowRequest) { req.LeaderName = "" }, refused: refusedAddressee},
		"to another":              {spoil: func(_ *replica, req *TimeoutNowRequest) { req.To = "c" }, refused: refusedAddressee},
		"to another store":        {spoil: func(_ *replica, req *TimeoutNowRequest) { req.ToStoreID = 77 }, refused: refusedStore},
		"of another cluster":      {spoil: func(_ *replica, req *TimeoutNowRequest) { req.ClusterID = 77 }, refused: refusedCluster},
		"in no cluster":           {spoil: func(r *replica, _ *TimeoutNowRequest) { r.clusterID = 0 }, refused: refusedCluster},
	} {
		t.Run(name, func(t *testing.T) {
			if c.configurations == nil {
				c.configurations = []*configuration{voters}
			}
			r := standing("b", 2, []uint64{1, 2}, c.configurations...)
			r.leader = "a"
			req := &TimeoutNowRequest{Term: 2, LeaderName: "a", ClusterID: 9, To: "b", StoreID: 1, ToStoreID: 2}
			if c.spoil != nil {
				c.spoil(r, req)
			}
			before := *r
			if stands, refused := r.timeoutNow(req); stands != c.stands || refused != c.refused {
				t.Errorf("stands %t, refused %d", stands, refused)
			}
			if r.ballot != before.ballot || r.role != before.role || r.leader != before.leader {
				t.Errorf("changed: %+v", r)
			}
		})
	}
}

// TestFault077_VotesAreNotRefusedForMembership: a refusal may say that the
// candidate was removed, and none has that for its reason.
func TestFault077_VotesAreNotRefusedForMembership(t *testing.T) {
	with, without := bound(1, "a", "b", "c"), bound(3, "a", "b")
	for name, c := range map[string]struct {
		last           entryID // of the candidate
		configurations []*configuration
		commit         uint64
		alive          bool
		term           uint64
		votedFor       string
		granted, told  bool
	}{
		"an old log":                        {last: entryID{2, 1}, commit: 3, told: true},
		"the same log":                      {last: entryID{4, 2}, commit: 3, granted: true},
		"a longer log":                      {last: entryID{9, 2}, commit: 3, granted: true},
		"a later log":                       {last: entryID{3, 3}, commit: 3, granted: true},
		"while the leader lives":            {last: entryID{2, 1}, commit: 3, alive: true, told: true},
		"the same log, the leader lives":    {last: entryID{4, 2}, commit: 3, alive: true, told: true},
		"a later log, the leader lives":     {last: entryID{5, 2}, commit: 3, alive: true},
		"in an old term":                    {last: entryID{2, 1}, commit: 3, term: 1, told: true},
		"in an old term, a later log":       {last: entryID{9, 2}, commit: 3, term: 1},
		"for another":                       {last: entryID{4, 2}, commit: 3, term: 2, votedFor: "b", told: true},
		"not known to be committed":         {last: entryID{2, 1}, commit: 2},
		"nothing known":                     {last: entryID{2, 1}},
		"added since, not committed":        {last: entryID{2, 1}, commit: 3, configurations: []*configuration{with, without, without.with(member{name: "c"}).at(4)}},
		"a member":                          {last: entryID{2, 1}, commit: 4, configurations: []*configuration{with}},
		"never a member, with an older log": {last: entryID{2, 1}, commit: 4, configurations: []*configuration{without}, told: true},
		"never a member, with a newer log":  {last: entryID{9, 9}, commit: 4, configurations: []*configuration{without}, granted: true},
	} {
		t.Run(name, func(t *testing.T) {
			if c.configurations == nil {
				c.configurations = []*configuration{with, without}
			}
			for _, preVote := range []bool{false, true} {
				r := standing("b", 2, []uint64{1, 1, 2, 2}, c.configurations...)
				r.commit(c.commit)
				r.votedFor = c.votedFor
				term := c.term
				if term == 0 {
					term = 3
				}
				granted, refused := r.vote(&RequestVoteRequest{
					Term: term, LastLogIndex: c.last.index, LastLogTerm: c.last.term, CandidateName: "c",
					ClusterID: 9, To: "b", StoreID: 3, PreVote: preVote,
				}, c.alive)
				want := refusedNot
				if c.told {
					want = refusedRemoved
				}
				if granted != c.granted || refused != want {
					t.Errorf("pre-vote %t: granted %t, refused %d", preVote, granted, refused)
				}
			}
		})
	}
}

// TestOneWordDismissesNobody: a candidate believes that it was removed when so
// many voters say so that it cannot be elected.
func TestOneWordDismissesNobody(t *testing.T) {
	for n, needed := range map[int]int{2: 1, 3: 2, 4: 2, 5: 3} {
		names := []string{"a", "b", "c", "d", "e"}[:n]
		e := newElection(standing("a", 1, []uint64{1}, bound(1, names...)), true)
		e.dismissed("x", 0)
		e.dismissed("b", 77) // another store
		for i := range needed {
			if e.over() {
				t.Errorf("%d of %d suffice", i, n)
			}
			e.dismissed(names[i+1], uint64(i)+2)
			e.dismissed(names[i+1], uint64(i)+2)
		}
		if !e.over() {
			t.Errorf("%d of %d do not suffice", needed, n)
		}
	}
	// Of a configuration in which it votes no more, its own answer does not count.
	e := newElection(standing("a", 1, []uint64{1}, bound(1, "b", "c", "d")), true)
	e.record("b", 1, true)
	e.dismissed("b", 1)
	if e.dismissed("c", 2); e.over() {
		t.Error("b has granted")
	}
}

// TestRemoved: a server says that it was removed when it was a member, from this
// store, and is committed to be none; a joiner that is behind does not.
func TestRemoved(t *testing.T) {
	with, without := bound(1, "a", "b", "c"), bound(3, "a", "b")
	again := without.with(member{name: "c", incarnation: 5}).at(5)
	start := func(name string, storeID uint64) *replica {
		return standing(name, storeID, []uint64{1, 1, 1, 1, 1, 1}, with, without, again)
	}
	for name, c := range map[string]struct {
		r    *replica
		want []bool // by commit index
	}{
		"a member from this store":    {start("c", 3), []bool{false, false, false, true, true, false, false}},
		"the same name, a new store":  {start("c", 7), []bool{false, false, false, false, false, false, false}},
		"a member that stays":         {start("a", 1), []bool{false, false, false, false, false, false, false}},
		"one that was never a member": {start("z", 9), []bool{false, false, false, false, false, false, false}},
	} {
		t.Run(name, func(t *testing.T) {
			for commit, want := range c.want {
				c.r.commit(uint64(commit))
				if got := c.r.removed(); got != want {
					t.Errorf("committed %d: removed %t", commit, got)
				}
			}
		})
	}

	// One that was never bound knows when it has all that its leader has committed.
	r := newReplica("d", identity{storeID: 8}, ballot{})
	unbound := bound(1, "a", "b").with(member{name: "d", incarnation: 3}).at(3)
	for _, step := range []struct {
		entries, commit uint64
		want            bool
	}{{2, 4, false}, {3, 4, false}, {4, 4, true}, {5, 5, true}} {
		req, b := appending(1, entryID{r.log.end, min(r.log.end, 1)}, step.commit)
		req.To = "d"
		for i := r.log.end + 1; i <= step.entries; i++ {
			b.append(1, 1)
		}
		for _, c := range []*configuration{bound(1, "a", "b"), unbound, bound(4, "a", "b")} {
			if c.index > r.log.end && c.index <= step.entries {
				b.configurations = append(b.configurations, c)
			}
		}
		if answer, err := r.appendEntries(req, b); err != nil || !answer.success || r.removed() != step.want {
			t.Errorf("entry %d: %+v, %v, removed %t", step.entries, answer, err, r.removed())
		}
	}

	// The word of others holds until it is committed that they were wrong.
	c := standing("c", 3, []uint64{1, 1, 1, 1, 1}, with)
	c.commit(2)
	if c.dismissed = true; !c.removed() || c.electable() {
		t.Error("dismissed, and not removed")
	}
	if c.commit(4); !c.removed() {
		t.Error("a commit alone takes it back")
	}
	c.configured(bound(5, "a", "b", "c"))
	if c.commit(5); c.removed() || !c.electable() {
		t.Error("not a member again")
	}
}

// changeCase is a change that a leader a is asked for.
type changeCase struct {
	before  *configuration
	leave   bool
	rejoins bool
	who, at string
	heard   string // since the last check; before it, behind a comma
	lost    string
	checks  int
	want    string // the names, learners in brackets
	err     error
}

// TestChangesThatTheLeaderMakes: dissertation §4.1 and §4.2. A voter is given up
// only while the others have a majority that answers.
func TestChangesThatTheLeaderMakes(t *testing.T) {
	three := bound(1, "a", "b", "c")
	learner := three.with(member{name: "d", connectionString: "at-d", incarnation: 2}).at(2)
	for name, c := range map[string]changeCase{
		"join":                              {before: three, who: "d", at: "x", want: "a b c (d)"},
		"join without an address":           {before: three, who: "d", want: "a b c (d)"},
		"join of a member":                  {before: three, who: "b", at: "at-b", want: "same"},
		"another address":                   {before: three, who: "b", at: "x", want: "a b c"},
		"a learner's address":               {before: learner, who: "d", at: "x", want: "a b c (d)"},
		"a lost store":                      {before: three, who: "b", at: "at-b", lost: "b", heard: "c", want: "a (b) c"},
		"a lost store, at another address":  {before: three, who: "b", at: "x", lost: "b", heard: "c", want: "a (b) c"},
		"a lost store that is needed":       {before: three, who: "b", at: "at-b", lost: "b", checks: 1, err: ErrNoQuorum},
		"a lost store, too early to tell":   {before: three, who: "b", at: "at-b", lost: "b", err: errEarly},
		"leave":                             {before: three, leave: true, who: "b", heard: "c", want: "a c"},
		"leave, the last word a check ago":  {before: three, leave: true, who: "b", heard: ",c", checks: 1, want: "a c"},
		"leave, not enough are left":        {before: three, leave: true, who: "b", heard: "b", checks: 1, err: ErrNoQuorum},
		"leave, too early to tell":          {before: three, leave: true, who: "b", heard: "b", err: errEarly},
		"the leader leaves":                 {before: three, leave: true, who: "a", heard: "bc", want: "b c"},
		"the leader leaves, one is silent":  {before: three, leave: true, who: "a", heard: "b", checks: 1, err: ErrNoQuorum},
		"the second of two":                 {before: bound(1, "a", "b"), leave: true, who: "b", want: "a"},
		"the leader of two":                 {before: bound(1, "a", "b"), leave: true, who: "a", heard: "b", want: "b"},
		"the last":                          {before: bound(1, "a"), leave: true, who: "a", err: ErrNoQuorum},
		"the last voter, a learner remains": {before: bound(1, "a").with(member{name: "d"}).at(2), leave: true, who: "a", heard: "d", err: ErrNoQuorum},
		"a learner leaves":                  {before: learner, leave: true, who: "d", checks: 1, want: "a b c"},
		"a stranger leaves":                 {before: three, leave: true, who: "x", heard: "bc", err: errMember},
	} {
		t.Run(name, c.check)
	}
}

func (c *changeCase) check(t *testing.T) {
	l := newLeadership(standing("a", 1, []uint64{1, 1}, c.before), 1, map[string]uint64{})
	since, before, _ := strings.Cut(c.heard, ",")
	for _, who := range since {
		l.heard[string(who)] = true
	}
	for _, who := range before {
		l.before[string(who)] = true
	}
	l.lost[c.lost], l.checks = true, c.checks
	after, err := l.changed(c.before, c.leave, c.rejoins, c.who, c.at)
	if err != c.err {
		t.Fatalf("%v", err)
	}
	if err != nil || c.want == "same" {
		if after != c.before {
			t.Errorf("%v", after)
		}
		return
	}
	var got []string
	for _, m := range after.members {
		name := m.name
		if !m.voter {
			name = "(" + name + ")"
		}
		got = append(got, name)
		if was := c.before.find(m.name); was != nil && m.name != c.who && *was != m {
			t.Errorf("%s was %+v, is %+v", m.name, *was, m)
		}
	}
	if strings.Join(got, " ") != c.want {
		t.Errorf("%v", got)
	}
	m, was := after.find(c.who), c.before.find(c.who)
	switch {
	case m == nil:
	case m.connectionString != c.at:
		t.Errorf("at %q", m.connectionString)
	case was != nil && c.lost != c.who:
		if m.incarnation != was.incarnation || m.storeID != was.storeID || m.voter != was.voter {
			t.Errorf("moved, %+v became %+v", *was, *m)
		}
	case m.incarnation != unborn || m.storeID != 0:
		t.Errorf("new: %+v", *m)
	}
}

// TestQuorumAcrossTheCheck: the check of the quorum forgets nobody who answers
// once in the time between two checks.
func TestQuorumAcrossTheCheck(t *testing.T) {
	c := bound(1, "a", "b", "c")
	l := newLeadership(standing("a", 1, []uint64{1}, c), 1, map[string]uint64{})
	for i, step := range []struct {
		heard string
		want  bool
	}{{"", false}, {"c", true}, {"", true}, {"", false}, {"c", true}, {"c", true}} {
		if step.heard != "" {
			l.answeredFrom(c, step.heard, 3)
		}
		if got := l.quorumWithout(c, "b"); got != step.want {
			t.Errorf("step %d: %t", i, got)
		}
		l.checkQuorum(c)
	}
	if l.forget("c"); l.quorumWithout(c, "b") {
		t.Error("what the old c said counts for the new one")
	}
}

func TestSuccessors(t *testing.T) {
	c := bound(1, "a", "b", "c", "d").with(member{name: "e"}).at(2)
	names := func(members []member) (all string) {
		for _, m := range members {
			all += m.name
		}
		return all
	}
	for i, step := range []struct {
		match             map[string]uint64
		heard, lost, want string
	}{
		{nil, "", "", "bcd"},
		{nil, "d", "", "dbc"},
		{map[string]uint64{"c": 5, "e": 9, "a": 9}, "", "", "cbd"},
		{map[string]uint64{"b": 5, "c": 5, "d": 4}, "c", "", "cbd"},
		{map[string]uint64{"b": 5, "c": 6, "d": 4}, "b", "", "cbd"},
		{map[string]uint64{"b": 5, "c": 6, "d": 4}, "", "c", "bd"},
	} {
		l := newLeadership(standing("a", 1, []uint64{1, 1}, c), 1, map[string]uint64{})
		for name, match := range step.match {
			l.stored(name, match)
		}
		l.heard[step.heard], l.lost[step.lost] = true, true
		if got := names(l.successors(c)); got != step.want {
			t.Errorf("step %d: %s", i, got)
		}
	}
	alone := bound(1, "a").with(member{name: "e"}).at(2)
	if got := newLeadership(standing("a", 1, []uint64{1}, alone), 1, nil).successors(alone); len(got) > 0 {
		t.Errorf("%v", got)
	}
}
