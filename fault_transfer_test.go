package raft

import (
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// stand is the leader's word to the server, as a request.
func standNow(leader, to Server) *TimeoutNowRequest {
	return &TimeoutNowRequest{
		Term: leader.Term(), LeaderName: leader.Name(), ClusterID: leader.ClusterID(),
		To: to.Name(), StoreID: leader.StoreID(), ToStoreID: to.StoreID(),
	}
}

// Row 22: who may not lead is not made to stand by any word, however late it
// comes.
func TestFault022_WhoMayNotLeadDoesNotStand(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		leader, follower := c.leader(), c.Server(c.followers()[0])
		term := leader.Term()

		// A learner: what would promote it does not reach anybody.
		late := c.Add()
		require.NoError(t, c.Start(late))
		learner := c.Server(late)
		var promoted atomic.Bool
		c.Network().Intercept(func(m MemoryMessage) bool {
			if _, ok := m.Message.(*AppendEntriesResponse); ok && m.From == late && learner.Status().LastIndex > 0 {
				promoted.Store(true)
				return false
			}
			return true
		})
		require.NoError(t, leader.AddPeer(late, c.ConnectionString(late)))
		c.within(10*testElection, "the learner to learn", func() bool { return promoted.Load() && learner.Leader() == leader.Name() })
		require.Equal(t, 2, leader.QuorumSize())
		require.False(t, learner.TimeoutNow(standNow(leader, learner)).Success)
		c.Network().Intercept(nil)
		c.within(20*testElection, "the promotion", func() bool { return leader.QuorumSize() == 3 })

		// A server that was removed.
		c.leave(late)
		c.within(testElection, "it to know", func() bool { return learner.Err() == ErrRemoved })
		require.False(t, learner.TimeoutNow(standNow(leader, learner)).Success)

		// The leader itself, an old term, and another leader's word.
		require.False(t, leader.TimeoutNow(standNow(follower, leader)).Success)
		old := standNow(leader, follower)
		old.Term--
		require.False(t, follower.TimeoutNow(old).Success)
		other := standNow(leader, follower)
		other.LeaderName = c.followers()[1]
		require.False(t, follower.TimeoutNow(other).Success)
		c.pass(testElection)
		require.Equal(t, term, leader.Term())
		require.Equal(t, leader, c.Leader())

		// The one that may stands at once, although the others hear of the leader.
		word := standNow(leader, follower)
		require.True(t, follower.TimeoutNow(word).Success)
		c.within(testElection/10, "the follower to lead", func() bool { return c.Leader() == follower })
		require.Equal(t, term+1, follower.Term())
		c.put("x")
		c.converge()

		// A hundred election timeouts later the word means nothing.
		c.pass(100 * testElection)
		for _, name := range c.Names() {
			if s := c.Server(name); name != late {
				word.To, word.ToStoreID = name, s.StoreID()
				require.False(t, s.TimeoutNow(word).Success, name)
			}
		}
		require.Equal(t, term+1, follower.Term())
		require.Equal(t, follower, c.Leader())
	})
}

// A server that cannot apply neither stands because it is told to, nor keeps an
// office: it tells the best of the others to stand.
func TestFault047_HaltedServersAndHandOver(t *testing.T) {
	inCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		var victims atomic.Pointer[string]
		c.during = func(ctx Context, value string) {
			if victim := victims.Load(); value == "boom" && victim != nil && ctx.Server().Name() == *victim {
				panic("test: boom")
			}
		}
		require.NoError(t, c.Bootstrap(c.ctx))
		require.NoError(t, c.WaitForConverged(c.ctx))
		leader, follower := c.leader(), c.Server(c.followers()[0])
		name := follower.Name()
		victims.Store(&name)
		c.put("boom")
		c.within(testElection, "the follower to halt", func() bool { return follower.Err() != nil })
		require.False(t, follower.TimeoutNow(standNow(leader, follower)).Success)

		second := leader.Name()
		victims.Store(&second)
		_, err := leader.DoContext(c.ctx, &testCommand{"boom"})
		requireUnknown(t, err)
		c.within(testElection/3, "another leader", func() bool { return c.Leader() != nil && c.leader() != leader })
		require.NotEqual(t, follower, c.leader(), "it is halted, and said so")
	})
}

// inOneTurn has the server take the word to stand and something else together.
func (c *clusterTest) inOneTurn(s Server, word *TimeoutNowRequest, then any) *TimeoutNowResponse {
	answer := make(chan *TimeoutNowResponse, 1)
	inbox := s.(*server).lifecycle.run.Load().inbox
	inbox.put(control(func(*eventLoop) {
		inbox.put(&timeoutNowCall{word, answer})
		inbox.put(then)
	}))
	return <-answer
}

// Row 19: what the leader sent before, and arrives after, its word to stand does not
// take that back: nobody else was told, so all would wait for their timers.
func TestFault019_WhoSaysThatItStandsDoes(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		leader, heir := c.leader(), c.Server(c.followers()[0])
		now := leader.Status()
		heartbeat := &appendCall{req: &AppendEntriesRequest{
			Term: now.Term, LeaderName: now.Name, ClusterID: now.ClusterID, PrevLogIndex: now.LastIndex, PrevLogTerm: now.LastTerm,
		}, responder: &heardAnswers{}}
		require.NoError(t, heartbeat.read())
		require.True(t, c.inOneTurn(heir, standNow(leader, heir), heartbeat).Success)
		c.within(testElection/10, "it to lead", func() bool { return heir.State() == Leader })
		require.Equal(t, now.Term+1, heir.Term())
	})
}

// Row 8: of a word to stand that came to nothing, since a later term had begun,
// nothing is left when the server stands for its own reasons.
func TestFault008_OldWordDisturbsNobody(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		leader, heir := c.leader(), c.Server(c.followers()[0])
		term := leader.Term() + 5
		later := &voteCall{&RequestVoteRequest{
			Term: term, CandidateName: c.followers()[1], ClusterID: leader.ClusterID(), LastLogTerm: term,
		}, make(chan *RequestVoteResponse, 1)}
		c.Isolate(heir.Name())
		c.inOneTurn(heir, standNow(leader, heir), later)
		require.True(t, (<-later.answer).VoteGranted)
		c.pass(20 * testElection)
		require.Equal(t, term, heir.Term(), "it asks for pre-votes")
	})
}

// heardAnswers counts answers to AppendEntries.
type heardAnswers struct{ count atomic.Int32 }

func (h *heardAnswers) answerAppend(*AppendEntriesResponse) { h.count.Add(1) }
