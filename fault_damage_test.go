package raft

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/goraft/raft/internal/vfs"
	"github.com/goraft/raft/internal/wal"
	"github.com/stretchr/testify/require"
)

// rot flips a bit of the entry that has a value in a server's log.
func (c *clusterTest) rot(name, value string, bit int64) {
	c.t.Helper()
	disk := c.node(name).disk.Load()
	for _, path := range c.logFiles(name) {
		b, err := disk.Bytes(path)
		require.NoError(c.t, err)
		if at := bytes.Index(b, []byte(value)); at >= 0 {
			require.NoError(c.t, disk.FlipBit(path, int64(at)*8+bit))
			return
		}
	}
	c.t.Fatalf("%s has no %q", name, value)
}

// logFiles are the paths of the files of a server's log.
func (c *clusterTest) logFiles(name string) (paths []string) {
	dir := "/" + name + "/log"
	names, err := c.node(name).disk.Load().ReadDir(dir)
	require.NoError(c.t, err)
	for _, file := range names {
		if file != "lock" {
			paths = append(paths, dir+"/"+file)
		}
	}
	return paths
}

// sentBy counts what a server sends from now on, answers too.
func (c *clusterTest) sentBy(name string) (count func() int) {
	var mu sync.Mutex
	sent := 0
	c.Network().Intercept(func(m MemoryMessage) bool {
		mu.Lock()
		defer mu.Unlock()
		if m.From == name {
			sent++
		}
		return true
	})
	return func() int {
		mu.Lock()
		defer mu.Unlock()
		return sent
	}
}

// refusesToStart starts a server whose disk is damaged: it must say so before it
// applies anything, or says anything to anybody.
func (c *clusterTest) refusesToStart(name string, want error) {
	c.t.Helper()
	sent := c.sentBy(name)
	require.ErrorIs(c.t, c.Start(name), want, name)
	c.pass(5 * testElection)
	require.Empty(c.t, c.journal(name).entries(), name)
	require.Zero(c.t, c.journal(name).recovered, name)
	require.Zero(c.t, sent(), name)
}

// TestFault095_DamagedServerDoesNotStart: what rots while a server is down.
func TestFault095_DamagedServerDoesNotStart(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{Options: []Option{WithMaxSegmentBytes(64 << 10)}}, func(c *clusterTest) {
		c.puts(strings.Repeat("a", 4<<10), 1, 50)
		c.converge()
		name := c.followers()[0]
		c.Stop(name)
		node := c.node(name)
		whole := node.disk.Load()
		rng := rand.New(rand.NewPCG(95, 1))
		for _, path := range c.logFiles(name) {
			content, err := whole.Bytes(path)
			require.NoError(t, err)
			used := len(bytes.TrimRight(content, "\x00"))
			last := path == c.logFiles(name)[lastSegment(c.logFiles(name))]
			for range 8 {
				node.disk.Store(whole.CrashClone(vfs.Nothing))
				at := rng.IntN(used)
				require.NoError(t, node.disk.Load().FlipBit(path, int64(at*8+rng.IntN(8))))
				if strings.HasSuffix(path, ".wal") && (!last || at < used-64) {
					c.refusesToStart(name, ErrCorrupt)
					continue
				}
				// There is another copy, or it is the seal: nothing is missing.
				require.NoError(t, c.Start(name))
				c.converge()
				c.Stop(name)
			}
		}
		for _, kind := range []string{"hardstate", "identity"} {
			for how, damage := range map[string]func(b []byte) []byte{
				"one bit": func(b []byte) []byte { b[50] ^= 4; return b },
				"zeros":   func(b []byte) []byte { clear(b); return b },
				"empty":   func([]byte) []byte { return nil },
				"padding": func(b []byte) []byte { b[len(b)-1] = 1; return b },
			} {
				node.disk.Store(whole.CrashClone(vfs.Nothing))
				for _, copied := range []string{"-a", "-b"} {
					path := "/" + name + "/log/" + kind + copied
					b, err := whole.Bytes(path)
					require.NoError(t, err)
					require.NoError(t, node.disk.Load().SetBytes(path, damage(b)))
				}
				t.Log(kind, how)
				c.refusesToStart(name, ErrCorrupt)
			}
		}
		node.disk.Store(whole)
		require.NoError(t, c.Start(name))
		c.put("all of it is there")
		c.converge()
	})
}

// lastSegment is the place of the newest segment in a list of a log's files.
func lastSegment(paths []string) (last int) {
	for i, path := range paths {
		if strings.HasSuffix(path, ".wal") {
			last = i
		}
	}
	return last
}

// TestFault090_NoSnapshotIsWhole: the log begins behind the snapshots, and none of
// them can be read.
func TestFault090_NoSnapshotIsWhole(t *testing.T) {
	options := ClusterOptions{Options: []Option{WithMaxSegmentBytes(64 << 10)}}
	inRunningCluster(t, 3, options, func(c *clusterTest) {
		name := c.leader().Name()
		for range 2 {
			c.puts(strings.Repeat("a", 512), 1, NumberOfLogEntriesAfterSnapshot+50)
			c.converge()
			require.NoError(t, c.Server(name).TakeSnapshot())
		}
		c.pass(testElection)
		c.Stop(name)
		require.NotContains(t, c.logFiles(name), "/"+name+"/log/0000000000000001.wal")
		node := c.node(name)
		whole := node.disk.Load()
		labels := c.snapshots(name)
		for at := range 40 {
			node.disk.Store(whole.CrashClone(vfs.Nothing))
			for _, label := range labels {
				b, err := whole.Bytes(snapshotName(name, label))
				require.NoError(t, err)
				bit := (len(b) - 1) * 8 * at / 39
				require.NoError(t, node.disk.Load().FlipBit(snapshotName(name, label), int64(bit)))
			}
			c.refusesToStart(name, ErrPartialWipe)
		}
		node.disk.Store(whole)
		require.NoError(t, c.Start(name))
		c.put("all of it is there")
		c.converge()
	})
}

// sound keeps an eye on the entries that leave: each must be one that was written.
type sound struct {
	mu  sync.Mutex
	bad []string
}

func (s *sound) intercept(m MemoryMessage) bool {
	req, ok := m.Message.(*AppendEntriesRequest)
	if !ok {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for rest := req.records; len(rest) > 0; {
		record, next, err := wal.NextRecord(rest)
		if err != nil || record.Verify(wal.Seed(req.ClusterID)) != nil {
			s.bad = append(s.bad, fmt.Sprintf("%s sent %x", m.From, rest[:min(len(rest), 100)]))
			return true
		}
		rest = next
	}
	return true
}

// finished reports whether a server has stopped by itself because of damage.
func finished(server Server) bool {
	return server.State() == Stopped && server.Err() != nil
}

// TestFault096_DamagedEntryIsNotSent: the log of a leader rots while it runs, and a
// follower needs what has rotted. The leader stops, and another one serves it.
func TestFault096_DamagedEntryIsNotSent(t *testing.T) {
	for name, options := range transports {
		t.Run(name, func(t *testing.T) {
			inRunningCluster(t, 3, options, func(c *clusterTest) {
				c.puts("a", 1, 10)
				c.converge()
				behind := c.followers()[0]
				c.Stop(behind)
				c.puts("entry-", 11, 30)
				// A restart, so that what is sent is read from the disk.
				for _, other := range c.followersOf(behind) {
					require.NoError(t, c.Restart(other))
				}
				c.within(20*testElection, "a leader", func() bool { return c.Leader() != nil })
				c.converge()
				leader := c.leader()
				s := &sound{}
				c.Network().Intercept(s.intercept)
				c.rot(leader.Name(), "entry-17", 3)
				require.NoError(t, c.Start(behind))
				c.within(10*testElection, "the leader to stop", func() bool { return finished(leader) })
				require.ErrorIs(t, leader.Err(), ErrCorrupt)
				c.within(20*testElection, "another leader", func() bool { return c.Leader() != nil })
				require.NotEqual(t, leader.Name(), c.leader().Name())
				c.put("without it")
				c.within(20*testElection, "the follower", func() bool {
					return slices.Contains(c.journal(behind).values(), "without it")
				})
				require.Empty(t, s.bad)
				require.Contains(t, c.journal(behind).values(), "entry-17")

				// It does not come back by itself.
				c.Stop(leader.Name())
				c.refusesToStart(leader.Name(), ErrCorrupt)
			})
		})
	}
}

// TestFault096_DamagedEntryIsNotApplied: an entry rots before it is known to be
// committed.
func TestFault096_DamagedEntryIsNotApplied(t *testing.T) {
	for _, leads := range []bool{false, true} {
		t.Run(fmt.Sprint("leader ", leads), func(t *testing.T) {
			inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
				// Ten entries are on all disks, and nobody knows it.
				c.puts("a", 1, 20)
				c.converge()
				last := c.leader().Status().LastIndex
				c.Network().Intercept(func(m MemoryMessage) bool {
					_, answer := m.Message.(*AppendEntriesResponse)
					return !answer
				})
				for i := range 10 {
					// In this order: the last one a new leader sends again, and it is not read.
					c.async(c.Server(c.leader().Name()), &testCommand{fmt.Sprint("entry-", i)})
					synctest.Wait()
				}
				c.within(testElection/2, "the entries to be on all disks", func() bool {
					return !slices.ContainsFunc(c.Names(), func(name string) bool { return c.Server(name).Status().DurableIndex < last+10 })
				})
				for _, name := range c.Names() {
					c.crash(c.node(name), vfs.Nothing)
					c.Isolate(name)
				}
				c.Network().Intercept(nil)
				require.NoError(t, c.StartAll())
				damaged := "s1"
				require.Len(t, c.journal(damaged).entries(), 20)
				c.rot(damaged, "entry-5", 5)
				server := c.Server(damaged)
				c.Heal()
				if leads {
					// The others cannot talk to each other.
					others := c.followersOf(damaged)
					c.Network().Block(others[0], others[1])
					c.Network().Block(others[1], others[0])
				}
				c.within(40*testElection, "the damaged server to stop", func() bool { return finished(server) })
				c.Heal()
				require.ErrorIs(t, server.Err(), ErrCorrupt)
				require.NotContains(t, c.journal(damaged).values(), "entry-5")
				c.put("without it")
				require.NotEqual(t, damaged, c.leader().Name())
				require.Contains(t, c.journal(c.leader().Name()).values(), "entry-5")
				c.Stop(damaged)
				c.refusesToStart(damaged, ErrCorrupt)
				c.converge()
			})
		})
	}
}

// subsets are the ways to choose one or two of the names.
func subsets(names []string) (all [][]string) {
	for i, name := range names {
		all = append(all, []string{name})
		for _, other := range names[i+1:] {
			all = append(all, []string{name, other})
		}
	}
	return all
}

// TestFault097_DamagedServerNeitherVotesNorLeads: one entry has rotted on any one or
// two of five servers, which restart in any order.
func TestFault097_DamagedServerNeitherVotesNorLeads(t *testing.T) {
	inRunningCluster(t, 5, ClusterOptions{}, func(c *clusterTest) {
		c.puts("entry-", 1, 20)
		c.converge()
		for _, name := range c.Names() {
			c.Stop(name)
		}
		disks := map[string]*vfs.Mem{}
		for _, name := range c.Names() {
			disks[name] = c.node(name).disk.Load()
		}
		rng := rand.New(rand.NewPCG(97, 1))
		for round, damaged := range subsets(c.Names()) {
			for _, name := range c.Names() {
				c.node(name).disk.Store(disks[name].CrashClone(vfs.Nothing))
			}
			for _, name := range damaged {
				c.rot(name, "entry-7", rng.Int64N(7*8))
			}
			c.pass(2 * testElection)
			var mu sync.Mutex
			said := map[string]int{}
			c.Network().Intercept(func(m MemoryMessage) bool {
				mu.Lock()
				defer mu.Unlock()
				said[m.From]++
				return true
			})
			for _, i := range rng.Perm(len(c.Names())) {
				name := c.Names()[i]
				if err := c.Start(name); slices.Contains(damaged, name) {
					require.ErrorIs(t, err, ErrCorrupt)
					require.Empty(t, c.journal(name).entries())
				} else {
					require.NoError(t, err)
				}
				c.pass(time.Duration(rng.Int64N(int64(3 * testElection))))
			}
			c.put("round")
			c.converge()
			values := c.journal(c.leader().Name()).values()
			require.Len(t, values, 21, round)
			require.Equal(t, "entry-7", values[6])
			// An election more, among those that are left.
			crashed := c.leader().Name()
			if len(damaged) == 1 {
				c.Crash(crashed)
				c.put("one less")
				c.converge()
			}
			mu.Lock()
			for _, name := range damaged {
				require.Zero(t, said[name], name)
			}
			mu.Unlock()
			for _, name := range c.Names() {
				c.Stop(name)
			}
			c.mu.Lock()
			c.lives = nil // the next round is another history
			c.mu.Unlock()
		}
	})
}

// summon makes a server lead, in the name of the one that does.
func (c *clusterTest) summon(name string) {
	c.t.Helper()
	old := c.leader()
	if old.Name() == name {
		return
	}
	c.converge()
	status := old.Status()
	answer := c.Server(name).TimeoutNow(&TimeoutNowRequest{
		Term: status.Term, LeaderName: old.Name(), ClusterID: status.ClusterID, To: name,
	})
	require.True(c.t, answer != nil && answer.Success)
	c.within(10*testElection, name+" to lead", func() bool { return c.Leader() != nil && c.Leader().Name() == name })
}

// TestFault097_RotWhileRunning: the entry rots on one or two of four servers that
// run, and the fifth needs it. Whoever cannot send it stops, until one leads who can.
func TestFault097_RotWhileRunning(t *testing.T) {
	for _, damaged := range subsets([]string{"s1", "s2", "s3", "s4"}) {
		t.Run(strings.Join(damaged, ","), func(t *testing.T) {
			inRunningCluster(t, 5, ClusterOptions{}, func(c *clusterTest) {
				c.Stop("s5")
				c.puts("entry-", 1, 20)
				for _, name := range c.followersOf("s5") {
					c.Stop(name)
				}
				require.NoError(t, c.Start("s1"))
				for _, name := range []string{"s2", "s3", "s4"} {
					require.NoError(t, c.Start(name))
				}
				c.put("again")
				s := &sound{}
				c.Network().Intercept(s.intercept)
				for i, name := range damaged {
					c.rot(name, "entry-7", int64(i*9))
				}
				// The damaged ones lead first.
				for _, name := range damaged {
					c.summon(name)
				}
				require.NoError(t, c.Start("s5"))
				c.within(60*testElection, "the fifth server", func() bool {
					return slices.Contains(c.journal("s5").values(), "entry-20")
				})
				c.put("done")
				require.NotContains(t, damaged[len(damaged)-1:], c.leader().Name())
				for _, name := range damaged {
					server := c.Server(name)
					if finished(server) {
						require.ErrorIs(t, server.Err(), ErrCorrupt)
						c.Stop(name)
						c.refusesToStart(name, ErrCorrupt)
					}
				}
				require.Nil(t, c.Server(damaged[len(damaged)-1]), "it had to send the entry")
				require.Empty(t, s.bad)
				c.converge()
				require.Equal(t, "entry-7", c.journal("s5").values()[6])
			})
		})
	}
}
