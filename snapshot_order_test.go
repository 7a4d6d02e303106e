package raft

import (
	"io"
	"sync/atomic"
	"testing"

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
