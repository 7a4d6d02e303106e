package raft

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/goraft/raft/internal/vfs"
	"github.com/stretchr/testify/require"
)

// fillDisk leaves the server's disk as much space as is taken already, until free
// is called.
func (c *clusterTest) fillDisk(name string) (free func()) {
	disk := c.node(name).disk.Load()
	disk.SetQuota(&vfs.Quota{Bytes: disk.Used(), Entries: true})
	return func() { c.node(name).disk.Load().SetQuota(nil) }
}

// filler is a value that soon needs more of the log than was allocated.
func filler(what string, i int) string { return fmt.Sprint(what, i, strings.Repeat(".", 8<<10)) }

// heard collects the events of a type at the server.
func (c *clusterTest) heard(server Server, eventType string) func() []Event {
	var mu sync.Mutex
	var events []Event
	server.AddEventListener(eventType, func(e Event) {
		mu.Lock()
		defer mu.Unlock()
		events = append(events, e)
	})
	return func() []Event {
		mu.Lock()
		defer mu.Unlock()
		return append([]Event(nil), events...)
	}
}

// moved waits for another leader than the server.
func (c *clusterTest) moved(old Server, within time.Duration) {
	c.t.Helper()
	c.within(within, "another leader", func() bool { return c.Leader() != nil && c.Leader() != old })
}

func TestFault017_StalledLeaderHandsOver(t *testing.T) {
	for name, options := range transports {
		for _, n := range []int{3, 5} {
			t.Run(fmt.Sprint(name, n), func(t *testing.T) {
				inRunningCluster(t, n, options, func(c *clusterTest) {
					leader := c.leader()
					storage := c.heard(leader, StorageEventType)
					release := c.stallDisk(leader.Name())
					last := c.async(leader, &testCommand{"first"})
					c.moved(leader, 5*testElection)
					require.True(t, leader.Running())
					require.NotEmpty(t, leader.Status().StorageError)
					c.puts("x", 1, 20)
					got := <-last
					if got.err != nil {
						requireUnknown(t, got.err)
					}
					term := c.leader().Term()
					c.pass(20 * testElection)
					require.Equal(t, term, c.leader().Term(), "the stalled server disturbs the others")
					release()
					c.converge()
					require.Empty(t, leader.Status().StorageError)
					require.NoError(t, leader.Err())
					require.Len(t, storage(), 2, "stalled, and no more")
				})
			})
		}
	}
}

// A leader whose disk stalls gives up its office only to who can do better.
func TestFault017_StaysWhereNobodyDoesBetter(t *testing.T) {
	t.Run("no majority without it", func(t *testing.T) {
		inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
			leader := c.leader()
			c.Stop(c.followers()[0])
			release := c.stallDisk(leader.Name())
			got := c.async(leader, &testCommand{"x"})
			c.pass(20 * testElection)
			require.Equal(t, leader, c.leader())
			release()
			require.NoError(t, (<-got).err)
		})
	})
	t.Run("all stall", func(t *testing.T) {
		inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
			leader := c.leader()
			var releases []func()
			for _, name := range c.Names() {
				releases = append(releases, c.stallDisk(name))
			}
			got := c.async(leader, &testCommand{"x"})
			c.pass(20 * testElection)
			require.Equal(t, leader, c.leader())
			for _, release := range releases {
				release()
			}
			require.NoError(t, (<-got).err)
			c.converge()
		})
	})
	t.Run("alone", func(t *testing.T) {
		inRunningCluster(t, 1, ClusterOptions{}, func(c *clusterTest) {
			leader := c.leader()
			release := c.stallDisk(leader.Name())
			got := c.async(leader, &testCommand{"x"})
			c.pass(20 * testElection)
			require.Equal(t, Leader, leader.State())
			release()
			require.NoError(t, (<-got).err)
		})
	})
}

// The first error of the disk is the last: see also TestFault045.
func TestFault098_LeaderWhoseDiskFailsHandsOver(t *testing.T) {
	for name, options := range transports {
		for _, kind := range []vfs.OpKind{vfs.OpSync, vfs.OpWrite} {
			t.Run(fmt.Sprint(name, " ", kind), func(t *testing.T) {
				inRunningCluster(t, 3, options, func(c *clusterTest) {
					leader := c.leader()
					failures := c.heard(leader, FailureEventType)
					once := sync.OnceValue(func() error { return errDisk })
					failed := false
					c.node(leader.Name()).disk.Load().SetFault(func(op vfs.Op) error {
						if op.Kind != kind || failed {
							return nil // and what is synced next seems to be durable
						}
						failed = true
						return once()
					})
					last := c.async(leader, &testCommand{"x"})
					patience := 2 * testElection
					if options.Transporter != nil {
						patience = 5 * testElection // without TimeoutNow
					}
					c.moved(leader, patience)
					if got := <-last; got.err != nil {
						requireUnknown(t, got.err)
					}
					require.ErrorIs(t, leader.Err(), errDisk)
					require.False(t, leader.Running())
					heard := failures()
					require.Len(t, heard, 1)
					require.ErrorIs(t, heard[0].Value().(error), errDisk)
					_, err := leader.Do(&testCommand{"refused"})
					require.Error(t, err)
					c.puts("y", 1, 3)
					require.NoError(t, c.Restart(leader.Name()))
					c.converge()
				})
			})
		}
	}
}

func TestFault099_LeaderWithAFullDiskHandsOver(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		leader := c.leader()
		storage := c.heard(leader, StorageEventType)
		free := c.fillDisk(leader.Name())
		for i := 0; c.leader() == leader && i < 100; i++ {
			c.put(filler("x", i))
		}
		c.moved(leader, testElection)
		require.True(t, leader.Running())
		require.NoError(t, leader.Err())
		require.Contains(t, leader.Status().StorageError, ErrNoSpace.Error())
		c.puts("y", 1, 20)
		require.Less(t, leader.Status().DurableIndex, c.leader().Status().DurableIndex, "the disk was never full")
		term := c.leader().Term()
		c.pass(20 * testElection)
		require.Equal(t, term, c.leader().Term(), "the full server disturbs the others")
		free()
		c.within(5*time.Second, "the full server to go on", func() bool {
			return leader.Status().DurableIndex == c.leader().Status().DurableIndex
		})
		require.Empty(t, leader.Status().StorageError)
		require.Len(t, storage(), 2)
		c.converge()
	})
}

func TestFault099_FullDiskOfAFollower(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		follower := c.Server(c.followers()[0])
		term := c.leader().Term()
		free := c.fillDisk(follower.Name())
		for i := range 100 {
			c.put(filler("x", i))
		}
		require.NotEmpty(t, follower.Status().StorageError)
		c.pass(20 * testElection)
		require.Equal(t, term, c.leader().Term())
		free()
		c.within(5*time.Second, "the full server to go on", func() bool {
			return follower.Status().DurableIndex == c.leader().Status().DurableIndex
		})
		c.converge()
	})
}

// With all disks full, as equal servers have them, nothing can be promised: what is
// staged waits, new commands are refused, and all goes on when there is space.
func TestFault099_AllDisksFull(t *testing.T) {
	for _, n := range []int{1, 3} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			inRunningCluster(t, n, ClusterOptions{}, func(c *clusterTest) {
				leader := c.leader()
				var frees []func()
				for _, name := range c.Names() {
					frees = append(frees, c.fillDisk(name))
				}
				var staged <-chan outcome
				for i := 0; leader.Status().StorageError == "" && i < 100; i++ {
					staged = c.async(leader, &testCommand{filler("x", i)})
					c.pass(10 * time.Millisecond)
				}
				ctx, cancel := context.WithTimeout(c.ctx, testElection)
				defer cancel()
				_, err := leader.DoContext(ctx, &testCommand{"refused"})
				require.ErrorIs(t, err, ErrNoSpace)
				c.pass(20 * testElection)
				require.Equal(t, leader, c.leader())
				require.NotEmpty(t, leader.Status().StorageError)
				for _, free := range frees {
					free()
				}
				c.within(5*time.Second, "the servers to go on", func() bool { return leader.Status().StorageError == "" })
				require.NoError(t, (<-staged).err)
				c.put("y")
				c.converge()
				require.NotContains(t, c.journal(leader.Name()).values(), "refused")
			})
		})
	}
}

func TestFault099_StopsAndStartsOnAFullDisk(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		frees := map[string]func(){}
		for _, name := range c.Names() {
			frees[name] = c.fillDisk(name)
		}
		leader, i := c.leader(), 0
		for ; leader.Status().StorageError == "" && i < 100; i++ {
			c.async(leader, &testCommand{filler("x", i)})
			c.pass(10 * time.Millisecond)
		}
		known := c.journal(leader.Name()).entries()
		require.NotEmpty(t, known)
		for _, name := range c.Names() {
			start := time.Now()
			c.Stop(name)
			require.LessOrEqual(t, time.Since(start), 2*testElection)
		}
		for _, name := range c.Names() {
			require.NoError(t, c.Start(name), "zero bytes free")
		}
		c.within(10*testElection, "a leader that has applied what was known", func() bool {
			leader := c.Leader()
			return leader != nil && len(c.journal(leader.Name()).entries()) >= len(known)
		})
		require.Equal(t, known, c.journal(c.leader().Name()).entries()[:len(known)])
		for _, free := range frees {
			free()
		}
		c.put("y")
		c.converge()
	})
}

// However long a disk is full, what waits for it stays bounded.
func TestFault099_WaitingForSpaceIsBounded(t *testing.T) {
	for name, options := range transports {
		t.Run(name, func(t *testing.T) {
			inRunningCluster(t, 3, options, func(c *clusterTest) {
				follower := c.Server(c.followers()[0])
				free := c.fillDisk(follower.Name())
				for i := range 200 {
					c.put(filler("x", i))
				}
				old := c.leader()
				c.Stop(old.Name())
				require.NoError(t, c.Start(old.Name()))
				c.moved(old, 100*testElection) // a term that the full server cannot save
				c.pass(time.Duration(scale(600)) * time.Second)
				waiting := make(chan int, 1)
				follower.(*server).lifecycle.run.Load().inbox.put(control(func(l *eventLoop) {
					waiting <- max(len(l.promises.ballots), len(l.promises.entries), len(l.appends), l.tail.size/maxInFlightBytes)
				}))
				require.LessOrEqual(t, <-waiting, maxPromises)
				free()
				c.converge()
			})
		})
	}
}
