package raft

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goraft/raft/internal/vfs"
	"github.com/stretchr/testify/require"
)

// TestFault091_NoSnapshotAheadOfItsOwnLog: a follower applies what the others have
// made durable, and its own disk has not. A snapshot of that waits for the log.
func TestFault091_NoSnapshotAheadOfItsOwnLog(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		c.puts("a", 1, 20)
		c.converge()
		name := c.followers()[0]
		s, disk := c.Server(name), c.node(name).disk.Load()
		var g gate
		g.shut()
		disk.SetFault(func(op vfs.Op) error {
			if op.Kind == vfs.OpSync && strings.HasSuffix(op.Name, ".wal") {
				g.pass()
			}
			return nil
		})
		c.puts("b", 1, 20)
		c.within(testElection, "it to apply them", func() bool { return s.Status().LastApplied == c.leader().Status().LastIndex })
		require.Less(t, s.Status().DurableIndex, s.Status().LastApplied)
		taken := make(chan error, 1)
		go func() { taken <- s.TakeSnapshot() }()
		c.pass(10 * testElection)
		require.Empty(t, taken)
		require.Empty(t, c.snapshots(name))
		disk.SetFault(nil)
		g.open()
		require.NoError(t, <-taken)
		require.Equal(t, s.Status().LastApplied, c.snapshots(name)[0].Index)
		require.Equal(t, s.Status().LastIndex, s.Status().DurableIndex)
		c.Crash(name)
		require.NoError(t, c.Start(name))
		c.converge()
	})
}

// blobCommand is a large command of which the journal keeps the name only.
type blobCommand struct{ Name, Padding string }

// CommandName is Command's.
func (*blobCommand) CommandName() string { return "test:blob" }

// Encode is CommandEncoder's.
func (b *blobCommand) Encode(w io.Writer) error {
	return writeText(w, b.Name+"\n"+b.Padding)
}

// Decode is CommandEncoder's.
func (b *blobCommand) Decode(r io.Reader) error {
	text, err := readText(r)
	b.Name, b.Padding, _ = strings.Cut(text, "\n")
	return err
}

// Apply puts the name into the server's journal.
func (b *blobCommand) Apply(ctx Context) (interface{}, error) {
	return (&testCommand{b.Name}).Apply(ctx)
}

// blobs has commands of a megabyte carried out, as many as a server does not keep
// in memory.
func (c *clusterTest) blobs() {
	c.t.Helper()
	padding := strings.Repeat("x", 1<<20)
	for i := range tailBytes>>20 + 2 {
		_, err := c.Do(c.ctx, &blobCommand{fmt.Sprint("blob", i), padding})
		require.NoError(c.t, err)
	}
}

// TestFault085_SnapshotOvertakesApply: a server that has entries to apply, some of
// them on its disk only, is sent a snapshot, and its log is emptied under it: it
// applies none of them, and does not halt for the lack of them.
func TestFault085_SnapshotOvertakesApply(t *testing.T) {
	inCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		var g gate
		c.during = func(ctx Context, value string) {
			if value == "held" && ctx.Server().State() == Follower {
				g.pass()
			}
		}
		for _, name := range c.Names() {
			require.NoError(t, c.registry(name).Register(&blobCommand{}))
		}
		require.NoError(t, c.Bootstrap(c.ctx))
		require.NoError(t, c.WaitForConverged(c.ctx))
		behind, third := c.followers()[0], c.followers()[1]
		server := c.Server(behind)
		g.shut()
		c.put("held")
		c.within(testElection, "Apply", g.holds)
		heldAt := server.Status().LastApplied + 1
		c.blobs()
		c.within(testElection, "entries to apply", func() bool {
			return server.Status().CommitIndex == c.leader().Status().LastIndex
		})
		require.Equal(t, heldAt, server.Status().LastApplied+1)
		c.Isolate(behind)
		c.compacted(server.Status().LastIndex, "b")
		c.Heal()
		c.within(10*testElection, "the snapshot", func() bool { return server.Status().SnapshotIndex > 0 })
		require.Equal(t, heldAt, server.Status().LastApplied+1, "Apply is still held")
		g.open()
		c.converged(behind, third)
		require.NoError(t, server.Err())
		require.Equal(t, 1, c.journal(behind).recovered)
		c.put("after")
		c.converge()
	})
}

// TestFault091_EntriesAndAnInstallInOneTurn: entries of another leader, and a
// snapshot that was whole before they came, wait for one and the same turn of the
// event loop. The entries are written first, and then the log begins anew.
func TestFault091_EntriesAndAnInstallInOneTurn(t *testing.T) {
	inRunningCluster(t, 3, transports["bare"], func(c *clusterTest) {
		for _, name := range c.Names() {
			require.NoError(t, c.registry(name).Register(&blobCommand{}))
		}
		c.puts("a", 1, 5)
		c.converge()
		leader, behind, third := c.leader().Name(), c.followers()[0], c.followers()[1]
		server := c.Server(behind)
		c.Isolate(behind)
		c.blobs() // so that one request carries only one of what it lacks
		c.compacted(c.leader().Status().LastIndex, "b")

		// The snapshot is all there, and is not in force.
		var rename, turn gate
		rename.shut()
		c.node(behind).disk.Load().SetFault(func(op vfs.Op) error {
			if op.Kind == vfs.OpRename && underSnapshot(op) {
				rename.pass()
			}
			return nil
		})
		c.Heal()
		c.within(time.Minute, "the whole file", rename.holds)
		last := server.Status().LastIndex
		turn.shut()
		var once sync.Once
		var came atomic.Bool
		c.Network().Intercept(func(m MemoryMessage) bool {
			if req, ok := m.Message.(*AppendEntriesRequest); ok && m.From == third && m.To == behind && len(req.Entries) > 0 && req.PrevLogIndex == last {
				// The loop is busy when they arrive.
				once.Do(func() { server.(interface{ control(control) bool }).control(func(*eventLoop) { turn.pass() }) })
				came.Store(true)
			}
			return true
		})
		c.Crash(leader)
		c.within(20*testElection, "entries of another leader", came.Load)
		c.pass(5 * time.Millisecond)
		require.Equal(t, last, server.Status().LastIndex)

		// And then the word of the file.
		rename.open()
		c.pass(time.Millisecond)
		require.Zero(t, server.Status().SnapshotIndex)
		turn.open()
		c.pass(time.Millisecond)
		require.NotZero(t, server.Status().SnapshotIndex)
		require.Equal(t, server.Status().SnapshotIndex, server.Status().FirstIndex-1)

		c.within(20*testElection, "a leader", func() bool { return c.Leader() != nil })
		c.put("after")
		require.NoError(t, c.Start(leader))
		c.converge()
		require.NoError(t, server.Err())
		require.Equal(t, 1, c.journal(behind).recovered)
		c.Crash(behind)
		require.NoError(t, c.Start(behind))
		c.converge()
	})
}
