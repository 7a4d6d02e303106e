package raft

import (
	"context"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
)

// pair is a call that is neither a vote nor entries, as types.
type pair struct{ request, response messageType }

func newerPairs() (pairs []pair) {
	types := messageTypes[4:]
	for i := 0; i < len(types); i += 2 {
		pairs = append(pairs, pair{types[i], types[i+1]})
	}
	return pairs
}

// Every exported field of the messages arrives in every form, with a bare
// transporter, too, which has calls for snapshots only.
func TestMemoryCarriesNewerCallsInEveryForm(t *testing.T) {
	inMemory(t, func(t *testing.T, n *MemoryNetwork, a *MemoryTransporter, b *memoryStreamFake) {
		rng := rand.New(rand.NewPCG(1, 2))
		var got, reply codec
		b.offer = func(req *SnapshotRequest) *SnapshotResponse {
			got = req
			return reply.(*SnapshotResponse)
		}
		b.recover = func(req *SnapshotRecoveryRequest) *SnapshotRecoveryResponse {
			got = req
			return reply.(*SnapshotRecoveryResponse)
		}
		b.timeout = func(req *TimeoutNowRequest) *TimeoutNowResponse {
			got = req
			return reply.(*TimeoutNowResponse)
		}
		b.read = func(req *ReadIndexRequest) *ReadIndexResponse {
			got = req
			return reply.(*ReadIndexResponse)
		}
		check := func(call any, err error, pair pair, request codec) {
			require.NoError(t, err)
			require.True(t, proto.Equal(specify(request, pair.request.spec), specify(got, pair.request.spec)), pair.request.name)
			answer := call.(codec)
			require.True(t, proto.Equal(specify(reply, pair.response.spec), specify(answer, pair.response.spec)), pair.response.name)
			require.NotSame(t, request, got)
			require.NotSame(t, reply, answer)
		}
		for _, form := range []MessageForm{AsStructs, AsProtobuf, AsJSON} {
			n.SetForm(form)
			for _, pair := range newerPairs() {
				for range 20 {
					req := randomMessage(rng, pair.request)
					reply = randomMessage(rng, pair.response)
					switch req := req.(type) {
					case *SnapshotRequest:
						check(a.Bare().SendSnapshotRequest(nil, toB, req), nil, pair, req)
						check(a.SendSnapshotRequest(nil, toB, req), nil, pair, req)
						answer, err := a.RequestSnapshotContext(t.Context(), nil, toB, req)
						check(answer, err, pair, req)
					case *SnapshotRecoveryRequest:
						check(a.Bare().SendSnapshotRecoveryRequest(nil, toB, req), nil, pair, req)
						check(a.SendSnapshotRecoveryRequest(nil, toB, req), nil, pair, req)
						answer, err := a.SnapshotRecoveryContext(t.Context(), nil, toB, req)
						check(answer, err, pair, req)
					case *TimeoutNowRequest:
						answer, err := a.TimeoutNowContext(t.Context(), nil, toB, req)
						check(answer, err, pair, req)
					case *ReadIndexRequest:
						answer, err := a.ReadIndexContext(t.Context(), nil, toB, req)
						check(answer, err, pair, req)
					default:
						t.Fatalf("no call for a %T", req)
					}
				}
			}
		}
		_, snapshots := a.Bare().(SnapshotTransporter)
		_, transfers := a.Bare().(TransferTransporter)
		_, reads := a.Bare().(ReadIndexTransporter)
		require.False(t, snapshots || transfers || reads, "a bare transporter has goraft's four calls")
	})
}

// The calls end with their context, tell interceptors what they are, and a server
// that is not running gives no answer.
func TestMemoryNewerCalls(t *testing.T) {
	inMemory(t, func(t *testing.T, n *MemoryNetwork, a *MemoryTransporter, b *memoryStreamFake) {
		b.offer = func(*SnapshotRequest) *SnapshotResponse { return nil }
		b.recover = func(*SnapshotRecoveryRequest) *SnapshotRecoveryResponse { return nil }
		b.timeout = func(*TimeoutNowRequest) *TimeoutNowResponse { return nil }
		b.read = func(*ReadIndexRequest) *ReadIndexResponse { return nil }
		calls := []func(context.Context) error{
			func(ctx context.Context) error {
				_, err := a.RequestSnapshotContext(ctx, nil, toB, &SnapshotRequest{})
				return err
			},
			func(ctx context.Context) error {
				_, err := a.SnapshotRecoveryContext(ctx, nil, toB, &SnapshotRecoveryRequest{Peers: []*Peer{nil}})
				return err
			},
			func(ctx context.Context) error {
				_, err := a.TimeoutNowContext(ctx, nil, toB, &TimeoutNowRequest{})
				return err
			},
			func(ctx context.Context) error {
				_, err := a.ReadIndexContext(ctx, nil, toB, &ReadIndexRequest{})
				return err
			},
		}
		var seen []reflect.Type
		n.Intercept(func(m MemoryMessage) bool {
			if !m.Answer {
				seen = append(seen, reflect.TypeOf(m.Message))
			}
			return true
		})
		for _, call := range calls {
			require.ErrorIs(t, call(t.Context()), errMemoryRefused)
		}
		require.Equal(t, []reflect.Type{
			reflect.TypeFor[*SnapshotRequest](), reflect.TypeFor[*SnapshotRecoveryRequest](), reflect.TypeFor[*TimeoutNowRequest](),
			reflect.TypeFor[*ReadIndexRequest](),
		}, seen)
		require.Nil(t, a.Bare().SendSnapshotRequest(nil, toB, &SnapshotRequest{}))
		require.Nil(t, a.Bare().SendSnapshotRecoveryRequest(nil, toB, &SnapshotRecoveryRequest{}))

		n.Isolate("b")
		for _, call := range calls {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			require.ErrorIs(t, call(ctx), context.DeadlineExceeded)
			cancel()
		}
	})
}

// A piece's bytes are the sender's, who must not change them under way, and the
// addressee must not use them once it has answered.
func TestMemoryCheckedFindsSharedPieces(t *testing.T) {
	inMemory(t, func(t *testing.T, n *MemoryNetwork, a *MemoryTransporter, b *memoryStreamFake) {
		n.SetChecked(true)
		var offer SnapshotRequest
		var kept *SnapshotRecoveryRequest
		var word *TimeoutNowRequest
		var held *SnapshotRequest
		var question *ReadIndexRequest
		b.offer = func(req *SnapshotRequest) *SnapshotResponse { held, offer = req, *req; return &SnapshotResponse{} }
		b.recover = func(req *SnapshotRecoveryRequest) *SnapshotRecoveryResponse {
			kept = req
			return &SnapshotRecoveryResponse{}
		}
		b.timeout = func(req *TimeoutNowRequest) *TimeoutNowResponse { word = req; return &TimeoutNowResponse{} }
		b.read = func(req *ReadIndexRequest) *ReadIndexResponse { question = req; return &ReadIndexResponse{} }

		state := []byte("piece")
		n.Intercept(func(m MemoryMessage) bool {
			if m, ok := m.Message.(*SnapshotRecoveryRequest); ok {
				require.Equal(t, "piece", string(m.State))
				state[0]++ // on its way
			}
			return true
		})
		require.NotNil(t, a.SendSnapshotRequest(nil, toB, &SnapshotRequest{LeaderName: "a"}))
		require.Zero(t, n.Stats().Changed)
		require.NotNil(t, a.SendSnapshotRecoveryRequest(nil, toB, &SnapshotRecoveryRequest{LeaderName: "a", State: state}))
		require.Equal(t, uint64(1), n.Stats().Changed)
		_, err := a.TimeoutNowContext(t.Context(), nil, toB, &TimeoutNowRequest{LeaderName: "a"})
		require.NoError(t, err)
		_, err = a.ReadIndexContext(t.Context(), nil, toB, &ReadIndexRequest{Name: "a"})
		require.NoError(t, err)
		require.Equal(t, "a", offer.LeaderName)
		for _, name := range []string{held.LeaderName, kept.LeaderName, word.LeaderName, question.Name} {
			require.Equal(t, "spoiled", name)
		}
		require.Equal(t, "qiece", string(state), "the sender's bytes are its own")
	})
}
