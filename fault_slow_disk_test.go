package raft

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/goraft/raft/internal/vfs"
	"github.com/stretchr/testify/require"
)

// syncTakes sets how long every sync of a server's disk takes from now on.
func (c *clusterTest) syncTakes(name string, d time.Duration) {
	c.node(name).disk.Load().SetFault(func(op vfs.Op) error {
		if op.Kind == vfs.OpSync {
			<-time.After(d)
		}
		return nil
	})
}

// owed is what a leader holds for a peer: the bytes under way to it, the requests,
// and the bytes of entries that it has in memory for everybody.
func (c *clusterTest) owed(leader Server, name string) (bytes, requests, tail int) {
	c.t.Helper()
	type held struct {
		to   *sender
		tail int
	}
	asked := make(chan held, 1)
	leader.(*server).lifecycle.run.Load().inbox.put(control(func(l *eventLoop) {
		asked <- held{l.office.senders[name], l.tail.size}
	}))
	synctest.Wait() // until the sender has nothing to do
	h := <-asked
	bytes, requests = h.to.progress.bytes, len(h.to.progress.window)
	// What the sender does next comes behind this look not by the fake clock alone,
	// which the race detector does not see: it is woken.
	h.to.wake <- struct{}{}
	synctest.Wait()
	return bytes, requests, h.tail
}

// Row 109: one follower's disk takes a second for each sync. The others commit as
// before, the leader holds no more for it than its window, and when the disk
// recovers the follower has everything.
func TestFault109_SlowDiskOfOneFollower(t *testing.T) {
	for form, options := range transports {
		t.Run(form, func(t *testing.T) {
			inRunningCluster(t, 3, options, func(c *clusterTest) {
				leader, slow := c.leader(), c.followers()[0]
				for _, name := range c.Names() {
					c.syncTakes(name, time.Millisecond)
				}
				timed := func(rounds int) time.Duration {
					var took []time.Duration
					for range rounds {
						for i := range 50 {
							began := time.Now()
							c.put(fmt.Sprint(i))
							took = append(took, time.Since(began))
							c.pass(10 * time.Millisecond)
						}
						c.pass(2 * time.Second)
					}
					slices.Sort(took)
					return took[len(took)*99/100]
				}
				baseline := timed(int(scale(4)))
				c.syncTakes(slow, time.Second)
				require.LessOrEqual(c.t, timed(volume(4, 240, 1200)), baseline*6/5)
				status := c.Server(slow).Status()
				require.Greater(c.t, status.LastIndex, leader.CommitIndex()-100, "it is a second behind, not more")

				// Far more than the window and the batches hold.
				term, large := leader.Term(), strings.Repeat("x", 256<<10)
				most := 0
				for range 24 {
					c.put(large)
					bytes, requests, tail := c.owed(leader, slow)
					require.LessOrEqual(c.t, bytes, maxInFlightBytes+maxBatchBytes)
					require.LessOrEqual(c.t, requests, maxInFlight)
					require.LessOrEqual(c.t, tail, tailBytes+maxBatchBytes)
					most = max(most, bytes)
				}
				require.Positive(c.t, most)
				c.syncTakes(slow, time.Millisecond)
				c.converge()
				require.Equal(c.t, leader, c.Leader())
				require.Equal(c.t, term, leader.Term(), "nobody stood for election")
				require.LessOrEqual(c.t, timed(int(scale(4))), baseline*6/5)
				c.converge()
			})
		})
	}
}
