package raft

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/goraft/raft/internal/vfs"
	"github.com/stretchr/testify/require"
)

// gate blocks who passes it while it is closed.
type gate struct {
	mu      sync.Mutex
	blocked chan struct{}
	waiting int
}

func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.blocked = make(chan struct{})
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.blocked != nil {
		close(g.blocked)
	}
	g.blocked = nil
}

func (g *gate) pass() {
	g.mu.Lock()
	blocked := g.blocked
	if blocked != nil {
		g.waiting++
	}
	g.mu.Unlock()
	if blocked != nil {
		<-blocked
	}
}

func (g *gate) holds() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.waiting > 0
}

// TestFault133_StopWhileASnapshotIsTaken: Save, or the writing of a view, blocks;
// Stop does not wait for it longer than for anything else, and Start not at all.
func TestFault133_StopWhileASnapshotIsTaken(t *testing.T) {
	for _, blocks := range []string{"Save", "FixState", "WriteTo", "disk"} {
		t.Run(blocks, func(t *testing.T) {
			inCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
				var g gate
				switch blocks {
				case "WriteTo":
					c.streamed(1<<20, func(string, int64) error { g.pass(); return nil })
				case "FixState":
					c.streamed(0, nil)
					fallthrough
				case "Save":
					c.saving = func(string) error { g.pass(); return nil }
				}
				require.NoError(t, c.Bootstrap(c.ctx))
				c.puts("a", 1, 20)
				leader := c.leader()
				disk := c.node(leader.Name()).disk.Load()
				if blocks == "disk" {
					disk.SetFault(func(op vfs.Op) error {
						if op.Kind == vfs.OpSync && underSnapshot(op) {
							g.pass()
						}
						return nil
					})
				}
				g.shut()
				taken := make(chan error, 1)
				go func() { taken <- leader.TakeSnapshot() }()
				c.within(testElection, "the snapshot to begin", g.holds)
				start := time.Now()
				leader.Stop()
				require.LessOrEqual(t, time.Since(start), 2*testElection+time.Millisecond)
				require.ErrorIs(t, <-taken, StopError)
				require.False(t, leader.Running())
				require.ErrorIs(t, leader.Start(), ErrStillRunning)
				c.within(10*testElection, "another leader", func() bool { return c.Leader() != nil })
				c.put("meanwhile")
				require.ErrorIs(t, leader.Start(), ErrStillRunning)
				g.open()
				c.pass(time.Millisecond)
				require.Empty(t, c.snapshots(leader.Name()), "of a server that was stopped")
				require.NoError(t, c.Restart(leader.Name()))
				c.put("after")
				c.converge()
				names, err := disk.ReadDir(leader.Name() + "/snapshot")
				require.NoError(t, err)
				require.Empty(t, names, "left over")
				require.NoError(t, c.leader().TakeSnapshot())
			})
		})
	}
}

// TestFault133_StopDuringATransfer: at every step of it, of either side; nothing is
// left running, as the bubble shows, and a restart goes on.
func TestFault133_StopDuringATransfer(t *testing.T) {
	steps := []int{1, 45, 90, 120}
	if raceDetector {
		steps = []int{1, 90}
	}
	for _, transport := range []string{"streams", "bare"} {
		for _, side := range []string{"sender", "receiver", "both"} {
			if transport == "bare" && side != "both" {
				continue
			}
			for _, after := range steps {
				options := ClusterOptions{Transporter: func(_ string, memory *MemoryTransporter) Transporter {
					if transport == "bare" {
						return &slowCalls{memory.Bare(), 20 * time.Millisecond}
					}
					return &slowSnapshots{memory, 20 * time.Millisecond, 0}
				}}
				t.Run(fmt.Sprint(transport, " ", side, " ", after), func(t *testing.T) {
					prepare := func(c *clusterTest) { c.streamed(2<<20, nil) }
					inBehind(t, options, prepare, func(c *clusterTest, leader, behind, _ string) {
						c.slowSnapshotFiles(behind, 3*time.Millisecond)
						calls := c.watchSnapshots(nil)
						c.Heal()
						c.within(time.Minute, "the offer", func() bool { return len(calls.offered()) > 0 })
						c.pass(time.Duration(after) * time.Millisecond)
						for _, name := range map[string][]string{"sender": {leader}, "receiver": {behind}, "both": {leader, behind}}[side] {
							start := time.Now()
							c.Server(name).Stop()
							require.LessOrEqual(t, time.Since(start), 2*testElection+time.Millisecond, name)
							require.False(t, c.Server(name).Running())
						}
						c.pass(testElection)
						for _, name := range []string{leader, behind} {
							if !c.Server(name).Running() {
								require.NoError(t, c.Restart(name))
							}
						}
						c.within(time.Minute, "the follower to catch up", func() bool {
							return c.Leader() != nil && c.Server(behind).Status().LastApplied == c.leader().Status().LastIndex
						})
						c.converge()
					})
				})
			}
		}
	}
}

// TestFault133_StopWhileARecoveryBlocks: the application takes its time to restore
// a snapshot that was installed.
func TestFault133_StopWhileARecoveryBlocks(t *testing.T) {
	var g gate
	prepare := func(c *clusterTest) {
		c.machine = func(j *journal) StateMachine { return &gatedJournal{j, &g} }
	}
	inBehind(t, ClusterOptions{}, prepare, func(c *clusterTest, leader, behind, _ string) {
		g.shut()
		c.Heal()
		c.within(time.Minute, "the recovery to begin", g.holds)
		server := c.Server(behind)
		require.Equal(t, Follower, server.State())
		require.Greater(t, server.Status().CommitIndex, server.Status().LastApplied)
		term := server.Term()
		c.puts("c", 1, 20) // the others go on, and so does what this one stores
		c.within(testElection, "entries behind the snapshot", func() bool {
			return server.Status().DurableIndex == c.leader().Status().LastIndex
		})
		start := time.Now()
		server.Stop()
		require.LessOrEqual(t, time.Since(start), 2*testElection+time.Millisecond)
		require.ErrorIs(t, server.Start(), ErrStillRunning)
		g.open()
		c.pass(time.Millisecond)
		require.NoError(t, c.Restart(behind))
		c.converge()
		require.Equal(t, term, c.Server(behind).Term())
		require.Equal(t, leader, c.leader().Name())
	})
}

// gatedJournal is a journal whose Recovery passes a gate.
type gatedJournal struct {
	*journal
	gate *gate
}

// Recovery is StateMachine's.
func (g *gatedJournal) Recovery(state []byte) error {
	g.gate.pass()
	return g.journal.Recovery(state)
}
