package raft

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Row 75: a leader that removes itself serves nobody from then on, and another
// one leads within two election timeouts, without the hand-over too.
func TestFault075_RemovedLeaderHandsOver(t *testing.T) {
	for name, options := range transports {
		for _, deaf := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				inRunningCluster(t, 3, options, func(c *clusterTest) {
					old, bound := c.leader(), testElection/10
					if name != "streams" || deaf {
						bound = 2*testElection + testElection/10
					}
					if deaf {
						c.Network().Intercept(func(m MemoryMessage) bool {
							_, word := m.Message.(*TimeoutNowRequest)
							return !word
						})
					}
					c.puts("x", 1, 10)
					term := old.Term()
					var waiting []<-chan outcome
					for range 20 {
						waiting = append(waiting, c.async(old, &testCommand{"load"}))
					}
					value, err := old.Do(&DefaultLeaveCommand{Name: old.Name()})
					require.NoError(t, err)
					require.Equal(t, []byte("leave"), value)
					removed := time.Now()
					_, err = old.DoContext(c.ctx, &testCommand{"late"})
					requireNotApplied(t, err, NotLeaderError)
					for _, done := range waiting {
						if got := <-done; got.err != nil {
							requireNotApplied(t, got.err, NotLeaderError)
						}
					}
					c.within(bound, "another leader", func() bool { return c.Leader() != nil && c.leader() != old })
					t.Log(name, deaf, time.Since(removed))
					require.Equal(t, term+1, c.leader().Term())
					require.Equal(t, ErrRemoved, old.Err())
					require.Equal(t, Follower, old.State())
					c.put("y")
					c.converge()
					leader := c.leader()
					c.pass(40 * testElection)
					require.Equal(t, term+1, leader.Term(), "nobody disturbs")
					require.Equal(t, Follower, old.State())
					require.NotContains(t, c.journal(leader.Name()).values(), "late")
				})
			})
		}
	}
}

// Row 76: of two servers the leader is removed, and nothing that it sends after
// the commit arrives.
func TestFault076_TheOtherOfTwoCanLead(t *testing.T) {
	inRunningCluster(t, 2, ClusterOptions{}, func(c *clusterTest) {
		old, other := c.leader(), c.Server(c.followers()[0])
		c.put("x")
		c.Network().Intercept(func(m MemoryMessage) bool {
			req, entries := m.Message.(*AppendEntriesRequest)
			return m.From != old.Name() || entries && req.CommitIndex < old.Status().ConfigurationIndex
		})
		c.leave(old.Name())
		c.Stop(old.Name())
		c.within(3*testElection, "the other to lead", func() bool { return other.Status().Ready })
		require.Equal(t, 1, other.MemberCount())
		c.put("y")
		require.Equal(t, []string{"x", "y"}, c.journal(other.Name()).values())
	})
	// The other way round the removed one is served until it knows.
	inRunningCluster(t, 2, ClusterOptions{}, func(c *clusterTest) {
		leader, gone := c.leader(), c.followers()[0]
		c.leave(gone)
		c.put("x")
		c.within(testElection, "it to know", func() bool { return c.Server(gone).Err() == ErrRemoved })
		c.pass(40 * testElection)
		require.Equal(t, leader, c.Leader())
	})
}

// A leader that is stopped as soon as its removal is told hands over all the same.
func TestFault075_RemovedLeaderIsStoppedAtOnce(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		old := c.leader().Name()
		c.leave(old)
		c.Stop(old)
		c.within(testElection/10, "another leader", func() bool { return c.Leader() != nil })
		c.put("x")
		c.converge()
	})
}
