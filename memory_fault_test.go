package raft

import (
	"context"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
)

// memoryThree is three servers on a network that tell what reaches them.
type memoryThree struct {
	network *MemoryNetwork
	ends    map[string]*MemoryTransporter
	start   time.Time
	mu      sync.Mutex
	got     []string // addressee, sender and number of each request
}

func inMemoryThree(t *testing.T, f func(t *testing.T, three *memoryThree)) {
	synctest.Test(t, func(t *testing.T) {
		three := &memoryThree{network: NewMemoryNetwork(1), ends: make(map[string]*MemoryTransporter), start: time.Now()}
		defer three.network.Close()
		for _, name := range []string{"a", "b", "c"} {
			three.install(name)
		}
		f(t, three)
	})
}

// install gives a server a new life.
func (m *memoryThree) install(name string) {
	end := m.network.Transporter(name)
	end.Install(&memoryStreamFake{memoryFake{
		vote: func(req *RequestVoteRequest) *RequestVoteResponse {
			m.note(name, req.CandidateName, req.Term)
			return &RequestVoteResponse{Term: req.Term, From: name}
		},
		append: func(req *AppendEntriesRequest) *AppendEntriesResponse {
			m.note(name, req.LeaderName, req.Sequence)
			resp := newAppendEntriesResponse(req.Term, 0, 0, true)
			resp.Sequence, resp.From = req.Sequence, name
			return resp
		},
	}})
	m.ends[name] = end
}

func (m *memoryThree) note(to, from string, number uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.got = append(m.got, fmt.Sprintf("%s<%s%d", to, from, number))
}

// vote asks for a vote and returns who answered, or "".
func (m *memoryThree) vote(from, to string, number uint64) string {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	req := &RequestVoteRequest{Term: number, CandidateName: from, To: to}
	resp, err := m.ends[from].RequestVoteContext(ctx, nil, &Peer{Name: to}, req)
	if err != nil {
		return ""
	}
	return resp.From
}

// first gives the first request of a to b that fate, and all others none.
func (m *memoryThree) first(fate Fate) {
	given := false
	m.network.SetFates(func(message MemoryMessage, dice *rand.Rand) Fate {
		if given || message.Answer || message.Message == nil {
			return Fate{}
		}
		given = true
		return fate
	})
}

func TestMemoryFatesOfCalls(t *testing.T) {
	cases := []struct {
		name    string
		fate    Fate
		answers string // who answers the first call
		got     []string
		stats   MemoryStats
	}{
		{"none", Fate{}, "b", []string{"b<a1", "b<a2"}, MemoryStats{Sent: 4, Delivered: 4}},
		{"dropped", Fate{Drop: true}, "", []string{"b<a2"}, MemoryStats{Sent: 3, Delivered: 2, Dropped: 1, Lost: 1}},
		{"delayed and overtaken", Fate{Delay: time.Minute}, "", []string{"b<a2", "b<a1"},
			MemoryStats{Sent: 4, Delivered: 4, Delayed: 1, Overtaken: 1}},
		{"again", Fate{Again: []time.Duration{0, time.Hour}}, "b", []string{"b<a1", "b<a1", "b<a2", "b<a1"},
			MemoryStats{Sent: 6, Delivered: 8, Replayed: 2}},
		{"late in a copy", Fate{Drop: true, Again: []time.Duration{time.Hour}}, "", []string{"b<a2", "b<a1"},
			MemoryStats{Sent: 4, Delivered: 4, Dropped: 1, Lost: 1, Replayed: 1}},
		{"flipped", Fate{Flip: 1}, "", []string{"b<a2"}, MemoryStats{Sent: 3, Delivered: 2, Dropped: 1, Flipped: 1}},
		{"misdelivered", Fate{To: "c"}, "c", []string{"c<a1", "b<a2"}, MemoryStats{Sent: 4, Delivered: 4, Misdelivered: 1}},
		{"misdelivered to nobody", Fate{To: "d"}, "", []string{"b<a2"}, MemoryStats{Sent: 3, Delivered: 3, Misdelivered: 1}},
		{"misdelivered to itself", Fate{To: "b"}, "b", []string{"b<a1", "b<a2"}, MemoryStats{Sent: 4, Delivered: 4}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			inMemoryThree(t, func(t *testing.T, three *memoryThree) {
				three.first(c.fate)
				require.Equal(t, c.answers, three.vote("a", "b", 1))
				require.Equal(t, "b", three.vote("a", "b", 2))
				<-time.After(2 * time.Hour)
				require.Equal(t, c.got, three.got)
				c.stats.Delivered -= c.stats.Replayed // the answers to the copies
				got := three.network.Stats()
				got.Delivered -= got.Replayed
				require.Equal(t, c.stats, got)
			})
		})
	}
}

// A copy comes to a later life of its addressee, and in the name of a sender that
// is gone, and no other call takes the answer.
func TestMemoryReplayOutlivesBothEnds(t *testing.T) {
	inMemoryThree(t, func(t *testing.T, three *memoryThree) {
		three.first(Fate{Again: []time.Duration{time.Hour}})
		require.Equal(t, "b", three.vote("a", "b", 1))
		three.install("b")
		three.install("a")
		<-time.After(time.Hour - time.Millisecond)
		require.Equal(t, []string{"b<a1"}, three.got)
		require.Equal(t, "b", three.vote("a", "b", 2))
		<-time.After(time.Second)
		require.Equal(t, []string{"b<a1", "b<a2", "b<a1"}, three.got)
		require.Equal(t, uint64(1), three.network.Stats().Late)
	})
}

func TestMemoryFatesOfStreams(t *testing.T) {
	cases := []struct {
		name   string
		fate   Fate
		answer bool // the fate is that of the second answer, not request
		got    []string
		heard  []uint64 // sequences of the answers, before the stream ends
		broken bool
		stats  func(MemoryStats) bool
	}{
		{"dropped", Fate{Drop: true}, false, []string{"b<a1"}, nil, true,
			func(s MemoryStats) bool { return s.Lost == 1 && s.Broken == 1 }},
		{"delayed", Fate{Delay: time.Minute}, false, []string{"b<a1", "b<a2", "b<a3"}, []uint64{1, 2, 3}, false,
			func(s MemoryStats) bool { return s.Delayed == 1 && s.Overtaken == 0 }},
		{"again", Fate{Again: []time.Duration{time.Hour}}, false, []string{"b<a1", "b<a2", "b<a3", "b<a2"}, []uint64{1, 2, 3}, false,
			func(s MemoryStats) bool { return s.Replayed == 1 && s.Dropped == 0 }},
		{"flipped", Fate{Flip: 3}, false, []string{"b<a1"}, nil, true,
			func(s MemoryStats) bool { return s.Flipped == 1 && s.Unnoticed == 0 && s.Broken == 1 }},
		{"misdelivered", Fate{To: "c"}, false, []string{"b<a1", "c<a2"}, nil, true,
			func(s MemoryStats) bool { return s.Misdelivered == 1 && s.Broken == 1 }},
		{"answer again", Fate{Again: []time.Duration{0}}, true, []string{"b<a1", "b<a2", "b<a3"}, []uint64{1, 2, 3}, false,
			func(s MemoryStats) bool { return s.Replayed == 0 }},
		{"answer flipped", Fate{Flip: 3}, true, []string{"b<a1", "b<a2", "b<a3"}, nil, true,
			func(s MemoryStats) bool { return s.Flipped == 1 && s.Broken == 1 }},
		{"answer misdelivered", Fate{To: "c"}, true, []string{"b<a1", "b<a2", "b<a3"}, nil, true,
			func(s MemoryStats) bool { return s.Misdelivered == 1 && s.Broken == 1 }},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			inMemoryThree(t, func(t *testing.T, three *memoryThree) {
				n := three.network
				n.SetFates(func(m MemoryMessage, _ *rand.Rand) Fate {
					switch m := m.Message.(type) {
					case *AppendEntriesRequest:
						if m.Sequence == 2 && !c.answer {
							return c.fate
						}
					case *AppendEntriesResponse:
						if m.Sequence == 2 && c.answer {
							return c.fate
						}
					}
					return Fate{}
				})
				stream, err := three.ends["a"].OpenAppendStream(t.Context(), nil, toB)
				require.NoError(t, err)
				defer stream.Close()
				for i := range uint64(3) {
					require.NoError(t, stream.Send(&AppendEntriesRequest{
						Term: 1, LeaderName: "a", To: "b", Sequence: i + 1, records: memoryRecords(i+1, i+1),
					}))
				}
				<-time.After(2 * time.Hour)
				require.Equal(t, c.got, three.got)
				for _, sequence := range c.heard {
					resp, err := stream.Receive()
					require.NoError(t, err)
					require.Equal(t, sequence, resp.Sequence)
				}
				require.Equal(t, c.broken, stream.Send(&AppendEntriesRequest{Term: 1, Sequence: 4}) != nil)
				require.True(t, c.stats(n.Stats()), "%+v", n.Stats())
			})
		})
	}
}

// Where a stream is opened to the wrong server, the two find out, as their hellos
// would tell them.
func TestMemoryMisdeliveredOpening(t *testing.T) {
	inMemoryThree(t, func(t *testing.T, three *memoryThree) {
		three.network.SetFates(func(m MemoryMessage, _ *rand.Rand) Fate {
			if m.Message == nil && !m.Answer {
				return Fate{To: "c"}
			}
			return Fate{}
		})
		_, err := three.ends["a"].OpenAppendStream(t.Context(), nil, toB)
		require.ErrorIs(t, err, ErrStreamAddressee)
	})
}

func TestMemoryClogKeepsOrder(t *testing.T) {
	inMemoryThree(t, func(t *testing.T, three *memoryThree) {
		n := three.network
		stream, err := three.ends["a"].OpenAppendStream(t.Context(), nil, toB)
		require.NoError(t, err)
		defer stream.Close()
		n.Clog("a", "b")
		for i := range uint64(3) {
			require.NoError(t, stream.Send(&AppendEntriesRequest{Term: 1, LeaderName: "a", Sequence: i + 1}))
			require.Empty(t, three.vote("a", "b", i+1))
			require.Empty(t, three.vote("b", "a", i+1), "it arrives, but its answer goes the clogged way")
		}
		n.Pause("b")
		n.Unclog("a", "b")
		<-time.After(time.Minute)
		require.Equal(t, []string{"a<b1", "a<b2", "a<b3"}, three.got, "what else holds them still does")
		n.Resume("b")
		<-time.After(time.Minute)
		require.Equal(t, []string{"b<a1", "b<a1", "b<a2", "b<a2", "b<a3", "b<a3"}, three.got[3:])
		for i := range uint64(3) {
			resp, err := stream.Receive()
			require.NoError(t, err)
			require.Equal(t, i+1, resp.Sequence)
		}
		stats := n.Stats()
		require.Equal(t, [3]uint64{9, 9, 0}, [3]uint64{stats.Clogged, stats.Paused, stats.Dropped})
	})
}

func TestMemoryStallTellsNobody(t *testing.T) {
	inMemoryThree(t, func(t *testing.T, three *memoryThree) {
		n := three.network
		n.SetStreamLoss(StreamBreaks) // which a stall is not
		send := func(stream AppendStream, sequence uint64) {
			require.NoError(t, stream.Send(&AppendEntriesRequest{Term: 1, LeaderName: "a", Sequence: sequence}))
			<-time.After(time.Second)
		}
		open := func(to string) AppendStream {
			stream, err := three.ends["a"].OpenAppendStream(t.Context(), nil, &Peer{Name: to})
			require.NoError(t, err)
			return stream
		}
		idle, half, other := open("b"), open("b"), open("c")
		send(half, 1)
		n.Stall("a", "b")
		send(half, 2)
		send(other, 3)
		require.Empty(t, three.vote("a", "b", 4))
		require.Empty(t, three.vote("b", "a", 5), "it arrives, but its answer goes the stalled way")
		n.Unstall("a", "b")
		send(half, 6)
		send(idle, 7)
		require.Equal(t, "b", three.vote("a", "b", 8))
		require.Equal(t, []string{"b<a1", "c<a3", "a<b5", "b<a7", "b<a8"}, three.got)
		require.Equal(t, uint64(4), n.Stats().Stalled)
		require.Zero(t, n.Stats().Broken)
		for _, stream := range []AppendStream{idle, half, other} {
			require.NoError(t, stream.Close())
		}
	})
}

// Every message is refused with a few bits changed.
func TestMemoryFlippedBitsAreNoticed(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	end := &MemoryTransporter{name: "a"}
	for _, kind := range messageTypes {
		for i := range int(scale(2_000)) {
			p := &parcel{from: end, to: "b", message: randomMessage(rng, kind)}
			switch p.message.(type) {
			case *AppendEntriesRequest, *AppendEntriesResponse:
				if i%2 == 0 {
					p.pipe = new(memoryPipe)
				}
			}
			before := specify(p.message.(codec), kind.spec)
			_, err := p.flipped(1+i%5, rng)
			require.Error(t, err, "%s: %v", kind.name, before)
			require.True(t, proto.Equal(before, specify(p.message.(codec), kind.spec)), "the message itself is its copies', too")
		}
	}
}

// An unchanged message comes through the real encoding as it was.
func TestMemoryUnflippedMessagesArrive(t *testing.T) {
	end := &MemoryTransporter{name: "a"}
	req := &AppendEntriesRequest{Term: 2, LeaderName: "a", To: "b", ClusterID: 3, Sequence: 9, records: memoryRecords(1, 3)}
	got, err := (&parcel{from: end, to: "b", message: req, pipe: new(memoryPipe)}).flipped(0, nil)
	require.NoError(t, err)
	require.Equal(t, req, got)
	resp := newAppendEntriesResponse(2, 3, 1, true)
	resp.From, resp.Sequence = "a", 9
	got, err = (&parcel{from: end, to: "b", message: resp, pipe: new(memoryPipe)}).flipped(0, nil)
	require.NoError(t, err)
	require.Equal(t, resp, got)
}

// memoryMenu gives messages every kind of fate.
func memoryMenu(names []string) func(MemoryMessage, *rand.Rand) Fate {
	return func(_ MemoryMessage, dice *rand.Rand) Fate {
		switch dice.IntN(60) {
		case 0:
			return Fate{Drop: true}
		case 1:
			return Fate{Delay: time.Duration(dice.Int64N(int64(20 * time.Millisecond)))}
		case 2:
			return Fate{Delay: time.Duration(dice.Int64N(int64(200 * testElection)))}
		case 3:
			return Fate{Again: []time.Duration{time.Duration(dice.Int64N(int64(10 * testElection)))}}
		case 4:
			return Fate{Flip: 1 + dice.IntN(4)}
		case 5:
			return Fate{To: names[dice.IntN(len(names))]}
		}
		return Fate{}
	}
}

// What fates draw repeats with the seed, and shifts nothing of what else is drawn.
func TestMemoryFatesRepeat(t *testing.T) {
	names := []string{"a", "b", "c", "d", "e"}
	first := memoryTrace(t, 1, memoryMenu(names))
	require.Greater(t, len(first), 400)
	for range 5 {
		require.Equal(t, first, memoryTrace(t, 1, memoryMenu(names)))
	}
	require.False(t, slices.Equal(first, memoryTrace(t, 2, memoryMenu(names))))

	plain := memoryTrace(t, 1, nil)
	drawing := func(_ MemoryMessage, dice *rand.Rand) Fate {
		dice.Uint64()
		return Fate{}
	}
	require.Equal(t, plain, memoryTrace(t, 1, drawing))
}

// Clusters live through all of it: what is committed is the same everywhere, and
// when the faults end they agree again.
func TestMemoryFatesOfClusters(t *testing.T) {
	var sum MemoryStats
	for seed := range uint64(8) { // in fewer not everything happens
		inRunningCluster(t, 3+int(seed%3), ClusterOptions{Seed: seed}, func(c *clusterTest) {
			n, names, rng := c.Network(), c.Names(), rand.New(rand.NewPCG(seed, 3))
			n.SetForm(MessageForm(seed % 2))
			n.SetChecked(seed%4 == 3)
			n.SetFates(memoryMenu(names))
			for round := range 6 {
				from, to, victim := names[rng.IntN(len(names))], names[rng.IntN(len(names))], names[rng.IntN(len(names))]
				n.Clog(from, to)
				n.Stall(to, victim)
				ctx, cancel := context.WithTimeout(c.ctx, 5*testElection)
				_, _ = c.Do(ctx, &testCommand{fmt.Sprint("during", round)}) // its fate may be unknown
				cancel()
				c.Crash(victim)
				c.pass(time.Duration(rng.Int64N(int64(2 * testElection))))
				require.NoError(t, c.Start(victim))
				n.Unclog(from, to)
				n.Unstall(to, victim)
				_, _ = c.Do(c.ctx, &testCommand{fmt.Sprint("between", round)})
			}
			n.SetFates(nil)
			c.puts("after", 1, 5)
			c.converge()
			c.pass(300 * testElection) // the last of the delayed messages
			c.put("end")
			c.converge()
			addStats(&sum, n.Stats())
		})
	}
	counts := reflect.ValueOf(sum)
	for i := range counts.NumField() {
		switch name := counts.Type().Field(i).Name; name {
		case "Lost", "Stalled", "Broken", "Clogged", "Delayed", "Overtaken", "Replayed", "Late", "Misdelivered", "Flipped":
			require.Greater(t, counts.Field(i).Uint(), uint64(10), name)
		case "Unnoticed", "Changed":
			require.Zero(t, counts.Field(i).Uint(), name)
		}
	}
}

func addStats(sum *MemoryStats, s MemoryStats) {
	to, from := reflect.ValueOf(sum).Elem(), reflect.ValueOf(s)
	for i := range to.NumField() {
		to.Field(i).SetUint(to.Field(i).Uint() + from.Field(i).Uint())
	}
}

// No two messages are delivered at one instant, where their order would be that
// of goroutines.
func TestMemoryDeliversOneAtAnInstant(t *testing.T) {
	inMemoryThree(t, func(t *testing.T, three *memoryThree) {
		three.network.SetDelay(time.Millisecond, time.Millisecond)
		var group sync.WaitGroup
		var want []string
		for _, from := range []string{"a", "b"} {
			for range 20 {
				group.Go(func() { three.vote(from, "c", 1) })
				want = append(want, "c<"+from+"1")
			}
		}
		group.Wait()
		require.Equal(t, want, three.got)
	})
}
