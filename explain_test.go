package raft

import (
	"context"
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// explained returns what the server explains with that id, which must be there.
func explained(c *clusterTest, s Server, id string) Finding {
	c.t.Helper()
	all := s.Explain()
	i := slices.IndexFunc(all, func(f Finding) bool { return f.ID == id })
	require.GreaterOrEqual(c.t, i, 0, "%s explains %v", s.Name(), all)
	return all[i]
}

// A cluster in order has nothing to explain.
func TestExplainNothing(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		c.puts("x", 1, 10)
		c.converge()
		for name, s := range c.Servers() {
			require.Empty(c.t, s.Explain(), name)
		}
	})
}

// Why there is no leader, as seen by a server that would like to be one.
func TestExplainNoLeader(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		c.converge()
		followers := c.followers()
		leader := c.leader()
		c.Crash(leader.Name())
		c.Crash(followers[0])
		left := c.Server(followers[1])
		c.pass(10 * testElection)
		f := explained(c, left, "no-leader")
		require.Equal(c.t, left.Name(), f.About)
		require.Contains(c.t, f.Why, "needs 2 of 3 voters; granted by "+left.Name()+", refused by nobody, no answer from ")
		require.Regexp(c.t, "start s[1-3], s[1-3], or mend the network", f.Advice)
		require.NoError(c.t, c.Start(followers[0]))
		c.within(20*testElection, "a leader", func() bool { return c.Leader() != nil })
		c.pass(testElection)
		for _, s := range c.Servers() {
			require.False(c.t, slices.ContainsFunc(s.Explain(), func(f Finding) bool { return f.ID == "no-leader" }), s.Explain())
		}
	})
}

// A candidate that hears the others refuse says that.
func TestExplainRefusedVotes(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		c.converge()
		behind := c.Server(c.followers()[0])
		c.Isolate(behind.Name())
		c.put("it lacks this")
		leader := c.leader()
		ahead := c.followers()[0]
		if ahead == behind.Name() {
			ahead = c.followers()[1]
		}
		c.Server(ahead).(*server).lifecycle.run.Load().inbox.put(control(func(l *eventLoop) { l.rests = time.Now().Add(time.Hour) }))
		c.Crash(leader.Name())
		c.Heal()
		c.within(10*testElection, "a refusal", func() bool {
			return slices.ContainsFunc(behind.Explain(), func(f Finding) bool {
				return f.ID == "no-leader" && regexp.MustCompile(`refused by s\d`).MatchString(f.Why)
			})
		})
	})
}

// Why a server does not stand itself.
func TestExplainNotStanding(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		old := c.leader()
		require.NoError(c.t, old.StepDown(c.ctx, time.Hour))
		c.within(testElection, "a leader", func() bool { return c.Leader() != nil })
		for _, name := range c.Names() {
			if name != old.Name() {
				c.Crash(name)
			}
		}
		c.pass(5 * testElection)
		require.Contains(c.t, explained(c, old, "not-standing").Why, "it has stepped down, and rests")
	})
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		gone := c.followers()[0]
		require.NoError(c.t, c.leader().RemovePeer(gone))
		c.within(10*testElection, "it to know", func() bool { return c.Server(gone).Err() == ErrRemoved })
		require.Equal(c.t, gone, explained(c, c.Server(gone), "removed").About)
		c.pass(5 * testElection)
		require.Contains(c.t, explained(c, c.Server(gone), "not-standing").Why, "removed")
	})
	inCluster(t, 1, ClusterOptions{}, func(c *clusterTest) {
		s, err := NewServer("new", t.TempDir(), c.Network().Transporter("new"), nil, nil, "")
		require.NoError(c.t, err)
		require.Equal(c.t, "not-started", s.Explain()[0].ID)
		require.NoError(c.t, s.Start())
		synctest.Wait()
		explained(c, s, "no-cluster")
		s.Stop()
	})
}

// Why a write waits, and for whom.
func TestExplainWaitingWrite(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		c.converge()
		leader := c.leader()
		leader.SetElectionTimeout(10 * testElection) // it stays
		for _, name := range c.followers() {
			c.Network().Block(leader.Name(), name)
		}
		write := c.async(leader, &testCommand{"x"})
		synctest.Wait()
		f := explained(c, leader, "uncommitted")
		require.Regexp(c.t, `^1 entries wait for a majority \(2 of 3 voters\): s\d, s\d have not stored the next one$`, f.Why)
		c.Heal()
		<-write
	})
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		c.Delay(10*time.Millisecond, 10*time.Millisecond)
		leader, to := c.leader(), c.followers()[0]
		transfer := c.transfer(leader, to)
		synctest.Wait()
		require.Contains(c.t, explained(c, leader, "transfer").Why, to)
		require.NoError(c.t, <-transfer)
	})
}

// Why a member is behind.
func TestExplainMembers(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		c.converge()
		leader, silent := c.leader(), c.followers()[0]
		c.Crash(silent)
		c.pass(3 * testElection)
		c.put("a turn later")
		f := explained(c, leader, "member-silent")
		require.Equal(c.t, silent, f.About)
		require.Regexp(c.t, `^it has not answered for \d`, f.Why)
		require.Contains(c.t, f.Advice, "memory://"+silent)
		require.NoError(c.t, c.Start(silent))
		c.converge()
		require.NoError(c.t, leader.AddPeer("s9", "memory://s9"))
		c.put("a turn later")
		require.Regexp(c.t, "^it has never answered in this term$", explained(c, leader, "member-silent").Why)
	})
}

// What is wrong with the server itself.
func TestExplainServer(t *testing.T) {
	inCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		hold := make(chan struct{})
		c.during = func(ctx Context, value string) {
			switch {
			case value == "slow" && ctx.Server().Name() == "s1":
				<-hold
			case value == "bad" && ctx.Server().Name() == "s2":
				panic("bad")
			}
		}
		require.NoError(c.t, c.Bootstrap(c.ctx))
		require.NoError(c.t, c.WaitForConverged(c.ctx))
		_, _ = c.Do(c.ctx, &testCommand{"bad"})
		c.within(10*testElection, "s2 to halt", func() bool { return c.Server("s2").Err() != nil })
		require.Contains(c.t, explained(c, c.Server("s2"), "halted").Why, "panicked")
		slow := c.async(c.Server("s3"), &testCommand{"slow"})
		c.within(20*testElection, "somebody to lead", func() bool {
			if l := c.Leader(); l != nil {
				_ = c.async(l, &testCommand{"slow"})
				return true
			}
			return false
		})
		c.within(20*testElection, "s1 to be behind", func() bool {
			return slices.ContainsFunc(c.Server("s1").Explain(), func(f Finding) bool { return f.ID == "apply-behind" })
		})
		close(hold)
		<-slow
	})
}

// A Status that was read as JSON explains itself as well.
func TestExplainOfJSON(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		c.converge()
		leader := c.leader()
		c.Crash(c.followers()[0])
		c.pass(3 * testElection)
		c.put("a turn later")
		b, err := json.Marshal(leader.Status())
		require.NoError(c.t, err)
		var status Status
		require.NoError(c.t, json.Unmarshal(b, &status))
		require.Equal(c.t, leader.Status().Explain(), status.Explain())
		require.NotEmpty(c.t, status.Explain())
	})
}

// Each situation by the Status that shows it: which findings, about whom, in words.
func TestExplainRules(t *testing.T) {
	leads := func(change func(s *Status)) Status {
		s := Status{Name: "a", State: Leader, Leader: "a", Ready: true, ElectionTimeout: time.Second, CommitIndex: 9, LastApplied: 9, LastIndex: 9, DurableIndex: 9,
			Members: []MemberStatus{{Name: "a", Voter: true, Match: 9}, {Name: "b", Voter: true, Match: 9, Progress: ProgressReplicate}, {Name: "c", Voter: true, Match: 9, Progress: ProgressReplicate}}}
		change(&s)
		return s
	}
	for name, c := range map[string]struct {
		status Status
		want   []string
	}{
		"in order":        {leads(func(*Status) {}), nil},
		"failed":          {Status{Name: "a", State: Stopped, Error: "broken"}, []string{"failed a"}},
		"stopped":         {Status{Name: "a", State: Stopped}, []string{"not-started a"}},
		"halted":          {leads(func(s *Status) { s.Error = "halted" }), []string{"halted a"}},
		"full disk":       {leads(func(s *Status) { s.StorageError = "full" }), []string{"disk a"}},
		"failed snapshot": {leads(func(s *Status) { s.SnapshotError = "no" }), []string{"snapshot-failed a"}},
		"slow listener":   {leads(func(s *Status) { s.EventsDropped = 3 }), []string{"events-dropped a"}},
		"slow Apply":      {leads(func(s *Status) { s.LastApplied = 5 }), []string{"apply-behind a"}},
		"new office": {leads(func(s *Status) { s.Ready, s.LastApplied = false, 8 }),
			[]string{"apply-behind a", "not-ready a"}},
		"one lags, the write goes on": {leads(func(s *Status) { s.LastIndex, s.DurableIndex, s.Members[1].Match = 10, 9, 10 }), []string{"uncommitted a"}},
		"a store is lost":             {leads(func(s *Status) { s.Members[2].Trouble = "lost" }), []string{"member-lost c"}},
		"silence":                     {leads(func(s *Status) { s.Members[2].SilentFor = 2 * time.Second }), []string{"member-silent c"}},
		"a snapshot":                  {leads(func(s *Status) { s.Members[2].Progress = ProgressSnapshot }), []string{"member-snapshot c"}},
		"far behind":                  {leads(func(s *Status) { s.Members[2].Lag = 5000 }), []string{"member-behind c"}},
		"far behind, probing":         {leads(func(s *Status) { s.Members[2].Lag, s.Members[2].Progress = 5000, ProgressProbe }), []string{"member-behind c"}},
		"a learner":                   {leads(func(s *Status) { s.Members[2].Voter = false }), []string{"learner c"}},
		"it is about to lead": {Status{Name: "a", State: Candidate, Members: []MemberStatus{{Name: "a"}},
			Election: &ElectionStatus{Term: 3, Quorum: 2, Granted: []string{"a", "b"}, Silent: []string{"c"}}}, []string{"no-leader a"}},
		"it waits": {Status{Name: "a", State: Follower, Members: []MemberStatus{{Name: "a"}}}, []string{"no-leader a"}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, f := range c.status.Explain() {
				require.NotEmpty(t, f.Why)
				require.Contains(t, f.String(), f.About+": "+f.Why)
				got = append(got, f.ID+" "+f.About)
			}
			require.Equal(t, c.want, got)
		})
	}
}

// The page lists every situation that there is, and no other.
func TestExplainPage(t *testing.T) {
	source, err := os.ReadFile("explain.go")
	require.NoError(t, err)
	page, err := os.ReadFile("docs/explain.md")
	require.NoError(t, err)
	ids := func(text []byte, pattern string) (all []string) {
		for _, match := range regexp.MustCompile(pattern).FindAllSubmatch(text, -1) {
			all = append(all, string(match[1]))
		}
		slices.Sort(all)
		return slices.Compact(all)
	}
	require.Equal(t, ids(source, `found\.add\("([a-z-]+)"`), ids(page, "(?m)^\\| `([a-z-]+)` \\|"))
}

// A server that is asked while it does nothing else answers from its last turn.
func TestExplainInsideApply(t *testing.T) {
	inCluster(t, 1, ClusterOptions{}, func(c *clusterTest) {
		var inside []Finding
		c.during = func(ctx Context, _ string) { inside = ctx.Server().Explain() }
		require.NoError(c.t, c.Bootstrap(c.ctx))
		_, err := c.leader().DoContext(context.Background(), &testCommand{"x"})
		require.NoError(c.t, err)
		for _, f := range inside {
			require.Equal(c.t, "apply-behind", f.ID)
		}
	})
}
