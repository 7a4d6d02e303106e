package raft

import (
	"io"

	"github.com/goraft/raft/protobuf"
)

// ReadIndexRequest is a member's question to the leader: up to where must my state
// machine have applied the log, for a read of mine that begins now to be linearizable
// (dissertation §6.4)? It is an extension of goraft's messages. Every exported field
// must reach the addressee, by Encode and Decode or as JSON.
type ReadIndexRequest struct {
	Term uint64 // the sender's, for people who look at messages; nothing depends on it
	Name string // the sender's name

	ClusterID uint64 // the sender's cluster
	To        string // the name of the addressee
	StoreID   uint64 // the sender's store
	ToStoreID uint64 // the addressee's store by the sender's configuration; 0: not bound
	Sequence  uint64 // identity of the question, repeated in its response
}

// The keys of a ReadIndexRequest's fields; the rest are in message_codec.go.
const (
	readIndexTerm = 1<<3 | protobuf.Varint
	readIndexName = 2<<3 | protobuf.Bytes
)

// Encode writes the request with one Write and returns the bytes written and
// the writer's error.
func (r *ReadIndexRequest) Encode(w io.Writer) (int, error) { return encodeMessage(w, r) }

// Decode reads a request to the end of the reader and returns the bytes read.
// ErrMessage says that they are no whole, unchanged request, ErrMessageTooLarge
// that there are more than MaxMessageBytes.
func (r *ReadIndexRequest) Decode(rd io.Reader) (int, error) {
	return decodeMessage(rd, r, MaxMessageBytes)
}

func (r *ReadIndexRequest) appendTo(dst []byte) []byte {
	start := len(dst)
	dst = protobuf.AppendFixed64(dst, fieldClusterID, r.ClusterID)
	dst = protobuf.AppendVarint(dst, readIndexTerm, r.Term)
	dst = protobuf.AppendBytes(dst, readIndexName, r.Name)
	dst = protobuf.AppendBytes(dst, fieldTo, r.To)
	dst = protobuf.AppendFixed64(dst, fieldStoreID, r.StoreID)
	dst = protobuf.AppendFixed64(dst, fieldToStoreID, r.ToStoreID)
	dst = protobuf.AppendVarint(dst, fieldSequence, r.Sequence)
	return protobuf.AppendChecksum(dst, start)
}

func (r *ReadIndexRequest) parse(b []byte) error {
	var m ReadIndexRequest
	hasTerm := false
	s := protobuf.NewScanner(b)
	for s.Next() {
		switch s.Key {
		case readIndexTerm:
			m.Term, hasTerm = s.Value, true
		case readIndexName:
			m.Name = string(s.Data)
		case fieldClusterID:
			m.ClusterID = s.Value
		case fieldTo:
			m.To = string(s.Data)
		case fieldStoreID:
			m.StoreID = s.Value
		case fieldToStoreID:
			m.ToStoreID = s.Value
		case fieldSequence:
			m.Sequence = s.Value
		}
	}
	if err := finish(&s, "ReadIndexRequest", hasTerm); err != nil {
		return err
	}
	*r = m
	return nil
}

// ReadIndexResponse is the answer to a ReadIndexRequest.
type ReadIndexResponse struct {
	Term    uint64 // the sender's
	Success bool   // the sender led after the question had come, as a majority has said
	Index   uint64 // with Success: the last entry that a linearizable read must have seen

	ClusterID uint64 // the sender's cluster
	From      string // the sender's name
	StoreID   uint64 // the sender's store
	Refused   uint32 // why the request was not looked at; 0: it was (see protobuf/raft.proto)
	Sequence  uint64 // the request's
}

// The keys of a ReadIndexResponse's fields; the rest are in message_codec.go.
const (
	answeredReadTerm    = 1<<3 | protobuf.Varint
	answeredReadSuccess = 2<<3 | protobuf.Varint
	answeredReadIndex   = 3<<3 | protobuf.Varint
)

// Encode writes the response with one Write and returns the bytes written and
// the writer's error.
func (r *ReadIndexResponse) Encode(w io.Writer) (int, error) { return encodeMessage(w, r) }

// Decode reads a response to the end of the reader and returns the bytes read.
// ErrMessage says that they are no whole, unchanged response, ErrMessageTooLarge
// that there are more than MaxMessageBytes.
func (r *ReadIndexResponse) Decode(rd io.Reader) (int, error) {
	return decodeMessage(rd, r, MaxMessageBytes)
}

func (r *ReadIndexResponse) appendTo(dst []byte) []byte {
	start := len(dst)
	dst = protobuf.AppendFixed64(dst, fieldClusterID, r.ClusterID)
	dst = protobuf.AppendVarint(dst, answeredReadTerm, r.Term)
	dst = protobuf.AppendBool(dst, answeredReadSuccess, r.Success)
	dst = protobuf.AppendVarint(dst, answeredReadIndex, r.Index)
	dst = protobuf.AppendBytes(dst, fieldTo, r.From)
	dst = protobuf.AppendFixed64(dst, fieldStoreID, r.StoreID)
	dst = protobuf.AppendVarint(dst, fieldRefused, uint64(r.Refused))
	dst = protobuf.AppendVarint(dst, fieldSequence, r.Sequence)
	return protobuf.AppendChecksum(dst, start)
}

func (r *ReadIndexResponse) parse(b []byte) error {
	var m ReadIndexResponse
	hasTerm := false
	s := protobuf.NewScanner(b)
	for s.Next() {
		switch s.Key {
		case answeredReadTerm:
			m.Term, hasTerm = s.Value, true
		case answeredReadSuccess:
			m.Success = s.Value != 0
		case answeredReadIndex:
			m.Index = s.Value
		case fieldClusterID:
			m.ClusterID = s.Value
		case fieldTo:
			m.From = string(s.Data)
		case fieldStoreID:
			m.StoreID = s.Value
		case fieldRefused:
			m.Refused = uint32(s.Value)
		case fieldSequence:
			m.Sequence = s.Value
		}
	}
	if err := finish(&s, "ReadIndexResponse", hasTerm); err != nil {
		return err
	}
	*r = m
	return nil
}
