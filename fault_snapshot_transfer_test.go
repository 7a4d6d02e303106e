package raft

import (
	"context"
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/goraft/raft/internal/vfs"
	"github.com/stretchr/testify/require"
)

// slowSnapshots is a transporter whose link for snapshots is slow: each call takes
// a time, and its bytes take theirs.
type slowSnapshots struct {
	*MemoryTransporter
	latency time.Duration
	rate    int // bytes a second; 0: no limit
}

func (s *slowSnapshots) wait(ctx context.Context, bytes int) error {
	d := s.latency
	if s.rate > 0 {
		d += time.Duration(bytes) * time.Second / time.Duration(s.rate)
	}
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// RequestSnapshotContext is SnapshotTransporter's.
func (s *slowSnapshots) RequestSnapshotContext(ctx context.Context, server Server, peer *Peer, req *SnapshotRequest) (*SnapshotResponse, error) {
	if err := s.wait(ctx, 0); err != nil {
		return nil, err
	}
	return s.MemoryTransporter.RequestSnapshotContext(ctx, server, peer, req)
}

// SnapshotRecoveryContext is SnapshotTransporter's.
func (s *slowSnapshots) SnapshotRecoveryContext(ctx context.Context, server Server, peer *Peer, req *SnapshotRecoveryRequest) (*SnapshotRecoveryResponse, error) {
	if err := s.wait(ctx, len(req.State)); err != nil {
		return nil, err
	}
	return s.MemoryTransporter.SnapshotRecoveryContext(ctx, server, peer, req)
}

// slowLink are options of a cluster with such a link.
func slowLink(latency time.Duration, rate int, options ...Option) ClusterOptions {
	return ClusterOptions{Options: options, Transporter: func(_ string, memory *MemoryTransporter) Transporter {
		return &slowSnapshots{memory, latency, rate}
	}}
}

// writing has commands carried out every interval until stop is called.
func (c *clusterTest) writing(interval time.Duration) (stop func() int) {
	ctx, cancel := context.WithCancel(c.ctx)
	written := make(chan int)
	go func() {
		n := 0
		for ; ctx.Err() == nil; n++ {
			c.put(fmt.Sprint("w", n))
			select {
			case <-time.After(interval):
			case <-ctx.Done():
			}
		}
		written <- n
	}()
	return func() int {
		cancel()
		return <-written
	}
}

// TestFault091_CatchUpEnds: a transfer takes many times as long as it takes for a
// snapshot to become due, and the log behind it is still there when it has ended.
func TestFault091_CatchUpEnds(t *testing.T) {
	options := slowLink(1500*time.Millisecond, 0, WithSnapshotTrigger(50, 0))
	prepare := func(c *clusterTest) { c.streamed(3<<20, nil) }
	inBehind(t, options, prepare, func(c *clusterTest, leader, behind, _ string) {
		stop := c.writing(10 * time.Millisecond)
		calls := c.watchSnapshots(nil)
		before := c.leader().Status().SnapshotIndex
		c.Heal()
		c.within(time.Minute, "the follower to catch up", func() bool {
			return c.Server(behind).Status().LastApplied+20 >= c.leader().Status().CommitIndex
		})
		require.Greater(t, c.leader().Status().SnapshotIndex, before+500)
		require.Equal(t, 1, c.journal(behind).recovered)
		stop()
		c.converge()
		require.Less(t, calls.bytes(), uint64(2*3<<20))
		require.Equal(t, leader, c.leader().Name())

		// What was kept for it goes with the next snapshot.
		c.puts("z", 1, 400)
		c.pass(testElection)
		require.Len(t, c.snapshots(leader), keptSnapshots)
		status := c.leader().Status()
		require.Greater(t, status.FirstIndex+NumberOfLogEntriesAfterSnapshot+200, status.LastIndex)
	})
}

// TestFault091_HeldLogIsBounded: a transfer that never ends does not hold back the
// log for ever.
func TestFault091_HeldLogIsBounded(t *testing.T) {
	options := ClusterOptions{Options: []Option{WithSnapshotTrigger(50, 16<<10)}}
	inBehind(t, options, nil, func(c *clusterTest, leader, behind, _ string) {
		calls := c.watchSnapshots(isPiece)
		c.Heal()
		c.within(10*testElection, "a piece", func() bool { return len(calls.sent()) > 0 })
		sent := calls.offered()[0].LastIndex
		c.puts("c", 1, 400)
		c.pass(testElection / 10) // for the one that is kept no longer to be removed
		require.Equal(t, sent+1, c.leader().Status().FirstIndex)
		require.Len(t, c.snapshots(leader), keptSnapshots+1)
		c.puts("d", 1, 2000)
		c.pass(testElection)
		require.Greater(t, c.leader().Status().FirstIndex+NumberOfLogEntriesAfterSnapshot+100, c.leader().Status().LastIndex)
		require.Len(t, c.snapshots(leader), keptSnapshots)
		calls.losing(nil)
		c.within(30*testElection, "the follower to catch up", func() bool {
			return c.Server(behind).Status().LastApplied == c.leader().Status().CommitIndex
		})
		c.converge()
	})
}

// TestFault091_SlowLink: a link that no piece of the usual size gets through in
// time is slow, not dead.
func TestFault091_SlowLink(t *testing.T) {
	prepare := func(c *clusterTest) { c.streamed(2<<20, nil) }
	inBehind(t, slowLink(50*time.Millisecond, 64<<10), prepare, func(c *clusterTest, leader, behind, _ string) {
		calls := c.watchSnapshots(nil)
		c.Heal()
		c.within(2*time.Minute, "the follower to catch up", func() bool { return c.Server(behind).Status().SnapshotIndex > 0 })
		c.converge()
		require.Equal(t, leader, c.leader().Name())
		require.Less(t, calls.bytes(), uint64(4<<20))
	})
}

// TestFault091_BrokenAtEachPiece: a transfer goes on where it was broken.
func TestFault091_BrokenAtEachPiece(t *testing.T) {
	const ballast = 3 << 20
	prepare := func(c *clusterTest) { c.streamed(ballast, nil) }
	for k := range 4 {
		for which, lost := range []string{"request", "answer"} {
			if raceDetector && which != k%2 {
				continue
			}
			t.Run(fmt.Sprint(lost, k), func(t *testing.T) {
				inBehind(t, ClusterOptions{}, prepare, func(c *clusterTest, leader, behind, _ string) {
					requests, answers := 0, 0
					calls := c.watchSnapshots(func(m MemoryMessage) bool {
						switch m.Message.(type) {
						case *SnapshotRecoveryRequest:
							requests++
							return lost == "request" && requests == k+1
						case *SnapshotRecoveryResponse:
							answers++
							return lost == "answer" && answers == k+1
						}
						return false
					})
					c.Heal()
					c.within(time.Minute, "the follower to catch up", func() bool { return c.Server(behind).Status().SnapshotIndex > 0 })
					c.converge()
					require.Less(t, calls.bytes(), uint64(2*ballast))
					require.Equal(t, 1, c.journal(behind).recovered)
					require.Equal(t, leader, c.leader().Name())
				})
			})
		}
	}
	// Every answer is lost once: nothing has to be sent again.
	inBehind(t, ClusterOptions{}, prepare, func(c *clusterTest, _, behind, _ string) {
		last := uint64(0)
		calls := c.watchSnapshots(func(m MemoryMessage) bool {
			if answer, ok := m.Message.(*SnapshotRecoveryResponse); ok && answer.Offset > last {
				last = answer.Offset
				return true
			}
			return false
		})
		c.Heal()
		c.within(time.Minute, "the follower to catch up", func() bool { return c.Server(behind).Status().SnapshotIndex > 0 })
		c.converge()
		require.Less(t, calls.bytes(), uint64(ballast+ballast/4))
	})
}

// TestFault091_KilledHalfWay: of the two servers, one or the other, in order or
// not, or both; and of the third, whose vote the leader lives by.
func TestFault091_KilledHalfWay(t *testing.T) {
	ballast := uint64(4 << 20)
	if raceDetector { // there is half of two pieces, too
		ballast = 2 << 20
	}
	for _, how := range []string{"crash receiver", "stop receiver", "restart sender", "crash sender", "crash both", "isolate sender"} {
		t.Run(how, func(t *testing.T) {
			prepare := func(c *clusterTest) { c.streamed(int64(ballast), nil) }
			options := slowLink(20*time.Millisecond, 0)
			inBehind(t, options, prepare, func(c *clusterTest, leader, behind, third string) {
				// Whoever leads next has no other way either.
				require.NoError(t, c.Server(third).TakeSnapshot())
				c.compacted(c.leader().Status().FirstIndex, "c")
				c.converged(leader, third)
				require.NoError(t, c.Server(third).TakeSnapshot())
				require.Greater(t, c.Server(third).Status().FirstIndex, uint64(10))

				calls := c.watchSnapshots(nil)
				c.Heal()
				c.within(time.Minute, "half of it", func() bool { return calls.bytes() > ballast/2 })
				require.Equal(t, Snapshotting, c.Server(behind).State())
				down := map[string]bool{}
				for _, name := range map[string][]string{
					"crash receiver": {behind}, "crash sender": {leader}, "crash both": {leader, behind},
				}[how] {
					c.Crash(name)
					down[name] = true
				}
				switch how {
				case "stop receiver":
					c.Stop(behind)
					down[behind] = true
				case "restart sender":
					require.NoError(t, c.Restart(leader))
				case "isolate sender":
					c.Isolate(leader)
				}
				c.pass(testElection / 2)
				for name := range down {
					require.NoError(t, c.Start(name))
				}
				c.within(time.Minute, "the follower to catch up", func() bool { return c.Server(behind).Status().SnapshotIndex > 0 })
				c.Heal()
				c.converge()
				require.Less(t, calls.bytes(), 3*ballast)
				require.Equal(t, 1, c.journal(behind).recovered)
			})
		})
	}
}

// converged waits for some servers to have applied what the leader has.
func (c *clusterTest) converged(names ...string) {
	c.t.Helper()
	c.within(10*testElection, "some to agree", func() bool {
		for _, name := range names {
			if c.Server(name).Status().LastApplied < c.leader().Status().LastIndex {
				return false
			}
		}
		return true
	})
}

// TestFault099_FullDiskOfAReceiver: a server that has no room for the snapshot goes
// on as a follower, and takes it when there is room.
func TestFault099_FullDiskOfAReceiver(t *testing.T) {
	for _, kind := range []vfs.OpKind{vfs.OpCreate, vfs.OpWrite, vfs.OpSync, vfs.OpRename} {
		t.Run(kind.String(), func(t *testing.T) {
			prepare := func(c *clusterTest) { c.streamed(1<<20, nil) }
			inBehind(t, ClusterOptions{}, prepare, func(c *clusterTest, leader, behind, _ string) {
				var full atomic.Bool
				full.Store(true)
				failures := 0
				c.node(behind).disk.Load().SetFault(func(op vfs.Op) error {
					if op.Kind != kind || !underSnapshot(op) || !full.Load() {
						return nil
					}
					if failures++; failures == 1 && kind == vfs.OpWrite {
						return nil
					}
					return syscall.ENOSPC
				})
				c.Heal()
				c.pass(time.Duration(max(5, scale(20))) * testElection)
				server := c.Server(behind)
				require.NoError(t, server.Err())
				require.Equal(t, leader, server.Leader())
				require.Zero(t, server.Status().SnapshotIndex)
				require.EqualValues(t, 7, server.Status().LastIndex)
				c.put("meanwhile")
				full.Store(false)
				c.within(20*testElection, "the follower to catch up", func() bool { return server.Status().SnapshotIndex > 0 })
				c.converge()
				names, err := c.node(behind).disk.Load().ReadDir(behind + "/snapshot")
				require.NoError(t, err)
				require.Len(t, names, 1)
			})
		})
	}
}
