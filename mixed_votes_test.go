package raft

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestMixedPreVotes: servers that know nothing of pre-votes take a request for
// one as a request for a vote. Each mix elects, and elects again when the leader
// stops.
func TestMixedPreVotes(t *testing.T) {
	for _, old := range [][]string{{"s1"}, {"s2"}, {"s2", "s3"}, {"s1", "s2", "s3"}} {
		t.Run(fmt.Sprint(old), func(t *testing.T) {
			options := ClusterOptions{Configure: func(name string, s Server) {
				for _, o := range old {
					if o == name {
						s.(*server).options.preVote = false
					}
				}
			}}
			inRunningCluster(t, 3, options, func(c *clusterTest) {
				for round := range 3 {
					c.puts(fmt.Sprint("x", round, "-"), 1, 5)
					stopped := c.leader().Name()
					c.Stop(stopped)
					c.puts(fmt.Sprint("y", round, "-"), 1, 5)
					require.NoError(t, c.Start(stopped))
					c.converge()
				}
			})
		})
	}
}
