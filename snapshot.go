package raft

import (
	"fmt"
	"io"

	"github.com/goraft/raft/protobuf"
)

// SnapshotRequest is a leader's question whether a server is ready to take its
// snapshot.
type SnapshotRequest struct {
	LeaderName string
	LastIndex  uint64 // the last index that the snapshot includes
	LastTerm   uint64 // and its term

	ClusterID uint64 // the sender's cluster
	To        string // the name of the addressee
	StoreID   uint64 // the sender's store
	ToStoreID uint64 // the addressee's store by the sender's configuration; 0: not bound
	Term      uint64 // the leader's

	SnapshotID uint64 // the identity of the snapshot's file
	Size       uint64 // of the file, in bytes
}

// The keys of the snapshot messages' fields; the rest are in message_codec.go.
const (
	snapshotLeader    = 1<<3 | protobuf.Bytes
	snapshotLastIndex = 2<<3 | protobuf.Varint
	snapshotLastTerm  = 3<<3 | protobuf.Varint
	snapshotPeer      = 4<<3 | protobuf.Bytes
	snapshotState     = 5<<3 | protobuf.Bytes

	snapshotPeerName    = 1<<3 | protobuf.Bytes
	snapshotPeerAddress = 2<<3 | protobuf.Bytes

	snapshotSuccess = 1<<3 | protobuf.Varint // of a SnapshotResponse

	recoveredTerm    = 1<<3 | protobuf.Varint // of a SnapshotRecoveryResponse
	recoveredSuccess = 2<<3 | protobuf.Varint
	recoveredCommit  = 3<<3 | protobuf.Varint
)

// Encode writes the request with one Write and returns the bytes written and
// the writer's error.
func (r *SnapshotRequest) Encode(w io.Writer) (int, error) { return encodeMessage(w, r) }

// Decode reads a request to the end of the reader and returns the bytes read.
// ErrMessage says that they are no whole, unchanged request, ErrMessageTooLarge
// that there are more than MaxMessageBytes.
func (r *SnapshotRequest) Decode(rd io.Reader) (int, error) {
	return decodeMessage(rd, r, MaxMessageBytes)
}

func (r *SnapshotRequest) appendTo(dst []byte) []byte {
	start := len(dst)
	dst = protobuf.AppendFixed64(dst, fieldClusterID, r.ClusterID)
	dst = protobuf.AppendBytes(dst, snapshotLeader, r.LeaderName)
	dst = protobuf.AppendVarint(dst, snapshotLastIndex, r.LastIndex)
	dst = protobuf.AppendVarint(dst, snapshotLastTerm, r.LastTerm)
	dst = protobuf.AppendBytes(dst, fieldTo, r.To)
	dst = protobuf.AppendFixed64(dst, fieldStoreID, r.StoreID)
	dst = protobuf.AppendFixed64(dst, fieldToStoreID, r.ToStoreID)
	dst = protobuf.AppendFixed64(dst, fieldSnapshotID, r.SnapshotID)
	dst = protobuf.AppendVarint(dst, fieldSnapshotTerm, r.Term)
	dst = protobuf.AppendVarint(dst, fieldSize, r.Size)
	return protobuf.AppendChecksum(dst, start)
}

func (r *SnapshotRequest) parse(b []byte) error {
	var m SnapshotRequest
	hasLeader := false
	s := protobuf.NewScanner(b)
	for s.Next() {
		switch s.Key {
		case snapshotLeader:
			m.LeaderName, hasLeader = string(s.Data), true
		case snapshotLastIndex:
			m.LastIndex = s.Value
		case snapshotLastTerm:
			m.LastTerm = s.Value
		case fieldClusterID:
			m.ClusterID = s.Value
		case fieldTo:
			m.To = string(s.Data)
		case fieldStoreID:
			m.StoreID = s.Value
		case fieldToStoreID:
			m.ToStoreID = s.Value
		case fieldSnapshotTerm:
			m.Term = s.Value
		case fieldSnapshotID:
			m.SnapshotID = s.Value
		case fieldSize:
			m.Size = s.Value
		}
	}
	if err := finish(&s, "SnapshotRequest", hasLeader); err != nil {
		return err
	}
	*r = m
	return nil
}

// SnapshotResponse is the answer to a SnapshotRequest.
type SnapshotResponse struct {
	Success bool `json:"success"`

	ClusterID uint64 // the sender's cluster
	From      string // the sender's name
	StoreID   uint64 // the sender's store
	Refused   uint32 // why the request was not looked at; 0: it was (see protobuf/raft.proto)
	Term      uint64 // the sender's

	CommitIndex uint64 // the sender's; it needs no snapshot up to there
	Offset      uint64 // how many bytes of the file the sender holds
}

// Encode writes the response with one Write and returns the bytes written and
// the writer's error.
func (r *SnapshotResponse) Encode(w io.Writer) (int, error) { return encodeMessage(w, r) }

// Decode reads a response to the end of the reader and returns the bytes read.
// ErrMessage says that they are no whole, unchanged response, ErrMessageTooLarge
// that there are more than MaxMessageBytes.
func (r *SnapshotResponse) Decode(rd io.Reader) (int, error) {
	return decodeMessage(rd, r, MaxMessageBytes)
}

func (r *SnapshotResponse) appendTo(dst []byte) []byte {
	start := len(dst)
	dst = protobuf.AppendFixed64(dst, fieldClusterID, r.ClusterID)
	dst = protobuf.AppendBool(dst, snapshotSuccess, r.Success)
	dst = protobuf.AppendBytes(dst, fieldTo, r.From)
	dst = protobuf.AppendFixed64(dst, fieldStoreID, r.StoreID)
	dst = protobuf.AppendVarint(dst, fieldRefused, uint64(r.Refused))
	dst = protobuf.AppendVarint(dst, fieldSnapshotTerm, r.Term)
	dst = protobuf.AppendVarint(dst, fieldSnapshotCommit, r.CommitIndex)
	dst = protobuf.AppendVarint(dst, fieldOffset, r.Offset)
	return protobuf.AppendChecksum(dst, start)
}

func (r *SnapshotResponse) parse(b []byte) error {
	var m SnapshotResponse
	hasSuccess := false
	s := protobuf.NewScanner(b)
	for s.Next() {
		switch s.Key {
		case snapshotSuccess:
			m.Success, hasSuccess = s.Value != 0, true
		case fieldClusterID:
			m.ClusterID = s.Value
		case fieldTo:
			m.From = string(s.Data)
		case fieldStoreID:
			m.StoreID = s.Value
		case fieldRefused:
			m.Refused = uint32(s.Value)
		case fieldSnapshotTerm:
			m.Term = s.Value
		case fieldSnapshotCommit:
			m.CommitIndex = s.Value
		case fieldOffset:
			m.Offset = s.Value
		}
	}
	if err := finish(&s, "SnapshotResponse", hasSuccess); err != nil {
		return err
	}
	*r = m
	return nil
}

// SnapshotRecoveryRequest carries a piece of the file of a leader's snapshot or,
// as goraft had it, without a SnapshotID, a whole state.
type SnapshotRecoveryRequest struct {
	LeaderName string
	LastIndex  uint64  // the last index that the snapshot includes
	LastTerm   uint64  // and its term
	Peers      []*Peer // the members as of LastIndex
	State      []byte  // a piece of the file, or what the state machine saved

	ClusterID uint64 // the sender's cluster
	To        string // the name of the addressee
	StoreID   uint64 // the sender's store
	ToStoreID uint64 // the addressee's store by the sender's configuration; 0: not bound
	Term      uint64 // the leader's

	SnapshotID uint64 // the identity of the file; 0: State is a whole state
	Size       uint64 // of the file, in bytes
	Offset     uint64 // where in the file State belongs
}

// Encode writes the request with one Write and returns the bytes written and
// the writer's error.
func (r *SnapshotRecoveryRequest) Encode(w io.Writer) (int, error) { return encodeMessage(w, r) }

// Decode reads a request to the end of the reader and returns the bytes read.
// ErrMessage says that they are no whole, unchanged request, ErrMessageTooLarge
// that there are more than 64 MiB.
func (r *SnapshotRecoveryRequest) Decode(rd io.Reader) (int, error) {
	return decodeMessage(rd, r, maxSnapshotMessageBytes)
}

func (r *SnapshotRecoveryRequest) appendTo(dst []byte) []byte {
	start := len(dst)
	dst = protobuf.AppendFixed64(dst, fieldClusterID, r.ClusterID)
	dst = protobuf.AppendBytes(dst, snapshotLeader, r.LeaderName)
	dst = protobuf.AppendVarint(dst, snapshotLastIndex, r.LastIndex)
	dst = protobuf.AppendVarint(dst, snapshotLastTerm, r.LastTerm)
	var peer []byte
	for _, p := range r.Peers {
		if p == nil {
			continue
		}
		peer = protobuf.AppendBytes(peer[:0], snapshotPeerName, p.Name)
		peer = protobuf.AppendBytes(peer, snapshotPeerAddress, p.ConnectionString)
		dst = protobuf.AppendBytes(dst, snapshotPeer, peer)
	}
	dst = protobuf.AppendBytes(dst, snapshotState, r.State)
	dst = protobuf.AppendBytes(dst, fieldTo, r.To)
	dst = protobuf.AppendFixed64(dst, fieldStoreID, r.StoreID)
	dst = protobuf.AppendFixed64(dst, fieldToStoreID, r.ToStoreID)
	dst = protobuf.AppendFixed64(dst, fieldSnapshotID, r.SnapshotID)
	dst = protobuf.AppendVarint(dst, fieldSnapshotTerm, r.Term)
	dst = protobuf.AppendVarint(dst, fieldSize, r.Size)
	dst = protobuf.AppendVarint(dst, fieldOffset, r.Offset)
	return protobuf.AppendChecksum(dst, start)
}

func (r *SnapshotRecoveryRequest) parse(b []byte) error {
	var m SnapshotRecoveryRequest
	hasLeader := false
	s := protobuf.NewScanner(b)
	for s.Next() {
		switch s.Key {
		case snapshotLeader:
			m.LeaderName, hasLeader = string(s.Data), true
		case snapshotLastIndex:
			m.LastIndex = s.Value
		case snapshotLastTerm:
			m.LastTerm = s.Value
		case snapshotPeer:
			if err := m.parsePeer(s.Data); err != nil {
				return err
			}
		case snapshotState:
			m.State = s.Data[:len(s.Data):len(s.Data)]
		case fieldClusterID:
			m.ClusterID = s.Value
		case fieldTo:
			m.To = string(s.Data)
		case fieldStoreID:
			m.StoreID = s.Value
		case fieldToStoreID:
			m.ToStoreID = s.Value
		case fieldSnapshotTerm:
			m.Term = s.Value
		case fieldSnapshotID:
			m.SnapshotID = s.Value
		case fieldSize:
			m.Size = s.Value
		case fieldOffset:
			m.Offset = s.Value
		}
	}
	if err := finish(&s, "SnapshotRecoveryRequest", hasLeader); err != nil {
		return err
	}
	*r = m
	return nil
}

// parsePeer appends the peer that is encoded in b.
func (r *SnapshotRecoveryRequest) parsePeer(b []byte) error {
	if len(r.Peers) == maxMessageEntries {
		return fmt.Errorf("%w: more than %d peers", ErrMessageTooLarge, maxMessageEntries)
	}
	peer := new(Peer)
	s := protobuf.NewScanner(b)
	for s.Next() {
		switch s.Key {
		case snapshotPeerName:
			peer.Name = string(s.Data)
		case snapshotPeerAddress:
			peer.ConnectionString = string(s.Data)
		}
	}
	if s.Err() != nil {
		return fmt.Errorf("%w: a snapshot's peer: %w", ErrMessage, s.Err())
	}
	r.Peers = append(r.Peers, peer)
	return nil
}

// SnapshotRecoveryResponse is the answer to a SnapshotRecoveryRequest.
type SnapshotRecoveryResponse struct {
	Term        uint64 // the sender's
	Success     bool   // the snapshot is in force and durable
	CommitIndex uint64 // the sender's

	ClusterID uint64 // the sender's cluster
	From      string // the sender's name
	StoreID   uint64 // the sender's store
	Refused   uint32 // why the request was not looked at; 0: it was (see protobuf/raft.proto)

	Offset uint64 // how many bytes of the file the sender holds
}

// Encode writes the response with one Write and returns the bytes written and
// the writer's error.
func (r *SnapshotRecoveryResponse) Encode(w io.Writer) (int, error) { return encodeMessage(w, r) }

// Decode reads a response to the end of the reader and returns the bytes read.
// ErrMessage says that they are no whole, unchanged response, ErrMessageTooLarge
// that there are more than MaxMessageBytes.
func (r *SnapshotRecoveryResponse) Decode(rd io.Reader) (int, error) {
	return decodeMessage(rd, r, MaxMessageBytes)
}

func (r *SnapshotRecoveryResponse) appendTo(dst []byte) []byte {
	start := len(dst)
	dst = protobuf.AppendFixed64(dst, fieldClusterID, r.ClusterID)
	dst = protobuf.AppendVarint(dst, recoveredTerm, r.Term)
	dst = protobuf.AppendBool(dst, recoveredSuccess, r.Success)
	dst = protobuf.AppendVarint(dst, recoveredCommit, r.CommitIndex)
	dst = protobuf.AppendBytes(dst, fieldTo, r.From)
	dst = protobuf.AppendFixed64(dst, fieldStoreID, r.StoreID)
	dst = protobuf.AppendVarint(dst, fieldRefused, uint64(r.Refused))
	dst = protobuf.AppendVarint(dst, fieldOffset, r.Offset)
	return protobuf.AppendChecksum(dst, start)
}

func (r *SnapshotRecoveryResponse) parse(b []byte) error {
	var m SnapshotRecoveryResponse
	hasTerm := false
	s := protobuf.NewScanner(b)
	for s.Next() {
		switch s.Key {
		case recoveredTerm:
			m.Term, hasTerm = s.Value, true
		case recoveredSuccess:
			m.Success = s.Value != 0
		case recoveredCommit:
			m.CommitIndex = s.Value
		case fieldClusterID:
			m.ClusterID = s.Value
		case fieldTo:
			m.From = string(s.Data)
		case fieldStoreID:
			m.StoreID = s.Value
		case fieldRefused:
			m.Refused = uint32(s.Value)
		case fieldOffset:
			m.Offset = s.Value
		}
	}
	if err := finish(&s, "SnapshotRecoveryResponse", hasTerm); err != nil {
		return err
	}
	*r = m
	return nil
}
