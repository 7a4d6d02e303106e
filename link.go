package raft

import (
	"context"
	"errors"
	"time"
)

// maxCalls bounds the single calls to one peer that are under way at once: a
// Transporter without contexts may never return from one.
const maxCalls = 4

// streamRetry is how long single calls are used after a peer refused a stream.
const streamRetry = 5 * time.Second

// link is a sender's connection to its peer: a stream where the transporter and
// the peer have it, else single calls. It belongs to the sender's goroutine.
type link struct {
	stream     AppendStream
	generation uint64
	since      time.Time    // when the stream was opened
	opening    chan opening // nil unless a stream is being opened
	retry      time.Time    // no stream is tried before
	unwatch    func() bool  // ends the watch that closes the stream with the office
	single     bool         // single calls are used meanwhile
	notes      []flightNote // requests under way on the stream, by sequence
}

// opening is how the attempt to open a stream ended.
type opening struct {
	stream AppendStream
	err    error
}

// flightNote is what is remembered of a request on a stream until its answer.
type flightNote struct {
	sequence, prev uint64
	round          uint64 // for reads
	beat           bool   // a heartbeat
	sent           time.Time
}

// note remembers a request, in place of the one noted two windows earlier. If that was
// one with entries, whose answer is still to come behind many to heartbeats for reads,
// the next heartbeat's answer says the same.
func (k *link) note(n flightNote) {
	if k.notes == nil {
		k.notes = make([]flightNote, 2*maxInFlight)
	}
	k.notes[n.sequence%uint64(len(k.notes))] = n
}

// find returns the note of a request; each is answered once.
func (k *link) find(sequence uint64) (flightNote, bool) {
	if k.notes == nil || sequence == 0 {
		return flightNote{}, false
	}
	n := &k.notes[sequence%uint64(len(k.notes))]
	if n.sequence != sequence {
		return flightNote{}, false
	}
	found := *n
	n.sequence = 0
	return found, true
}

// calls reports whether single calls are to be used.
func (k *link) calls() bool { return k.single && k.stream == nil }

func (k *link) opened() <-chan opening { return k.opening }

// drop closes the stream. The next is tried at once, or after a pause if this one
// did not live that long.
func (k *link) drop(pause time.Duration) {
	k.close()
	k.stream = nil
	if now := time.Now(); now.Sub(k.since) < pause {
		k.retry = now.Add(pause)
	}
}

func (k *link) close() {
	if k.stream != nil {
		k.unwatch()
		k.stream.Close()
	}
}

// end closes what there is and what was about to be.
func (k *link) end() {
	k.close()
	if k.opening != nil {
		if o := <-k.opening; o.stream != nil {
			o.stream.Close()
		}
	}
}

// connect opens a stream, beside the sender's goroutine, if there is none and it
// is time to.
func (s *sender) connect() {
	k := &s.link
	if k.stream != nil || k.opening != nil {
		return
	}
	streamer, ok := s.transporter().(AppendStreamer)
	if !ok {
		k.single = true
		return
	}
	if time.Now().Before(k.retry) {
		return
	}
	result := make(chan opening, 1)
	k.opening = result
	s.tasks.Go("connect:"+s.member.name, func() {
		ctx, cancel := context.WithTimeout(s.ctx, s.settings.electionTimeout())
		defer cancel()
		stream, err := streamer.OpenAppendStream(ctx, s.server, s.peer)
		if err == nil && s.ctx.Err() != nil {
			stream.Close()
			err = s.ctx.Err()
		}
		s.yield("connected")
		result <- opening{stream, err}
	})
}

// opened takes the outcome of connect. Where there is no stream to be had, single
// calls serve meanwhile.
func (s *sender) opened(o opening) {
	k := &s.link
	k.opening = nil
	if o.err != nil {
		k.single = true
		pause := s.settings.heartbeat()
		if errors.Is(o.err, ErrStreamUnsupported) {
			pause = streamRetry
		}
		k.retry = time.Now().Add(pause + time.Duration(s.rand.Int64N(int64(pause)+1)))
		s.heartbeat()
		return
	}
	k.stream, k.single = o.stream, false
	k.generation++
	k.since = time.Now()
	clear(k.notes)
	s.progress.lost()
	s.lastWord = time.Now()
	generation, stream := k.generation, o.stream
	k.unwatch = context.AfterFunc(s.ctx, func() { stream.Close() })
	s.tasks.Go("receive:"+s.member.name, func() { s.receive(stream, generation) })
}

// receive hands on the stream's answers until it ends.
func (s *sender) receive(stream AppendStream, generation uint64) {
	for {
		response, err := stream.Receive()
		s.yield("received")
		if err != nil {
			response = nil
		}
		select {
		case s.answers <- answer{link: generation, response: response}:
		case <-s.ctx.Done():
			return
		}
		if err != nil {
			return
		}
	}
}

// callAppend sends a request as a single call.
func (s *sender) callAppend(req *AppendEntriesRequest, round uint64, beat bool) {
	a := answer{sequence: req.Sequence, prev: req.PrevLogIndex, round: round, beat: beat, sent: s.lastSent}
	s.call(s.ctx, &s.busy, func(ctx context.Context, t Transporter) {
		a.response = sendAppend(ctx, t, s.server, s.peer, req)
		s.yield("called")
		select {
		case s.answers <- a:
		case <-s.ctx.Done():
		}
	})
}

// sendAppend makes a single call; nil is no answer.
func sendAppend(ctx context.Context, t Transporter, server Server, peer *Peer, req *AppendEntriesRequest) *AppendEntriesResponse {
	if err := req.fillEntries(); err != nil {
		return nil
	}
	if c, ok := t.(ContextTransporter); ok {
		response, err := c.AppendEntriesContext(ctx, server, peer, req)
		if err != nil {
			return nil
		}
		return response
	}
	return t.SendAppendEntriesRequest(server, peer, req)
}

// sendVote makes a single call; nil is no answer.
func sendVote(ctx context.Context, t Transporter, server Server, peer *Peer, req *RequestVoteRequest) *RequestVoteResponse {
	if c, ok := t.(ContextTransporter); ok {
		response, err := c.RequestVoteContext(ctx, server, peer, req)
		if err != nil {
			return nil
		}
		return response
	}
	return t.SendVoteRequest(server, peer, req)
}
