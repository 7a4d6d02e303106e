package raft

import (
	"cmp"
	"context"
	"fmt"
)

// MemoryTransporter is one server's end of a MemoryNetwork: a Transporter with
// all optional abilities.
type MemoryTransporter struct {
	network *MemoryNetwork
	name    string
	closing chan struct{}
	// Guarded by the network's mutex.
	server Server
	gone   bool
	orders map[string]uint64 // of the calls to each server
}

var (
	_ Transporter          = (*MemoryTransporter)(nil)
	_ ContextTransporter   = (*MemoryTransporter)(nil)
	_ AppendStreamer       = (*MemoryTransporter)(nil)
	_ SnapshotTransporter  = (*MemoryTransporter)(nil)
	_ TransferTransporter  = (*MemoryTransporter)(nil)
	_ ReadIndexTransporter = (*MemoryTransporter)(nil)
)

// Transporter returns a new end of the network for the server of that name. It
// can send at once; Install makes it receive.
func (n *MemoryNetwork) Transporter(name string) *MemoryTransporter {
	return &MemoryTransporter{
		network: n, name: name, closing: make(chan struct{}), orders: make(map[string]uint64),
	}
}

// Install makes the server the one that the transporter's name stands for. An
// earlier one of that name is cut off as by Close.
func (t *MemoryTransporter) Install(server Server) {
	n := t.network
	n.mu.Lock()
	before := n.mu.endpoints[t.name]
	n.mu.Unlock()
	if before != nil && before != t {
		before.Close()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	t.server = server
	if !t.gone {
		n.mu.endpoints[t.name] = t
	}
}

// Close takes the transporter from the network, as when its process ends: it
// sends nothing any more, and calls and streams that wait for it fail. What it
// has sent may still arrive.
func (t *MemoryTransporter) Close() {
	n := t.network
	n.mu.Lock()
	first := !t.gone
	t.gone = true
	if n.mu.endpoints[t.name] == t {
		delete(n.mu.endpoints, t.name)
	}
	var waiting []*memoryCall
	for c := range n.mu.calls {
		if first && c.to == t.name {
			waiting = append(waiting, c)
		}
	}
	for s := range n.mu.streams {
		if s.client == t || s.host == t {
			n.endStream(s, errMemoryRefused)
		}
	}
	n.mu.Unlock()
	if first {
		close(t.closing)
	}
	for _, c := range waiting {
		c.finish(errMemoryRefused)
	}
	n.tellEnded()
}

// Bare returns a Transporter with goraft's four methods and nothing else, which
// carries only the exported fields of the messages.
func (t *MemoryTransporter) Bare() Transporter { return bareMemoryTransporter{t} }

type bareMemoryTransporter struct{ t *MemoryTransporter }

// SendVoteRequest is Transporter's.
func (b bareMemoryTransporter) SendVoteRequest(_ Server, peer *Peer, req *RequestVoteRequest) *RequestVoteResponse {
	return timedCall[*RequestVoteResponse](b.t, peer, req, true)
}

// SendAppendEntriesRequest is Transporter's.
func (b bareMemoryTransporter) SendAppendEntriesRequest(_ Server, peer *Peer, req *AppendEntriesRequest) *AppendEntriesResponse {
	return timedCall[*AppendEntriesResponse](b.t, peer, req, true)
}

// SendSnapshotRequest is Transporter's.
func (b bareMemoryTransporter) SendSnapshotRequest(_ Server, peer *Peer, req *SnapshotRequest) *SnapshotResponse {
	return timedCall[*SnapshotResponse](b.t, peer, req, true)
}

// SendSnapshotRecoveryRequest is Transporter's.
func (b bareMemoryTransporter) SendSnapshotRecoveryRequest(_ Server, peer *Peer, req *SnapshotRecoveryRequest) *SnapshotRecoveryResponse {
	return timedCall[*SnapshotRecoveryResponse](b.t, peer, req, true)
}

// SendVoteRequest is Transporter's; it waits for the network's call timeout.
func (t *MemoryTransporter) SendVoteRequest(_ Server, peer *Peer, req *RequestVoteRequest) *RequestVoteResponse {
	return timedCall[*RequestVoteResponse](t, peer, req, false)
}

// SendAppendEntriesRequest is Transporter's; it waits for the network's call
// timeout.
func (t *MemoryTransporter) SendAppendEntriesRequest(_ Server, peer *Peer, req *AppendEntriesRequest) *AppendEntriesResponse {
	return timedCall[*AppendEntriesResponse](t, peer, req, false)
}

// SendSnapshotRequest is Transporter's; it waits for the network's call timeout.
func (t *MemoryTransporter) SendSnapshotRequest(_ Server, peer *Peer, req *SnapshotRequest) *SnapshotResponse {
	return timedCall[*SnapshotResponse](t, peer, req, false)
}

// SendSnapshotRecoveryRequest is Transporter's; it waits for the network's call
// timeout.
func (t *MemoryTransporter) SendSnapshotRecoveryRequest(_ Server, peer *Peer, req *SnapshotRecoveryRequest) *SnapshotRecoveryResponse {
	return timedCall[*SnapshotRecoveryResponse](t, peer, req, false)
}

// RequestVoteContext is ContextTransporter's.
func (t *MemoryTransporter) RequestVoteContext(ctx context.Context, _ Server, peer *Peer, req *RequestVoteRequest) (*RequestVoteResponse, error) {
	return callFor[*RequestVoteResponse](ctx, t, peer, req, false)
}

// AppendEntriesContext is ContextTransporter's.
func (t *MemoryTransporter) AppendEntriesContext(ctx context.Context, _ Server, peer *Peer, req *AppendEntriesRequest) (*AppendEntriesResponse, error) {
	return callFor[*AppendEntriesResponse](ctx, t, peer, req, false)
}

// RequestSnapshotContext is SnapshotTransporter's.
func (t *MemoryTransporter) RequestSnapshotContext(ctx context.Context, _ Server, peer *Peer, req *SnapshotRequest) (*SnapshotResponse, error) {
	return callFor[*SnapshotResponse](ctx, t, peer, req, false)
}

// SnapshotRecoveryContext is SnapshotTransporter's.
func (t *MemoryTransporter) SnapshotRecoveryContext(ctx context.Context, _ Server, peer *Peer, req *SnapshotRecoveryRequest) (*SnapshotRecoveryResponse, error) {
	return callFor[*SnapshotRecoveryResponse](ctx, t, peer, req, false)
}

// TimeoutNowContext is TransferTransporter's.
func (t *MemoryTransporter) TimeoutNowContext(ctx context.Context, _ Server, peer *Peer, req *TimeoutNowRequest) (*TimeoutNowResponse, error) {
	return callFor[*TimeoutNowResponse](ctx, t, peer, req, false)
}

// ReadIndexContext is ReadIndexTransporter's.
func (t *MemoryTransporter) ReadIndexContext(ctx context.Context, _ Server, peer *Peer, req *ReadIndexRequest) (*ReadIndexResponse, error) {
	return callFor[*ReadIndexResponse](ctx, t, peer, req, false)
}

// timedCall is a call without a context.
func timedCall[A any](t *MemoryTransporter, peer *Peer, req any, bare bool) (answer A) {
	t.network.mu.Lock()
	timeout := t.network.mu.callTimeout
	t.network.mu.Unlock()
	ctx := context.Background()
	if timeout > 0 {
		bounded, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		ctx = bounded
	}
	answer, _ = callFor[A](ctx, t, peer, req, bare)
	return answer
}

func callFor[A any](ctx context.Context, t *MemoryTransporter, peer *Peer, req any, bare bool) (answer A, err error) {
	got, err := t.call(ctx, peer.Name, req, bare)
	if err != nil {
		return answer, err
	}
	answer, ok := got.(A)
	if !ok {
		return answer, fmt.Errorf("%w: a %T for a %T", ErrMessage, got, req)
	}
	return answer, nil
}

// memoryCall is one call that waits for its answer.
type memoryCall struct {
	from   *MemoryTransporter
	to     string
	order  uint64
	bare   bool
	answer chan any // a response or an error; capacity 1, the first counts
}

func (c *memoryCall) finish(answer any) {
	select {
	case c.answer <- answer:
	default:
	}
}

// call sends a request and waits for its answer.
func (t *MemoryTransporter) call(ctx context.Context, to string, req any, bare bool) (any, error) {
	n := t.network
	c := &memoryCall{from: t, to: to, bare: bare, answer: make(chan any, 1)}
	n.mu.Lock()
	n.mu.calls[c] = struct{}{}
	t.orders[to]++
	c.order = t.orders[to]
	n.mu.Unlock()
	defer func() {
		n.mu.Lock()
		delete(n.mu.calls, c)
		n.mu.Unlock()
	}()

	message, watch, err := n.copyOf(req, bare)
	if err != nil {
		return nil, err
	}
	n.send(&parcel{from: t, to: to, message: message, watch: watch, rank: rankOf(message), order: orderOf(message, c.order), call: c})
	select {
	case answer := <-c.answer:
		if err, failed := answer.(error); failed {
			return nil, err
		}
		return answer, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-t.closing:
		return nil, errMemoryClosed
	case <-n.closing:
		return nil, errMemoryClosed
	}
}

// serve has whom a request has come to answer it, and sends the answer back.
func (n *MemoryNetwork) serve(p *parcel) {
	c := p.call
	n.mu.Lock()
	host := n.mu.endpoints[p.to]
	checked := n.mu.checked
	var server Server
	if host != nil {
		server = host.server
	}
	n.mu.Unlock()
	if host == nil {
		c.finish(errMemoryRefused)
		return
	}
	// The addressee's own, even of a message that arrives twice.
	req, err := copyMessage(p.message, AsStructs, c.bare, checked)
	if err != nil {
		c.finish(err)
		return
	}
	var answer any = ErrStreamAddressee // which the two ends of a stream find out when it is opened
	if _, opening := req.(streamOpening); !opening || !p.astray {
		answer = handle(host, server, req)
	}
	if checked {
		spoil(req)
	}
	reply := &parcel{from: host, to: c.from.name, answer: true, message: answer, rank: rankOf(answer), order: orderOf(answer, c.order), call: c}
	if _, failed := answer.(error); !failed {
		if reply.message, reply.watch, err = n.copyOf(answer, c.bare); err != nil {
			reply.message = err
		}
	}
	n.send(reply)
}

// streamOpening asks for an append stream, streamOpened grants it.
type (
	streamOpening struct{}
	streamOpened  struct {
		host     *MemoryTransporter
		server   Server
		receiver appendReceiver
	}
)

// handle gives a request to a server. The answer is a response or an error.
func handle(host *MemoryTransporter, server Server, req any) any {
	switch req := req.(type) {
	case *RequestVoteRequest:
		return answerOf(server.RequestVote(req))
	case *AppendEntriesRequest:
		return answerOf(server.AppendEntries(req))
	case *SnapshotRequest:
		return answerOf(server.RequestSnapshot(req))
	case *SnapshotRecoveryRequest:
		return answerOf(server.SnapshotRecoveryRequest(req))
	case *TimeoutNowRequest:
		return answerOf(server.TimeoutNow(req))
	case *ReadIndexRequest:
		return answerOf(server.RequestReadIndex(req))
	case streamOpening:
		receiver, ok := server.(appendReceiver)
		if !ok {
			return ErrStreamUnsupported
		}
		return streamOpened{host, server, receiver}
	}
	return errMemoryRefused
}

func answerOf[A any](answer *A) any {
	if answer == nil {
		return errMemoryRefused // the server is not running
	}
	return answer
}

// orderOf orders the messages of one kind that were sent on a link at one
// instant: by their own sequence if they have one, else by the calls'.
func orderOf(message any, call uint64) uint64 {
	switch m := message.(type) {
	case *AppendEntriesRequest:
		return cmp.Or(m.Sequence, call)
	case *AppendEntriesResponse:
		return cmp.Or(m.Sequence, call)
	case *ReadIndexRequest:
		return cmp.Or(m.Sequence, call)
	case *ReadIndexResponse:
		return cmp.Or(m.Sequence, call)
	}
	return call
}
