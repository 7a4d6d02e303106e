package raft

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/goraft/raft/internal/vfs"
	"github.com/stretchr/testify/require"
)

// TestFault090_NewestValidSnapshotIsUsed: names are compared as numbers, a damaged
// file is passed over, and the log reaches back to the one before.
func TestFault090_NewestValidSnapshotIsUsed(t *testing.T) {
	for damage, spoil := range map[string]func(b []byte) []byte{
		"whole":     func(b []byte) []byte { return b },
		"torn":      func(b []byte) []byte { return b[:len(b)-1] },
		"half":      func(b []byte) []byte { return b[:len(b)/2] },
		"empty":     func([]byte) []byte { return nil },
		"longer":    func(b []byte) []byte { return append(b, 0) },
		"zeros":     func(b []byte) []byte { return make([]byte, len(b)) },
		"one bit":   func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		"last bit":  func(b []byte) []byte { b[len(b)-1] ^= 1; return b },
		"no header": func(b []byte) []byte { return append(make([]byte, 64), b[64:]...) },
	} {
		t.Run(damage, func(t *testing.T) {
			inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
				leader := c.leader()
				c.puts("a", 1, int(9-leader.Status().LastApplied))
				require.NoError(t, leader.TakeSnapshot())
				c.puts("b", 1, 91)
				require.NoError(t, leader.TakeSnapshot())
				labels := c.snapshots(leader.Name())
				require.Equal(t, []uint64{100, 9}, []uint64{labels[0].Index, labels[1].Index})
				c.puts("c", 1, 20)
				c.converge()
				name, want := leader.Name(), leader.Status()
				require.LessOrEqual(t, want.FirstIndex, uint64(10))
				c.Stop(name)
				disk := c.node(name).disk.Load()
				b, err := disk.Bytes(snapshotName(name, labels[0]))
				require.NoError(t, err)
				require.NoError(t, disk.SetBytes(snapshotName(name, labels[0]), spoil(b)))
				require.NoError(t, c.Start(name))
				require.Equal(t, want.LastIndex, c.Server(name).Status().LastApplied)
				require.EqualValues(t, 10, c.Server(name).Status().FirstIndex, "for those that lag behind a little")
				if damage == "whole" {
					require.EqualValues(t, 100, c.Server(name).Status().SnapshotIndex)
				} else {
					require.EqualValues(t, 9, c.Server(name).Status().SnapshotIndex)
				}
				require.Len(t, c.journal(name).entries(), len(c.journal(c.followersOf(name)[0]).entries()))
				c.puts("d", 1, 5)
				c.converge()

				// The next one takes the place of what is damaged.
				require.NoError(t, c.Server(name).TakeSnapshot())
				require.NoError(t, c.Restart(name))
				require.EqualValues(t, c.Server(name).Status().LastIndex, c.Server(name).Status().SnapshotIndex)
				c.put("e")
				c.converge()
			})
		})
	}
}

// followersOf are the other servers.
func (c *clusterTest) followersOf(name string) []string {
	return slices.DeleteFunc(c.Names(), func(other string) bool { return other == name })
}

// crashPoint is a disk as a crash could have left it, and what must be on it.
type crashPoint struct {
	op     string
	disk   *vfs.Mem
	stored uint64 // the last entry that was acknowledged
}

// crashPoints has the disk cloned before every call that changes it, in several
// states of what was not synced; stored says what must survive.
func crashPoints(disk *vfs.Mem, stored func() uint64) (points func() []crashPoint) {
	var mu sync.Mutex
	var all []crashPoint
	rng := rand.New(rand.NewPCG(91, 0))
	disk.SetFault(func(op vfs.Op) error {
		if !op.Kind.Changes() {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		for _, choose := range []vfs.Chooser{vfs.Nothing, vfs.Everything, vfs.Random(rng)} {
			all = append(all, crashPoint{fmt.Sprintf("%d: %v %s", len(all), op.Kind, op.Name), disk.CrashClone(choose), stored()})
		}
		return nil
	})
	return func() []crashPoint {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(all)
	}
}

// sampled are the points to look at: all, or fewer of each kind of crash, which
// take turns.
func sampled(points []crashPoint) (some []crashPoint) {
	for i := 0; i < len(points); i += oneOf(1, 1, 1) {
		some = append(some, points[i])
	}
	return some
}

// reopen starts a server of that name on a disk that a crash left, alone, and
// returns its journal and what it is.
func reopen(t *testing.T, c *clusterTest, name string, disk *vfs.Mem) ([]journalEntry, Status, error) {
	t.Helper()
	network := NewMemoryNetwork(1)
	defer network.Close()
	j := &journal{test: c, name: name}
	var machine StateMachine = j
	if c.machine != nil {
		machine = c.machine(j)
	}
	server, err := NewServer(name, "/"+name, network.Transporter(name), machine, j, "", withFileSystem(disk),
		WithRegistry(c.registry(name)), WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	if err := server.Init(); err != nil {
		return nil, Status{}, err
	}
	status := server.Status()
	server.Stop()
	return j.entries(), status, nil
}

// TestFault091_CrashAtEveryCallOfASnapshot: between the snapshot that is visible
// and the log that is cut there is no moment at which a server could not start,
// or would have lost something.
func TestFault091_CrashAtEveryCallOfASnapshot(t *testing.T) {
	inCluster(t, 1, ClusterOptions{}, func(c *clusterTest) {
		require.NoError(t, c.Bootstrap(c.ctx))
		c.puts("a", 1, 300)
		s := c.Server("s1")
		require.NoError(t, s.TakeSnapshot())
		c.puts("b", 1, 900) // some segments of the log
		acknowledged := func() uint64 { return s.Status().CommitIndex }
		points := crashPoints(c.node("s1").disk.Load(), acknowledged)
		require.NoError(t, s.TakeSnapshot())
		require.NoError(t, s.TakeSnapshot())
		c.pass(time.Second)
		c.puts("c", 1, 10)
		require.NoError(t, s.TakeSnapshot())
		c.pass(time.Second)
		require.Len(t, c.snapshots("s1"), 2)
		require.Greater(t, s.Status().FirstIndex, uint64(900))
		all := c.journal("s1").entries()
		require.Greater(t, len(points()), 100)
		compacted := 0
		for _, p := range sampled(points()) {
			got, status, err := reopen(t, c, "s1", p.disk)
			require.NoError(t, err, p.op)
			require.True(t, prefixOf(got, all), "%s: other entries", p.op)
			require.GreaterOrEqual(t, status.LastIndex, p.stored, p.op)
			require.GreaterOrEqual(t, status.LastIndex, status.SnapshotIndex, p.op)
			if status.FirstIndex > 1 {
				compacted++
				require.GreaterOrEqual(t, status.SnapshotIndex+1, status.FirstIndex, p.op)
			}
			// And again: what Init has tidied up is still whole.
			again, _, err := reopen(t, c, "s1", p.disk)
			require.NoError(t, err, p.op)
			require.Equal(t, got, again, p.op)
		}
		require.NotZero(t, compacted)
	})
}

// inDivergent runs f with a cluster in which an old leader, cut off, has entries
// that nobody else has, and needs the snapshot of the new one.
func inDivergent(t *testing.T, f func(c *clusterTest, old string)) {
	t.Helper()
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		c.puts("a", 1, 5)
		c.converge()
		old := c.leader().Name()
		c.Isolate(old)
		for i := range 500 {
			c.async(c.Server(old), &testCommand{fmt.Sprint("lost", i)})
		}
		c.within(10*testElection, "another leader", func() bool { return c.Leader() != nil && c.leader().Name() != old })
		c.pass(10 * testElection)
		c.compacted(10, "b")
		f(c, old)
	})
}

// TestFault091_CrashAtEveryCallOfAnInstall: of a server that is sent a snapshot in
// the place of a log that disagrees with it.
func TestFault091_CrashAtEveryCallOfAnInstall(t *testing.T) {
	calls := 0
	inDivergent(t, func(c *clusterTest, old string) {
		server := c.Server(old)
		points := crashPoints(c.node(old).disk.Load(), func() uint64 { return server.Status().CommitIndex })
		c.Heal()
		c.converge()
		calls = len(points()) / 3
		c.puts("c", 1, 3)
		c.converge()
		all := c.journal(c.leader().Name()).entries()
		installed := 0
		looked := sampled(points())
		for _, p := range looked {
			got, status, err := reopen(t, c, old, p.disk)
			require.NoError(t, err, p.op)
			require.True(t, prefixOf(got, all), "%s: other entries", p.op)
			require.GreaterOrEqual(t, len(got), 5, p.op)
			require.GreaterOrEqual(t, status.LastIndex, status.SnapshotIndex, p.op)
			if status.SnapshotIndex > 0 {
				installed++
			}
		}
		require.NotZero(t, installed)
		require.Less(t, installed, len(looked))
	})
	// With the others it comes to what they have.
	for k := 0; k < calls; k += oneOf(1, 1, 1) | 1 {
		inDivergent(t, func(c *clusterTest, old string) {
			made, crash := 0, make(chan struct{})
			c.node(old).disk.Load().SetFault(func(op vfs.Op) error {
				if op.Kind.Changes() {
					if made++; made == k+1 {
						close(crash)
					}
					if made > k {
						return errDisk
					}
				}
				return nil
			})
			c.Heal()
			<-crash
			c.Crash(old)
			require.NoError(t, c.Start(old), "call %d", k)
			c.converge()
			c.put("after")
			c.converge()
		})
	}
}

// TestFault091_CrashesLeaveNoSnapshotsBehind: a crash between a snapshot and the
// removal of the oldest leaves one too many, once.
func TestFault091_CrashesLeaveNoSnapshotsBehind(t *testing.T) {
	inCluster(t, 1, ClusterOptions{}, func(c *clusterTest) {
		require.NoError(t, c.Bootstrap(c.ctx))
		for round := range 6 {
			disk := c.node("s1").disk.Load()
			disk.SetFault(func(op vfs.Op) error {
				if op.Kind == vfs.OpRemove && strings.HasSuffix(op.Name, ".ss") {
					return errDisk
				}
				return nil
			})
			c.puts(fmt.Sprint(round, "-"), 1, 20)
			require.NoError(t, c.Server("s1").TakeSnapshot())
			c.pass(time.Millisecond)
			require.LessOrEqual(t, len(c.snapshots("s1")), keptSnapshots+1)
			c.Crash("s1")
			require.NoError(t, c.Start("s1"))
			c.within(10*testElection, "a leader", func() bool { return c.Leader() != nil })
			c.put(fmt.Sprint(round))
			require.NoError(t, c.Server("s1").TakeSnapshot())
			c.pass(time.Millisecond)
			require.LessOrEqual(t, len(c.snapshots("s1")), keptSnapshots, "round %d", round)
		}
	})
}
