package raft

import (
	"fmt"
	"testing"

	"github.com/goraft/raft/internal/vfs"
	"github.com/stretchr/testify/require"
)

// transports are the ways in which servers of the tests may be connected.
var transports = map[string]ClusterOptions{
	"streams": {},
	"calls":   {Transporter: func(_ string, memory *MemoryTransporter) Transporter { return memoryCalls{memory} }},
	"bare":    {Transporter: func(_ string, memory *MemoryTransporter) Transporter { return memory.Bare() }},
}

// memoryCalls is a transporter with contexts and without streams.
type memoryCalls struct {
	Transporter
}

func TestClusterReplicates(t *testing.T) {
	for name, options := range transports {
		for _, form := range []MessageForm{AsStructs, AsProtobuf, AsJSON} {
			t.Run(fmt.Sprint(name, form), func(t *testing.T) {
				inCluster(t, 3, options, func(c *clusterTest) {
					c.Network().SetForm(form)
					c.Network().SetChecked(true)
					require.NoError(t, c.Bootstrap(c.ctx))
					c.puts("x", 1, 50)
					c.converge()
					require.Len(t, c.journal("s1").values(), 50)
					require.Zero(t, c.Network().Stats().Changed)
				})
			})
		}
	}
}

func TestClusterOfOne(t *testing.T) {
	inRunningCluster(t, 1, ClusterOptions{}, func(c *clusterTest) {
		c.puts("x", 1, 10)
		require.NoError(t, c.Restart("s1"))
		_, err := c.WaitForLeader(c.ctx)
		require.NoError(t, err)
		c.puts("y", 1, 10)
		require.Len(t, c.journal("s1").values(), 20)
	})
}

func TestClusterRestartsWithItsLog(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		for round := range 3 {
			c.puts(fmt.Sprint(round, "-"), 1, 10)
			c.converge()
			for _, name := range c.Names() {
				c.Stop(name)
			}
			require.NoError(t, c.StartAll())
			_, err := c.WaitForLeader(c.ctx)
			require.NoError(t, err)
			c.converge()
			require.Len(t, c.journal("s2").values(), 10*(round+1))
		}
	})
}

func TestClusterSurvivesCrashes(t *testing.T) {
	for _, choose := range []vfs.Chooser{vfs.Nothing, vfs.Everything} {
		inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
			for round := range 6 {
				c.puts(fmt.Sprint(round, "-"), 1, 10)
				leader := c.leader().Name()
				c.crash(c.node(leader), choose)
				c.puts(fmt.Sprint(round, "+"), 1, 10)
				require.NoError(t, c.Start(leader))
				c.converge()
			}
			for _, name := range c.Names() {
				c.crash(c.node(name), choose)
			}
			require.NoError(t, c.StartAll())
			c.puts("end", 1, 1)
			c.converge()
			require.Len(t, c.journal("s1").values(), 121)
		})
	}
}

func TestClusterJoins(t *testing.T) {
	for name, options := range transports {
		t.Run(name, func(t *testing.T) {
			inCluster(t, 3, options, func(c *clusterTest) {
				require.NoError(t, c.BootstrapByJoins(c.ctx))
				c.puts("x", 1, 10)
				c.converge()
				leader := c.leader()
				require.Equal(t, 3, leader.MemberCount())
				require.Equal(t, 2, leader.QuorumSize())
				require.Len(t, leader.Peers(), 2)

				late := c.Add()
				require.NoError(t, c.Start(late))
				require.NoError(t, c.Join(c.ctx, late))
				c.put("y")
				c.converge()
				require.Len(t, c.journal(late).values(), 11)
				require.Equal(t, 3, leader.QuorumSize())
			})
		})
	}
}

func TestClusterRepeats(t *testing.T) {
	run := func(seed uint64) (last string) {
		inCluster(t, 3, ClusterOptions{Seed: seed}, func(c *clusterTest) {
			require.NoError(t, c.Bootstrap(c.ctx))
			for i := range 5 {
				c.puts("x", 1, 5)
				c.Crash(c.leader().Name())
				c.put(fmt.Sprint("y", i))
				require.NoError(t, c.StartAll())
				c.converge()
			}
			last = c.String()
		})
		return last
	}
	first := run(1)
	for range 4 {
		require.Equal(t, first, run(1))
	}
}
