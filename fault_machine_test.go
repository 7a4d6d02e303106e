package raft

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// A keeper is a state machine with a disk of its own: it keeps its state, and the
// index up to which it has applied, in one transaction. What Start replays it has
// already, and skips.
type keeper struct {
	name string
	disk *keeperDisk
	at   func(step string) // called at each step of an Apply
}

// keeperDisk outlives the lives of a server.
type keeperDisk struct {
	mu    sync.Mutex
	state keeperState
	runs  map[uint64]int // how often the entry at an index came into the state
}

type keeperState struct {
	Index, Sum uint64
	Values     int
}

// apply takes in the value of an entry.
func (k *keeper) apply(index uint64, value string) {
	k.disk.mu.Lock()
	next := k.disk.state
	k.disk.mu.Unlock()
	if index <= next.Index {
		return
	}
	k.at("read")
	h := fnv.New64a()
	fmt.Fprint(h, next.Sum, index, value)
	next = keeperState{index, h.Sum64(), next.Values + 1}
	k.at("made")
	k.disk.mu.Lock()
	k.disk.state = next
	k.disk.runs[index]++
	k.disk.mu.Unlock()
	k.at("kept")
}

// Save is StateMachine's.
func (k *keeper) Save() ([]byte, error) {
	k.disk.mu.Lock()
	defer k.disk.mu.Unlock()
	return json.Marshal(k.disk.state)
}

// Recovery is StateMachine's. A state older than its own is none that it needs.
func (k *keeper) Recovery(state []byte) error {
	var s keeperState
	if err := json.Unmarshal(state, &s); err != nil {
		return err
	}
	k.disk.mu.Lock()
	defer k.disk.mu.Unlock()
	if s.Index > k.disk.state.Index {
		k.disk.state = s
	}
	return nil
}

// keepCommand is for keepers.
type keepCommand struct{ Value string }

// CommandName is Command's.
func (*keepCommand) CommandName() string { return "test:keep" }

// Apply hands the value to the keeper.
func (c *keepCommand) Apply(ctx Context) (interface{}, error) {
	ctx.Server().StateMachine().(*keeper).apply(ctx.CurrentIndex(), c.Value)
	return nil, nil
}

// Row 46: a server is killed at every step between Apply and the state machine's own
// disk, with snapshots between. Each entry comes into the state once, and the states
// of all servers are equal.
func TestFault046_KilledBetweenApplyAndSave(t *testing.T) {
	inCluster(t, 3, ClusterOptions{Options: []Option{WithSnapshotTrigger(7, 0)}}, func(c *clusterTest) {
		disks := map[string]*keeperDisk{}
		for _, name := range c.Names() {
			disks[name] = &keeperDisk{runs: map[uint64]int{}}
			require.NoError(t, c.registry(name).Register(&keepCommand{}))
		}
		var mu sync.Mutex
		victim, step := "", ""
		var reached, dead chan struct{}
		c.options.StateMachine = func(name string) StateMachine {
			k := &keeper{name: name, disk: disks[name]}
			k.at = func(now string) {
				mu.Lock()
				mine, here, until := name == victim && now == step, reached, dead
				if mine {
					victim = ""
				}
				mu.Unlock()
				if mine {
					close(here)
					<-until
					panic("test: killed") // nothing of this life comes behind
				}
			}
			return k
		}
		c.options.Context = nil
		require.NoError(t, c.Bootstrap(c.ctx))
		require.NoError(t, c.WaitForConverged(c.ctx))
		steps, rounds := []string{"read", "made", "kept"}, 18
		for round := range rounds {
			name := c.Names()[round%3]
			mu.Lock()
			victim, step = name, steps[round/3%3]
			reached, dead = make(chan struct{}), make(chan struct{})
			mu.Unlock()
			asked := c.async(c.leader(), &keepCommand{fmt.Sprint("x", round)})
			<-reached
			c.Crash(name)
			close(dead)
			<-asked
			for i := range 3 {
				_, err := c.Do(c.ctx, &keepCommand{fmt.Sprint("y", round, "-", i)})
				require.NoError(t, err)
			}
			require.NoError(t, c.Start(name))
			require.NoError(t, c.WaitForConverged(c.ctx))
			require.Equal(t, disks["s1"].state, disks["s2"].state)
			require.Equal(t, disks["s1"].state, disks["s3"].state)
		}
		require.Equal(t, 4*rounds, disks["s1"].state.Values)
		for _, entry := range c.leader().LogEntries() {
			for name, disk := range disks {
				if entry.CommandName() == "test:keep" {
					require.Equal(t, 1, disk.runs[entry.Index()], "%s: entry %d", name, entry.Index())
				}
			}
		}
		require.NotEmpty(t, c.snapshots("s1"))
	})
}

// refuseCommand is one that every server refuses, in one way.
type refuseCommand struct{ Text string }

// CommandName is Command's.
func (*refuseCommand) CommandName() string { return "test:refuse" }

// Apply refuses, which is a result like others.
func (c *refuseCommand) Apply(ctx Context) (interface{}, error) {
	ctx.Server().Context().(*journal).put(journalEntry{ctx.CurrentIndex(), ctx.CurrentTerm(), c.Text})
	return nil, errors.New(c.Text)
}

// Row 48: an Apply that fails on one server alone, because of what only that server
// lacks, stops it there: nothing is skipped, and with space it goes on from there. An
// error that Apply returns is a result, on all servers alike, and stops nobody.
func TestFault048_LocalFailureIsNoResult(t *testing.T) {
	inCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		full, victim := make(chan struct{}), "s2"
		c.during = func(ctx Context, value string) {
			if value == "x20" && ctx.Server().Name() == victim {
				select {
				case <-full:
				default:
					panic(fmt.Errorf("test: %w", syscall.ENOSPC))
				}
			}
		}
		for _, name := range c.Names() {
			require.NoError(t, c.registry(name).Register(&refuseCommand{}))
		}
		require.NoError(t, c.Bootstrap(c.ctx))
		require.NoError(t, c.WaitForConverged(c.ctx))
		c.puts("x", 1, 10)
		_, err := c.Do(c.ctx, &refuseCommand{"refused"})
		require.EqualError(t, err, "refused")
		require.NotErrorIs(t, err, ErrNotApplied)
		require.NotErrorIs(t, err, ErrOutcomeUnknown)
		c.converge()
		for name, s := range c.Servers() {
			require.NoError(t, s.Err(), name)
			require.Contains(t, c.journal(name).values(), "refused")
		}

		c.puts("x", 11, 19)
		for i := 20; i <= 30; i++ {
			if _, err := c.Do(c.ctx, &testCommand{fmt.Sprint("x", i)}); err != nil {
				requireUnknown(t, err) // the victim led
			}
		}
		failed := c.Server(victim)
		c.within(20*testElection, "it to stop there", func() bool { return failed.Err() != nil })
		var halt *HaltError
		require.ErrorAs(t, failed.Err(), &halt)
		require.ErrorContains(t, halt, syscall.ENOSPC.Error())
		require.Equal(t, halt.Index-1, failed.Status().LastApplied)
		require.NotContains(t, c.journal(victim).values(), "x20")
		require.NotContains(t, c.journal(victim).values(), "x21")
		c.pass(10 * testElection)
		require.NotEqual(t, victim, c.leader().Name())
		require.Equal(t, 31, len(c.journal(c.leader().Name()).values()))
		close(full)
		require.NoError(t, c.Restart(victim))
		c.converge()
		require.NoError(t, c.Server(victim).Err())
	})
}

// onceMachine applies a request once, however often its client sends it.
type onceMachine struct {
	*journal
	seen map[string]string // what the requests were answered
}

// Save is StateMachine's.
func (m *onceMachine) Save() ([]byte, error) { return json.Marshal(m.seen) }

// Recovery is StateMachine's.
func (m *onceMachine) Recovery(state []byte) error { return json.Unmarshal(state, &m.seen) }

// onceCommand has an id that its client gave it.
type onceCommand struct{ ID, Value string }

// CommandName is Command's.
func (*onceCommand) CommandName() string { return "test:once" }

// Apply answers a request that it has seen as it did then.
func (c *onceCommand) Apply(ctx Context) (interface{}, error) {
	m := ctx.Server().StateMachine().(*onceMachine)
	if _, seen := m.seen[c.ID]; !seen {
		m.seen[c.ID] = fmt.Sprint(len(m.seen)+1, ".", c.Value)
	}
	return m.seen[c.ID], nil
}

// Row 55: a command that is sent again is another entry, and applied again. A state
// machine that remembers the ids of requests answers the second one as the first,
// behind two changes of leaders and a snapshot.
func TestFault055_SentAgainIsAppliedAgain(t *testing.T) {
	inCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		c.machine = func(j *journal) StateMachine { return &onceMachine{j, map[string]string{}} }
		for _, name := range c.Names() {
			require.NoError(t, c.registry(name).Register(&onceCommand{}))
		}
		require.NoError(t, c.Bootstrap(c.ctx))
		require.NoError(t, c.WaitForConverged(c.ctx))
		// The first attempt's outcome is unknown, and it is committed in the end.
		old, heir := c.leader(), c.followers()[0]
		c.Network().Block(old.Name(), c.followers()[1])
		c.Network().Block(heir, old.Name())
		request, plain := &onceCommand{"r1", "v"}, &testCommand{"plain"}
		first, twice := c.async(old, request), c.async(old, plain)
		c.within(testElection, "the entries to reach a follower", func() bool {
			return c.Server(heir).Status().DurableIndex == old.Status().LastIndex && old.Status().LastIndex > 3
		})
		c.Isolate(old.Name())
		c.moved(old, 10*testElection)
		requireUnknown(t, (<-first).err)
		requireUnknown(t, (<-twice).err)
		c.Heal()
		again := func() (answers []interface{}) {
			for range 2 {
				answer, err := c.Do(c.ctx, request)
				require.NoError(t, err)
				answers = append(answers, answer)
			}
			return answers
		}
		want := []interface{}{"1.v", "1.v"}
		require.Equal(t, want, again())
		c.put("plain")
		second := c.leader()
		c.compacted(second.Status().LastIndex, "z")
		c.Crash(second.Name())
		c.within(10*testElection, "a third leader", func() bool { return c.Leader() != nil })
		require.Equal(t, want, again())
		require.NoError(t, c.Start(second.Name()))
		c.within(10*testElection, "the second to be back", func() bool {
			return c.Server(second.Name()).Status().LastApplied == c.leader().Status().LastIndex
		})
		for name, s := range c.Servers() {
			require.Equal(t, map[string]string{"r1": "1.v"}, s.StateMachine().(*onceMachine).seen, name)
		}
		values := c.journal(c.leader().Name()).values() // which has lived through it all
		require.Equal(t, 2, len(slices.DeleteFunc(slices.Clone(values), func(v string) bool { return v != "plain" })))
	})
}
