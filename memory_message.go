package raft

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"slices"

	"github.com/goraft/raft/protobuf"
)

// MessageForm is how messages travel through a MemoryNetwork. The addressee has
// a copy in each of them.
type MessageForm int

const (
	// AsStructs copies the messages and shares the bytes of entries, which never
	// change.
	AsStructs MessageForm = iota
	// AsProtobuf passes calls through the messages' Encode and Decode.
	AsProtobuf
	// AsJSON passes calls through package json.
	AsJSON
)

// codable is what all messages are.
type codable interface {
	Encode(w io.Writer) (int, error)
	Decode(r io.Reader) (int, error)
}

// copyOf copies a message as the network's settings say, and watches its bytes
// if they say so.
func (n *MemoryNetwork) copyOf(message any, bare bool) (any, *byteWatch, error) {
	n.mu.Lock()
	form, checked := n.mu.form, n.mu.checked
	n.mu.Unlock()
	var watch *byteWatch
	if checked {
		watch = watchBytes(message)
	}
	if req, ok := message.(*AppendEntriesRequest); ok && form == AsJSON && !bare && req.Entries == nil {
		filled := *req
		if err := filled.fillEntries(); err != nil {
			return nil, nil, err
		}
		message = &filled
	}
	carried, err := copyMessage(message, form, bare, checked)
	return carried, watch, err
}

// copyMessage returns a copy in the form; bare carries only exported fields,
// deep copies the bytes of entries and states, too.
func copyMessage(message any, form MessageForm, bare, deep bool) (any, error) {
	if source, ok := message.(codable); ok && form != AsStructs {
		return recode(source, form)
	}
	switch m := message.(type) {
	case *AppendEntriesRequest:
		return copyAppend(m, bare, deep), nil
	case *SnapshotRecoveryRequest:
		return copyRecovery(m, deep), nil
	case *AppendEntriesResponse:
		return clone(m), nil
	case *RequestVoteRequest:
		return clone(m), nil
	case *RequestVoteResponse:
		return clone(m), nil
	case *SnapshotRequest:
		return clone(m), nil
	case *SnapshotResponse:
		return clone(m), nil
	case *SnapshotRecoveryResponse:
		return clone(m), nil
	case *TimeoutNowRequest:
		return clone(m), nil
	case *TimeoutNowResponse:
		return clone(m), nil
	case *ReadIndexRequest:
		return clone(m), nil
	case *ReadIndexResponse:
		return clone(m), nil
	case streamOpening, streamOpened:
		return m, nil
	}
	return nil, fmt.Errorf("%w: a %T", ErrMessage, message)
}

func clone[M any](m *M) *M {
	if m == nil {
		return nil
	}
	c := *m
	return &c
}

func copyAppend(m *AppendEntriesRequest, bare, deep bool) *AppendEntriesRequest {
	c := clone(m)
	if bare {
		c.records = nil
	} else if deep {
		c.records = slices.Clip(bytes.Clone(m.records)) // no arena, of which the tail would keep each message
	}
	c.Entries = slices.Clone(m.Entries)
	for i, pb := range m.Entries {
		entry := &protobuf.LogEntry{
			Index: clone(pb.Index), Term: clone(pb.Term), CommandName: clone(pb.CommandName),
			Command: pb.Command, Kind: clone(pb.Kind), Checksum: clone(pb.Checksum),
		}
		if deep {
			entry.Command = bytes.Clone(pb.Command)
		}
		c.Entries[i] = entry
	}
	return c
}

func copyRecovery(m *SnapshotRecoveryRequest, deep bool) *SnapshotRecoveryRequest {
	c := clone(m)
	c.Peers = nil
	for _, p := range m.Peers {
		if p != nil { // which Encode leaves out, too
			c.Peers = append(c.Peers, &Peer{Name: p.Name, ConnectionString: p.ConnectionString})
		}
	}
	if deep {
		c.State = bytes.Clone(m.State)
	}
	return c
}

// recode passes a message through one of its encodings.
func recode(m codable, form MessageForm) (any, error) {
	fresh := freshOf(m)
	if form == AsJSON {
		b, err := json.Marshal(m)
		if err == nil {
			err = json.Unmarshal(b, fresh)
		}
		return fresh, err
	}
	var b bytes.Buffer
	_, err := m.Encode(&b)
	if err == nil {
		_, err = fresh.Decode(&b)
	}
	return fresh, err
}

// freshOf returns an empty message of the same type.
func freshOf(m codable) codable {
	switch m.(type) {
	case *AppendEntriesRequest:
		return new(AppendEntriesRequest)
	case *AppendEntriesResponse:
		return new(AppendEntriesResponse)
	case *RequestVoteRequest:
		return new(RequestVoteRequest)
	case *RequestVoteResponse:
		return new(RequestVoteResponse)
	case *SnapshotRequest:
		return new(SnapshotRequest)
	case *SnapshotResponse:
		return new(SnapshotResponse)
	case *SnapshotRecoveryRequest:
		return new(SnapshotRecoveryRequest)
	case *SnapshotRecoveryResponse:
		return new(SnapshotRecoveryResponse)
	case *TimeoutNowRequest:
		return new(TimeoutNowRequest)
	case *TimeoutNowResponse:
		return new(TimeoutNowResponse)
	case *ReadIndexRequest:
		return new(ReadIndexRequest)
	default:
		return new(ReadIndexResponse)
	}
}

// rankOf orders the kinds of messages that are sent on a link at one instant.
func rankOf(message any) int {
	switch message.(type) {
	case *AppendEntriesRequest:
		return 1
	case *AppendEntriesResponse:
		return 2
	case *RequestVoteRequest:
		return 3
	case *RequestVoteResponse:
		return 4
	case *SnapshotRequest:
		return 5
	case *SnapshotResponse:
		return 6
	case *SnapshotRecoveryRequest:
		return 7
	case *SnapshotRecoveryResponse:
		return 8
	case *TimeoutNowRequest:
		return 9
	case *TimeoutNowResponse:
		return 10
	case *ReadIndexRequest:
		return 11
	case *ReadIndexResponse:
		return 12
	}
	return 13
}

// spoil overwrites what a server may not use any more when it has answered a
// request: everything but records, which it keeps.
func spoil(message any) {
	const junk = 0xa5
	switch m := message.(type) {
	case *AppendEntriesRequest:
		for _, pb := range m.Entries {
			fill(pb.Command, junk)
			*pb.Index, *pb.Term = ^uint64(0), ^uint64(0)
		}
		*m = AppendEntriesRequest{Term: ^uint64(0), LeaderName: "spoiled"}
	case *RequestVoteRequest:
		*m = RequestVoteRequest{Term: ^uint64(0), CandidateName: "spoiled"}
	case *SnapshotRecoveryRequest:
		fill(m.State, junk)
		*m = SnapshotRecoveryRequest{LeaderName: "spoiled", Term: ^uint64(0)}
	case *SnapshotRequest:
		*m = SnapshotRequest{LeaderName: "spoiled", Term: ^uint64(0)}
	case *TimeoutNowRequest:
		*m = TimeoutNowRequest{LeaderName: "spoiled", Term: ^uint64(0)}
	case *ReadIndexRequest:
		*m = ReadIndexRequest{Name: "spoiled", Term: ^uint64(0)}
	}
}

func fill(b []byte, with byte) {
	for i := range b {
		b[i] = with
	}
}

// byteWatch remembers what the bytes of a sent message were. They are the
// sender's, and must never change.
type byteWatch struct {
	parts [][]byte
	sum   uint32
}

func watchBytes(message any) *byteWatch {
	w := new(byteWatch)
	switch m := message.(type) {
	case *AppendEntriesRequest:
		w.parts = append(w.parts, m.records)
		for _, pb := range m.Entries {
			w.parts = append(w.parts, pb.GetCommand())
		}
	case *SnapshotRecoveryRequest:
		w.parts = append(w.parts, m.State)
	default:
		return nil
	}
	w.sum = w.now()
	return w
}

func (w *byteWatch) now() (sum uint32) {
	for _, part := range w.parts {
		sum = crc32.Update(sum, crc32.IEEETable, part)
	}
	return sum
}

// changed reports whether the bytes are others than they were.
func (w *byteWatch) changed() bool { return w != nil && w.now() != w.sum }
