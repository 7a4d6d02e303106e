package raft

import (
	"strings"
	"sync/atomic"
	"testing"

	"github.com/goraft/raft/internal/vfs"
	"github.com/stretchr/testify/require"
)

// Row 4: a candidate that asked for votes before its own was durable could, after
// a crash, vote for another in the term that it was elected in.
func TestFault004_OwnVoteIsDurableBeforeOthersAreAsked(t *testing.T) {
	inRunningCluster(t, 5, ClusterOptions{}, func(c *clusterTest) {
		old := c.leader().Name()
		candidate := c.followers()[0]
		var asked atomic.Int64
		c.Network().Intercept(func(m MemoryMessage) bool {
			req, vote := m.Message.(*RequestVoteRequest)
			if vote && !req.PreVote && m.From == candidate {
				asked.Add(1)
			}
			return !vote || m.From == candidate // nobody else stands
		})
		release, stalled := make(chan struct{}), make(chan struct{}, 1)
		c.node(candidate).disk.Load().SetFault(func(op vfs.Op) error {
			if op.Kind == vfs.OpSync && strings.Contains(op.Name, "hardstate") {
				select {
				case stalled <- struct{}{}:
				default:
				}
				<-release
			}
			return nil
		})
		c.Isolate(old)
		<-stalled
		before := c.Server(candidate).Term()
		c.pass(10 * testElection)
		require.Zero(t, asked.Load(), "requests for votes before the own vote is durable")
		require.Equal(t, before, c.Server(candidate).Term(), "one term while the disk works at it")
		close(release)
		c.within(10*testElection, "the candidate to lead", func() bool { return c.Server(candidate).State() == Leader })
		require.NotZero(t, asked.Load())
		c.Network().Intercept(nil)
		c.Heal()
		c.converge()
	})
}

// Row 32: what a follower says of indexes that the leader's log does not have
// neither stops the leader nor keeps the follower behind.
func TestFault032_IndexBeyondTheLog(t *testing.T) {
	for name, options := range transports {
		t.Run(name, func(t *testing.T) {
			inRunningCluster(t, 3, options, func(c *clusterTest) {
				liar := c.followers()[0]
				var lies atomic.Int64
				c.Network().Intercept(func(m MemoryMessage) bool {
					if response, ok := m.Message.(*AppendEntriesResponse); ok && m.From == liar {
						response.success = lies.Add(1)%2 == 0
						response.index, response.commitIndex = 1<<40, 1<<41
						response.ConflictIndex, response.ConflictTerm = 1<<40, 1<<40
					}
					return true
				})
				c.puts("x", 1, 20)
				c.pass(5 * testElection)
				require.Less(t, c.leader().CommitIndex(), uint64(100))
				require.NotZero(t, lies.Load())
				require.NoError(t, c.leader().Err())
				c.Network().Intercept(nil)
				c.puts("y", 1, 5)
				c.converge()
			})
		})
	}
}

// The followers commit without the leader's disk, so what waits for that disk
// must be bounded by itself: past the bound Do is refused, and taken again once
// the disk goes on.
func TestStalledDiskBoundsMemory(t *testing.T) {
	const entry = 64 << 10
	options := ClusterOptions{Options: []Option{WithMaxEntryBytes(2 * entry), WithMaxUncommittedBytes(2 * entry)}}
	inRunningCluster(t, 3, options, func(c *clusterTest) {
		leader := c.leader()
		release := c.stallDisk(leader.Name())
		value := strings.Repeat("x", entry)
		var err error
		taken := 0
		for ; err == nil && taken < 2*tailBytes/entry; taken++ {
			_, err = leader.Do(&testCommand{value})
		}
		require.ErrorIs(t, err, ErrOverloaded)
		require.GreaterOrEqual(t, taken*entry, tailBytes)
		release()
		c.within(10*testElection, "the disk to catch up", func() bool {
			return leader.Status().DurableIndex == leader.Status().LastIndex
		})
		c.put("small")
		c.put("small too")
		c.converge()
	})
}
