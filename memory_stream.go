package raft

import (
	"context"
	"fmt"
	"time"
)

// memoryStream is an append stream between two ends of a MemoryNetwork.
type memoryStream struct {
	network  *MemoryNetwork
	client   *MemoryTransporter
	host     *MemoryTransporter
	server   Server
	receiver appendReceiver
	wake     chan struct{} // an answer has arrived; capacity 1
	done     chan struct{} // closed when dead
	requests memoryPipe
	replies  memoryPipe
	// Guarded by the network's mutex.
	answers []*AppendEntriesResponse
	dead    bool
	err     error
	sent    uint64
}

// memoryPipe is one direction of a stream. What is in it is guarded by the
// network's mutex.
type memoryPipe struct {
	stream  *memoryStream
	last    time.Time // when the last message arrives
	stalled uint64    // the place from which on nothing arrives, or 0
}

// stall makes the pipe deliver nothing from that place on.
func (p *memoryPipe) stall(place uint64) {
	if p.stalled == 0 {
		p.stalled = place
	}
}

func (p *memoryPipe) stalls(place uint64) bool { return p.stalled != 0 && place >= p.stalled }

// next makes a time of arrival one that keeps the order.
func (p *memoryPipe) next(due time.Time) time.Time {
	if !due.After(p.last) {
		due = p.last.Add(1)
	}
	p.last = due
	return due
}

// OpenAppendStream is AppendStreamer's.
func (t *MemoryTransporter) OpenAppendStream(ctx context.Context, _ Server, peer *Peer) (AppendStream, error) {
	got, err := t.call(ctx, peer.Name, streamOpening{}, false)
	if err != nil {
		return nil, err
	}
	opened, ok := got.(streamOpened)
	if !ok {
		return nil, fmt.Errorf("%w: a %T for a stream", ErrMessage, got)
	}
	n := t.network
	s := &memoryStream{
		network: n, client: t, host: opened.host, server: opened.server, receiver: opened.receiver,
		wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
	s.requests.stream, s.replies.stream = s, s
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.mu.closed || t.gone || s.host.gone {
		return nil, errMemoryRefused
	}
	n.mu.streams[s] = struct{}{}
	return s, nil
}

// endStream marks a stream as ended; tellEnded tells its users, when the mutex is
// free.
func (n *MemoryNetwork) endStream(s *memoryStream, err error) {
	if s.dead {
		return
	}
	s.dead, s.err, s.answers = true, err, nil
	delete(n.mu.streams, s)
	n.mu.ended = append(n.mu.ended, s)
}

func (n *MemoryNetwork) tellEnded() {
	n.mu.Lock()
	ended := n.mu.ended
	n.mu.ended = nil
	n.mu.Unlock()
	for _, s := range ended {
		close(s.done)
	}
}

// end ends the stream, from any goroutine.
func (s *memoryStream) end(err error) {
	s.network.mu.Lock()
	s.network.endStream(s, err)
	s.network.mu.Unlock()
	s.network.tellEnded()
}

// Send is AppendStream's.
func (s *memoryStream) Send(req *AppendEntriesRequest) error {
	n := s.network
	message, watch, err := n.carry(req)
	if err != nil {
		return err
	}
	n.mu.Lock()
	s.sent++
	order := s.sent
	err = s.err
	n.mu.Unlock()
	if err != nil {
		return err
	}
	n.send(&parcel{
		from: s.client, to: s.host.name, message: message, watch: watch,
		rank: rankOf(message), order: order, pipe: &s.requests, host: s.host,
	})
	return nil
}

// carry copies a request that travels on a stream, where records travel as they
// are in every form.
func (n *MemoryNetwork) carry(req *AppendEntriesRequest) (*AppendEntriesRequest, *byteWatch, error) {
	n.mu.Lock()
	form, checked := n.mu.form, n.mu.checked
	n.mu.Unlock()
	var watch *byteWatch
	if checked {
		watch = watchBytes(req)
	}
	carried := copyAppend(req, false, checked)
	if form == AsStructs {
		return carried, watch, nil
	}
	fresh := &AppendEntriesRequest{records: carried.records}
	err := fresh.decodeHeader(req.appendHeader(nil))
	fresh.Entries = carried.Entries
	return fresh, watch, err
}

// take hands a request to the server.
func (s *memoryStream) take(req *AppendEntriesRequest) {
	if err := s.receiver.submitAppend(req, s); err != nil {
		s.end(err)
	}
}

// answerAppend is appendResponder's.
func (s *memoryStream) answerAppend(resp *AppendEntriesResponse) {
	n := s.network
	message, watch, err := n.copyOf(resp, false)
	if err != nil {
		s.end(err)
		return
	}
	answer := message.(*AppendEntriesResponse)
	n.send(&parcel{
		from: s.host, to: s.client.name, answer: true, message: answer, watch: watch,
		rank: rankOf(answer), order: answer.Sequence, pipe: &s.replies, host: s.client,
	})
}

// give hands an answer to whoever receives.
func (s *memoryStream) give(answer *AppendEntriesResponse) {
	s.network.mu.Lock()
	if !s.dead {
		s.answers = append(s.answers, answer)
	}
	s.network.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Receive is AppendStream's.
func (s *memoryStream) Receive() (*AppendEntriesResponse, error) {
	for {
		s.network.mu.Lock()
		err := s.err
		var answer *AppendEntriesResponse
		if len(s.answers) > 0 {
			answer, s.answers = s.answers[0], s.answers[1:]
		}
		s.network.mu.Unlock()
		switch {
		case err != nil:
			return nil, err
		case answer != nil:
			return answer, nil
		}
		select {
		case <-s.wake:
		case <-s.done:
		}
	}
}

// Close is AppendStream's.
func (s *memoryStream) Close() error {
	s.end(errMemoryClosed)
	return nil
}
