package raft

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/goraft/raft/internal/vfs"
	"github.com/stretchr/testify/require"
)

// What callers of goraft rely on, where no decision overrules it: texts that
// programs match, states, events with their values, what may be called when.

// The life of a server, as its getters tell it, and the texts of calls in the
// wrong order.
func TestGoraftLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newLone(t, vfs.NewMem(), nil)
		require.Equal(t, "stopped", s.State())
		require.Equal(t, "Name: a, State: stopped, Term: 0, CommitedIndex: 0 ", s.GetState())
		require.True(t, s.IsLogEmpty())
		require.True(t, os.IsNotExist(s.LoadSnapshot()), "there is no directory yet")
		require.Nil(t, s.RequestSnapshot(&SnapshotRequest{}))
		require.Nil(t, s.SnapshotRecoveryRequest(&SnapshotRecoveryRequest{}))
		require.NoError(t, s.Init())
		require.Equal(t, "initialized", s.State())
		require.True(t, s.IsLogEmpty())
		require.NoError(t, s.Init(), "twice is once")
		require.NoError(t, s.LoadSnapshot())
		require.NoError(t, s.Start())
		require.EqualError(t, s.Start(), "raft.Server: Server already running[follower]")
		require.EqualError(t, s.Init(), "raft.Server: Server already running[follower]")
		require.True(t, s.IsLogEmpty(), "programs ask after Start whether the node is fresh")
		require.Equal(t, 1, s.MemberCount())
		require.Equal(t, "", s.Leader())
		require.Equal(t, "", s.LastCommandName())

		value, err := s.Do(&DefaultJoinCommand{Name: "a"})
		require.NoError(t, err)
		require.Equal(t, []byte("join"), value)
		require.EqualError(t, s.Start(), "raft.Server: Server already running[leader]")
		_, err = s.Do(&tick{N: 1})
		require.NoError(t, err)
		synctest.Wait()
		require.Equal(t, "Name: a, State: leader, Term: 1, CommitedIndex: 2 ", s.GetState())
		require.Equal(t, "tick", s.LastCommandName())
		require.False(t, s.IsLogEmpty())
		require.Equal(t, "leader", s.State())
		require.Empty(t, s.Peers(), "a server is not among its peers")
		require.Equal(t, 1, s.QuorumSize())
		s.Stop()
		s.Stop()
		require.Equal(t, "stopped", s.State())
		require.False(t, s.Running())
		require.Equal(t, "Name: a, State: stopped, Term: 1, CommitedIndex: 2 ", s.GetState())
	})
}

// Texts that programs match, beside those of TestGoraftConstants.
func TestGoraftTexts(t *testing.T) {
	_, err := NewServer("", "/x", deaf{}, nil, nil, "")
	require.EqualError(t, err, "raft.Server: Name cannot be blank")
	require.PanicsWithValue(t, "raft: Transporter required", func() { _, _ = NewServer("a", "/x", nil, nil, nil, "") })
	require.PanicsWithValue(t, "raft: Cannot register nil", func() { RegisterCommand(nil) })
	require.PanicsWithValue(t, "raft: Duplicate registration: raft:join", func() { RegisterCommand(&DefaultJoinCommand{}) })
	require.EqualError(t, &UnregisteredCommandError{Name: "x"}, "raft.Command: Unregistered command type: x")

	inRunningCluster(t, 1, ClusterOptions{}, func(c *clusterTest) {
		require.NoError(t, c.registry("s1").Register(&namedCommand{"test:inert"}))
		_, err := c.leader().Do(&namedCommand{"test:inert"})
		require.EqualError(t, err, "Command does not implement Apply()")
		require.NoError(t, c.leader().Err(), "that is a result, like any other")
	})
	alone := newLone(t, vfs.NewMem(), nil)
	require.EqualError(t, alone.TakeSnapshot(), "Snapshot: Cannot create snapshot. Missing state machine.")
}

// slowMachine takes its time to save.
type slowMachine struct{ gate chan struct{} }

// Save is StateMachine's.
func (m *slowMachine) Save() ([]byte, error) {
	<-m.gate
	return nil, nil
}

// Recovery is StateMachine's.
func (m *slowMachine) Recovery([]byte) error { return nil }

// One snapshot at a time, nothing where there is nothing new, and LoadSnapshot
// before Init says what IsLogEmpty then tells.
func TestGoraftSnapshots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		machine, disk := &slowMachine{make(chan struct{})}, vfs.NewMem()
		server := func() Server {
			s, err := NewServer("a", "/a", deaf{}, machine, nil, "", withFileSystem(disk))
			require.NoError(t, err)
			return s
		}
		s := server()
		require.NoError(t, s.Start())
		_, err := s.Do(&DefaultJoinCommand{Name: "a"})
		require.NoError(t, err)
		first := make(chan error, 1)
		go func() { first <- s.TakeSnapshot() }()
		synctest.Wait()
		require.EqualError(t, s.TakeSnapshot(), "Snapshot: Last snapshot is not finished.")
		close(machine.gate)
		require.NoError(t, <-first)
		require.NoError(t, s.TakeSnapshot(), "nothing new")
		s.Stop()

		again := server()
		require.True(t, again.IsLogEmpty(), "nothing was read yet")
		require.NoError(t, again.LoadSnapshot())
		require.False(t, again.IsLogEmpty())
		require.NoError(t, again.Start())
		require.False(t, again.IsLogEmpty())
		again.Stop()
	})
}

// brokenMachine saves what it cannot recover.
type brokenMachine struct{ panics bool }

// Save is StateMachine's.
func (m brokenMachine) Save() ([]byte, error) { return []byte("state"), nil }

// Recovery is StateMachine's.
func (m brokenMachine) Recovery([]byte) error {
	if m.panics {
		panic(errRefused)
	}
	return errRefused
}

// A server whose state cannot be recovered does not start, where goraft's panicked.
// What is on the disk stays as it is: a better version of the program begins there.
func TestGoraftRecoveryFails(t *testing.T) {
	for _, panics := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			disk := vfs.NewMem()
			server := func(machine StateMachine) Server {
				s, err := NewServer("a", "/a", deaf{}, machine, nil, "", withFileSystem(disk), WithLogger(slog.New(slog.DiscardHandler)))
				require.NoError(t, err)
				return s
			}
			s := server(brokenMachine{})
			foundAlone(t, s)
			require.NoError(t, s.TakeSnapshot())
			s.Stop()

			broken := server(brokenMachine{panics})
			require.ErrorIs(t, broken.LoadSnapshot(), errRefused)
			require.ErrorIs(t, broken.Init(), errRefused)
			require.ErrorIs(t, broken.Start(), errRefused)
			require.False(t, broken.Running())
			broken.Stop()

			repaired := server(new(textMachine))
			require.NoError(t, repaired.LoadSnapshot())
			require.NoError(t, repaired.Start())
			require.NoError(t, repaired.Err())
			repaired.Stop()
		})
	}
}

// Snapshots that the server takes by itself can be turned off, as goraft had none.
func TestGoraftSnapshotsOnlyOnRequest(t *testing.T) {
	options := ClusterOptions{Options: []Option{WithSnapshotTrigger(0, 0)}}
	inRunningCluster(t, 1, options, func(c *clusterTest) {
		for range 20 {
			var many []<-chan outcome
			for range DefaultSnapshotEntries / 10 {
				many = append(many, c.async(c.leader(), &testCommand{"x"}))
			}
			for _, done := range many {
				require.NoError(t, (<-done).err)
			}
		}
		require.Zero(t, c.leader().Status().SnapshotIndex)
		require.NoError(t, c.leader().TakeSnapshot())
		require.NotZero(t, c.leader().Status().SnapshotIndex)
	})
}

// The events of goraft's trace: start, self-join, join, command, leave, stop.
func TestGoraftEvents(t *testing.T) {
	inCluster(t, 2, ClusterOptions{}, func(c *clusterTest) {
		var heard *heardEvents
		c.options.Configure = func(name string, server Server) {
			if name == "s1" {
				heard = hears(server, StateChangeEventType, LeaderChangeEventType, TermChangeEventType,
					CommitEventType, AddPeerEventType, RemovePeerEventType)
			}
		}
		expect := func(lines ...string) {
			t.Helper()
			c.pass(testElection)
			require.Equal(t, lines, heard.take())
		}
		require.NoError(t, c.StartAll())
		s := c.Server("s1")
		expect("stateChange follower<-initialized")
		require.NoError(t, c.found(c.ctx, "s1"))
		expect("stateChange candidate<-follower", "termChange 1<-0", "stateChange leader<-candidate", "leaderChange s1<-",
			"commit entry 1 raft:nop<-<nil>")
		_, err := s.Do(&DefaultJoinCommand{Name: "s2", ConnectionString: c.ConnectionString("s2")})
		require.NoError(t, err)
		expect("addPeer s2<-<nil>", "commit entry 2 raft:join<-<nil>", "commit entry 3 <-<nil>", "commit entry 4 <-<nil>")
		c.put("x")
		expect("commit entry 5 test:put<-<nil>")
		value, err := s.Do(&DefaultLeaveCommand{Name: "s2"})
		require.NoError(t, err)
		require.Equal(t, []byte("leave"), value)
		expect("removePeer s2<-<nil>", "commit entry 6 raft:leave<-<nil>")
		s.Stop()
		expect("stateChange stopped<-leader", "leaderChange <-s1")
	})
}

// The events of time: of exchanges with peers, of peers that do not answer, and of
// a leader that is late.
func TestGoraftEventsOfTime(t *testing.T) {
	inCluster(t, 3, transports["calls"], func(c *clusterTest) {
		var mu sync.Mutex
		heard := make(map[string]int)
		c.options.Configure = func(name string, server Server) {
			for _, eventType := range []string{HeartbeatEventType, HeartbeatIntervalEventType, ElectionTimeoutThresholdEventType} {
				server.AddEventListener(eventType, func(e Event) {
					mu.Lock()
					defer mu.Unlock()
					heard[name+" "+eventType]++
					if e.PrevValue() != nil {
						c.t.Errorf("%s: previous value %v", eventType, e.PrevValue())
					}
					switch v := e.Value().(type) {
					case time.Duration:
						late := v > time.Duration(float64(testElection)*ElectionTimeoutThresholdPercent)
						if eventType == HeartbeatIntervalEventType || late != (eventType == ElectionTimeoutThresholdEventType) {
							c.t.Errorf("%s: %v", eventType, v)
						}
					case *Peer:
						if eventType != HeartbeatIntervalEventType || v.Name == name || v.ConnectionString != c.ConnectionString(v.Name) {
							c.t.Errorf("%s: %+v", eventType, v.Name)
						}
					default:
						c.t.Errorf("%s: %T", eventType, v)
					}
				})
			}
		}
		count := func(name, eventType string) int {
			mu.Lock()
			defer mu.Unlock()
			return heard[name+" "+eventType]
		}
		require.NoError(t, c.Bootstrap(c.ctx))
		require.NoError(t, c.WaitForConverged(c.ctx))
		leader, followers := c.leader().Name(), c.followers()
		c.pass(10 * testElection)
		require.Greater(t, count(leader, HeartbeatEventType), 20)
		require.Zero(t, count(leader, HeartbeatIntervalEventType))
		c.Network().Pause(followers[0]) // it is late, not silent: no election yet
		c.pass(testElection * 9 / 10)
		c.Network().Resume(followers[0])
		c.pass(testElection)
		require.NotZero(t, count(followers[0], ElectionTimeoutThresholdEventType))
		c.Crash(followers[1])
		c.pass(10 * testElection)
		require.NotZero(t, count(leader, HeartbeatIntervalEventType))
	})
}

// Peers are copies, without this server, with the time of their last answer.
func TestGoraftPeers(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		leader := c.leader()
		c.pass(testElection)
		peers := leader.Peers()
		require.Len(t, peers, 2)
		for name, peer := range peers {
			require.Equal(t, name, peer.Name)
			require.Equal(t, c.ConnectionString(name), peer.ConnectionString)
			require.Less(t, time.Since(peer.LastActivity()), testElection)
			peer.Name, peer.ConnectionString = "changed", "changed"
		}
		delete(peers, c.followers()[0])
		for name, peer := range leader.Peers() {
			require.Equal(t, name, peer.Name)
		}
		require.Len(t, leader.Peers(), 2)
		follower := c.Server(c.followers()[0])
		require.Equal(t, c.ConnectionString(leader.Name()), follower.Peers()[follower.Leader()].ConnectionString,
			"how programs find the leader's address")
	})
}

// A host's handlers may call Do before the host listens anywhere, and while it is
// Do that they wait for.
func TestGoraftDoInAHandler(t *testing.T) {
	inRunningCluster(t, 1, ClusterOptions{}, func(c *clusterTest) {
		leader := c.leader()
		handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			value, err := leader.Do(&DefaultJoinCommand{Name: r.FormValue("name"), ConnectionString: "http://nobody.invalid"})
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			_, _ = w.Write(value.([]byte))
		})
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/join?name=s2", nil))
		require.Equal(t, http.StatusOK, w.Code)
		require.Equal(t, "join", w.Body.String())
		require.Contains(t, leader.Peers(), "s2")
	})
}

// oldCommand is applied as goraft's first users wrote it.
type oldCommand struct{ Key string }

// CommandName is Command's.
func (c *oldCommand) CommandName() string { return "test:old" }

// Apply changes its own value, which nobody else sees.
func (c *oldCommand) Apply(server Server) (interface{}, error) {
	key := c.Key
	c.Key = "changed"
	return key + " on " + server.Name(), nil
}

// Do returns what Apply returned on this very server, as it is; every application
// has a new value of the command.
func TestGoraftResults(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		for _, name := range c.Names() {
			require.NoError(t, c.registry(name).Register(&oldCommand{}))
		}
		command := &oldCommand{Key: "k"}
		for range 3 {
			value, err := c.leader().Do(command)
			require.NoError(t, err)
			require.Equal(t, "k on "+c.leader().Name(), value)
			require.Equal(t, "k", command.Key)
		}
		c.converge()
		for _, server := range c.Servers() {
			entries := server.LogEntries()
			require.Equal(t, "test:old", server.LastCommandName())
			require.Equal(t, `{"Key":"k"}`, strings.TrimSpace(string(entries[len(entries)-1].Command())))
		}
	})
}

// FlushCommitIndex makes a restart begin with this very index, a crash too.
func TestGoraftFlushCommitIndex(t *testing.T) {
	inRunningCluster(t, 1, ClusterOptions{}, func(c *clusterTest) {
		c.puts("x", 1, 20)
		s := c.leader()
		s.FlushCommitIndex()
		commit := s.CommitIndex()
		c.crash(c.node("s1"), vfs.Nothing)
		c.options.Configure = func(_ string, server Server) {
			require.NoError(t, server.Init())
			require.Equal(t, commit, server.CommitIndex())
			require.Len(t, c.journal("s1").values(), 20)
		}
		require.NoError(t, c.Start("s1"))
	})
}

// Accessors tell what NewServer was given.
func TestGoraftAccessors(t *testing.T) {
	machine, context := new(textMachine), "context"
	s, err := NewServer("n", "/dir", deaf{}, machine, context, "http://h")
	require.NoError(t, err)
	require.Equal(t, "n", s.Name())
	require.Equal(t, "/dir", s.Path())
	require.Equal(t, context, s.Context())
	require.Same(t, machine, s.StateMachine())
	require.Equal(t, deaf{}, s.Transporter())
	require.Equal(t, DefaultElectionTimeout, s.ElectionTimeout())
	require.Equal(t, DefaultHeartbeatInterval, s.HeartbeatInterval())
	require.Equal(t, "", s.VotedFor())
	require.Zero(t, s.Term())
	require.Zero(t, s.CommitIndex())
	require.Empty(t, s.LogEntries())
}
