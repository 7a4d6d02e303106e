package raft

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/goraft/raft/internal/vfs"
	"github.com/goraft/raft/internal/wal"
	"github.com/stretchr/testify/require"
)

// reforming is a cluster whose testCommands change the members from inside Apply:
// "add s4", "add s4 address", "remove s3", several of them behind semicolons.
type reforming struct {
	*clusterTest
	mu      sync.Mutex
	answers map[uint64]string // what Apply was told, by index
	// meanwhile is called on each server, within Apply, after its changes.
	meanwhile func(ctx Context, value string)
}

func inReformingCluster(t *testing.T, n int, options ClusterOptions, f func(c *reforming)) {
	t.Helper()
	inCluster(t, n, options, func(c *clusterTest) {
		r := &reforming{clusterTest: c, answers: make(map[uint64]string)}
		c.during = r.change
		require.NoError(t, c.Bootstrap(c.ctx))
		require.NoError(t, c.WaitForConverged(c.ctx))
		f(r)
	})
}

// change does what the value says; what it is told must be the same on every
// server and in every life.
func (c *reforming) change(ctx Context, value string) {
	var answers []string
	for _, call := range strings.Split(value, ";") {
		words := strings.Fields(call)
		var err error
		switch {
		case len(words) < 2:
		case words[0] == "add":
			err = ctx.Server().AddPeer(words[1], strings.Join(append(words[2:], c.addressFor(words)...), ""))
		case words[0] == "remove":
			err = ctx.Server().RemovePeer(words[1])
		}
		answers = append(answers, fmt.Sprint(err))
	}
	told := strings.Join(answers, "; ")
	c.mu.Lock()
	before, known := c.answers[ctx.CurrentIndex()]
	c.answers[ctx.CurrentIndex()] = told
	meanwhile := c.meanwhile
	c.mu.Unlock()
	if known && before != told {
		c.t.Errorf("%s: Apply of %d was told %q, elsewhere %q", ctx.Server().Name(), ctx.CurrentIndex(), told, before)
	}
	if meanwhile != nil {
		meanwhile(ctx, value)
	}
}

func (c *reforming) addressFor(words []string) []string {
	if len(words) > 2 {
		return nil
	}
	return []string{c.ConnectionString(words[1])}
}

func (c *reforming) setMeanwhile(f func(ctx Context, value string)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.meanwhile = f
}

// told is what the last Apply was told.
func (c *reforming) told() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var last uint64
	for index := range c.answers {
		last = max(last, index)
	}
	return c.answers[last]
}

// configurations are the configurations in the leader's log, in order.
func (c *reforming) configurations() (all []*configuration) {
	c.t.Helper()
	view := c.leader().(*server).now().view
	for i := view.terms.base.index + 1; i <= view.terms.end; {
		records, last, err := view.read(i, view.terms.end, 1<<20)
		require.NoError(c.t, err)
		for i = last + 1; len(records) > 0; {
			record, rest, err := wal.NextRecord(records)
			require.NoError(c.t, err)
			if record.Kind() == kindConfiguration {
				configuration, err := decodeConfiguration(record.Data(), record.Index())
				require.NoError(c.t, err)
				all = append(all, configuration)
			}
			records = rest
		}
	}
	return all
}

// additions counts the entries that made name a member that it was not before.
func (c *reforming) additions(name string) (n int) {
	before := newConfiguration(0, nil)
	for _, now := range c.configurations() {
		if m := now.find(name); m != nil && (before.find(name) == nil || before.find(name).incarnation != m.incarnation) {
			n++
		}
		before = now
	}
	return n
}

// settled waits until every started member has applied a configuration that has
// taken up as far as that.
func (c *reforming) settled(index uint64) {
	c.t.Helper()
	c.within(20*testElection, fmt.Sprintf("the intents of %d to be taken up", index), func() bool {
		leader := c.Leader()
		if leader == nil || leader.Status().ConfigurationIndex > leader.Status().CommitIndex {
			return false
		}
		all := c.configurations()
		return len(all) > 0 && !(intentID{index, 1}).after(all[len(all)-1].taken)
	})
}

func TestAddPeerInsideApply(t *testing.T) {
	for name, options := range transports {
		t.Run(name, func(t *testing.T) {
			inReformingCluster(t, 3, options, func(c *reforming) {
				late := c.Add()
				require.NoError(t, c.Start(late))
				c.put("add " + late)
				require.Equal(t, "<nil>", c.told())
				c.within(10*testElection, "it to vote", func() bool { return c.leader().QuorumSize() == 3 })
				require.Equal(t, 1, c.additions(late))
				require.Equal(t, c.ConnectionString(late), c.leader().Peers()[late].ConnectionString)
				c.put("remove " + late)
				require.Equal(t, "<nil>", c.told())
				c.within(10*testElection, "it to go", func() bool { return c.leader().MemberCount() == 3 && c.Server(late).Err() == ErrRemoved })
				c.put("remove " + late)
				require.Equal(t, "raft: Peer not found: "+late, c.told())
				c.put("end")
				c.converge()
			})
		})
	}
}

// The leader applies, and so knows what to do, but can do it no more; the next
// one applies the same entry.
func TestIntentOutlivesTheLeader(t *testing.T) {
	inReformingCluster(t, 3, ClusterOptions{}, func(c *reforming) {
		late := c.Add()
		require.NoError(t, c.Start(late))
		old := c.leader()
		c.setMeanwhile(func(ctx Context, value string) {
			if ctx.Server().Name() == old.Name() {
				c.Isolate(old.Name())
			}
		})
		c.put("add " + late)
		c.setMeanwhile(nil)
		require.NotContains(t, c.journal(c.followers()[0]).values(), "add "+late)
		c.within(testElection, "the leader to try", func() bool { return old.MemberCount() == 4 })
		c.crash(c.node(old.Name()), vfs.Everything)
		c.Heal()
		leader, err := c.WaitForLeader(c.ctx)
		require.NoError(t, err)
		c.within(20*testElection, "the member", func() bool { return leader.QuorumSize() == 3 })
		require.Equal(t, 1, c.additions(late))
		require.NoError(t, c.Start(old.Name()))
		c.put("end")
		c.converge()
		require.Equal(t, 1, c.additions(late))
	})
}

// The entry that takes the intent up is on one other server only when the leader
// dies, which then leads with it, or does not.
func TestIntentIsTakenUpOnce(t *testing.T) {
	for _, kept := range []bool{true, false} {
		t.Run(fmt.Sprint(kept), func(t *testing.T) {
			inReformingCluster(t, 3, ClusterOptions{}, func(c *reforming) {
				late := c.Add()
				require.NoError(t, c.Start(late))
				old, follower, deaf := c.leader(), c.followers()[0], c.followers()[1]
				mark := make(chan uint64, 1)
				c.setMeanwhile(func(ctx Context, value string) {
					if ctx.Server().Name() == old.Name() {
						mark <- ctx.CurrentIndex()
						c.Network().Intercept(func(m MemoryMessage) bool {
							return m.From != old.Name() && m.To != old.Name() || m.From == old.Name() && m.To == follower
						})
					}
				})
				c.put("add " + late)
				c.setMeanwhile(nil)
				index := <-mark
				c.within(testElection, "the follower to have the entry", func() bool {
					return c.Server(follower).MemberCount() == 4 && c.Server(follower).Status().DurableIndex > index
				})
				require.Equal(t, 3, c.Server(deaf).MemberCount())
				if kept {
					c.Crash(old.Name())
				} else {
					c.crash(c.node(follower), vfs.Nothing)
					c.pass(5 * testElection) // the leader steps down
					require.NoError(t, c.Start(follower))
					c.Crash(old.Name())
				}
				c.Network().Intercept(nil)
				leader, err := c.WaitForLeader(c.ctx)
				require.NoError(t, err)
				c.settled(index)
				c.within(20*testElection, "the member", func() bool { return leader.QuorumSize() == 3 })
				require.NoError(t, c.Start(old.Name()))
				c.put("end")
				c.converge()
				require.Equal(t, 1, c.additions(late))
				var taken int
				for _, configuration := range c.configurations() {
					if configuration.find(late) != nil && configuration.find(late).incarnation == configuration.index {
						taken++
						require.Equal(t, intentID{index, 1}, configuration.taken)
					}
				}
				require.Equal(t, 1, taken)
			})
		})
	}
}

// The servers stop in the very Apply that asks, and ask again when they replay.
func TestIntentOutlivesARestart(t *testing.T) {
	for _, n := range []int{1, 3} {
		inReformingCluster(t, n, ClusterOptions{}, func(c *reforming) {
			late := c.Add()
			require.NoError(t, c.Start(late))
			leader := c.leader()
			c.setMeanwhile(func(ctx Context, _ string) {
				if ctx.Server().Name() == leader.Name() {
					leader.Stop()
				}
			})
			_, _ = leader.Do(&testCommand{"add " + late})
			c.setMeanwhile(nil)
			for _, name := range c.Names() {
				c.Stop(name)
			}
			require.NoError(t, c.StartAll())
			_, err := c.WaitForLeader(c.ctx)
			require.NoError(t, err)
			c.within(20*testElection, "the member", func() bool { return c.Leader() != nil && c.leader().QuorumSize() == (n+1)/2+1 })
			require.Equal(t, 1, c.additions(late))

			// What is taken up stays so.
			for range 2 {
				for _, name := range c.Names() {
					require.NoError(t, c.Restart(name))
				}
				c.converge()
				require.Equal(t, 1, c.additions(late))
			}
			c.put("remove " + late)
			c.within(20*testElection, "it to go", func() bool { return c.leader().MemberCount() == n })
			c.Stop(late)
			for _, name := range c.Names()[:n] {
				require.NoError(t, c.Restart(name))
			}
			c.put("end")
			c.converge()
			require.Equal(t, n, c.leader().MemberCount())
			require.Equal(t, 1, c.additions(late))
		})
	}
}

func TestAddressChangesInsideApply(t *testing.T) {
	inReformingCluster(t, 3, ClusterOptions{}, func(c *reforming) {
		moved := c.followers()[0]
		before := c.configurations()
		was := *before[len(before)-1].find(moved)
		c.put("remove " + moved + "; add " + moved + " elsewhere")
		require.Equal(t, "<nil>; <nil>", c.told())
		c.within(testElection, "the move", func() bool {
			peer := c.leader().Peers()[moved]
			return peer != nil && peer.ConnectionString == "elsewhere"
		})
		for _, configuration := range c.configurations()[len(before)-1:] {
			now := *configuration.find(moved)
			now.connectionString, was.connectionString, now.rejoins = "", "", false
			require.Equal(t, was, now, "incarnation, store and vote stay")
		}
		require.NoError(t, c.Server(moved).Err())
		c.put("add " + c.leader().Name() + " here")
		c.within(testElection, "the leader's own", func() bool {
			return c.Server(moved).Peers()[c.leader().Name()].ConnectionString == "here"
		})
		c.converge()
	})
}

// What changes nothing, or is refused, is done with all the same.
func TestIntentsThatChangeNothing(t *testing.T) {
	inReformingCluster(t, 3, ClusterOptions{}, func(c *reforming) {
		leader, dead, alive := c.leader(), c.followers()[0], c.followers()[1]
		entries := len(c.configurations())
		c.put("add s1; add s2; add s3")
		require.Equal(t, "<nil>; <nil>; <nil>", c.told())
		c.settled(leader.CommitIndex() - 1)
		// The leader knows that it has kept its store, the others show it.
		c.within(testElection, "all three", func() bool {
			now := c.configurations()[len(c.configurations())-1]
			return now.taken.number == 3 && !slices.ContainsFunc(now.members, func(m member) bool { return m.rejoins })
		})
		require.LessOrEqual(t, len(c.configurations()), entries+4)

		c.Stop(dead)
		c.pass(3 * testElection)
		index := leader.Status().LastIndex + 1
		c.put("remove " + alive)
		require.Equal(t, "<nil>", c.told(), "whether it can be done now is not for Apply to know")
		c.settled(index)
		require.Equal(t, 3, leader.MemberCount())
		require.NoError(t, c.Start(dead))
		c.pass(20 * testElection)
		require.Equal(t, 3, leader.MemberCount(), "it does not come to life")
		for _, name := range c.Names() {
			require.NoError(t, c.Restart(name))
		}
		c.converge()
		c.pass(20 * testElection)
		require.Equal(t, 3, c.leader().MemberCount())
		c.put("remove " + alive)
		c.within(testElection, "another one", func() bool { return c.leader().MemberCount() == 2 })
	})
}

// What was asked for by Do goes before what Apply asked for, each in its order.
func TestOrderOfChanges(t *testing.T) {
	inReformingCluster(t, 3, ClusterOptions{}, func(c *reforming) {
		leader := c.leader()
		free := make(chan struct{})
		c.setMeanwhile(func(ctx Context, _ string) {
			if ctx.Server().Name() == leader.Name() {
				<-free
			}
		})
		waiting := []<-chan outcome{c.async(leader, &testCommand{"add x1 -; add x2 -; remove x1"})}
		c.within(testElection, "the command to be committed", func() bool {
			return leader.CommitIndex() == leader.Status().LastIndex && leader.Status().LastApplied < leader.CommitIndex()
		})
		c.Network().Intercept(func(m MemoryMessage) bool { return m.To != leader.Name() })
		for _, name := range []string{"y1", "y2", "y3"} {
			waiting = append(waiting, c.async(leader, &DefaultJoinCommand{Name: name, ConnectionString: "-"}))
			c.pass(testElection / 100)
		}
		waiting = append(waiting, c.async(leader, &DefaultLeaveCommand{Name: "y2"}))
		c.pass(testElection / 100)
		close(free)
		c.pass(testElection / 100)
		c.Network().Intercept(nil)
		for _, done := range waiting {
			require.NoError(t, (<-done).err)
		}
		c.within(10*testElection, "all of it", func() bool { return leader.Peers()["x2"] != nil && leader.Peers()["x1"] == nil })
		var order []string
		before := []string{"s1", "s2", "s3"}
		for _, configuration := range c.configurations() {
			var names []string
			for _, m := range configuration.members {
				names = append(names, m.name)
				if !slices.Contains(before, m.name) {
					order = append(order, "+"+m.name)
				}
			}
			for _, name := range before {
				if !slices.Contains(names, name) {
					order = append(order, "-"+name)
				}
			}
			before = names
		}
		require.Equal(t, []string{"+y1", "+y2", "+y3", "-y2", "+x1", "+x2", "-x1"}, order)
	})
}

// A snapshot that was taken while an intent waits has it: what is restored from it
// does not need the entry that asked.
func TestSnapshotCarriesIntents(t *testing.T) {
	inReformingCluster(t, 3, ClusterOptions{}, func(c *reforming) {
		leader := c.leader()
		late := c.Add()
		require.NoError(t, c.Start(late))
		c.setMeanwhile(func(Context, string) {
			c.Network().Intercept(func(m MemoryMessage) bool { return m.To != leader.Name() })
		})
		c.put("add " + late)
		c.setMeanwhile(nil)
		require.NoError(t, leader.TakeSnapshot())
		require.Equal(t, leader.Status().LastApplied, leader.Status().SnapshotIndex)
		require.Less(t, leader.Status().SnapshotIndex, leader.Status().ConfigurationIndex, "it is staged, not committed")
		// Its own disk loses the entry that takes the intent up.
		c.crash(c.node(leader.Name()), vfs.Nothing)
		for _, name := range c.Names() {
			c.Stop(name)
		}
		c.Network().Intercept(func(m MemoryMessage) bool {
			_, vote := m.Message.(*RequestVoteRequest)
			return !vote || m.From == leader.Name() // it is to lead again
		})
		require.NoError(t, c.StartAll())
		c.within(20*testElection, "the member", func() bool { return c.Leader() != nil && c.leader().QuorumSize() == 3 })
		require.Equal(t, 1, c.additions(late))
		require.Equal(t, 1, c.journal(leader.Name()).recovered)
		c.put("end")
		c.converge()
	})
}

// Listeners may change the members and wait for it.
func TestChangesFromAListener(t *testing.T) {
	inReformingCluster(t, 3, ClusterOptions{}, func(c *reforming) {
		leader := c.leader()
		late := c.Add()
		require.NoError(t, c.Start(late))
		errs := make(chan error, 10)
		leader.AddEventListener(CommitEventType, func(e Event) {
			if e.Value().(*LogEntry).CommandName() == "test:put" {
				errs <- leader.AddPeer(late, c.ConnectionString(late))
				errs <- leader.RemovePeer(late)
				errs <- leader.RemovePeer("nobody")
			}
		})
		c.put("x")
		require.NoError(t, <-errs)
		require.NoError(t, <-errs)
		require.EqualError(t, <-errs, "raft: Peer not found: nobody")
		require.Equal(t, 1, c.additions(late))
	})
}
