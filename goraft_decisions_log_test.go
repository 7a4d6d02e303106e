package raft

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/goraft/raft/internal/vfs"
	"github.com/goraft/raft/protobuf"
	"github.com/stretchr/testify/require"
)

// heardEvents are the events of one server, as lines.
type heardEvents struct {
	mu    sync.Mutex
	lines []string
}

// hears listens to events of some types, before the server starts.
func hears(server Server, types ...string) *heardEvents {
	h := new(heardEvents)
	for _, eventType := range types {
		server.AddEventListener(eventType, func(e Event) {
			value := e.Value()
			switch v := value.(type) {
			case *LogEntry:
				value = fmt.Sprintf("entry %d %s", v.Index(), v.CommandName())
			case *Peer:
				value = "peer " + v.Name
			}
			h.mu.Lock()
			defer h.mu.Unlock()
			h.lines = append(h.lines, fmt.Sprintf("%s %v<-%v", e.Type(), value, e.PrevValue()))
		})
	}
	return h
}

// take returns what was heard since the last call.
func (h *heardEvents) take() (lines []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	lines, h.lines = h.lines, nil
	return lines
}

// Followers are told who leads, and that nobody does; a candidate of its own term.
func TestDecision03_FollowersHearOfTheLeader(t *testing.T) {
	inCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		heard := make(map[string]*heardEvents)
		c.options.Configure = func(name string, server Server) {
			heard[name] = hears(server, LeaderChangeEventType, TermChangeEventType)
		}
		require.NoError(t, c.Bootstrap(c.ctx))
		require.NoError(t, c.WaitForConverged(c.ctx))
		old := c.leader()
		for _, name := range c.Names() {
			require.Equal(t, []string{"termChange 1<-0", "leaderChange " + old.Name() + "<-"}, heard[name].take(), name)
		}
		c.Stop(old.Name())
		require.Equal(t, []string{"leaderChange <-" + old.Name()}, heard[old.Name()].take())
		c.within(10*testElection, "a leader", func() bool { return c.Leader() != nil })
		require.NoError(t, c.WaitForConverged(c.ctx))
		for name, server := range c.Servers() {
			got := heard[name].take()
			require.Contains(t, got, "leaderChange <-"+old.Name(), name)
			require.Contains(t, got, fmt.Sprintf("termChange %d<-1", server.Term()), name)
			require.Equal(t, "leaderChange "+c.leader().Name()+"<-", got[len(got)-1], name)
		}
	})
}

// The values of states, leaders and event types are plain strings, the listener's
// goroutine is not the protocol's, and a listener that blocks holds up nobody:
// see TestFault135_ListenersHoldUpNothing for the bound and what is kept.
func TestDecision03_EventsArePlainAndDetached(t *testing.T) {
	inCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		block := make(chan struct{})
		c.options.Configure = func(_ string, server Server) {
			server.AddEventListener(StateChangeEventType, func(e Event) {
				if _, ok := e.Value().(string); !ok || e.Source() != server {
					c.t.Errorf("%T of %v", e.Value(), e.Source())
				}
				<-block
			})
		}
		require.NoError(t, c.Bootstrap(c.ctx))
		c.puts("x", 1, 10)
		c.converge()
		close(block)
	})
}

// Messages keep goraft's numbers, write every field and accept absent and unknown
// ones: see message_codec_test.go for all of them.
func TestDecision06_Bytes(t *testing.T) {
	var b bytes.Buffer
	_, err := (&RequestVoteResponse{}).Encode(&b)
	require.NoError(t, err)
	require.Contains(t, b.String(), "\x08\x00\x10\x00", "zeros are written")
	var vote RequestVoteResponse
	_, err = vote.Decode(bytes.NewReader([]byte{0x08, 0x04}))
	require.NoError(t, err, "an absent field is zero")
	require.Equal(t, uint64(4), vote.Term)
	_, err = vote.Decode(bytes.NewReader([]byte{0x08, 0x05, 0xa0, 0x06, 0x07}))
	require.NoError(t, err, "an unknown field is ignored")
	require.Equal(t, uint64(5), vote.Term)
}

// A transporter with goraft's four methods, which sends what Encode writes or the
// exported fields as JSON, carries all that safety depends on.
func TestDecision06_BareTransporterIsSafe(t *testing.T) {
	for _, form := range []MessageForm{AsProtobuf, AsJSON} {
		inCluster(t, 3, transports["bare"], func(c *clusterTest) {
			c.Network().SetForm(form)
			var mu sync.Mutex
			unnamed := 0
			c.Network().Intercept(func(m MemoryMessage) bool {
				mu.Lock()
				defer mu.Unlock()
				switch m := m.Message.(type) {
				case *AppendEntriesRequest:
					if m.ClusterID == 0 || m.To == "" || m.StoreID == 0 {
						unnamed++
					}
				case *RequestVoteRequest:
					if m.To == "" || m.StoreID == 0 {
						unnamed++
					}
				}
				return true
			})
			require.NoError(t, c.Bootstrap(c.ctx))
			c.puts("x", 1, 20)
			c.Crash(c.leader().Name())
			c.puts("y", 1, 20)
			mu.Lock()
			defer mu.Unlock()
			require.Zero(t, unnamed)
		})
	}
}

// Server's own methods accept messages without the new fields, and check those
// that are there.
func TestDecision06_ServerChecksWhatIsThere(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		leader, follower := c.leader(), c.Server(c.followers()[0])
		status := follower.Status()
		beat := func(change func(*AppendEntriesRequest)) *AppendEntriesResponse {
			req := &AppendEntriesRequest{
				Term: status.Term, LeaderName: leader.Name(), PrevLogIndex: status.LastIndex, PrevLogTerm: status.LastTerm,
			}
			change(req)
			return follower.AppendEntries(req)
		}
		require.True(t, beat(func(*AppendEntriesRequest) {}).Success())
		require.True(t, beat(func(r *AppendEntriesRequest) { r.ClusterID, r.To = status.ClusterID, follower.Name() }).Success())
		for name, change := range map[string]func(*AppendEntriesRequest){
			"cluster":   func(r *AppendEntriesRequest) { r.ClusterID, r.To = status.ClusterID+1, follower.Name() },
			"addressee": func(r *AppendEntriesRequest) { r.ClusterID, r.To = status.ClusterID, leader.Name() },
			"store": func(r *AppendEntriesRequest) {
				r.ClusterID, r.To, r.ToStoreID = status.ClusterID, follower.Name(), follower.StoreID()+1
			},
		} {
			response := beat(change)
			require.False(t, response.Success(), name)
			require.NotZero(t, response.Refused, name)
		}
	})
}

// Over HTTP a server that belongs to a cluster takes no message that does not say
// which cluster and which server it is for.
func TestDecision06_HTTPWantsNames(t *testing.T) {
	s := newLone(t, vfs.NewMem(), nil)
	peer, _ := mounted(t, s)
	require.NoError(t, s.Start())
	t.Cleanup(s.Stop)
	post := func() int {
		var b bytes.Buffer
		_, err := (&AppendEntriesRequest{Term: 1, LeaderName: "b"}).Encode(&b)
		require.NoError(t, err)
		response, err := http.Post(peer.ConnectionString+"/raft/appendEntries", "application/protobuf", &b)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		return response.StatusCode
	}
	require.Equal(t, http.StatusOK, post())
	_, err := s.Do(&DefaultJoinCommand{Name: "a"})
	require.NoError(t, err)
	require.Equal(t, http.StatusBadRequest, post())
}

// A zero LogEntry can Decode, and a request's entries are what goraft's were.
func TestDecision07_Entries(t *testing.T) {
	var entry LogEntry
	_, err := entry.Decode(bytes.NewReader(unhex(t, goldenJoin)))
	require.NoError(t, err)
	require.Equal(t, "raft:join", entry.CommandName())
	require.Zero(t, entry.Position)

	index, term, name := uint64(2), uint64(1), "raft:nop"
	sent := &AppendEntriesRequest{Term: 1, LeaderName: "n1", Entries: []*protobuf.LogEntry{{Index: &index, Term: &term, CommandName: &name}}}
	var b bytes.Buffer
	_, err = sent.Encode(&b)
	require.NoError(t, err)
	var got AppendEntriesRequest
	_, err = got.Decode(&b)
	require.NoError(t, err)
	require.Len(t, got.Entries, 1)
	require.Equal(t, uint64(2), got.Entries[0].GetIndex())
	require.Equal(t, "raft:nop", got.Entries[0].GetCommandName())
}

// fileServer makes a server with a state machine on real files.
func fileServer(t *testing.T, path string) Server {
	t.Helper()
	s, err := NewServer("a", path, deaf{}, new(textMachine), nil, "", WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	t.Cleanup(s.Stop)
	return s
}

// textMachine is a state machine that has one state.
type textMachine struct{}

// Save is StateMachine's.
func (m *textMachine) Save() ([]byte, error) { return []byte("state"), nil }

// Recovery is StateMachine's.
func (m *textMachine) Recovery([]byte) error { return nil }

// foundAlone starts a server and has it found a cluster of its own.
func foundAlone(t *testing.T, s Server) {
	t.Helper()
	require.NoError(t, s.Start())
	_, err := s.Do(&DefaultJoinCommand{Name: "a"})
	require.NoError(t, err)
}

// goraftFiles are the names that programs delete to wipe a server.
var goraftFiles = []string{"log", "conf", "snapshot", "state"}

// A server makes its directory, and in it nothing but what programs know to
// delete; without it, it is new.
func TestDecision08_Files(t *testing.T) {
	path := filepath.Join(t.TempDir(), "not", "there")
	first := fileServer(t, path)
	foundAlone(t, first)
	_, err := first.Do(NOPCommand{})
	require.NoError(t, err)
	require.NoError(t, first.TakeSnapshot())
	first.FlushCommitIndex()
	require.FileExists(t, first.SnapshotPath(first.Status().SnapshotIndex, first.Term()))
	store := first.StoreID()
	first.Stop()

	entries, err := os.ReadDir(path)
	require.NoError(t, err)
	for _, entry := range entries {
		require.Contains(t, goraftFiles, entry.Name())
	}
	require.DirExists(t, first.LogPath())
	require.Equal(t, filepath.Join(path, "log"), first.LogPath())
	require.Equal(t, filepath.Join(path, "snapshot", "3_7.ss"), first.SnapshotPath(7, 3))

	second := fileServer(t, path)
	require.NoError(t, second.Start())
	require.Equal(t, store, second.StoreID())
	require.False(t, second.IsLogEmpty())
	second.Stop()

	for _, name := range goraftFiles {
		require.NoError(t, os.RemoveAll(filepath.Join(path, name)))
	}
	third := fileServer(t, path)
	require.NoError(t, third.Start())
	require.True(t, third.IsLogEmpty())
	require.Zero(t, third.Term())
	require.NotEqual(t, store, third.StoreID())
}

// A wipe that forgets the log's directory, or only that, is refused.
func TestDecision08_PartialWipe(t *testing.T) {
	path := t.TempDir()
	s := fileServer(t, path)
	foundAlone(t, s)
	require.NoError(t, s.TakeSnapshot())
	s.Stop()
	require.NoError(t, os.RemoveAll(s.LogPath()))
	again := fileServer(t, path)
	require.ErrorIs(t, again.LoadSnapshot(), ErrPartialWipe)
	require.ErrorIs(t, again.Start(), ErrPartialWipe)
	require.NoDirExists(t, again.LogPath())
}

// The log of goraft is refused, by an error that programs can tell, and stays as
// it is.
func TestDecision08_LogOfGoraftIsRefused(t *testing.T) {
	path := t.TempDir()
	log := append(unhex(t, goldenJoin), unhex(t, goldenNOP)...)
	require.NoError(t, os.WriteFile(filepath.Join(path, "log"), log, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(path, "conf"), []byte(`{"commitIndex":2,"peers":[]}`), 0o600))
	s := fileServer(t, path)
	require.ErrorIs(t, s.Init(), ErrForeignLog)
	require.ErrorIs(t, s.Start(), ErrForeignLog)
	require.False(t, s.Running())
	s.Stop()
	after, err := os.ReadFile(filepath.Join(path, "log"))
	require.NoError(t, err)
	require.Equal(t, log, after)
}

// One server at a time uses a directory, and others can tell why they may not.
func TestDecision08_TwoServersInOneDirectory(t *testing.T) {
	path := t.TempDir()
	first, second := fileServer(t, path), fileServer(t, path)
	foundAlone(t, first)
	require.ErrorIs(t, second.Start(), ErrLocked)
	_, err := first.Do(NOPCommand{})
	require.NoError(t, err)
	first.Stop()
	require.NoError(t, second.Start())
}

// Commit events and Apply come on every server, in the order of the log, Apply on
// one goroutine; what Context tells of an entry is the same live and in replay.
func TestDecision09_ApplyInOrderEverywhere(t *testing.T) {
	inCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		var mu sync.Mutex
		applied := make(map[string][]string)           // by server
		goroutines := make(map[string]map[uint64]bool) // that applied, by server
		heard := make(map[string]*heardEvents)
		c.options.Configure = func(name string, server Server) { heard[name] = hears(server, CommitEventType) }
		c.during = func(ctx Context, value string) {
			mu.Lock()
			defer mu.Unlock()
			name := ctx.Server().Name()
			applied[name] = append(applied[name], fmt.Sprint(ctx.CurrentIndex(), ctx.CommitIndex(), ctx.CurrentTerm(), value))
			if ctx.CurrentIndex() != ctx.CommitIndex() {
				c.t.Errorf("index %d, commit index %d", ctx.CurrentIndex(), ctx.CommitIndex())
			}
			if goroutines[name] == nil {
				goroutines[name] = make(map[uint64]bool)
			}
			goroutines[name][goroutineID()] = true
		}
		require.NoError(t, c.Bootstrap(c.ctx))
		c.puts("x", 1, 30)
		c.Crash(c.leader().Name())
		c.puts("y", 1, 30)
		require.NoError(t, c.StartAll())
		c.converge()

		mu.Lock()
		want := applied[c.leader().Name()]
		require.Len(t, want, 60)
		for name, got := range applied {
			require.Equal(t, want, got[len(got)-60:], name)
		}
		require.Len(t, goroutines[c.leader().Name()], 1)
		applied = make(map[string][]string)
		mu.Unlock()
		var indexes []string
		for i := range c.leader().CommitIndex() {
			indexes = append(indexes, fmt.Sprintf("entry %d ", i+1))
		}
		for name := range c.Servers() {
			lines := heard[name].take()
			require.Len(t, lines, len(indexes), name)
			for i, line := range lines {
				require.Contains(t, line, indexes[i], name)
			}
		}

		for _, name := range c.Names() { // in replay
			require.NoError(t, c.Restart(name))
		}
		c.converge()
		mu.Lock()
		defer mu.Unlock()
		for name, got := range applied {
			require.Equal(t, want, got, name)
		}
	})
}

// Init applies up to the durable commit index and nothing beyond: the state is
// there when Init returns.
func TestDecision10_InitRestores(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		c.puts("x", 1, 20)
		c.converge()
		leader := c.leader()
		c.Isolate(leader.Name())
		waiting := c.async(leader, &testCommand{"not committed"})
		c.within(testElection, "the entry to be on the disk", func() bool {
			status := leader.Status()
			return status.DurableIndex == status.LastIndex && status.LastIndex > status.CommitIndex
		})
		commit := leader.CommitIndex()
		c.Stop(leader.Name())
		requireUnknown(t, (<-waiting).err)

		var inInit []string
		c.options.Configure = func(name string, server Server) {
			require.NoError(t, server.Init())
			require.Equal(t, Initialized, server.State())
			require.False(t, server.Running())
			require.Equal(t, commit, server.CommitIndex())
			require.Len(t, server.Peers(), 2)
			inInit = slices.Clone(c.journal(name).values())
		}
		require.NoError(t, c.Start(leader.Name()))
		require.Len(t, inInit, 20)
		require.NotContains(t, inInit, "not committed")
		c.Heal()
		c.converge()
	})
}
