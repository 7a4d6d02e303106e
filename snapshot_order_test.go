package raft

import (
	"testing"
)

// A trigger so small that a tenth of it is nothing is a trigger all the same.
func TestSnapshotTriggerOfAFewEntries(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{Options: []Option{WithSnapshotTrigger(5, 0)}}, func(c *clusterTest) {
		c.puts("a", 1, 20)
		c.within(testElection, "a snapshot", func() bool { return c.leader().Status().SnapshotIndex >= 10 })
	})
}
