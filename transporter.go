package raft

import (
	"context"
	"errors"
)

// ErrStreamUnsupported says that a peer, or what lies between, takes no append
// stream; single calls may still work.
var ErrStreamUnsupported = errors.New("raft: append stream unsupported")

// Transporter carries messages to other servers. Each call sends one request to
// the peer and waits for its answer; nil means that there was no answer. The
// calls come from several goroutines at once, at most a few for one peer.
//
// A Transporter that carries every exported field of the messages (as their
// Encode and Decode do, and JSON) is safe. One that implements AppendStreamer
// or ContextTransporter as well is also fast. With SnapshotTransporter
// the calls of a snapshot end in time, and with TransferTransporter a leader that
// leaves hands over without an election timeout.
type Transporter interface {
	SendVoteRequest(server Server, peer *Peer, req *RequestVoteRequest) *RequestVoteResponse
	SendAppendEntriesRequest(server Server, peer *Peer, req *AppendEntriesRequest) *AppendEntriesResponse
	SendSnapshotRequest(server Server, peer *Peer, req *SnapshotRequest) *SnapshotResponse
	SendSnapshotRecoveryRequest(server Server, peer *Peer, req *SnapshotRecoveryRequest) *SnapshotRecoveryResponse
}

// ContextTransporter is an optional ability of a Transporter: calls that end
// when their context does, and that say why they failed.
type ContextTransporter interface {
	RequestVoteContext(ctx context.Context, server Server, peer *Peer, req *RequestVoteRequest) (*RequestVoteResponse, error)
	AppendEntriesContext(ctx context.Context, server Server, peer *Peer, req *AppendEntriesRequest) (*AppendEntriesResponse, error)
}

// SnapshotTransporter is an optional ability of a Transporter: the two calls of a
// snapshot's transfer with a context, and with the reason why they failed. A
// request carries a piece of a file of at most 1 MiB. Neither call may make
// heartbeats wait behind it.
type SnapshotTransporter interface {
	RequestSnapshotContext(ctx context.Context, server Server, peer *Peer, req *SnapshotRequest) (*SnapshotResponse, error)
	SnapshotRecoveryContext(ctx context.Context, server Server, peer *Peer, req *SnapshotRecoveryRequest) (*SnapshotRecoveryResponse, error)
}

// TransferTransporter is an optional ability of a Transporter: the call by which
// a leader has a voter stand for election at once. Without it a leader that
// leaves its office just steps down, and an election timeout passes.
type TransferTransporter interface {
	TimeoutNowContext(ctx context.Context, server Server, peer *Peer, req *TimeoutNowRequest) (*TimeoutNowResponse, error)
}

// ReadIndexTransporter is an optional ability of a Transporter: the question by which
// a server that does not lead learns what a linearizable read must have seen. Without
// it such reads are possible on the leader only. An answer must be that to the very
// request: its Sequence says so.
type ReadIndexTransporter interface {
	ReadIndexContext(ctx context.Context, server Server, peer *Peer, req *ReadIndexRequest) (*ReadIndexResponse, error)
}

// AppendStreamer is an optional ability of a Transporter: a long-lived
// connection to one peer on which requests follow each other without waiting
// for answers.
type AppendStreamer interface {
	// OpenAppendStream connects to the peer and shakes hands; ctx bounds that
	// only. An error that wraps ErrStreamUnsupported makes the server use
	// single calls for a while.
	OpenAppendStream(ctx context.Context, server Server, peer *Peer) (AppendStream, error)
}

// AppendStream is one open connection for AppendEntries requests. Send and
// Receive are called by one goroutine each; Close by any, and it makes the two
// return an error at once. After an error the stream is closed and given up.
type AppendStream interface {
	// Send hands over one request, in order. It may return before the bytes have
	// left, and does not keep req after it returns, but may keep the entries'
	// bytes, which never change.
	Send(req *AppendEntriesRequest) error
	// Receive waits for the next answer. An answer names its request by its
	// Sequence; the answer to a heartbeat may overtake those of entries that
	// still wait for the disk.
	Receive() (*AppendEntriesResponse, error)
	Close() error
}

// appendReceiver is how a stream hands requests to a server without waiting for
// each answer: they are taken in the order of the calls. responder.answerAppend
// is called at most once for each (a server that stops answers no more), from
// the server's goroutines; it must not block and must not keep the response.
//
// The request's records must not be changed after the call: the server keeps
// slices of them as its own log.
type appendReceiver interface {
	submitAppend(req *AppendEntriesRequest, responder appendResponder) error
}

// appendResponder takes the answer to a request that was submitted.
type appendResponder interface {
	answerAppend(resp *AppendEntriesResponse)
}
