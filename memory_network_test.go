package raft

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/goraft/raft/internal/wal"
	"github.com/goraft/raft/protobuf"
	"github.com/stretchr/testify/require"
)

// memoryFake answers as its functions do and remembers what it got.
type memoryFake struct {
	Server
	vote    func(*RequestVoteRequest) *RequestVoteResponse
	append  func(*AppendEntriesRequest) *AppendEntriesResponse
	offer   func(*SnapshotRequest) *SnapshotResponse
	recover func(*SnapshotRecoveryRequest) *SnapshotRecoveryResponse
	timeout func(*TimeoutNowRequest) *TimeoutNowResponse
	read    func(*ReadIndexRequest) *ReadIndexResponse
	mu      sync.Mutex
	got     []*AppendEntriesRequest
}

func (f *memoryFake) RequestVote(req *RequestVoteRequest) *RequestVoteResponse { return f.vote(req) }

func (f *memoryFake) AppendEntries(req *AppendEntriesRequest) *AppendEntriesResponse {
	return f.append(req)
}

func (f *memoryFake) RequestSnapshot(req *SnapshotRequest) *SnapshotResponse {
	if f.offer == nil {
		return nil
	}
	return f.offer(req)
}

func (f *memoryFake) SnapshotRecoveryRequest(req *SnapshotRecoveryRequest) *SnapshotRecoveryResponse {
	return f.recover(req)
}

func (f *memoryFake) TimeoutNow(req *TimeoutNowRequest) *TimeoutNowResponse {
	return f.timeout(req)
}

func (f *memoryFake) RequestReadIndex(req *ReadIndexRequest) *ReadIndexResponse {
	return f.read(req)
}

// memoryStreamFake takes streams, too.
type memoryStreamFake struct{ memoryFake }

func (f *memoryStreamFake) submitAppend(req *AppendEntriesRequest, responder appendResponder) error {
	f.mu.Lock()
	f.got = append(f.got, req)
	f.mu.Unlock()
	resp := f.append(req)
	if resp == nil {
		return StopError
	}
	responder.answerAppend(resp)
	return nil
}

func (f *memoryFake) sequences() (all []uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, req := range f.got {
		all = append(all, req.Sequence)
	}
	return all
}

// inMemory runs f in a bubble with a network that two servers are on: a sends, b
// answers by echo.
func inMemory(t *testing.T, f func(t *testing.T, n *MemoryNetwork, a *MemoryTransporter, b *memoryStreamFake)) {
	synctest.Test(t, func(t *testing.T) {
		n := NewMemoryNetwork(1)
		defer n.Close()
		a := n.Transporter("a")
		a.Install(&memoryFake{})
		b := &memoryStreamFake{memoryFake{
			vote: func(req *RequestVoteRequest) *RequestVoteResponse {
				return &RequestVoteResponse{Term: req.Term, VoteGranted: true}
			},
			append: func(req *AppendEntriesRequest) *AppendEntriesResponse {
				resp := newAppendEntriesResponse(req.Term, req.PrevLogIndex, 0, true)
				resp.Sequence = req.Sequence
				return resp
			},
		}}
		n.Transporter("b").Install(b)
		f(t, n, a, b)
	})
}

var toB = &Peer{Name: "b"}

// memoryRecords makes records of the indexes from first to last.
func memoryRecords(first, last uint64) []byte {
	var records []byte
	for i := first; i <= last; i++ {
		start := len(records)
		records = wal.BeginRecord(records, kindCommand, "set")
		records = fmt.Appendf(records, "value %d", i)
		wal.FinishRecord(records, start)
		wal.Record(records[start:]).Stamp(i, 1, 0)
	}
	return records
}

func TestMemoryCall(t *testing.T) {
	inMemory(t, func(t *testing.T, n *MemoryNetwork, a *MemoryTransporter, b *memoryStreamFake) {
		start := time.Now()
		require.Equal(t, uint64(7), a.SendVoteRequest(nil, toB, &RequestVoteRequest{Term: 7}).Term)
		require.GreaterOrEqual(t, time.Since(start), 2*memoryMinDelay)
		require.Less(t, time.Since(start), 3*memoryMaxDelay)

		resp, err := a.AppendEntriesContext(t.Context(), nil, toB, &AppendEntriesRequest{Term: 3, PrevLogIndex: 5})
		require.NoError(t, err)
		require.Equal(t, uint64(5), resp.Index())
		require.Equal(t, MemoryStats{Sent: 4, Delivered: 4}, n.Stats())

		_, err = a.RequestVoteContext(t.Context(), nil, &Peer{Name: "nobody"}, &RequestVoteRequest{})
		require.Error(t, err)
		require.Nil(t, a.SendSnapshotRequest(nil, toB, &SnapshotRequest{}), "a server that is not running")
	})
}

func TestMemoryTransporterIsWhatItsTypeSays(t *testing.T) {
	inMemory(t, func(t *testing.T, n *MemoryNetwork, a *MemoryTransporter, b *memoryStreamFake) {
		bare := a.Bare()
		_, isContext := bare.(ContextTransporter)
		_, isStreamer := bare.(AppendStreamer)
		require.False(t, isContext)
		require.False(t, isStreamer)

		var got *AppendEntriesRequest
		b.append = func(req *AppendEntriesRequest) *AppendEntriesResponse {
			got = req
			return newAppendEntriesResponse(1, 0, 0, true)
		}
		req := &AppendEntriesRequest{Term: 1, records: memoryRecords(1, 3)}
		require.NoError(t, req.fillEntries())
		for _, form := range []MessageForm{AsStructs, AsProtobuf, AsJSON} {
			n.SetForm(form)
			require.NotNil(t, bare.SendAppendEntriesRequest(nil, toB, req))
			require.Nil(t, got.records)
			require.Len(t, got.Entries, 3)
			records, err := got.recordsFromEntries(0)
			require.NoError(t, err)
			require.Equal(t, req.records, records)

			// What servers of this package send each other, without entries.
			_, err = a.AppendEntriesContext(t.Context(), nil, toB, &AppendEntriesRequest{Term: 1, records: req.records})
			require.NoError(t, err)
			require.True(t, len(got.Entries) == 3 || bytes.Equal(got.records, req.records), "form %d", form)
		}
	})
}

func TestMemoryCallEndsByItself(t *testing.T) {
	inMemory(t, func(t *testing.T, n *MemoryNetwork, a *MemoryTransporter, b *memoryStreamFake) {
		n.Block("a", "b")
		start := time.Now()
		require.Nil(t, a.SendVoteRequest(nil, toB, &RequestVoteRequest{}))
		require.Equal(t, memoryCallTimeout, time.Since(start))

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := a.RequestVoteContext(ctx, nil, toB, &RequestVoteRequest{})
		require.ErrorIs(t, err, context.DeadlineExceeded)

		// One that has no deadline ends when the addressee goes away.
		n.Heal()
		n.Pause("b")
		n.SetCallTimeout(0)
		ended := make(chan *RequestVoteResponse)
		go func() { ended <- a.SendVoteRequest(nil, toB, &RequestVoteRequest{}) }()
		time.AfterFunc(time.Hour, func() { n.Transporter("b").Install(b) })
		start = time.Now()
		require.Nil(t, <-ended)
		require.Equal(t, time.Hour, time.Since(start))

		// So does one whose own end goes away.
		go func() { ended <- a.SendVoteRequest(nil, toB, &RequestVoteRequest{}) }()
		time.AfterFunc(time.Hour, a.Close)
		require.Nil(t, <-ended)
	})
}

func TestMemoryPauseHoldsMessages(t *testing.T) {
	inMemory(t, func(t *testing.T, n *MemoryNetwork, a *MemoryTransporter, b *memoryStreamFake) {
		n.SetCallTimeout(0)
		n.Pause("b")
		time.AfterFunc(time.Minute, func() { n.Resume("b") })
		start := time.Now()
		require.NotNil(t, a.SendVoteRequest(nil, toB, &RequestVoteRequest{}))
		require.InDelta(t, time.Minute, time.Since(start), float64(time.Millisecond))
		require.Zero(t, n.Stats().Dropped)
	})
}

func TestMemoryLinks(t *testing.T) {
	cases := []struct {
		name    string
		fault   func(n *MemoryNetwork)
		reaches [][2]string // of the ordered pairs of a, b, c
	}{
		{"none", func(n *MemoryNetwork) {}, [][2]string{{"a", "b"}, {"a", "c"}, {"b", "a"}, {"b", "c"}, {"c", "a"}, {"c", "b"}}},
		{"partition", func(n *MemoryNetwork) { n.Partition([]string{"a", "b"}, []string{"c"}) }, [][2]string{{"a", "b"}, {"b", "a"}}},
		{"the rest is a group", func(n *MemoryNetwork) { n.Partition([]string{"a"}) }, [][2]string{{"b", "c"}, {"c", "b"}}},
		{"isolate", func(n *MemoryNetwork) { n.Isolate("b") }, [][2]string{{"a", "c"}, {"c", "a"}}},
		{"one way", func(n *MemoryNetwork) { n.Block("a", "b"); n.Block("b", "c"); n.Unblock("b", "c") },
			[][2]string{{"a", "c"}, {"b", "a"}, {"b", "c"}, {"c", "a"}, {"c", "b"}}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := NewMemoryNetwork(1)
				defer n.Close()
				c.fault(n)
				var got [][2]string
				n.Intercept(func(m MemoryMessage) bool { return !m.Answer })
				for _, from := range []string{"a", "b", "c"} {
					n.Transporter(from).Install(&memoryFake{vote: func(req *RequestVoteRequest) *RequestVoteResponse {
						got = append(got, [2]string{req.CandidateName, from})
						return &RequestVoteResponse{}
					}})
				}
				for _, from := range []string{"a", "b", "c"} {
					for _, to := range []string{"a", "b", "c"} {
						if from != to {
							n.mu.endpoints[from].SendVoteRequest(nil, &Peer{Name: to}, &RequestVoteRequest{CandidateName: from})
						}
					}
				}
				require.Equal(t, c.reaches, got)
				n.Heal()
				n.Intercept(nil)
				require.NotNil(t, n.mu.endpoints["a"].SendVoteRequest(nil, toB, &RequestVoteRequest{}))
			})
		})
	}
}

func TestMemoryStreamKeepsOrder(t *testing.T) {
	for _, form := range []MessageForm{AsStructs, AsProtobuf} {
		inMemory(t, func(t *testing.T, n *MemoryNetwork, a *MemoryTransporter, b *memoryStreamFake) {
			n.SetForm(form)
			n.SetChecked(true)
			n.SetDelay(0, 10*time.Millisecond)
			stream, err := a.OpenAppendStream(t.Context(), nil, toB)
			require.NoError(t, err)
			const count = 200
			var want []uint64
			for i := range uint64(count) {
				req := &AppendEntriesRequest{Term: 1, LeaderName: "a", Sequence: i + 1, records: memoryRecords(i+1, i+2)}
				require.NoError(t, stream.Send(req))
				*req = AppendEntriesRequest{} // it is ours again
				want = append(want, i+1)
				if i%7 == 0 {
					<-time.After(time.Millisecond)
				}
			}
			for _, sequence := range want {
				resp, err := stream.Receive()
				require.NoError(t, err)
				require.Equal(t, sequence, resp.Sequence)
			}
			require.Equal(t, want, b.sequences())
			require.Equal(t, memoryRecords(5, 6), b.got[4].records)
			require.Equal(t, "a", b.got[4].LeaderName)
			require.Zero(t, n.Stats().Changed)

			time.AfterFunc(time.Second, func() { stream.Close() })
			_, err = stream.Receive()
			require.Error(t, err)
			require.Error(t, stream.Send(&AppendEntriesRequest{}))
		})
	}
}

func TestMemoryStreamLoss(t *testing.T) {
	third := func(m MemoryMessage) bool {
		req, ok := m.Message.(*AppendEntriesRequest)
		return !ok || req.Sequence != 3
	}
	thirdAnswer := func(m MemoryMessage) bool {
		resp, ok := m.Message.(*AppendEntriesResponse)
		return !ok || resp.Sequence != 3
	}
	cases := []struct {
		name      string
		mode      StreamLoss
		intercept func(MemoryMessage) bool
		got       []uint64 // by the server
		answered  []uint64
		broken    bool
	}{
		{"breaks", StreamBreaks, third, []uint64{1, 2}, nil, true},
		{"stalls", StreamStalls, third, []uint64{1, 2}, []uint64{1, 2}, false},
		{"stalls back", StreamStalls, thirdAnswer, []uint64{1, 2, 3, 4, 5}, []uint64{1, 2}, false},
		{"skips", StreamSkips, third, []uint64{1, 2, 4, 5}, []uint64{1, 2, 4, 5}, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			inMemory(t, func(t *testing.T, n *MemoryNetwork, a *MemoryTransporter, b *memoryStreamFake) {
				n.SetStreamLoss(c.mode)
				n.Intercept(c.intercept)
				stream, err := a.OpenAppendStream(t.Context(), nil, toB)
				require.NoError(t, err)
				for i := range uint64(5) {
					require.NoError(t, stream.Send(&AppendEntriesRequest{Term: 1, Sequence: i + 1}))
				}
				<-time.After(time.Second)
				require.Equal(t, c.got, b.sequences())
				var answered []uint64
				for range c.answered {
					resp, err := stream.Receive()
					require.NoError(t, err)
					answered = append(answered, resp.Sequence)
				}
				require.Equal(t, c.answered, answered)
				if c.broken {
					require.Error(t, stream.Send(&AppendEntriesRequest{}))
				}
				require.NoError(t, stream.Close())
			})
		})
	}
}

func TestMemoryStreamEnds(t *testing.T) {
	inMemory(t, func(t *testing.T, n *MemoryNetwork, a *MemoryTransporter, b *memoryStreamFake) {
		open := func() AppendStream {
			stream, err := a.OpenAppendStream(t.Context(), nil, toB)
			require.NoError(t, err)
			return stream
		}
		stream := open()
		time.AfterFunc(time.Second, func() { n.Transporter("b").Install(b) })
		_, err := stream.Receive()
		require.Error(t, err, "the other process is another one")

		stream = open()
		b.append = func(*AppendEntriesRequest) *AppendEntriesResponse { return nil }
		require.NoError(t, stream.Send(&AppendEntriesRequest{Term: 1}))
		_, err = stream.Receive()
		require.ErrorIs(t, err, StopError, "the other server is stopped")

		stream = open()
		time.AfterFunc(time.Second, a.Close)
		_, err = stream.Receive()
		require.Error(t, err, "our own end is closed")

		n.Transporter("b").Install(&memoryFake{})
		_, err = n.Transporter("c").OpenAppendStream(t.Context(), nil, toB)
		require.ErrorIs(t, err, ErrStreamUnsupported)
	})
}

func TestMemoryCheckedFindsSharedMemory(t *testing.T) {
	inMemory(t, func(t *testing.T, n *MemoryNetwork, a *MemoryTransporter, b *memoryStreamFake) {
		n.SetChecked(true)
		var kept *AppendEntriesRequest
		b.append = func(req *AppendEntriesRequest) *AppendEntriesResponse {
			kept = req
			return newAppendEntriesResponse(req.Term, 0, 0, true)
		}
		req := &AppendEntriesRequest{Term: 1, Entries: []*protobuf.LogEntry{{
			Index: new(uint64(1)), Term: new(uint64(1)), CommandName: new("x"), Command: []byte("command"),
		}}}
		entries := req.Entries
		n.Intercept(func(m MemoryMessage) bool {
			if !m.Answer {
				entries[0].Command[0]++ // on its way
			}
			return true
		})
		require.NotNil(t, a.Bare().SendAppendEntriesRequest(nil, toB, req))
		require.Equal(t, uint64(1), n.Stats().Changed)
		require.Equal(t, "spoiled", kept.LeaderName)
		require.Equal(t, "dommand", string(entries[0].Command), "the sender's bytes are its own")
	})
}

// memoryTrace runs five servers that call each other from many goroutines at the
// same instants under faults, and tells what arrived when.
func memoryTrace(t *testing.T, seed uint64, fates func(MemoryMessage, *rand.Rand) Fate) (trace []string) {
	synctest.Test(t, func(t *testing.T) {
		n := NewMemoryNetwork(seed)
		defer n.Close()
		n.SetLoss(0.1)
		n.SetDuplicates(0.1)
		n.SetFates(fates)
		start := time.Now()
		var mu sync.Mutex
		var group sync.WaitGroup
		names := []string{"a", "b", "c", "d", "e"}
		for _, name := range names {
			n.Transporter(name).Install(&memoryFake{vote: func(req *RequestVoteRequest) *RequestVoteResponse {
				mu.Lock()
				defer mu.Unlock()
				trace = append(trace, fmt.Sprintf("%v %s->%s %d", time.Since(start), req.CandidateName, name, req.Term))
				return &RequestVoteResponse{}
			}, read: func(req *ReadIndexRequest) *ReadIndexResponse {
				mu.Lock()
				defer mu.Unlock()
				trace = append(trace, fmt.Sprintf("%v %s->%s question %d", time.Since(start), req.Name, name, req.Sequence))
				return &ReadIndexResponse{Sequence: req.Sequence}
			}})
		}
		for _, from := range names {
			for _, to := range names {
				group.Go(func() {
					for i := range uint64(20) {
						n.mu.endpoints[from].SendVoteRequest(nil, &Peer{Name: to}, &RequestVoteRequest{CandidateName: from, Term: i})
					}
				})
				// Those that leave at one instant are in the order of their numbers.
				for i := range uint64(4) {
					group.Go(func() {
						ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
						defer cancel()
						_, _ = n.mu.endpoints[from].ReadIndexContext(ctx, nil, &Peer{Name: to}, &ReadIndexRequest{Name: from, Sequence: i + 1})
					})
				}
			}
		}
		group.Wait()
	})
	return trace
}

func TestMemoryNetworkRepeats(t *testing.T) {
	first := memoryTrace(t, 1, nil)
	require.Greater(t, len(first), 400)
	for range 5 {
		require.Equal(t, first, memoryTrace(t, 1, nil))
	}
	require.False(t, slices.Equal(first, memoryTrace(t, 2, nil)))
}

func TestMemoryNetworkCloseEndsEverything(t *testing.T) {
	inMemory(t, func(t *testing.T, n *MemoryNetwork, a *MemoryTransporter, b *memoryStreamFake) {
		n.SetCallTimeout(0)
		stream, err := a.OpenAppendStream(t.Context(), nil, toB)
		require.NoError(t, err)
		n.Pause("b")
		failed := make(chan error)
		go func() {
			_, err := a.RequestVoteContext(context.Background(), nil, toB, &RequestVoteRequest{})
			failed <- err
		}()
		go func() {
			_, err := stream.Receive()
			failed <- err
		}()
		synctest.Wait()
		n.Close()
		require.True(t, errors.Is(<-failed, errMemoryClosed))
		require.True(t, errors.Is(<-failed, errMemoryClosed))
		_, err = a.OpenAppendStream(t.Context(), nil, toB)
		require.ErrorIs(t, err, errMemoryClosed)
	})
}
