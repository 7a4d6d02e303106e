package raft

import (
	"io"

	"github.com/goraft/raft/protobuf"
)

// RequestVoteRequest is what a candidate sends to ask for a vote or, with
// PreVote, whether it would get one. Every exported field must reach the
// addressee, by Encode and Decode or as JSON.
type RequestVoteRequest struct {
	Term          uint64 // that the candidate stands in, or would
	LastLogIndex  uint64
	LastLogTerm   uint64
	CandidateName string

	ClusterID     uint64 // the candidate's cluster; 0: it belongs to none yet
	To            string // the name of the addressee
	StoreID       uint64 // the candidate's store
	ToStoreID     uint64 // the addressee's store by the candidate's configuration; 0: not bound
	InitialDigest uint64 // of the names of the candidate's initial configuration
	PreVote       bool   // only a question: nobody's term or vote changes
	Transfer      bool   // the leader told the candidate to campaign
}

// The keys of a RequestVoteRequest's fields; the rest are in message_codec.go.
const (
	voteTerm      = 1<<3 | protobuf.Varint
	voteLastIndex = 2<<3 | protobuf.Varint
	voteLastTerm  = 3<<3 | protobuf.Varint
	voteCandidate = 4<<3 | protobuf.Bytes
	voteTransfer  = 14<<3 | protobuf.Varint
)

// Encode writes the request with one Write and returns the bytes written and
// the writer's error.
func (r *RequestVoteRequest) Encode(w io.Writer) (int, error) { return encodeMessage(w, r) }

// Decode reads a request to the end of the reader and returns the bytes read.
// ErrMessage says that they are no whole, unchanged request, ErrMessageTooLarge
// that there are more than MaxMessageBytes.
func (r *RequestVoteRequest) Decode(rd io.Reader) (int, error) {
	return decodeMessage(rd, r, MaxMessageBytes)
}

func (r *RequestVoteRequest) appendTo(dst []byte) []byte {
	start := len(dst)
	dst = protobuf.AppendFixed64(dst, fieldClusterID, r.ClusterID)
	dst = protobuf.AppendVarint(dst, voteTerm, r.Term)
	dst = protobuf.AppendVarint(dst, voteLastIndex, r.LastLogIndex)
	dst = protobuf.AppendVarint(dst, voteLastTerm, r.LastLogTerm)
	dst = protobuf.AppendBytes(dst, voteCandidate, r.CandidateName)
	dst = protobuf.AppendBytes(dst, fieldTo, r.To)
	dst = protobuf.AppendFixed64(dst, fieldStoreID, r.StoreID)
	dst = protobuf.AppendFixed64(dst, fieldToStoreID, r.ToStoreID)
	dst = protobuf.AppendFixed64(dst, fieldInitialDigest, r.InitialDigest)
	dst = protobuf.AppendBool(dst, fieldPreVote, r.PreVote)
	dst = protobuf.AppendBool(dst, voteTransfer, r.Transfer)
	return protobuf.AppendChecksum(dst, start)
}

func (r *RequestVoteRequest) parse(b []byte) error {
	var m RequestVoteRequest
	var candidate, to []byte
	hasTerm := false
	s := protobuf.NewScanner(b)
	for s.Next() {
		switch s.Key {
		case voteTerm:
			m.Term, hasTerm = s.Value, true
		case voteLastIndex:
			m.LastLogIndex = s.Value
		case voteLastTerm:
			m.LastLogTerm = s.Value
		case voteCandidate:
			candidate = s.Data
		case fieldClusterID:
			m.ClusterID = s.Value
		case fieldTo:
			to = s.Data
		case fieldStoreID:
			m.StoreID = s.Value
		case fieldToStoreID:
			m.ToStoreID = s.Value
		case fieldInitialDigest:
			m.InitialDigest = s.Value
		case fieldPreVote:
			m.PreVote = s.Value != 0
		case voteTransfer:
			m.Transfer = s.Value != 0
		}
	}
	if err := finish(&s, "RequestVoteRequest", hasTerm); err != nil {
		return err
	}
	m.CandidateName, m.To = intern(candidate, r.CandidateName), intern(to, r.To)
	*r = m
	return nil
}

// RequestVoteResponse is the answer to a RequestVoteRequest.
type RequestVoteResponse struct {
	Term        uint64 // the sender's
	VoteGranted bool

	ClusterID uint64 // the sender's cluster
	From      string // the sender's name
	StoreID   uint64 // the sender's store
	PreVote   bool   // the request's
	Refused   uint32 // why the request was not looked at; 0: it was (see protobuf/raft.proto)
}

// The keys of a RequestVoteResponse's fields; the rest are in message_codec.go.
const (
	votedTerm    = 1<<3 | protobuf.Varint
	votedGranted = 2<<3 | protobuf.Varint
)

// Encode writes the response with one Write and returns the bytes written and
// the writer's error.
func (r *RequestVoteResponse) Encode(w io.Writer) (int, error) { return encodeMessage(w, r) }

// Decode reads a response to the end of the reader and returns the bytes read.
// ErrMessage says that they are no whole, unchanged response, ErrMessageTooLarge
// that there are more than MaxMessageBytes.
func (r *RequestVoteResponse) Decode(rd io.Reader) (int, error) {
	return decodeMessage(rd, r, MaxMessageBytes)
}

func (r *RequestVoteResponse) appendTo(dst []byte) []byte {
	start := len(dst)
	dst = protobuf.AppendFixed64(dst, fieldClusterID, r.ClusterID)
	dst = protobuf.AppendVarint(dst, votedTerm, r.Term)
	dst = protobuf.AppendBool(dst, votedGranted, r.VoteGranted)
	dst = protobuf.AppendBytes(dst, fieldTo, r.From)
	dst = protobuf.AppendFixed64(dst, fieldStoreID, r.StoreID)
	dst = protobuf.AppendVarint(dst, fieldRefused, uint64(r.Refused))
	dst = protobuf.AppendBool(dst, fieldPreVote, r.PreVote)
	return protobuf.AppendChecksum(dst, start)
}

func (r *RequestVoteResponse) parse(b []byte) error {
	var m RequestVoteResponse
	var from []byte
	hasTerm := false
	s := protobuf.NewScanner(b)
	for s.Next() {
		switch s.Key {
		case votedTerm:
			m.Term, hasTerm = s.Value, true
		case votedGranted:
			m.VoteGranted = s.Value != 0
		case fieldClusterID:
			m.ClusterID = s.Value
		case fieldTo:
			from = s.Data
		case fieldStoreID:
			m.StoreID = s.Value
		case fieldRefused:
			m.Refused = uint32(s.Value)
		case fieldPreVote:
			m.PreVote = s.Value != 0
		}
	}
	if err := finish(&s, "RequestVoteResponse", hasTerm); err != nil {
		return err
	}
	m.From = intern(from, r.From)
	*r = m
	return nil
}
