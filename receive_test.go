package raft

import (
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"
)

// otherRequests calls the methods of Replication that no leader in office uses, as
// a stranger would, and returns the answers. One that is nil is left out.
func otherRequests(s Server) (answers []any) {
	for _, answer := range []any{
		s.RequestSnapshot(&SnapshotRequest{LeaderName: "nobody"}),
		s.SnapshotRecoveryRequest(&SnapshotRecoveryRequest{LeaderName: "nobody"}),
		s.TimeoutNow(&TimeoutNowRequest{LeaderName: "nobody"}),
	} {
		if !reflect.ValueOf(answer).IsNil() {
			answers = append(answers, answer)
		}
	}
	return answers
}

// Whoever asks, a running server says who it is and in which term; one that does
// not run says nothing.
func TestOtherRequestsAreAnsweredByWhoRuns(t *testing.T) {
	inCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		require.NoError(t, c.Bootstrap(c.ctx))
		c.put("one")
		c.converge()
		for _, name := range c.Names() {
			s := c.Server(name)
			answers := otherRequests(s)
			require.Len(t, answers, 3)
			for _, answer := range answers {
				fields := reflect.ValueOf(answer).Elem()
				require.Equal(t, name, fields.FieldByName("From").String())
				require.Equal(t, s.ClusterID(), fields.FieldByName("ClusterID").Uint())
				require.Equal(t, s.StoreID(), fields.FieldByName("StoreID").Uint())
				require.Equal(t, s.Term(), fields.FieldByName("Term").Uint())
			}
			require.Nil(t, s.RequestSnapshot(nil))
			require.Nil(t, s.SnapshotRecoveryRequest(nil))
			require.Nil(t, s.TimeoutNow(nil))
		}
		leader := c.leader()
		require.False(t, leader.TimeoutNow(&TimeoutNowRequest{Term: leader.Term(), LeaderName: leader.Name()}).Success, "a leader does not stand")

		s := c.Server(c.followers()[0])
		s.Stop()
		require.Empty(t, otherRequests(s))
	})
}

// A program's fake that embeds Server goes on compiling when that grows.
type embeddedFake struct{ Server }

var _ Server = embeddedFake{}
