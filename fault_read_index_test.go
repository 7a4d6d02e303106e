package raft

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// Row 59, as a rule: a round is confirmed by answers to requests of that round, or a
// later one, of a majority of the voters, and by no others (dissertation §6.4).
func TestFault059_AnswersOfAnotherRound(t *testing.T) {
	five := newConfiguration(0, []member{
		{name: "a", voter: true}, {name: "b", voter: true}, {name: "c", voter: true}, {name: "d", voter: true}, {name: "e", voter: true}, {name: "learner"},
	})
	type answer struct {
		name  string
		round uint64
	}
	for name, c := range map[string]struct {
		rounds  int
		answers []answer
		want    uint64
	}{
		"nobody":                {rounds: 1},
		"one":                   {rounds: 1, answers: []answer{{"b", 1}}},
		"two":                   {rounds: 1, answers: []answer{{"b", 1}, {"c", 1}}, want: 1},
		"one twice":             {rounds: 1, answers: []answer{{"b", 1}, {"b", 1}}},
		"a learner":             {rounds: 1, answers: []answer{{"b", 1}, {"learner", 1}}},
		"a stranger":            {rounds: 1, answers: []answer{{"b", 1}, {"x", 1}}},
		"of before":             {rounds: 2, answers: []answer{{"b", 1}, {"c", 1}}, want: 1},
		"late":                  {rounds: 2, answers: []answer{{"b", 2}, {"b", 1}, {"c", 2}, {"c", 1}}, want: 2},
		"one of each":           {rounds: 2, answers: []answer{{"b", 1}, {"c", 2}}, want: 1},
		"none of any":           {rounds: 2, answers: []answer{{"b", 0}, {"c", 0}}},
		"of one never begun":    {rounds: 1, answers: []answer{{"b", 7}, {"c", 7}}, want: 1},
		"a later one serves":    {rounds: 3, answers: []answer{{"d", 3}, {"e", 3}}, want: 3},
		"the slower two decide": {rounds: 3, answers: []answer{{"b", 3}, {"c", 3}, {"d", 1}, {"e", 1}}, want: 3},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLeadership(&replica{name: "a"}, 1, map[string]uint64{})
			for range c.rounds {
				l.beginRound()
			}
			for _, a := range c.answers {
				l.confirm(a.name, a.round)
			}
			require.Equal(t, c.want, l.confirmedRound(five))
		})
	}
	t.Run("a leader without a vote", func(t *testing.T) {
		l := newLeadership(&replica{name: "gone"}, 1, map[string]uint64{})
		l.beginRound()
		l.confirm("a", 1)
		l.confirm("b", 1)
		require.Zero(t, l.confirmedRound(five), "its own word is none")
		l.confirm("c", 1)
		require.EqualValues(t, 1, l.confirmedRound(five))
	})
	t.Run("who has lost its store", func(t *testing.T) {
		for name, lose := range map[string]func(l *leadership){"fenced": func(l *leadership) { l.fence("b") }, "anew": func(l *leadership) { l.forget("b") }} {
			l := newLeadership(&replica{name: "a"}, 1, map[string]uint64{})
			l.beginRound()
			l.confirm("b", 1)
			lose(l)
			l.confirm("c", 1)
			require.Zero(t, l.confirmedRound(five), name)
		}
	})
}

// confusing is a transporter that gives to a question the answer to the one before.
type confusing struct {
	*MemoryTransporter
	confused *confusion
}

type confusion struct {
	mu   sync.Mutex
	last *ReadIndexResponse
	told int // so many wrong answers
}

// ReadIndexContext is ReadIndexTransporter's.
func (c confusing) ReadIndexContext(ctx context.Context, server Server, peer *Peer, req *ReadIndexRequest) (*ReadIndexResponse, error) {
	response, err := c.MemoryTransporter.ReadIndexContext(ctx, server, peer, req)
	c.confused.mu.Lock()
	defer c.confused.mu.Unlock()
	if err != nil {
		return response, err
	}
	last := c.confused.last
	c.confused.last = response
	if last != nil && last.Index < response.Index {
		c.confused.told++
		return last, nil
	}
	return response, nil
}

// An answer to another question is none: the read asks again.
func TestFault059_AnswersToAnotherQuestion(t *testing.T) {
	confused := &confusion{}
	options := ClusterOptions{Transporter: func(_ string, memory *MemoryTransporter) Transporter { return confusing{memory, confused} }}
	inRunningCluster(t, 3, options, func(c *clusterTest) {
		c.converge()
		follower := c.Server(c.followers()[0])
		for i := range 50 {
			value := fmt.Sprint("x", i)
			c.put(value)
			got := <-c.asyncRead(follower, Linearizable)
			require.NoError(c.t, got.err)
			require.Equal(c.t, value, got.value)
		}
		require.Greater(c.t, confused.told, 25)
	})
}

// A leader that is cut off, and too patient to notice, hears answers to what it sent
// before a read came. They say nothing of the time since.
func TestFault059_OldAnswersConfirmNothing(t *testing.T) {
	for seed := range uint64(10) {
		inRunningCluster(t, 3, ClusterOptions{Seed: seed}, func(c *clusterTest) {
			c.put("old")
			c.converge()
			old := c.leader()
			old.SetElectionTimeout(100 * testElection)
			others := c.followers()
			for _, name := range others {
				c.Network().Clog(name, old.Name())
			}
			c.pass(old.HeartbeatInterval()) // whose answers are on their way
			for _, name := range others {
				c.Network().Block(old.Name(), name)
			}
			var next Server
			c.within(10*testElection, "the next leader", func() bool {
				for _, name := range others {
					if s := c.Server(name); s.Status().Ready {
						next = s
					}
				}
				return next != nil
			})
			_, err := next.DoContext(c.ctx, &testCommand{"new"})
			require.NoError(c.t, err)
			read := c.asyncRead(old, Linearizable)
			c.pass(old.HeartbeatInterval() / 10)
			for _, name := range others {
				c.Network().Unclog(name, old.Name())
			}
			c.pass(old.HeartbeatInterval() / 10)
			require.Equal(c.t, Leader, old.State(), "it has heard them, and believes that it leads")
			require.Empty(c.t, read)
			c.Heal()
			if got := <-read; got.err == nil {
				require.Equal(c.t, "new", got.value)
			}
			c.converge()
		})
	}
}

// Row 59: a follower is suspended while it asks, the leader changes, and it asks again.
// What the first one said comes late.
func TestFault059_AnswerOfAnEarlierLeader(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		c.put("old")
		c.converge()
		old := c.leader()
		asks := c.followers()[0]
		c.Network().Clog(old.Name(), asks)
		read := c.asyncRead(c.Server(asks), Linearizable)
		c.pass(old.HeartbeatInterval()) // its answer is on its way
		c.Network().Pause(asks)
		term := old.Term()
		c.abdicates(old)
		c.within(20*testElection, "the next leader", func() bool { return c.Leader() != nil && c.Leader().Term() > term })
		c.put("new")
		second := c.asyncRead(c.Server(asks), Linearizable)
		c.Network().Resume(asks)
		c.Network().Unclog(old.Name(), asks)
		if got := <-read; got.err == nil {
			require.True(c.t, slices.Contains([]interface{}{"old", "new"}, got.value), "it began before")
		}
		got := <-second
		require.NoError(c.t, got.err)
		require.Equal(c.t, "new", got.value)
	})
}
