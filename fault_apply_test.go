package raft

import (
	"context"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// lateCommand is one that not every server of a test knows.
type lateCommand struct{ testCommand }

// CommandName is Command's.
func (c *lateCommand) CommandName() string { return "test:late" }

func TestFault047_UnknownCommandHaltsApply(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		leader, lacking, other := c.leader(), c.followers()[0], c.followers()[1]
		for _, name := range []string{leader.Name(), other} {
			require.NoError(t, c.registry(name).Register(&lateCommand{}))
		}
		c.put("before")
		_, err := c.Do(c.ctx, &lateCommand{testCommand{"late"}})
		require.NoError(t, err)
		index := leader.Status().LastIndex
		c.puts("after", 1, 10)
		want := c.journal(leader.Name()).values()

		// It halts at that entry, and says so.
		halted := c.Server(lacking)
		c.within(testElection, "the others to apply", func() bool { return len(c.journal(other).values()) == len(want) })
		require.Equal(t, []string{"before"}, c.journal(lacking).values())
		var halt *HaltError
		require.ErrorAs(t, halted.Err(), &halt)
		require.ErrorIs(t, halt, ErrHalted)
		require.ErrorIs(t, halt, ErrUnregisteredCommand)
		require.Equal(t, index, halt.Index)
		require.Equal(t, index-1, halted.Status().LastApplied)
		require.True(t, halted.Running())

		// It still stores, and still votes: the two that remain go on, and elect.
		c.Isolate(other)
		c.puts("stored", 1, 10)
		require.Equal(t, leader.Status().LastIndex, halted.Status().DurableIndex)
		c.Heal()
		c.within(5*testElection, "the other to catch up", func() bool {
			return c.Server(other).Status().LastApplied == leader.Status().LastIndex
		})
		c.Crash(leader.Name())
		c.within(15*testElection, "another leader", func() bool { return c.Leader() != nil })
		require.Equal(t, other, c.leader().Name())
		c.put("voted")
		require.NoError(t, c.Start(leader.Name()))

		// It resumes when it knows the command.
		require.NoError(t, c.registry(lacking).Register(&lateCommand{}))
		require.NoError(t, c.Restart(lacking))
		c.converge()
		require.NoError(t, c.Server(lacking).Err())
	})
}

// TestFault047_HaltedServerHandsOver holds that a halted server leads only as
// long as nobody else can: until the others have what only it stores.
func TestFault047_HaltedServerHandsOver(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		leader, lacking, other := c.leader().Name(), c.followers()[0], c.followers()[1]
		for _, name := range []string{leader, other} {
			require.NoError(t, c.registry(name).Register(&lateCommand{}))
		}
		_, err := c.Do(c.ctx, &lateCommand{testCommand{"late"}})
		require.NoError(t, err)
		c.within(testElection, "the halt", func() bool { return c.Server(lacking).Err() != nil })
		c.Isolate(other)
		c.puts("stored by the halted one", 1, 5)
		want := c.journal(leader).values()
		c.Crash(leader)
		c.Heal()
		c.within(20*testElection, "the other to lead", func() bool { return c.Leader() != nil })
		require.Equal(t, other, c.leader().Name())
		require.Equal(t, want, c.journal(other).values())
		c.put("after")
		require.ErrorIs(t, c.Server(lacking).Err(), ErrHalted)
	})
}

func TestFault049_PanicOfApplyIsContained(t *testing.T) {
	inCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		victim := "s3"
		c.during = func(ctx Context, value string) {
			if value == "boom" && ctx.Server().Name() == victim {
				panic("test: boom")
			}
		}
		require.NoError(t, c.Bootstrap(c.ctx))
		require.NoError(t, c.WaitForConverged(c.ctx))
		c.put("before")
		c.put("boom")
		c.puts("after", 1, 5)
		c.pass(20 * testElection)
		var halt *HaltError
		require.ErrorAs(t, c.Server(victim).Err(), &halt)
		require.Contains(t, halt.Stack, "TestFault049")
		require.ErrorContains(t, halt, "test: boom")
		require.Equal(t, []string{"before"}, c.journal(victim).values())
		require.NotEqual(t, victim, c.leader().Name())
		require.Len(t, c.journal(c.leader().Name()).values(), 7)

		// A restart hides nothing: it halts at the same entry.
		require.NoError(t, c.Restart(victim))
		c.within(10*testElection, "the halt", func() bool { return c.Server(victim).Err() != nil })
		require.Equal(t, []string{"before"}, c.journal(victim).values())
	})
}

func TestFault049_PanicOfApplyEverywhere(t *testing.T) {
	inCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		c.during = func(_ Context, value string) {
			if value == "boom" {
				panic("test: boom")
			}
		}
		require.NoError(t, c.Bootstrap(c.ctx))
		require.NoError(t, c.WaitForConverged(c.ctx))
		got := <-c.async(c.leader(), &testCommand{"boom"})
		requireUnknown(t, got.err)
		require.ErrorIs(t, got.err, ErrHalted)
		require.LessOrEqual(t, got.took, DefaultHeartbeatInterval)
		c.within(20*testElection, "all to halt", func() bool {
			return !slices.ContainsFunc(c.Names(), func(name string) bool { return c.Server(name).Err() == nil })
		})
		for name, server := range c.Servers() {
			require.True(t, server.Running(), name)
			require.Empty(t, c.journal(name).values())
		}
	})
}

func TestFault050_SlowApplyCostsNoLeader(t *testing.T) {
	for _, everywhere := range []bool{false, true} {
		inCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
			c.during = func(ctx Context, value string) {
				if value == "slow" && (everywhere || ctx.Server().State() == Leader) {
					c.pass(10 * testElection)
				}
			}
			require.NoError(t, c.Bootstrap(c.ctx))
			require.NoError(t, c.WaitForConverged(c.ctx))
			leader := c.leader()
			term := leader.Term()
			var waiting []<-chan outcome
			for _, value := range []string{"slow", "quick", "slow", "quick"} {
				waiting = append(waiting, c.async(leader, &testCommand{value}))
				c.pass(time.Millisecond)
			}
			for _, done := range waiting {
				got := <-done
				require.NoError(t, got.err)
			}
			require.Equal(t, Leader, leader.State())
			require.Equal(t, term, leader.Term())
			c.pass(20 * testElection)
			c.converge()
		})
	}
}

// everyMethod calls every method of Server but those that change its life, by
// name.
func everyMethod(s Server) map[string]func() {
	ended, end := context.WithCancel(context.Background())
	end()
	settings := func(set func(time.Duration), d time.Duration) func() { return func() { set(d) } }
	return map[string]func(){
		"Running":                 func() { s.Running() },
		"Err":                     func() { _ = s.Err() },
		"Do":                      func() { _, _ = s.Do(&testCommand{"inside"}) },
		"DoContext":               func() { _, _ = s.DoContext(context.Background(), &testCommand{"inside"}) },
		"AddPeer":                 func() { _ = s.AddPeer("s1", "memory://s1") },
		"RemovePeer":              func() { _ = s.RemovePeer("nobody") },
		"Peers":                   func() { s.Peers() },
		"MemberCount":             func() { s.MemberCount() },
		"QuorumSize":              func() { s.QuorumSize() },
		"AppendEntries":           func() { s.AppendEntries(&AppendEntriesRequest{LeaderName: "nobody"}) },
		"TakeSnapshot":            func() { _ = s.TakeSnapshot() },
		"LoadSnapshot":            func() { _ = s.LoadSnapshot() },
		"RequestVote":             func() { s.RequestVote(&RequestVoteRequest{CandidateName: "nobody"}) },
		"RequestSnapshot":         func() { s.RequestSnapshot(&SnapshotRequest{LeaderName: "nobody"}) },
		"SnapshotRecoveryRequest": func() { s.SnapshotRecoveryRequest(&SnapshotRecoveryRequest{LeaderName: "nobody"}) },
		"TimeoutNow":              func() { s.TimeoutNow(&TimeoutNowRequest{LeaderName: "nobody"}) },
		"Name":                    func() { s.Name() },
		"Context":                 func() { s.Context() },
		"StateMachine":            func() { s.StateMachine() },
		"Leader":                  func() { s.Leader() },
		"State":                   func() { s.State() },
		"Path":                    func() { s.Path() },
		"LogPath":                 func() { s.LogPath() },
		"SnapshotPath":            func() { s.SnapshotPath(1, 1) },
		"Term":                    func() { s.Term() },
		"CommitIndex":             func() { s.CommitIndex() },
		"VotedFor":                func() { s.VotedFor() },
		"IsLogEmpty":              func() { s.IsLogEmpty() },
		"LogEntries":              func() { s.LogEntries() },
		"LastCommandName":         func() { s.LastCommandName() },
		"GetState":                func() { s.GetState() },
		"Status":                  func() { s.Status() },
		"Explain":                 func() { s.Explain() },
		"ClusterID":               func() { s.ClusterID() },
		"StoreID":                 func() { s.StoreID() },
		"AddEventListener":        func() { s.AddEventListener(CommitEventType, func(Event) {}) },
		"ElectionTimeout":         func() { s.ElectionTimeout() },
		"SetElectionTimeout":      settings(s.SetElectionTimeout, testElection),
		"HeartbeatInterval":       func() { s.HeartbeatInterval() },
		"SetHeartbeatInterval":    settings(s.SetHeartbeatInterval, DefaultHeartbeatInterval),
		"Transporter":             func() { s.Transporter() },
		"SetTransporter":          func() { s.SetTransporter(s.Transporter()) },
		"FlushCommitIndex":        func() { s.FlushCommitIndex() },
		"Read":                    func() { _ = s.Read(context.Background(), Stale, func(StateMachine) error { return nil }) },
		"ReadIndex":               func() { _, _ = s.ReadIndex(context.Background(), Linearizable) },
		"RequestReadIndex":        func() { s.RequestReadIndex(&ReadIndexRequest{Name: "nobody"}) },
		"TransferLeadership":      func() { _ = s.TransferLeadership(context.Background(), "nobody") },
		"StepDown":                func() { _ = s.StepDown(ended, time.Second) },
		"VerifyLeader":            func() { _, _ = s.VerifyLeader(context.Background()) },
		"LeaderChanges": func() {
			for range s.LeaderChanges(context.Background()) {
				break
			}
		},
		"Init":  func() { _ = s.Init() },
		"Start": func() { _ = s.Start() },
	}
}

func TestFault051_EveryMethodAnswersInsideApply(t *testing.T) {
	methods := reflect.TypeFor[Server]()
	for i := range methods.NumMethod() {
		if name := methods.Method(i).Name; name != "Stop" { // see row 130
			require.Contains(t, everyMethod(&server{lifecycle: newLifecycle()}), name)
		}
	}
	inCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		calls := make(chan string, 1000)
		c.during = func(ctx Context, value string) {
			if value != "call" {
				return
			}
			s := ctx.Server()
			for name, method := range everyMethod(s) {
				start := time.Now()
				method()
				if took := time.Since(start); took > DefaultHeartbeatInterval {
					c.t.Errorf("%s: %s took %v", s.Name(), name, took)
				}
				calls <- name
			}
			for _, err := range []error{
				func() error { _, err := s.Do(&testCommand{"x"}); return err }(),
				func() error { _, err := s.Do(&DefaultJoinCommand{Name: "s9"}); return err }(),
			} {
				if err != ErrReentrant {
					c.t.Errorf("%s: Do says %v", s.Name(), err)
				}
			}
			_, err := s.DoContext(context.Background(), &testCommand{"x"})
			requireNotApplied(c.t, err, ErrReentrant)
			if s.Status().CommitIndex < ctx.CurrentIndex() {
				c.t.Errorf("%s applies %d, and says that %d is committed", s.Name(), ctx.CurrentIndex(), s.CommitIndex())
			}
		}
		require.NoError(t, c.Bootstrap(c.ctx))
		require.NoError(t, c.WaitForConverged(c.ctx))
		leader := c.leader()
		c.put("call")
		c.put("after")
		c.converge()
		require.Equal(t, leader, c.Leader())
		require.Len(t, calls, 3*len(everyMethod(leader)))
		require.NotContains(t, c.journal("s1").values(), "inside")

		// In the replay of a restart, too.
		leader.FlushCommitIndex()
		require.NoError(t, c.Restart(leader.Name()))
		c.within(10*testElection, "a leader", func() bool { return c.Leader() != nil })
		c.converge()
	})
}

func TestFault057_ReplayGoesNoFurtherThanWhatIsKnownToBeCommitted(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		c.puts("x", 1, 100)
		c.converge()
		name := c.followers()[0]
		c.Stop(name)
		c.Isolate(name)
		c.puts("y", 1, 10)

		var inInit []string
		c.options.Configure = func(_ string, server Server) {
			require.NoError(t, server.Init())
			require.Equal(t, Initialized, server.State())
			inInit = c.journal(name).values()
		}
		require.NoError(t, c.Start(name))
		require.Len(t, inInit, 100, "Stop makes the commit index exact")
		c.pass(20 * testElection)
		require.Len(t, c.journal(name).values(), 100)
		require.False(t, c.Server(name).Status().Ready)
		c.Heal()
		c.converge()
		c.options.Configure = nil

		// A whole cluster restarts: nobody is ready before an entry of its own term
		// is applied, and with it all that was committed.
		index := c.leader().CommitIndex()
		for _, name := range c.Names() {
			c.Crash(name)
		}
		require.NoError(t, c.StartAll())
		c.within(10*testElection, "a leader", func() bool {
			for _, server := range c.Servers() {
				status := server.Status()
				if status.Ready {
					require.Greater(t, status.LastApplied, index)
					require.Equal(t, status.Term, status.LastTerm)
					return true
				}
			}
			return false
		})
		c.converge()
	})
}
