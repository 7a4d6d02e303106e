package raft

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/goraft/raft/internal/vfs"
	"github.com/stretchr/testify/require"
)

// slowCalls is a transporter without contexts, whose link for snapshots is slow.
type slowCalls struct {
	Transporter
	latency time.Duration
}

// SendSnapshotRequest is Transporter's.
func (s *slowCalls) SendSnapshotRequest(server Server, peer *Peer, req *SnapshotRequest) *SnapshotResponse {
	<-time.After(s.latency)
	return s.Transporter.SendSnapshotRequest(server, peer, req)
}

// SendSnapshotRecoveryRequest is Transporter's.
func (s *slowCalls) SendSnapshotRecoveryRequest(server Server, peer *Peer, req *SnapshotRecoveryRequest) *SnapshotRecoveryResponse {
	<-time.After(s.latency)
	return s.Transporter.SendSnapshotRecoveryRequest(server, peer, req)
}

// slowSnapshotFiles makes whatever is done with the files of snapshots take long.
func (c *clusterTest) slowSnapshotFiles(name string, d time.Duration) {
	c.node(name).disk.Load().SetFault(func(op vfs.Op) error {
		if underSnapshot(op) {
			<-time.After(d)
		}
		return nil
	})
}

// watchHeartbeats measures the longest silence of the leader towards each server.
func (c *clusterTest) watchHeartbeats() (longest func() time.Duration) {
	var mu sync.Mutex
	var most time.Duration
	last := map[string]time.Time{}
	c.Network().Intercept(func(m MemoryMessage) bool {
		mu.Lock()
		defer mu.Unlock()
		if _, ok := m.Message.(*AppendEntriesRequest); ok {
			if before, ok := last[m.To]; ok {
				most = max(most, time.Since(before))
			}
			last[m.To] = time.Now()
		}
		return true
	})
	return func() time.Duration {
		mu.Lock()
		defer mu.Unlock()
		return most
	}
}

// TestFault113_HeartbeatsDoNotWaitBehindASnapshot: neither while it is taken nor
// while it is sent, received, verified and put in force, however slow the link for
// it and the disks are.
func TestFault113_HeartbeatsDoNotWaitBehindASnapshot(t *testing.T) {
	const slow = time.Second
	for form, transporter := range map[string]func(memory *MemoryTransporter) Transporter{
		"streams": func(memory *MemoryTransporter) Transporter { return &slowSnapshots{memory, slow, 0} },
		"calls":   func(memory *MemoryTransporter) Transporter { return &slowCalls{memoryCalls{memory}, slow} },
		"bare":    func(memory *MemoryTransporter) Transporter { return &slowCalls{memory.Bare(), slow} },
	} {
		t.Run(form, func(t *testing.T) {
			options := ClusterOptions{Transporter: func(_ string, memory *MemoryTransporter) Transporter { return transporter(memory) }}
			prepare := func(c *clusterTest) { c.streamed(3<<20, nil) }
			inBehind(t, options, prepare, func(c *clusterTest, leader, behind, _ string) {
				before := c.leader().Status()
				for _, name := range c.Names() {
					c.slowSnapshotFiles(name, 50*time.Millisecond)
				}
				c.Heal()
				c.pass(time.Second)
				longest := c.watchHeartbeats()
				taken := make(chan error, 1)
				c.put("one more")
				go func() { taken <- c.leader().TakeSnapshot() }()
				stop := c.writing(200 * time.Millisecond)
				c.within(3*time.Minute, "the follower to catch up", func() bool { return c.Server(behind).Status().SnapshotIndex > 0 })
				stop()
				require.NoError(t, <-taken)
				c.within(time.Minute, "the entries behind it", func() bool {
					return c.Server(behind).Status().LastApplied == c.leader().Status().LastIndex
				})
				require.Equal(t, leader, c.leader().Name())
				require.Equal(t, before.Term, c.leader().Term())
				require.LessOrEqual(t, longest(), DefaultHeartbeatInterval+testElection/5)
			})
		})
	}
}

// TestFault113_HeartbeatsBetweenLargeEntries: entries of 4 MiB, one behind the
// other, through a network that gives each message its time.
func TestFault113_HeartbeatsBetweenLargeEntries(t *testing.T) {
	for form, options := range transports {
		t.Run(form, func(t *testing.T) {
			inRunningCluster(t, 3, options, func(c *clusterTest) {
				c.Delay(10*time.Millisecond, 10*time.Millisecond)
				c.pass(testElection)
				term := c.leader().Term()
				longest := c.watchHeartbeats()
				large := strings.Repeat("x", 4<<20)
				for i := range 3 {
					c.put(fmt.Sprint(i, large))
					c.pass(DefaultHeartbeatInterval)
				}
				c.pass(testElection)
				require.Equal(t, term, c.leader().Term())
				require.LessOrEqual(t, longest(), DefaultHeartbeatInterval+testElection/5)
			})
		})
	}
}
