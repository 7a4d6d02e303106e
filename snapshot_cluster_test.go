package raft

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSnapshotCompactsTheLog(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		leader := c.leader()
		c.puts("a", 1, 300)
		require.NoError(t, leader.TakeSnapshot())
		require.NoError(t, leader.TakeSnapshot(), "nothing new")
		require.EqualValues(t, 1, leader.Status().FirstIndex, "the log reaches back to the second newest: none")
		first := leader.Status().SnapshotIndex
		c.puts("b", 1, 300)
		require.NoError(t, leader.TakeSnapshot())
		c.within(testElection, "compaction", func() bool { return leader.Status().FirstIndex == first+1 })
		require.Greater(t, leader.Status().SnapshotIndex, first)
		c.puts("c", 1, 10)
		c.converge()
		for _, name := range c.Names() {
			require.NoError(t, c.Restart(name))
		}
		c.converge()
		require.Len(t, c.journal("s1").entries(), 610)
	})
}

func TestSnapshotsAreTakenByThemselves(t *testing.T) {
	options := ClusterOptions{Options: []Option{WithSnapshotTrigger(50, 0)}}
	inRunningCluster(t, 3, options, func(c *clusterTest) {
		c.puts("a", 1, 400)
		c.converge()
		c.within(testElection, "compaction everywhere", func() bool {
			for _, s := range c.Servers() {
				if s.Status().FirstIndex < 150 {
					return false
				}
			}
			return true
		})
		c.Stop("s1")
		c.Stop("s2")
		c.Stop("s3")
		require.NoError(t, c.StartAll())
		c.converge()
		require.Len(t, c.journal("s2").entries(), 400)
		require.Equal(t, 1, c.journal("s2").recovered)
	})
}

func TestSnapshotIsInstalledOnAFollowerThatIsBehind(t *testing.T) {
	for _, form := range []struct {
		name    string
		options ClusterOptions
	}{
		{"streams", ClusterOptions{}},
		{"calls", ClusterOptions{Transporter: func(_ string, m *MemoryTransporter) Transporter { return m.Bare() }}},
	} {
		t.Run(form.name, func(t *testing.T) {
			options := form.options
			options.Options = []Option{WithSnapshotTrigger(100, 0)}
			inRunningCluster(t, 3, options, func(c *clusterTest) {
				c.puts("a", 1, 10)
				c.converge()
				away := c.followers()[0]
				c.Stop(away)
				c.puts("b", 1, 600)
				c.within(testElection, "compaction", func() bool { return c.leader().Status().FirstIndex > 300 })
				require.NoError(t, c.Start(away))
				c.converge()
				require.Len(t, c.journal(away).entries(), 610)
				require.Equal(t, 1, c.journal(away).recovered)
				require.Equal(t, Follower, c.Server(away).State())
				require.NoError(t, c.Restart(away))
				c.puts("c", 1, 3)
				c.converge()
			})
		})
	}
}

func TestSnapshotForANewMember(t *testing.T) {
	options := ClusterOptions{Options: []Option{WithSnapshotTrigger(100, 0)}}
	inRunningCluster(t, 3, options, func(c *clusterTest) {
		c.puts("a", 1, 500)
		c.within(testElection, "compaction", func() bool { return c.leader().Status().FirstIndex > 200 })
		name := c.Add()
		require.NoError(t, c.Start(name))
		_, err := c.Do(c.ctx, &DefaultJoinCommand{Name: name, ConnectionString: c.ConnectionString(name)})
		require.NoError(t, err)
		c.puts("b", 1, 20)
		c.converge()
		c.within(10*testElection, "a vote", func() bool {
			for _, m := range c.leader().Status().Members {
				if m.Name == name && m.Voter {
					return true
				}
			}
			return false
		})
	})
}

func TestSnapshotErrors(t *testing.T) {
	inCluster(t, 1, ClusterOptions{}, func(c *clusterTest) {
		failure := errors.New("full")
		fail := failure
		c.saving = func(string) error { return fail }
		require.NoError(t, c.Bootstrap(c.ctx))
		c.puts("a", 1, 5)
		s := c.Server("s1")
		require.ErrorIs(t, s.TakeSnapshot(), failure)
		require.Contains(t, s.Status().SnapshotError, "full")
		fail = nil
		require.NoError(t, s.TakeSnapshot())
		require.Empty(t, s.Status().SnapshotError)
		require.Equal(t, fmt.Sprintf("/s1/snapshot/%d_%d.ss", 1, s.Status().SnapshotIndex), s.SnapshotPath(s.Status().SnapshotIndex, 1))
		c.Stop("s1")
		require.ErrorIs(t, s.TakeSnapshot(), StopError)
	})
}

func TestLoadSnapshotOfAFreshServer(t *testing.T) {
	s, err := NewServer("s1", t.TempDir(), NewMemoryNetwork(1).Transporter("s1"), nil, nil, "")
	require.NoError(t, err)
	require.True(t, os.IsNotExist(s.LoadSnapshot()))
	require.EqualError(t, s.TakeSnapshot(), "Snapshot: Cannot create snapshot. Missing state machine.")
	require.NoError(t, s.Init())
	require.NoError(t, s.LoadSnapshot())
	s.Stop()
}

// callingMachine calls the server back from Recovery.
type callingMachine struct {
	*journal
	call func()
}

func (m *callingMachine) Recovery(state []byte) error {
	if m.call != nil {
		m.call()
	}
	return m.journal.Recovery(state)
}

// Nothing that Recovery calls waits for the LoadSnapshot, or Init, that waits for it.
func TestRecoveryCallsTheServer(t *testing.T) {
	inCluster(t, 1, ClusterOptions{}, func(c *clusterTest) {
		var machine *callingMachine
		c.machine = func(j *journal) StateMachine {
			machine = &callingMachine{journal: j}
			return machine
		}
		require.NoError(t, c.Bootstrap(c.ctx))
		c.put("a")
		s := c.leader()
		require.NoError(t, s.TakeSnapshot())
		command := &testCommand{"b"}
		// Init does not restore what LoadSnapshot has restored.
		for _, restore := range []func() error{s.Init, s.LoadSnapshot} {
			for name, call := range map[string]func() error{
				"AddPeer":    func() error { return s.AddPeer("x", "") },
				"RemovePeer": func() error { return s.RemovePeer("s1") },
				"Init":       s.Init,
				"Start":      s.Start,
			} {
				var err error
				machine.call = func() { err = call() }
				s.Stop()
				machine.forget()
				require.NoError(t, restore(), name)
				require.Equal(t, ErrReentrant, err, name)
			}
		}
		s.Stop()
		machine.forget()
		machine.call = func() {
			require.Equal(t, ErrReentrant, s.LoadSnapshot())
			require.Equal(t, StopError, s.TakeSnapshot())
			_, err := s.Do(command)
			require.Equal(t, StopError, err)
			s.FlushCommitIndex()
			s.Stop()
		}
		require.NoError(t, s.LoadSnapshot())
		machine.call = nil
		require.NoError(t, s.Start())
	})
}
