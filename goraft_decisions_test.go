package raft

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// The tests of the goraft_decisions files hold, one by one, where this package
// keeps to goraft's API and where it means something else by it.
// docs/coming-from-goraft.md tells the same to users.

// serverRoles are the interfaces that Server consists of.
var serverRoles = []reflect.Type{
	reflect.TypeFor[Lifecycle](), reflect.TypeFor[Proposer](), reflect.TypeFor[Membership](),
	reflect.TypeFor[Replication](), reflect.TypeFor[Maintenance](), reflect.TypeFor[Introspection](),
	reflect.TypeFor[Settings](), reflect.TypeFor[Reader](), reflect.TypeFor[Leadership](),
}

// embeddingFake is a server of a program's tests.
type embeddingFake struct{ Server }

func (embeddingFake) Leader() string { return "n7" }

// Programs compile: see goraft_names_test.go for the names. Server grows by small
// roles, fakes embed it, options are the only addition to NewServer, and a
// Transporter is asked for nothing new.
func TestDecision01_ServerGrowsByRoles(t *testing.T) {
	server, inRoles := reflect.TypeFor[Server](), 0
	for _, role := range serverRoles {
		require.True(t, server.Implements(role), role)
		require.LessOrEqual(t, role.NumMethod(), 30, role)
		inRoles += role.NumMethod()
	}
	require.Equal(t, server.NumMethod(), inRoles, "a method that belongs to no role, or to two")
	require.Equal(t, 4, reflect.TypeFor[Transporter]().NumMethod())
	require.Equal(t, 2, reflect.TypeFor[StateMachine]().NumMethod())
	require.Equal(t, 1, reflect.TypeFor[HTTPMuxer]().NumMethod())
	make := reflect.TypeOf(NewServer)
	require.True(t, make.IsVariadic())
	require.Equal(t, 7, make.NumIn())

	var fake Server = embeddingFake{}
	require.Equal(t, "n7", fake.Leader())
}

// both has a server carry out a command by Do and by DoContext, and does
// something meanwhile, when both are under way.
func (c *clusterTest) both(server Server, command Command, meanwhile func()) (bare, wrapped error) {
	var calls sync.WaitGroup
	calls.Go(func() { _, bare = server.Do(command) })
	calls.Go(func() { _, wrapped = server.DoContext(c.ctx, command) })
	synctest.Wait()
	meanwhile()
	calls.Wait()
	return bare, wrapped
}

// requireOutcome checks that Do says exactly the value, and DoContext the same and
// what it means.
func requireOutcome(t *testing.T, value, outcome, bare, wrapped error) {
	t.Helper()
	require.True(t, bare == value, "Do says %v, not %v itself", bare, value)
	require.ErrorIs(t, wrapped, value)
	for _, o := range []error{ErrNotApplied, ErrOutcomeUnknown} {
		require.Equal(t, o == outcome, errors.Is(wrapped, o), "%v: %v", wrapped, o)
	}
	var failed *CommandError
	require.ErrorAs(t, wrapped, &failed)
}

func nothing() {}

// largeCommand fills the limits of the servers in these tests.
type largeCommand struct{ Filling string }

// CommandName is Command's.
func (c *largeCommand) CommandName() string { return "test:large" }

// Apply does nothing.
func (c *largeCommand) Apply(Context) (interface{}, error) { return nil, nil }

// What Do says before a command is staged: the value itself, and it is not
// applied.
func TestDecision02_DoRefuses(t *testing.T) {
	options := ClusterOptions{Options: []Option{WithMaxEntryBytes(1 << 10), WithMaxUncommittedBytes(1 << 10)}}
	inCluster(t, 3, options, func(c *clusterTest) {
		inside := make(chan [2]error, 3)
		c.during = func(ctx Context, value string) {
			if value == "inside" {
				_, bare := ctx.Server().Do(&testCommand{"never"})
				_, wrapped := ctx.Server().DoContext(c.ctx, &testCommand{"never"})
				inside <- [2]error{bare, wrapped}
			}
		}
		c.options.Configure = func(name string, server Server) {
			require.NoError(t, c.registry(name).Register(&largeCommand{}))
			bare, wrapped := c.both(server, &testCommand{"never"}, nothing)
			requireOutcome(t, StopError, ErrNotApplied, bare, wrapped)
		}
		require.NoError(t, c.Bootstrap(c.ctx))
		require.NoError(t, c.WaitForConverged(c.ctx))
		leader := c.leader()

		bare, wrapped := c.both(c.Server(c.followers()[0]), &testCommand{"never"}, nothing)
		requireOutcome(t, NotLeaderError, ErrNotApplied, bare, wrapped)
		var failed *CommandError
		require.ErrorAs(t, wrapped, &failed)
		require.Equal(t, leader.Name(), failed.Leader)
		require.Equal(t, c.ConnectionString(leader.Name()), failed.ConnectionString)

		bare, wrapped = c.both(leader, &tick{}, nothing)
		requireOutcome(t, ErrUnregisteredCommand, ErrNotApplied, bare, wrapped)
		require.ErrorContains(t, wrapped, "raft.Command: Unregistered command type: tick")
		bare, wrapped = c.both(leader, nil, nothing)
		requireOutcome(t, ErrUnregisteredCommand, ErrNotApplied, bare, wrapped)
		bare, wrapped = c.both(leader, &largeCommand{strings.Repeat("x", 2<<10)}, nothing)
		requireOutcome(t, ErrEntryTooLarge, ErrNotApplied, bare, wrapped)

		c.put("inside")
		for range 3 {
			errs := <-inside
			requireOutcome(t, ErrReentrant, ErrNotApplied, errs[0], errs[1])
		}

		ended, cancel := context.WithCancel(c.ctx)
		cancel()
		_, err := leader.DoContext(ended, &testCommand{"never"})
		requireNotApplied(t, err, CommandTimeoutError)
		require.ErrorIs(t, err, context.Canceled)

		for _, name := range c.followers() {
			c.Network().Pause(name)
		}
		filling := c.async(leader, &largeCommand{strings.Repeat("x", 600)})
		synctest.Wait()
		bare, wrapped = c.both(leader, &largeCommand{strings.Repeat("x", 600)}, nothing)
		requireOutcome(t, ErrOverloaded, ErrNotApplied, bare, wrapped)
		for _, name := range c.followers() {
			c.Network().Resume(name)
		}
		require.NoError(t, (<-filling).err)

		leader.Stop()
		bare, wrapped = c.both(leader, &testCommand{"never"}, nothing)
		requireOutcome(t, StopError, ErrNotApplied, bare, wrapped)
		require.NotContains(t, c.journal("s1").values(), "never")
	})
}

// What Do says of a command that was staged: that it is lost only when another
// one is committed in its place, and otherwise that its outcome is unknown.
func TestDecision02_DoLosesItsWay(t *testing.T) {
	t.Run("lost", func(t *testing.T) {
		inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
			old := c.leader()
			c.Isolate(old.Name())
			bare, wrapped := c.both(old, &testCommand{"lost"}, func() {
				c.within(5*testElection, "another leader", func() bool { return c.Leader() != nil && c.Leader() != old })
				c.puts("theirs", 1, 3)
				c.Heal()
			})
			requireOutcome(t, ErrLost, ErrNotApplied, bare, wrapped)
			c.converge()
			require.NotContains(t, c.journal(old.Name()).values(), "lost")
		})
	})
	t.Run("leadership lost", func(t *testing.T) {
		inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
			leader := c.leader()
			c.Isolate(leader.Name())
			start := time.Now()
			bare, wrapped := c.both(leader, &testCommand{"maybe"}, nothing)
			requireOutcome(t, ErrLeadershipLost, ErrOutcomeUnknown, bare, wrapped)
			require.LessOrEqual(t, time.Since(start), 5*testElection, "Do has no deadline, but the leader steps down")
			c.Heal()
			c.converge()
		})
	})
	t.Run("deadline", func(t *testing.T) {
		inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
			leader := c.leader()
			c.Isolate(leader.Name())
			ctx, cancel := context.WithTimeout(c.ctx, testElection/3)
			defer cancel()
			_, err := leader.DoContext(ctx, &testCommand{"maybe"})
			requireUnknown(t, err)
			require.ErrorIs(t, err, CommandTimeoutError)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			c.Heal()
			c.converge()
		})
	})
	t.Run("stop", func(t *testing.T) {
		inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
			leader := c.leader()
			c.Isolate(leader.Name())
			bare, wrapped := c.both(leader, &testCommand{"maybe"}, leader.Stop)
			requireOutcome(t, StopError, ErrOutcomeUnknown, bare, wrapped)
		})
	})
}

// Whatever Apply returns is the result, an error too, as it is.
func TestDecision02_ErrorsOfApplyAreResults(t *testing.T) {
	inRunningCluster(t, 1, ClusterOptions{}, func(c *clusterTest) {
		require.NoError(t, c.registry("s1").Register(&refusingCommand{}))
		bare, wrapped := c.both(c.leader(), &refusingCommand{}, nothing)
		require.True(t, bare == errRefused && wrapped == errRefused)
	})
}

var errRefused = errors.New("test: the state forbids it")

// refusingCommand is one that the application refuses.
type refusingCommand struct{}

// CommandName is Command's.
func (c *refusingCommand) CommandName() string { return "test:refuse" }

// Apply is of the form that goraft's first users had.
func (c *refusingCommand) Apply(Server) (interface{}, error) { return nil, errRefused }

// arguments makes arguments for a method by their types.
func arguments(c *clusterTest, s Server, method reflect.Type) []reflect.Value {
	values := []interface{}{
		c.ctx, &testCommand{"inside"}, s.Transporter(), EventListener(func(Event) {}), testElection, "s1", uint64(1),
		&AppendEntriesRequest{LeaderName: "nobody"}, &RequestVoteRequest{CandidateName: "nobody"}, &TimeoutNowRequest{},
		&SnapshotRequest{LeaderName: "nobody"}, &SnapshotRecoveryRequest{LeaderName: "nobody"},
		&ReadIndexRequest{Name: "nobody"}, Linearizable, func(StateMachine) error { return nil },
	}
	var in []reflect.Value
	for i := range method.NumIn() {
		found := false
		for _, v := range values {
			if reflect.TypeOf(v).AssignableTo(method.In(i)) {
				in, found = append(in, reflect.ValueOf(v)), true
				break
			}
		}
		if !found {
			c.t.Errorf("no argument of type %v", method.In(i))
			in = append(in, reflect.Zero(method.In(i)))
		}
	}
	return in
}

// callMethods calls every method of a server, Stop last, and checks that each
// returns.
func callMethods(c *clusterTest, s Server, where string, quick time.Duration) (called int) {
	typ := reflect.TypeFor[Server]()
	var names []string
	for i := range typ.NumMethod() {
		if name := typ.Method(i).Name; name != "Stop" {
			names = append(names, name)
		}
	}
	for _, name := range append(names, "Stop") {
		method, start := reflect.ValueOf(s).MethodByName(name), time.Now()
		method.Call(arguments(c, s, method.Type()))
		if took := time.Since(start); took > quick {
			c.t.Errorf("%s: %s took %v", where, name, took)
		}
		called++
	}
	return called
}

// Every method may be called from inside Apply and from a listener; inside Apply,
// what would wait for that very Apply fails.
func TestDecision04_EveryMethodFromApply(t *testing.T) {
	inCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		called := make(chan int, 3)
		c.during = func(ctx Context, value string) {
			if value == "call" && ctx.Server().Name() == "s3" {
				called <- callMethods(c, ctx.Server(), "Apply", 2*testElection)
			}
		}
		require.NoError(t, c.Bootstrap(c.ctx))
		require.NoError(t, c.WaitForConverged(c.ctx))
		server := c.Server("s3")
		_, _ = c.Do(c.ctx, &testCommand{"call"})
		require.Equal(t, reflect.TypeFor[Server]().NumMethod(), <-called)
		c.within(testElection, "s3 to stop", func() bool { return !server.Running() })
		require.NoError(t, server.Err())
		require.NotContains(t, c.journal("s1").values(), "inside")
	})
}

func TestDecision04_EveryMethodFromAListener(t *testing.T) {
	for _, eventType := range []string{StateChangeEventType, LeaderChangeEventType, CommitEventType} {
		t.Run(eventType, func(t *testing.T) {
			inCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
				called := make(chan int, 1)
				c.options.Configure = func(name string, server Server) {
					var once sync.Once
					server.AddEventListener(eventType, func(e Event) {
						if name == "s2" && server.Leader() != "" && server.CommitIndex() > 0 {
							once.Do(func() { called <- callMethods(c, server, "listener", 5*testElection) })
						}
					})
				}
				require.NoError(t, c.Bootstrap(c.ctx))
				server := c.Server("s2")
				if eventType != CommitEventType { // there must be a change to hear of
					require.NoError(t, c.WaitForConverged(c.ctx))
					c.Isolate("s2")
					c.within(5*testElection, "s2 to be alone", func() bool { return server.State() == Candidate })
					c.Heal()
				}
				_, _ = c.Do(c.ctx, &testCommand{"x"}) // s2 may stop under it
				select {
				case n := <-called:
					require.Equal(t, reflect.TypeFor[Server]().NumMethod(), n)
				case <-time.After(time.Minute):
					require.Fail(t, "the listener is not called, or hangs")
				}
			})
		})
	}
}

// Stop may be called any number of times, from anywhere, and returns in time;
// Start after it reads everything back.
func TestDecision05_StopAndStart(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		c.puts("x", 1, 5)
		c.converge()
		server := c.leader()
		last := server.Status().LastIndex
		var stops sync.WaitGroup
		for range 10 {
			stops.Go(func() {
				start := time.Now()
				server.Stop()
				if took := time.Since(start); took > 2*testElection {
					c.t.Errorf("Stop took %v", took)
				}
			})
		}
		stops.Wait()
		server.Stop()
		require.Equal(t, Stopped, server.State())
		require.Nil(t, server.AppendEntries(&AppendEntriesRequest{}))
		require.Nil(t, server.RequestVote(&RequestVoteRequest{}))
		c.journal(server.Name()).forget()
		require.NoError(t, server.Start())
		require.Equal(t, last, server.Status().LastIndex)
		c.put("y")
		c.converge()
		require.Equal(t, "y", c.journal(server.Name()).values()[5])
	})
}

// A blocked Apply keeps nobody else: Stop returns in time and says so, and Start
// refuses until it has ended.
func TestDecision05_BlockedApplyIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		gate := make(chan struct{})
		registry := NewRegistry()
		require.NoError(t, registry.Register(&tick{}))
		block := func(Context, int) interface{} { <-gate; return nil }
		s, err := NewServer("a", t.TempDir(), deaf{}, nil, block, "",
			WithRegistry(registry), WithLogger(slog.New(slog.NewTextHandler(&out, nil))))
		require.NoError(t, err)
		require.NoError(t, s.Start())
		_, err = s.Do(&DefaultJoinCommand{Name: "a"})
		require.NoError(t, err)
		go func() { _, _ = s.Do(&tick{}) }()
		synctest.Wait()
		start := time.Now()
		s.Stop()
		require.LessOrEqual(t, time.Since(start), 2*s.ElectionTimeout())
		require.Contains(t, out.String(), "Apply has not returned")
		require.ErrorIs(t, s.Start(), ErrStillRunning)
		close(gate)
		synctest.Wait()
		require.NoError(t, s.Start())
		s.Stop()
	})
}

// Settings take effect on a running server; what was asked for is what is told.
func TestDecision13_Settings(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		for _, server := range c.Servers() {
			server.SetHeartbeatInterval(time.Second) // longer than the election timeout, for now
			server.SetElectionTimeout(10 * time.Second)
			require.Equal(t, time.Second, server.HeartbeatInterval())
			require.Equal(t, 10*time.Second, server.ElectionTimeout())
			for _, d := range []time.Duration{0, -time.Second} {
				server.SetHeartbeatInterval(d)
				server.SetElectionTimeout(d)
			}
			require.Equal(t, time.Second, server.HeartbeatInterval())
			require.Equal(t, 10*time.Second, server.ElectionTimeout())
		}
		leader, term := c.leader(), c.leader().Term()
		c.pass(time.Minute)
		before := c.Network().Stats().Sent
		c.pass(10 * time.Second)
		require.Less(t, c.Network().Stats().Sent-before, uint64(10*2*2+20), "heartbeats of a second")
		require.Equal(t, term, leader.Term())
		c.Crash(leader.Name())
		c.pass(9 * time.Second)
		require.Nil(t, c.Leader(), "an election timeout of ten seconds")
		for _, server := range c.Servers() {
			server.SetElectionTimeout(testElection)
		}
		c.within(10*testElection, "a leader", func() bool { return c.Leader() != nil })
		require.NoError(t, c.Start(leader.Name()))
		c.put("x")

		// A leader with another transporter, which reaches nobody, is deposed.
		old := c.leader()
		require.Panics(t, func() { old.SetTransporter(nil) })
		old.SetTransporter(deaf{})
		require.Equal(t, deaf{}, old.Transporter())
		c.within(10*testElection, "another leader", func() bool { return c.Leader() != nil && c.Leader() != old })
	})
}

// SetLogLevel drives the levels of the logger: see log_level_test.go too.
func TestDecision14_LogLevel(t *testing.T) {
	t.Cleanup(func() { SetLogLevel(0) })
	var out bytes.Buffer
	s, err := NewServer("a", t.TempDir(), deaf{}, nil, nil, "", WithLogger(slog.New(slog.NewTextHandler(&out, nil))))
	require.NoError(t, err)
	tells := func(level int) string {
		SetLogLevel(level)
		out.Reset()
		s.SetHeartbeatInterval(DefaultHeartbeatInterval)
		s.RequestVote(&RequestVoteRequest{CandidateName: "b"})
		return out.String()
	}
	require.Empty(t, tells(0))
	require.Equal(t, 1, strings.Count(tells(Debug), "\n"))
	require.Equal(t, 2, strings.Count(tells(Trace), "\n"))
}

// Importing the package registers three commands; a server may have a registry of
// its own; a registered command may be a pointer or a value; all of it may be done
// at any time.
func TestDecision15_Registry(t *testing.T) {
	for _, r := range []*Registry{NewRegistry(), defaultRegistry} {
		for _, name := range []string{"raft:join", "raft:leave", "raft:nop"} {
			require.True(t, r.registered(name))
		}
		require.False(t, r.registered("cmd_1"))
		require.False(t, r.registered("cmd_2"))
	}
	require.Len(t, *NewRegistry().types.Load(), 3)
	require.PanicsWithValue(t, "raft: Cannot register nil", func() { RegisterCommand(nil) })
	require.PanicsWithValue(t, "raft: Duplicate registration: raft:nop", func() { RegisterCommand(NOPCommand{}) })

	inRunningCluster(t, 1, ClusterOptions{}, func(c *clusterTest) {
		var registering sync.WaitGroup
		for i := range 20 {
			registering.Go(func() {
				if err := c.registry("s1").Register(&namedCommand{fmt.Sprint("test:", i)}); err != nil {
					c.t.Error(err)
				}
			})
			registering.Go(func() { _, _ = c.Do(c.ctx, &testCommand{"x"}) })
		}
		registering.Wait()
		require.NoError(t, c.registry("s1").Register(plainCommand{}))
		for _, command := range []Command{plainCommand{7}, &plainCommand{7}} {
			value, err := c.Do(c.ctx, command)
			require.NoError(t, err)
			require.Equal(t, 7, value)
		}
	})
}

// namedCommand has a name of its own.
type namedCommand struct{ name string }

// CommandName is Command's.
func (c *namedCommand) CommandName() string { return c.name }

// plainCommand has the methods of a value.
type plainCommand struct{ N int }

// CommandName is Command's.
func (c plainCommand) CommandName() string { return "test:plain" }

// Apply returns the number.
func (c plainCommand) Apply(Context) (interface{}, error) { return c.N, nil }
