package raft

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/goraft/raft/internal/vfs"
	"github.com/stretchr/testify/require"
)

// inLoop has a running server's event loop do something, and waits for that.
func inLoop(s Server, f func(l *eventLoop)) {
	done := make(chan struct{})
	s.(*server).lifecycle.run.Load().inbox.put(control(func(l *eventLoop) {
		f(l)
		close(done)
	}))
	<-done
}

// Row 124: nothing is committed for long, because the other disks stall, and clients go
// on asking. What waits stays within its bound, and whoever comes then is told so at
// once.
func TestFault124_UncommittedIsBounded(t *testing.T) {
	const bound, entry = 64 << 10, 1 << 10
	options := ClusterOptions{Options: []Option{WithMaxEntryBytes(2 * entry), WithMaxUncommittedBytes(bound)}}
	inRunningCluster(t, 3, options, func(c *clusterTest) {
		leader := c.leader()
		c.ctx = context.Background()
		var releases []func()
		for _, name := range c.followers() {
			releases = append(releases, c.stallDisk(name))
		}
		var waiting []<-chan outcome
		refused, value := 0, strings.Repeat("x", entry)
		rounds := volume(4, 60, 600)
		for range rounds {
			for range 100 {
				done := c.async(leader, &testCommand{value})
				synctest.Wait()
				select {
				case got := <-done:
					requireNotApplied(t, got.err, ErrOverloaded)
					require.Zero(t, got.took)
					refused++
				default:
					waiting = append(waiting, done)
				}
				status := leader.Status()
				require.LessOrEqual(t, status.UncommittedBytes, bound)
				require.LessOrEqual(t, status.LastIndex-status.CommitIndex, uint64(bound/entry))
			}
			c.pass(10 * time.Second)
		}
		require.Equal(t, leader, c.leader())
		require.Greater(t, len(waiting), bound/entry/2)
		require.GreaterOrEqual(t, refused, 100*rounds-bound/entry)
		for _, release := range releases {
			release()
		}
		for _, done := range waiting {
			require.NoError(t, (<-done).err)
		}
		c.put("after")
		c.converge()
		require.Len(t, c.journal(leader.Name()).values(), len(waiting)+1, "what was refused is not applied")
	})
}

// Row 124: one that is cut off gives up its office, and then takes nothing.
func TestFault124_CutOffTakesNothing(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		old := c.leader()
		end := old.Status().LastIndex
		c.Isolate(old.Name())
		told := map[string]int{}
		for range 2000 {
			done := c.async(old, &testCommand{"x"})
			synctest.Wait()
			select {
			case got := <-done:
				requireNotApplied(t, got.err, NotLeaderError)
				require.Zero(t, got.took)
				told["refused"]++
			default:
				told["staged"]++
			}
			c.pass(time.Millisecond)
		}
		t.Log(told)
		require.LessOrEqual(t, told["staged"], int(2*testElection/time.Millisecond))
		require.LessOrEqual(t, old.Status().LastIndex, end+uint64(told["staged"]))
		c.Heal()
		c.converge()
	})
}

// Row 125: a follower reads for a moment, and then nothing for long, again and again.
// The leader holds no more for it than its window.
func TestFault125_SlowReaderIsOwedAWindow(t *testing.T) {
	for name, options := range transports {
		t.Run(name, func(t *testing.T) {
			options.Options = []Option{WithSnapshotTrigger(0, 0)}
			inRunningCluster(t, 3, options, func(c *clusterTest) {
				c.ctx = context.Background()
				leader, slow, value := c.leader(), c.followers()[0], strings.Repeat("x", 512<<10)
				term, most := leader.Term(), 0
				for range volume(3, 24, 240) {
					c.Network().Pause(slow)
					for range 3 {
						c.put(value)
						bytes, requests, tail := c.owed(leader, slow)
						require.LessOrEqual(t, bytes, maxInFlightBytes+maxBatchBytes)
						require.LessOrEqual(t, requests, maxInFlight)
						require.LessOrEqual(t, tail, tailBytes+maxBatchBytes)
						most = max(most, bytes)
					}
					c.pass(10 * time.Second)
					c.Network().Resume(slow)
					c.pass(2 * time.Millisecond)
				}
				require.Positive(t, most)
				require.Equal(t, term, leader.Term())
				c.converge()
			})
		})
	}
}

// Row 126: Apply is blocked on one follower, and the others go on. What that server
// has in memory stays bounded, the rest waits on its disk, and it goes on by itself.
func TestFault126_BlockedApplyWaitsOnDisk(t *testing.T) {
	inCluster(t, 3, ClusterOptions{Options: []Option{WithSnapshotTrigger(0, 0)}}, func(c *clusterTest) {
		block := make(chan struct{})
		free := sync.OnceFunc(func() { close(block) })
		defer free()
		var slow atomic.Pointer[string]
		c.during = func(ctx Context, _ string) {
			if name := slow.Load(); name != nil && *name == ctx.Server().Name() {
				<-block
			}
		}
		require.NoError(t, c.Bootstrap(c.ctx))
		require.NoError(t, c.WaitForConverged(c.ctx))
		leader, name := c.leader(), c.followers()[0]
		term := leader.Term()
		slow.Store(&name)
		blocked, value := c.Server(name), strings.Repeat("x", 128<<10)
		for range volume(3, 20, 60) {
			for range 12 {
				c.put(value)
			}
			c.pass(time.Second)
			require.Equal(t, leader.Status().LastIndex, blocked.Status().DurableIndex, "it stores what it is sent")
			inLoop(blocked, func(l *eventLoop) {
				require.LessOrEqual(t, l.tail.size, tailBytes+maxBatchBytes)
				l.applier.ranges.mu.Lock()
				defer l.applier.ranges.mu.Unlock()
				require.LessOrEqual(t, len(l.applier.ranges.mu.items), 1)
				for _, item := range l.applier.ranges.mu.items {
					require.LessOrEqual(t, item.view.tail.size, tailBytes+maxBatchBytes)
				}
			})
		}
		require.Less(t, blocked.Status().LastApplied, leader.Status().LastApplied-30)
		require.Equal(t, term, leader.Term())
		free()
		c.converge()
		require.NoError(t, blocked.Err())
	})
}

// Row 128: what a server holds in memory of its log does not grow with the log, and
// its goroutines do not with what it is asked.
func TestFault128_MemoryAndGoroutines(t *testing.T) {
	const peers = 6
	inRunningCluster(t, peers+1, ClusterOptions{Options: []Option{WithSnapshotTrigger(0, 0)}}, func(c *clusterTest) {
		leader, value := c.leader(), strings.Repeat("x", 4<<10)
		var most int64
		watch := func(s Server) {
			inLoop(s, func(l *eventLoop) {
				require.LessOrEqual(t, l.tail.size, tailBytes+maxBatchBytes, s.Name())
				require.LessOrEqual(t, len(l.raft.log.runs), int(l.raft.term), "a run for each term, not for each entry")
				require.LessOrEqual(t, len(l.pending)+len(l.orphans), 500)
				most = max(most, l.tasks.count.Load())
			})
		}
		for range volume(1, 10, 50) {
			var done []<-chan outcome
			for range 500 {
				done = append(done, c.async(leader, &testCommand{value}))
			}
			for range 5 {
				for _, s := range c.Servers() {
					watch(s)
				}
				c.pass(100 * time.Microsecond)
			}
			for _, outcome := range done {
				require.NoError(t, (<-outcome).err)
			}
		}
		t.Log("at most", most, "goroutines of a server")
		require.LessOrEqual(t, most, int64(10+6*peers))
		c.converge()
	})
}

// Row 128: answers come in a burst, more than anybody asked for.
func TestFault128_BurstOfAnswers(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		leader := c.leader()
		c.put("x")
		before, inbox := runtime.NumGoroutine(), leader.(*server).lifecycle.run.Load().inbox
		rng := rand.New(rand.NewPCG(128, 0))
		for range 100 {
			for range 1000 {
				response := newAppendEntriesResponse(leader.Term(), rng.Uint64N(5), rng.Uint64N(5), rng.IntN(2) == 0)
				inbox.put(&ack{term: leader.Term(), name: fmt.Sprint("s", 1+rng.IntN(1000)), response: response})
			}
			require.LessOrEqual(t, runtime.NumGoroutine(), before+10)
		}
		synctest.Wait()
		require.False(t, inbox.waiting())
		require.LessOrEqual(t, runtime.NumGoroutine(), before+10)
		inLoop(leader, func(l *eventLoop) {
			require.LessOrEqual(t, len(l.office.match)+len(l.office.heard)+len(l.office.stores), 9, "names that are no members")
		})
		c.put("y")
		c.converge()
	})
}

// Row 33: the leader cannot read what a follower lacks. It sends nothing in its place,
// and gives up its office; the follower's log stays as it is until another leads.
func TestFault033_UnreadableIsNotSent(t *testing.T) {
	for name, options := range transports {
		t.Run(name, func(t *testing.T) {
			inRunningCluster(t, 3, options, func(c *clusterTest) {
				c.puts("a", 1, 2)
				c.converge()
				behind := c.followers()[0]
				c.Stop(behind)
				c.puts("b", 5, 20)
				for _, other := range c.followersOf(behind) { // so that what is sent is read from the disk
					require.NoError(t, c.Restart(other))
				}
				c.within(20*testElection, "a leader", func() bool { return c.Leader() != nil })
				c.converge()
				leader := c.leader()
				reads := atomic.Int64{}
				c.node(leader.Name()).disk.Load().SetFault(func(op vfs.Op) error {
					if op.Kind == vfs.OpRead && strings.HasSuffix(op.Name, ".wal") {
						reads.Add(1)
						return syscall.EIO
					}
					return nil
				})
				s, elsewhere := &sound{}, atomic.Bool{}
				c.Network().Intercept(func(m MemoryMessage) bool {
					if req, ok := m.Message.(*AppendEntriesRequest); ok && m.From == leader.Name() && m.To == behind && len(req.records) > 0 && req.PrevLogIndex < 5 {
						elsewhere.Store(true)
					}
					return s.intercept(m)
				})
				require.NoError(t, c.Start(behind))
				end := c.Server(behind).Status().LastIndex
				for !finished(leader) {
					require.Equal(t, end, c.Server(behind).Status().LastIndex)
					c.pass(time.Millisecond)
				}
				require.True(t, errors.Is(leader.Err(), syscall.EIO), leader.Err())
				require.Positive(t, reads.Load())
				require.False(t, elsewhere.Load(), "entries that it could not read")
				c.within(20*testElection, "another leader", func() bool { return c.Leader() != nil && c.Leader() != leader })
				c.put("c")
				require.Empty(t, s.bad)
				c.node(leader.Name()).disk.Load().SetFault(nil)
				require.NoError(t, c.Restart(leader.Name()))
				c.converge()
			})
		})
	}
}
