package raft

import (
	"io"

	"github.com/goraft/raft/protobuf"
)

// TimeoutNowRequest is a leader's word to a voter that it should stand for
// election at once, without the wait of its election timer (dissertation §3.10).
// It is an extension of goraft's messages. Every exported field must reach the
// addressee, by Encode and Decode or as JSON.
type TimeoutNowRequest struct {
	Term       uint64 // the leader's; in any other the request means nothing
	LeaderName string

	ClusterID uint64 // the leader's cluster
	To        string // the name of the addressee
	StoreID   uint64 // the leader's store
	ToStoreID uint64 // the addressee's store by the leader's configuration; 0: not bound
}

// The keys of a TimeoutNowRequest's fields; the rest are in message_codec.go.
const (
	timeoutTerm   = 1<<3 | protobuf.Varint
	timeoutLeader = 2<<3 | protobuf.Bytes
)

// Encode writes the request with one Write and returns the bytes written and
// the writer's error.
func (r *TimeoutNowRequest) Encode(w io.Writer) (int, error) { return encodeMessage(w, r) }

// Decode reads a request to the end of the reader and returns the bytes read.
// ErrMessage says that they are no whole, unchanged request, ErrMessageTooLarge
// that there are more than MaxMessageBytes.
func (r *TimeoutNowRequest) Decode(rd io.Reader) (int, error) {
	return decodeMessage(rd, r, MaxMessageBytes)
}

func (r *TimeoutNowRequest) appendTo(dst []byte) []byte {
	start := len(dst)
	dst = protobuf.AppendFixed64(dst, fieldClusterID, r.ClusterID)
	dst = protobuf.AppendVarint(dst, timeoutTerm, r.Term)
	dst = protobuf.AppendBytes(dst, timeoutLeader, r.LeaderName)
	dst = protobuf.AppendBytes(dst, fieldTo, r.To)
	dst = protobuf.AppendFixed64(dst, fieldStoreID, r.StoreID)
	dst = protobuf.AppendFixed64(dst, fieldToStoreID, r.ToStoreID)
	return protobuf.AppendChecksum(dst, start)
}

func (r *TimeoutNowRequest) parse(b []byte) error {
	var m TimeoutNowRequest
	hasTerm := false
	s := protobuf.NewScanner(b)
	for s.Next() {
		switch s.Key {
		case timeoutTerm:
			m.Term, hasTerm = s.Value, true
		case timeoutLeader:
			m.LeaderName = string(s.Data)
		case fieldClusterID:
			m.ClusterID = s.Value
		case fieldTo:
			m.To = string(s.Data)
		case fieldStoreID:
			m.StoreID = s.Value
		case fieldToStoreID:
			m.ToStoreID = s.Value
		}
	}
	if err := finish(&s, "TimeoutNowRequest", hasTerm); err != nil {
		return err
	}
	*r = m
	return nil
}

// TimeoutNowResponse is the answer to a TimeoutNowRequest.
type TimeoutNowResponse struct {
	Term    uint64 // the sender's
	Success bool   // the sender stands for election

	ClusterID uint64 // the sender's cluster
	From      string // the sender's name
	StoreID   uint64 // the sender's store
	Refused   uint32 // why the request was not looked at; 0: it was (see protobuf/raft.proto)
}

// The keys of a TimeoutNowResponse's fields; the rest are in message_codec.go.
const (
	timedOutTerm    = 1<<3 | protobuf.Varint
	timedOutSuccess = 2<<3 | protobuf.Varint
)

// Encode writes the response with one Write and returns the bytes written and
// the writer's error.
func (r *TimeoutNowResponse) Encode(w io.Writer) (int, error) { return encodeMessage(w, r) }

// Decode reads a response to the end of the reader and returns the bytes read.
// ErrMessage says that they are no whole, unchanged response, ErrMessageTooLarge
// that there are more than MaxMessageBytes.
func (r *TimeoutNowResponse) Decode(rd io.Reader) (int, error) {
	return decodeMessage(rd, r, MaxMessageBytes)
}

func (r *TimeoutNowResponse) appendTo(dst []byte) []byte {
	start := len(dst)
	dst = protobuf.AppendFixed64(dst, fieldClusterID, r.ClusterID)
	dst = protobuf.AppendVarint(dst, timedOutTerm, r.Term)
	dst = protobuf.AppendBool(dst, timedOutSuccess, r.Success)
	dst = protobuf.AppendBytes(dst, fieldTo, r.From)
	dst = protobuf.AppendFixed64(dst, fieldStoreID, r.StoreID)
	dst = protobuf.AppendVarint(dst, fieldRefused, uint64(r.Refused))
	return protobuf.AppendChecksum(dst, start)
}

func (r *TimeoutNowResponse) parse(b []byte) error {
	var m TimeoutNowResponse
	hasTerm := false
	s := protobuf.NewScanner(b)
	for s.Next() {
		switch s.Key {
		case timedOutTerm:
			m.Term, hasTerm = s.Value, true
		case timedOutSuccess:
			m.Success = s.Value != 0
		case fieldClusterID:
			m.ClusterID = s.Value
		case fieldTo:
			m.From = string(s.Data)
		case fieldStoreID:
			m.StoreID = s.Value
		case fieldRefused:
			m.Refused = uint32(s.Value)
		}
	}
	if err := finish(&s, "TimeoutNowResponse", hasTerm); err != nil {
		return err
	}
	*r = m
	return nil
}
