package raft

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTooManyMembers(t *testing.T) {
	var members []member
	for i := range maxMembers {
		members = append(members, member{name: fmt.Sprint("s", i), voter: true})
	}
	c := newConfiguration(1, members)
	l := &leadership{self: "s0", heard: map[string]bool{}, before: map[string]bool{}, match: map[string]uint64{}}
	_, err := l.changed(c, false, false, "another", "")
	require.ErrorIs(t, err, ErrTooManyMembers)
	after, err := l.changed(c, false, false, "s1", "elsewhere")
	require.NoError(t, err)
	require.Len(t, after.members, maxMembers)
}

func TestTooManyInTheInitialConfiguration(t *testing.T) {
	inCluster(t, 1, ClusterOptions{Configure: func(_ string, server Server) {
		for i := 2; i <= maxMembers; i++ {
			require.NoError(t, server.AddPeer(fmt.Sprint("s", i), ""))
		}
		require.ErrorIs(t, server.AddPeer("another", ""), ErrTooManyMembers)
		require.NoError(t, server.AddPeer("s2", "elsewhere"))
	}}, func(c *clusterTest) {
		require.NoError(t, c.Start("s1"))
		require.Equal(t, maxMembers, c.Server("s1").MemberCount())
	})
}

// What Apply asks for is refused on every server alike.
func TestTooManyIntents(t *testing.T) {
	var refused atomic.Int32
	inCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		c.during = func(ctx Context, value string) {
			if value != "crowd" {
				return
			}
			for i := range 2 * maxIntents {
				switch err := ctx.Server().AddPeer(fmt.Sprint("x", i), ""); {
				case errors.Is(err, ErrTooManyMembers):
					refused.Add(1)
				default:
					require.NoError(c.t, err)
				}
			}
		}
		require.NoError(c.t, c.Bootstrap(c.ctx))
		c.put("crowd")
		c.converge()
		require.EqualValues(c.t, 3*maxIntents, refused.Load())
		c.within(1000*testElection, "what was asked for to be taken up", func() bool {
			return len(c.leader().Peers()) == 2+maxIntents
		})
		c.put("y")
		c.converge()
	})
}
