package raft

import (
	"fmt"
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

// A server that is away while it is removed, for longer than the leader waits for
// it, hears of that when it is back, whatever is left of what it was: nobody
// stands for that, and no term is lost.
func TestRemovedWhileAway(t *testing.T) {
	for name, options := range transports {
		for _, preVote := range []bool{true, false} {
			options.Configure = func(_ string, s Server) { s.(*server).options.preVote = preVote }
			t.Run(fmt.Sprint(name, preVote), func(t *testing.T) {
				inRunningCluster(t, 3, options, func(c *clusterTest) {
					learner := c.Add()
					require.NoError(t, c.Start(learner))
					c.Network().Intercept(func(m MemoryMessage) bool {
						_, answer := m.Message.(*AppendEntriesResponse)
						return m.From != learner || !answer // so that it does not catch up
					})
					require.NoError(t, c.leader().AddPeer(learner, c.ConnectionString(learner)))
					c.within(20*testElection, "the learner to know what it is", func() bool { return c.Server(learner).MemberCount() == 4 })
					leader, term := c.leader(), c.leader().Term()
					c.Network().Block(leader.Name(), learner)
					c.pass(20 * testElection)
					require.NoError(t, c.Server(learner).Err(), "a member that the leader does not reach")
					require.Zero(t, leader.Status().Refused)
					c.Isolate(learner)
					c.leave(learner)
					c.pass(10 * testElection)
					require.NoError(t, c.Server(learner).Err())
					c.Heal()
					c.within(5*testElection, "the learner to know", func() bool { return c.Server(learner).Err() == ErrRemoved })
					require.Equal(t, term, leader.Term())
					require.Equal(t, leader, c.Leader())
				})
			})
		}
	}
}

// What a removed server was stands before the snapshot that it was sent last.
func TestRemovedBySnapshot(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		leader, gone := c.leader(), c.followers()[0]
		c.Isolate(gone)
		c.leave(gone)
		c.put("x")
		require.NoError(t, leader.TakeSnapshot())
		var waiting []<-chan outcome
		for range NumberOfLogEntriesAfterSnapshot + 10 {
			waiting = append(waiting, c.async(leader, &testCommand{"y"}))
		}
		for _, done := range waiting {
			require.NoError(t, (<-done).err)
		}
		require.NoError(t, leader.TakeSnapshot())
		c.within(testElection, "the log to be short", func() bool { return leader.Status().FirstIndex > leader.Status().ConfigurationIndex })
		c.Heal()
		c.within(5*testElection, "it to know", func() bool { return c.Server(gone).Err() == ErrRemoved })
		require.Equal(t, 1, c.journal(gone).recovered)
		require.NoError(t, c.Restart(gone))
		c.within(5*testElection, "it to know again", func() bool { return c.Server(gone).Err() == ErrRemoved })
		c.put("y")
		require.Equal(t, leader, c.Leader())
	})
}
