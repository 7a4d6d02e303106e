package raft

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// leave has the leader remove a server.
func (c *clusterTest) leave(name string) {
	c.t.Helper()
	value, err := c.Do(c.ctx, &DefaultLeaveCommand{Name: name})
	require.NoError(c.t, err)
	require.Equal(c.t, []byte("leave"), value)
}

func TestLeave(t *testing.T) {
	for name, options := range transports {
		t.Run(name, func(t *testing.T) {
			inRunningCluster(t, 3, options, func(c *clusterTest) {
				leader, gone, stays := c.leader(), c.followers()[0], c.followers()[1]
				c.puts("x", 1, 3)
				c.leave(gone)
				require.Equal(t, 2, leader.MemberCount())
				require.Equal(t, 2, leader.QuorumSize())
				require.NotContains(t, leader.Peers(), gone)
				c.within(testElection, "the removed server to know it", func() bool { return c.Server(gone).Err() != nil })
				require.Equal(t, ErrRemoved, c.Server(gone).Err())
				require.Equal(t, ErrRemoved.Error(), c.Server(gone).Status().Error)
				c.puts("y", 1, 3)
				c.converge()

				// It neither stands, nor is it heard of.
				term := leader.Term()
				c.pass(40 * testElection)
				require.Equal(t, Follower, c.Server(gone).State())
				require.Equal(t, term, leader.Term())
				require.Equal(t, leader, c.Leader())
				require.NoError(t, leader.Err())
				require.NoError(t, c.Server(stays).Err())

				// Nor after a restart, which it outlives as one that was removed.
				require.NoError(t, c.Restart(gone))
				c.within(20*testElection, "it to know it again", func() bool { return c.Server(gone).Err() == ErrRemoved })
				c.pass(20 * testElection)
				require.Equal(t, term, leader.Term())
				require.Equal(t, []string{"x1", "x2", "x3"}, c.journal(gone).values())
			})
		})
	}
}

func TestLeaveOfAStranger(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		leader, follower := c.leader(), c.Server(c.followers()[0])
		last := leader.Status().LastIndex
		value, err := leader.Do(&DefaultLeaveCommand{Name: "x"})
		require.Equal(t, []byte("leave"), value)
		require.EqualError(t, err, "raft: Peer not found: x")
		require.ErrorIs(t, err, ErrPeerNotFound)
		_, err = leader.DoContext(c.ctx, &DefaultLeaveCommand{Name: "x"})
		requireNotApplied(t, err, ErrPeerNotFound)
		require.EqualError(t, leader.RemovePeer("x"), "raft: Peer not found: x")
		require.Equal(t, last, leader.Status().LastIndex)

		require.NoError(t, follower.RemovePeer("x"), "it is none")
		require.Equal(t, NotLeaderError, follower.RemovePeer("s1"))
		value, err = follower.Do(&DefaultLeaveCommand{Name: "s1"})
		require.Nil(t, value)
		require.Equal(t, NotLeaderError, err)
	})
}

func TestLeaveNeedsTheOthers(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		leader, dead, alive := c.leader(), c.followers()[0], c.followers()[1]
		c.Stop(dead)
		c.pass(3 * testElection)
		for _, name := range []string{alive, leader.Name()} {
			_, err := leader.DoContext(c.ctx, &DefaultLeaveCommand{Name: name})
			requireNotApplied(t, err, ErrNoQuorum)
			require.Equal(t, ErrNoQuorum, leader.RemovePeer(name))
		}
		require.NoError(t, leader.RemovePeer(dead))
		require.NoError(t, leader.RemovePeer(alive))
		require.Equal(t, ErrNoQuorum, leader.RemovePeer(leader.Name()), "the last voter")
		c.put("x")
	})
	// A new leader that has not heard of everybody waits before it judges.
	inRunningCluster(t, 5, ClusterOptions{}, func(c *clusterTest) {
		for range 10 {
			old := c.leader().Name()
			c.Stop(old)
			leader, err := c.WaitForLeader(c.ctx)
			require.NoError(t, err)
			name := c.followers()[0]
			require.NoError(t, leader.RemovePeer(name))
			require.NoError(t, c.Restart(old))
			require.NoError(t, c.Join(c.ctx, name))
		}
	})
}

func TestManyChangesAtOnce(t *testing.T) {
	inRunningCluster(t, 1, ClusterOptions{}, func(c *clusterTest) {
		var waiting []<-chan outcome
		for range 5 {
			name := c.Add()
			require.NoError(t, c.Start(name))
			waiting = append(waiting, c.async(c.leader(), &DefaultJoinCommand{Name: name, ConnectionString: c.ConnectionString(name)}))
		}
		for i, done := range waiting {
			got := <-done
			require.NoError(t, got.err, fmt.Sprint(i))
			require.Equal(t, []byte("join"), got.value)
		}
		require.Equal(t, 6, c.leader().MemberCount())
		c.within(20*testElection, "all to vote", func() bool { return c.leader().QuorumSize() == 4 })
		c.put("x")
		c.converge()
	})
}
