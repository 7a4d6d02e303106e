package raft

import (
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/goraft/raft/internal/snapshot"
	"github.com/goraft/raft/internal/vfs"
	"github.com/stretchr/testify/require"
)

// A trigger so small that a tenth of it is nothing is a trigger all the same.
func TestSnapshotTriggerOfAFewEntries(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{Options: []Option{WithSnapshotTrigger(5, 0)}}, func(c *clusterTest) {
		c.puts("a", 1, 20)
		c.within(testElection, "a snapshot", func() bool { return c.leader().Status().SnapshotIndex >= 10 })
	})
}

// released is a state machine that counts its views.
type released struct{ fixed, freed atomic.Int32 }

func (r *released) Save() ([]byte, error)        { return nil, nil }
func (r *released) Recovery([]byte) error        { return nil }
func (r *released) RecoverFrom(io.Reader) error  { return nil }
func (r *released) FixState() (StateView, error) { r.fixed.Add(1); return releasedView{r}, nil }

type releasedView struct{ of *released }

func (v releasedView) WriteTo(w io.Writer) (int64, error) { return 0, nil }
func (v releasedView) Release()                           { v.of.freed.Add(1) }

// A view that the disk keeps from being written is released all the same.
func TestSnapshotViewIsReleased(t *testing.T) {
	machine := new(released)
	options := ClusterOptions{}
	inCluster(t, 1, options, func(c *clusterTest) {
		c.options.StateMachine = func(string) StateMachine { return machine }
		c.options.Context = func(string) interface{} { return &journal{test: c, name: "s1"} }
		require.NoError(t, c.Bootstrap(c.ctx))
		c.put("a")
		c.node("s1").disk.Load().SetFault(func(op vfs.Op) error {
			if op.Kind == vfs.OpCreate && op.Name != "" {
				return errDisk
			}
			return nil
		})
		require.ErrorIs(t, c.Server("s1").TakeSnapshot(), errDisk)
		require.Equal(t, machine.fixed.Load(), machine.freed.Load())
	})
}

// What a crash leaves beside the two newest snapshots goes sooner or later.
func TestSnapshotFilesOfACrashAreRemoved(t *testing.T) {
	inRunningCluster(t, 1, ClusterOptions{}, func(c *clusterTest) {
		take := func() {
			c.puts("a", 1, 3)
			require.NoError(t, c.leader().TakeSnapshot())
			c.pass(1)
		}
		labels := func() []snapshot.Label {
			found, err := snapshot.List(c.node("s1").disk.Load(), "s1/snapshot")
			require.NoError(t, err)
			return found
		}
		for range 3 {
			take()
			take()
			// The files that are no longer needed stay, as after a crash.
			c.node("s1").disk.Load().SetFault(func(op vfs.Op) error {
				if op.Kind == vfs.OpRemove && strings.HasSuffix(op.Name, ".ss") {
					return errDisk
				}
				return nil
			})
			take()
			c.Stop("s1")
			c.node("s1").disk.Load().SetFault(nil)
			require.NoError(t, c.Start("s1"))
			c.within(10*testElection, "a leader", func() bool { return c.Leader() != nil })
		}
		take()
		c.pass(testElection)
		require.Len(t, labels(), 2)
	})
}

// A snapshot that was received may be kept beside a log that holds its entries
// already, and is not applied that far yet: those entries must stay.
func TestSnapshotKeepsWhatIsNotApplied(t *testing.T) {
	h := newHandLoop(t)
	terms := slices.Repeat([]uint64{1}, 900)
	h.deliver(1, entryID{}, 900, terms...)
	h.turn(h.decide)
	h.carryOut()
	h.applier.applied.Store(100)
	for _, index := range []uint64{300, 600, 800} {
		h.keepSnapshot(keptSnapshot{Info: snapshot.Info{Header: snapshot.Header{Label: snapshot.Label{Index: index, Term: 1}}}})
	}
	require.LessOrEqual(t, h.raft.log.base.index, uint64(100))
	h.applier.applied.Store(900)
	h.keepSnapshot(keptSnapshot{Info: snapshot.Info{Header: snapshot.Header{Label: snapshot.Label{Index: 890, Term: 1}}}})
	require.EqualValues(t, 690, h.raft.log.base.index)
	h.tasks.Wait()
}

// Of one label there may be two files, one after the other: a server's own, and one
// that was sent to it. Whichever is there is sent, as what it is.
func TestSnapshotIsSentAsTheFileThatIsThere(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		away := c.followers()[0]
		c.Stop(away)
		for range 2 {
			c.puts("a", 1, 210)
			require.NoError(t, c.leader().TakeSnapshot())
		}
		leader := c.leader().(*server)
		c.within(testElection, "compaction", func() bool { return leader.Status().FirstIndex > 1 })
		files := leader.lifecycle.run.Load().snapshots
		file, err := files.Read(files.Labels()[0])
		require.NoError(t, err)
		header := file.Info().Header
		header.ID++
		w, err := files.Create(header)
		require.NoError(t, err)
		_, err = io.Copy(w, file)
		require.NoError(t, err)
		require.NoError(t, w.Finish())
		_, err = w.Publish()
		require.NoError(t, err)
		require.NoError(t, c.Start(away))
		c.converge()
	})
}

// A snapshot that is written while a later one is put in force comes too late: it
// changes nothing.
func TestSnapshotThatIsOvertakenByAnother(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		s := lonely(c)
		free := make(chan struct{})
		c.node("s2").disk.Load().SetFault(func(op vfs.Op) error {
			if op.Kind == vfs.OpSync && strings.HasPrefix(op.Name, "s2/snapshot/1_") {
				<-free
			}
			return nil
		})
		taken := make(chan error)
		go func() { taken <- s.TakeSnapshot() }()
		c.pass(testElection)
		_, answer := c.fileFor(s, snapshot.Label{Index: 100, Term: 50}).send(s, "s1", 50)
		require.True(t, answer.Success)
		c.within(testElection, "the state", func() bool { return s.Status().LastApplied == 100 })
		close(free)
		require.NoError(t, <-taken)
		require.NoError(t, s.TakeSnapshot(), "nothing new")
		c.pass(testElection)
		files := s.lifecycle.run.Load().snapshots
		require.Equal(t, []snapshot.Label{{Index: 100, Term: 50}}, files.Labels())
		info, err := files.Verify(files.Labels()[0])
		require.NoError(t, err)
		require.EqualValues(t, 100, info.ID, "taken again, though nothing was applied")
	})
}

// The newest file of a leader may rot. Its followers must not wait for the next one.
func TestSnapshotOfALeaderRots(t *testing.T) {
	for _, bit := range []int64{8 * 20, 8 * 2000} { // in the header, in the state
		inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
			away := c.followers()[0]
			c.Stop(away)
			for range 2 {
				c.puts("a", 1, 210)
				require.NoError(t, c.leader().TakeSnapshot())
			}
			leader := c.leader().(*server)
			c.within(testElection, "compaction", func() bool { return leader.Status().FirstIndex > 1 })
			newest := leader.lifecycle.run.Load().snapshots.Labels()[0]
			require.NoError(t, c.node(leader.Name()).disk.Load().FlipBit(leader.SnapshotPath(newest.Index, newest.Term), bit))
			require.NoError(t, c.Start(away))
			c.converge()
		})
	}
}
