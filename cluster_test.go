package raft

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

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
type memoryCalls struct{ callTransporter }

type callTransporter interface {
	Transporter
	ContextTransporter
	ReadIndexTransporter
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

// clusterTrace crashes leaders under a seed and tells of every message.
func clusterTrace(t *testing.T, seed uint64) (trace []string) {
	options := ClusterOptions{Seed: seed, SyncDelay: 20 * time.Microsecond}
	inCluster(t, 3, options, func(c *clusterTest) {
		start := time.Now()
		c.Network().SetLoss(0.01)
		c.Network().SetStreamLoss(StreamLoss(seed % 3))
		c.Network().Intercept(func(m MemoryMessage) bool {
			var b strings.Builder
			if m, ok := m.Message.(codable); ok {
				_, _ = m.Encode(&b)
			}
			trace = append(trace, fmt.Sprintf("%v %s to %s: %T %x", time.Since(start), m.From, m.To, m.Message, b.String()))
			return true
		})
		require.NoError(t, c.Bootstrap(c.ctx))
		for i := range 4 {
			_, _ = c.Do(c.ctx, &testCommand{fmt.Sprint("x", i)})
			c.Crash(c.leader().Name())
			_, err := c.WaitForLeader(c.ctx)
			require.NoError(t, err)
			_, _ = c.Do(c.ctx, &testCommand{fmt.Sprint("y", i)})
			require.NoError(t, c.StartAll())
			c.converge()
		}
		c.Network().Intercept(nil) // what Close cuts off is a matter of chance
	})
	return trace
}

func TestClusterRepeats(t *testing.T) {
	if raceDetector {
		// It changes which goroutine comes first of those that one instant wakes,
		// where they run at once.
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	}
	for seed := range uint64(3) {
		first := clusterTrace(t, seed)
		for range 2 {
			again := clusterTrace(t, seed)
			for i := range min(len(first), len(again)) {
				require.Equal(t, first[i], again[i], "message %d of seed %d", i, seed)
			}
			require.Len(t, again, len(first))
		}
	}
}

// TestClusterInRealTime holds that the kit works outside of a bubble, and leaves
// no goroutine behind.
func TestClusterInRealTime(t *testing.T) {
	before := runtime.NumGoroutine()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c := NewCluster(3, ClusterOptions{Seed: 7, SyncDelay: 100 * time.Microsecond})
	require.NoError(t, c.BootstrapByJoins(ctx))
	for range 20 {
		_, err := c.Do(ctx, NOPCommand{})
		require.NoError(t, err)
	}
	c.Crash(c.Leader().Name())
	_, err := c.Do(ctx, NOPCommand{})
	require.NoError(t, err)
	require.NoError(t, c.StartAll())
	require.NoError(t, c.WaitForConverged(ctx))
	c.Close()
	for runtime.NumGoroutine() > before && ctx.Err() == nil {
		<-time.After(time.Millisecond)
	}
	require.NoError(t, ctx.Err(), "goroutines are left")
}
