package raft

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// voter reports whether the leader's configuration has the server, and its vote.
func voter(leader Server, name string) (member, votes bool) {
	for _, m := range leader.Status().Members {
		if m.Name == name {
			return true, m.Voter
		}
	}
	return false, false
}

// As TestFault073_LeaderDeposedAtEachMessageOfAJoin, with whole servers.
func TestFault073_LeaderCutOffDuringAJoin(t *testing.T) {
	finished, never := 0, 0
	for letters := range 12 {
		inRunningCluster(t, 3, ClusterOptions{Seed: uint64(letters)}, func(c *clusterTest) {
			old, joins := c.leader(), c.Add()
			require.NoError(t, c.Start(joins))
			sent, all := 0, make(chan struct{})
			c.Network().Intercept(func(m MemoryMessage) bool {
				if m.From != old.Name() && m.To != old.Name() || m.Message == nil {
					return true
				}
				if sent++; sent == 2*letters {
					close(all)
				}
				return sent < 2*letters
			})
			go func() { // it is told, or not, what became of it
				if err := old.AddPeer(joins, c.ConnectionString(joins)); err != nil {
					require.ErrorIs(t, err, ErrLeadershipLost)
				}
			}()
			select {
			case <-all:
			case <-time.After(5 * testElection):
			}
			c.Isolate(old.Name())
			c.moved(old, 10*testElection)
			c.put("x")
			c.pass(10 * testElection)
			member, votes := voter(c.leader(), joins)
			require.Equal(t, member, votes, "after %d messages it is a learner for good", 2*letters)
			if member {
				finished++
			} else {
				never++
			}
			c.Network().Intercept(nil)
			c.Heal()
			c.converge()
		})
	}
	t.Log(finished, "joins were finished,", never, "never begun")
	require.GreaterOrEqual(t, finished, 3)
	require.Positive(t, never)
}

// Row 78: learners that never started, that died, or that answer and store nothing do
// not vote, and cost the cluster nothing.
func TestFault078_OnlyWhoHasCaughtUpVotes(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		leader := c.leader()
		var learners []string
		for range 3 {
			learners = append(learners, c.Add())
		}
		never, dies, deaf := learners[0], learners[1], learners[2]
		var heard atomic.Bool
		c.Network().Intercept(func(m MemoryMessage) bool {
			if req, ok := m.Message.(*AppendEntriesRequest); ok && m.To == deaf {
				heard.Store(true)
				return len(req.records) == 0 // heartbeats get through
			}
			response, ok := m.Message.(*AppendEntriesResponse)
			return !ok || m.From != dies || !response.success
		})
		c.Network().SetStreamLoss(StreamSkips)
		require.NoError(t, c.Start(dies))
		require.NoError(t, c.Start(deaf))
		for _, name := range learners {
			require.NoError(t, leader.AddPeer(name, c.ConnectionString(name)))
			c.within(5*testElection, name+" to be a member", func() bool { _, ok := c.leader().Peers()[name]; return ok })
		}
		c.puts("x", 1, 20)
		c.pass(5 * testElection)
		require.Positive(t, c.Server(dies).Status().LastIndex, "it had nearly caught up")
		c.Crash(dies)
		c.pass(200 * testElection)
		require.True(t, heard.Load())
		require.Equal(t, leader, c.leader())
		require.Equal(t, 6, leader.MemberCount())
		require.Equal(t, 2, leader.QuorumSize())
		for _, name := range learners {
			_, votes := voter(leader, name)
			require.False(t, votes, name)
		}
		// One of the three may fail as before.
		c.Crash(c.followers()[slices.IndexFunc(c.followers(), func(name string) bool { return name != deaf })])
		c.put("y")
		// What has caught up, and lives, votes.
		c.Network().Intercept(nil)
		require.NoError(t, c.Start(never))
		require.NoError(t, c.StartAll())
		c.within(50*testElection, "all to vote", func() bool { return c.leader().QuorumSize() == 4 })
		c.put("z")
		c.converge()
		require.Equal(t, fmt.Sprint(c.journal(leader.Name()).values()), fmt.Sprint(c.journal(never).values()))
	})
}
