package raft

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/goraft/raft/internal/vfs"
	"github.com/stretchr/testify/require"
)

// scripted is a Transporter whose AppendEntries requests are answered by a
// function, each on the sender's goroutine.
type scripted struct {
	deaf
	calls  atomic.Int64
	answer func(req *AppendEntriesRequest) *AppendEntriesResponse
}

func (s *scripted) SendAppendEntriesRequest(_ Server, _ *Peer, req *AppendEntriesRequest) *AppendEntriesResponse {
	s.calls.Add(1)
	return s.answer(req)
}

// withLearner makes s the leader of a cluster of one with the learner b behind
// the transporter.
func withLearner(t *testing.T, s *server, transporter Transporter) {
	s.SetTransporter(transporter)
	begun(t, s)
	_, err := s.Do(&DefaultJoinCommand{Name: "b"})
	require.NoError(t, err)
}

// A peer that is down refuses connections at once. The sender tries again with
// the heartbeats, not as fast as it is refused.
func TestSenderDoesNotSpinOnRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newLone(t, vfs.NewMem(), nil)
		down := &scripted{}
		down.answer = func(*AppendEntriesRequest) *AppendEntriesResponse {
			if down.calls.Load() > 1000 {
				<-time.After(time.Second) // lets a sender that spins fail, not hang
			}
			return nil
		}
		withLearner(t, s, down)
		before := down.calls.Load()
		<-time.After(10 * s.HeartbeatInterval())
		require.LessOrEqual(t, down.calls.Load()-before, int64(40))
		require.Positive(t, down.calls.Load()-before)
		s.Stop()
	})
}

// follower answers like a server with an empty log of its own: what it stores it
// remembers as terms by index.
type follower struct {
	mu    sync.Mutex
	terms []uint64
	lose  func(n int64) (request, response bool)
	n     atomic.Int64
}

func (f *follower) stored() []uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.terms
}

func (f *follower) answer(req *AppendEntriesRequest) *AppendEntriesResponse {
	f.mu.Lock()
	defer f.mu.Unlock()
	request, response := false, false
	if f.lose != nil {
		request, response = f.lose(f.n.Add(1))
	}
	if request {
		return nil
	}
	answer := newAppendEntriesResponse(req.Term, uint64(len(f.terms)), 0, false)
	answer.From, answer.StoreID, answer.Sequence, answer.ClusterID = "b", 42, req.Sequence, req.ClusterID
	if req.PrevLogIndex > uint64(len(f.terms)) {
		if answer.ConflictIndex = uint64(len(f.terms)); len(f.terms) > 0 {
			answer.ConflictTerm = f.terms[len(f.terms)-1]
		}
	} else {
		for i, e := range req.Entries {
			if at := req.PrevLogIndex + uint64(i); at == uint64(len(f.terms)) {
				f.terms = append(f.terms, e.GetTerm())
			}
		}
		answer.success, answer.index = true, req.PrevLogIndex+uint64(len(req.Entries))
	}
	if response {
		return nil
	}
	return answer
}

// An answer that says only that the peer still follows does not wake the event loop,
// and counts for the quorum and for LastActivity all the same.
func TestHeartbeatAnswersLetTheLoopSleep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newLone(t, vfs.NewMem(), nil)
		f := &follower{}
		withLearner(t, s, &scripted{answer: f.answer})
		<-time.After(10 * s.ElectionTimeout())
		inbox, left := s.lifecycle.run.Load().inbox, 0
		for range 100 {
			<-time.After(s.HeartbeatInterval())
			synctest.Wait()
			inbox.mu.Lock()
			if len(inbox.mu.items) > 0 {
				left++
				require.False(t, inbox.mu.told)
			}
			inbox.mu.Unlock()
			require.Equal(t, Leader, s.State())
			require.Less(t, time.Since(s.Peers()["b"].LastActivity()), s.ElectionTimeout())
		}
		require.Greater(t, left, 10)
		s.Stop()
	})
}

// However the time of a heartbeat came about, the next one is on the beat, and never
// more than an interval away.
func TestUntilBeat(t *testing.T) {
	for _, interval := range []time.Duration{1, 2, 3, 999, time.Microsecond, 50 * time.Millisecond, time.Hour} {
		for seed := range uint64(50) {
			dice := rand.New(rand.NewPCG(seed, 1))
			offset := beatOffset(dice, interval)
			require.Positive(t, offset)
			require.LessOrEqual(t, offset, interval/1000+1)
			for _, passed := range []time.Duration{0, 1, offset, offset + 1, interval, interval + offset, time.Duration(dice.Int64N(int64(1000 * interval)))} {
				until := untilBeat(passed, offset, interval)
				require.Positive(t, until)
				require.LessOrEqual(t, until, interval)
				require.Zero(t, (passed+until-offset)%interval)
			}
		}
	}
}

// Idle servers are woken for all of a leader's heartbeats at once, an interval after
// those before, and no two are sent at the same time.
func TestHeartbeatsGoOutTogether(t *testing.T) {
	inCluster(t, 5, ClusterOptions{}, func(c *clusterTest) {
		var mu sync.Mutex
		var sent []time.Time
		require.NoError(t, c.Bootstrap(c.ctx))
		c.converge()
		interval := beatOf(c.leader().HeartbeatInterval())
		c.pass(3 * interval)
		c.Network().SetFates(func(m MemoryMessage, _ *rand.Rand) Fate {
			if !m.Answer {
				mu.Lock()
				defer mu.Unlock()
				sent = append(sent, time.Now())
			}
			return Fate{}
		})
		c.pass(10*interval + interval/2)
		mu.Lock()
		defer mu.Unlock()
		require.GreaterOrEqual(t, len(sent), 40)
		require.Zero(t, len(sent)%4)
		for i := range sent[1:] {
			apart := sent[i+1].Sub(sent[i])
			require.Positive(t, apart)
			if i%4 == 3 {
				require.InDelta(t, interval, apart, float64(interval/100))
			} else {
				require.LessOrEqual(t, apart, interval/1000)
			}
		}
	})
}

// A shorter interval counts before the next heartbeat is due by the old one: entries
// that flow may put that off for ever.
func TestShorterIntervalWhileEntriesFlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newLone(t, vfs.NewMem(), nil)
		var mu sync.Mutex
		var last time.Time
		var apart []time.Duration
		f := &follower{}
		withLearner(t, s, &scripted{answer: func(req *AppendEntriesRequest) *AppendEntriesResponse {
			mu.Lock()
			apart, last = append(apart, time.Since(last)), time.Now()
			mu.Unlock()
			return f.answer(req)
		}})
		old := s.HeartbeatInterval()
		<-time.After(10*old + old/2) // between two heartbeats
		s.SetHeartbeatInterval(old / 10)
		for i := range 20 {
			_, err := s.Do(&tick{})
			require.NoError(t, err)
			<-time.After(old * 8 / 10)
			mu.Lock()
			if i >= 3 { // what ran by the old one is over
				require.Greater(t, len(apart), 7)
				require.LessOrEqual(t, slices.Max(apart), old/10)
			}
			apart = nil
			mu.Unlock()
		}
		s.Stop()
	})
}

// However close the beat is when a sender begins, its stream has time to open before
// single calls take its place.
func TestStreamsOpenBeforeTheFirstBeat(t *testing.T) {
	inCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		var calls, streamed atomic.Int64
		c.Network().SetFates(func(m MemoryMessage, _ *rand.Rand) Fate {
			if _, ok := m.Message.(*AppendEntriesRequest); ok && m.Stream {
				streamed.Add(1)
			} else if ok {
				calls.Add(1)
			}
			return Fate{Delay: testElection / 30}
		})
		require.NoError(t, c.Bootstrap(c.ctx))
		c.converge()
		require.Positive(t, streamed.Load())
		require.Zero(t, calls.Load())
	})
}

// Row 36: whichever message is lost, request or answer, the peer has everything
// within a few heartbeats.
func TestSenderRecoversFromEveryLoss(t *testing.T) {
	for k := range int64(12) {
		for _, both := range []bool{true, false} {
			synctest.Test(t, func(t *testing.T) {
				s := newLone(t, vfs.NewMem(), nil)
				f := &follower{lose: func(n int64) (bool, bool) { return n == k+1 && both, n == k+1 }}
				withLearner(t, s, &scripted{answer: f.answer})
				for n := range 5 {
					_, err := s.Do(&tick{N: n})
					require.NoError(t, err)
				}
				<-time.After(6 * s.HeartbeatInterval())
				require.Len(t, f.stored(), int(s.Status().LastIndex), "message %d", k+1)
				s.Stop()
			})
		}
	}
}

// A learner that has caught up gets its vote by itself.
func TestSenderPromotesLearner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newLone(t, vfs.NewMem(), nil)
		f := &follower{}
		withLearner(t, s, &scripted{answer: f.answer})
		<-time.After(20 * s.HeartbeatInterval())
		require.Equal(t, 2, s.QuorumSize())
		require.Equal(t, s.Status().LastIndex, s.CommitIndex())
		require.Len(t, f.stored(), int(s.Status().LastIndex))
		require.Equal(t, Leader, s.State())
		s.Stop()
	})
}

// Row 112: a transport that hangs holds up neither Stop nor the number of
// goroutines nor the leader's other work.
func TestSenderHungTransport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newLone(t, vfs.NewMem(), nil)
		release := make(chan struct{})
		hung := &scripted{answer: func(*AppendEntriesRequest) *AppendEntriesResponse { <-release; return nil }}
		withLearner(t, s, hung)
		for n := range 10 {
			_, err := s.Do(&tick{N: n})
			require.NoError(t, err)
			<-time.After(s.ElectionTimeout())
		}
		require.EqualValues(t, maxCalls, hung.calls.Load())
		require.LessOrEqual(t, within(t, "Stop", s.Stop), 2*s.ElectionTimeout())
		require.ErrorIs(t, s.Start(), ErrStillRunning)
		close(release)
		synctest.Wait()
		require.NoError(t, s.Start())
		s.Stop()
	})
}

// streaming is a Transporter with streams to one follower, which can be cut.
type streaming struct {
	scripted
	follower *follower
	opens    atomic.Int64
	open     func() error
	last     atomic.Pointer[pipe]
}

type pipe struct {
	follower *follower
	answers  chan *AppendEntriesResponse
	closed   chan struct{}
	once     atomic.Bool
}

func (s *streaming) OpenAppendStream(ctx context.Context, _ Server, _ *Peer) (AppendStream, error) {
	s.opens.Add(1)
	if s.open != nil {
		if err := s.open(); err != nil {
			return nil, err
		}
	}
	p := &pipe{follower: s.follower, answers: make(chan *AppendEntriesResponse, 1024), closed: make(chan struct{})}
	s.last.Store(p)
	return p, nil
}

func (p *pipe) Send(req *AppendEntriesRequest) error {
	select {
	case <-p.closed:
		return StopError
	default:
	}
	copied := *req
	if err := copied.fillEntries(); err != nil {
		return err
	}
	if answer := p.follower.answer(&copied); answer != nil {
		p.answers <- answer
	}
	return nil
}

func (p *pipe) Receive() (*AppendEntriesResponse, error) {
	select {
	case answer := <-p.answers:
		return answer, nil
	case <-p.closed:
		return nil, StopError
	}
}

func (p *pipe) Close() error {
	if p.once.CompareAndSwap(false, true) {
		close(p.closed)
	}
	return nil
}

// On a stream, too, lost messages and cut connections are made good, and none of
// the connections stays open.
func TestSenderStreamRecovers(t *testing.T) {
	for k := range int64(10) {
		for _, cut := range []bool{true, false} {
			synctest.Test(t, func(t *testing.T) {
				s := newLone(t, vfs.NewMem(), nil)
				f := &follower{}
				transporter := &streaming{follower: f}
				f.lose = func(n int64) (bool, bool) {
					if n != k+1 {
						return false, false
					}
					if cut {
						transporter.last.Load().Close()
					}
					return true, true
				}
				withLearner(t, s, transporter)
				for n := range 5 {
					_, err := s.Do(&tick{N: n})
					require.NoError(t, err)
				}
				<-time.After(2*s.ElectionTimeout() + 6*s.HeartbeatInterval())
				require.Len(t, f.stored(), int(s.Status().LastIndex), "message %d", k+1)
				s.Stop()
				require.True(t, transporter.last.Load().once.Load(), "left open")
			})
		}
	}
}

// A stream that is opened at the very moment at which the office ends is closed.
func TestSenderClosesLateStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newLone(t, vfs.NewMem(), nil)
		transporter := &streaming{follower: &follower{}}
		gate := make(chan struct{})
		transporter.open = func() error { <-gate; return nil }
		withLearner(t, s, transporter)
		synctest.Wait() // it is being opened
		stopped := make(chan struct{})
		go func() {
			defer close(stopped)
			s.Stop()
		}()
		synctest.Wait()
		close(gate)
		<-stopped
		synctest.Wait()
		require.True(t, transporter.last.Load().once.Load(), "left open")
	})
}
