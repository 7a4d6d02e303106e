package raft

import (
	"cmp"
	"context"
	"fmt"
	"math"

	"github.com/goraft/raft/internal/wal"
)

// waitingResponder takes the answer to a call that waits for it.
type waitingResponder chan *AppendEntriesResponse

func (w waitingResponder) answerAppend(response *AppendEntriesResponse) { w <- response }

// unanswered ends the call without an answer.
func (w waitingResponder) unanswered() { close(w) }

func (s *server) AppendEntries(req *AppendEntriesRequest) *AppendEntriesResponse {
	r := s.lifecycle.run.Load()
	answer := make(waitingResponder, 1)
	if r == nil || s.submitAppend(req, answer) != nil {
		return nil
	}
	select {
	case response := <-answer:
		return response
	case <-r.ended:
		return nil
	}
}

func (s *server) RequestVote(req *RequestVoteRequest) *RequestVoteResponse {
	if req == nil {
		return nil
	}
	s.options.logger.Log(context.Background(), levelTrace, "raft: asked for a vote", "server", s.name, "candidate", req.CandidateName, "term", req.Term, "preVote", req.PreVote)
	copied := *req
	return await(s, func(answer chan *RequestVoteResponse) any { return &voteCall{&copied, answer} })
}

func (s *server) RequestSnapshot(req *SnapshotRequest) *SnapshotResponse {
	if req == nil {
		return nil
	}
	copied := *req
	return await(s, func(answer chan *SnapshotResponse) any { return &snapshotCall{&copied, answer} })
}

func (s *server) TimeoutNow(req *TimeoutNowRequest) *TimeoutNowResponse {
	if req == nil {
		return nil
	}
	copied := *req
	return await(s, func(answer chan *TimeoutNowResponse) any { return &timeoutNowCall{&copied, answer} })
}

func (s *server) RequestReadIndex(req *ReadIndexRequest) *ReadIndexResponse {
	if req == nil {
		return nil
	}
	copied := *req
	return await(s, func(answer chan *ReadIndexResponse) any { return &readIndexCall{&copied, answer} })
}

// await puts the call into the inbox and waits for its answer. It is nil if the
// server is not running, or ends before it answers.
func await[Answer any](s *server, call func(answer chan *Answer) any) *Answer {
	r := s.lifecycle.run.Load()
	if r == nil || s.lifecycle.state.Load() != phaseStarted {
		return nil
	}
	answer := make(chan *Answer, 1)
	if !r.inbox.put(call(answer)) {
		return nil
	}
	select {
	case response := <-answer:
		return response
	case <-r.ended:
		return nil
	}
}

// answering is the promise of a call that holds a goroutine until its answer, or
// until the channel is closed because there will be none.
func answering[Answer any](answer chan *Answer, response *Answer) promise {
	return promise{deliver: func() { answer <- response }, drop: func() { close(answer) }}
}

// submitAppend checks the request's entries where the transport calls, and hands
// it to the event loop.
func (s *server) submitAppend(req *AppendEntriesRequest, responder appendResponder) error {
	r := s.lifecycle.run.Load()
	if req == nil || r == nil || s.lifecycle.state.Load() != phaseStarted {
		return StopError
	}
	copied := *req
	call := &appendCall{req: &copied, responder: responder}
	call.cluster = cmp.Or(req.ClusterID, s.ClusterID())
	if err := call.read(); err != nil {
		return err
	}
	if !r.inbox.add(call) { // by a network's one goroutine, perhaps
		return StopError
	}
	return nil
}

// read checks the request's entries and tells the rules what they are: whole,
// unchanged, one behind the other, of terms that do not fall and do not exceed
// the request's.
func (c *appendCall) read() error {
	req := c.req
	seed := wal.Seed(c.cluster)
	if req.records == nil && len(req.Entries) > 0 {
		records, err := req.recordsFromEntries(seed)
		if err != nil {
			return err
		}
		req.records = records
	}
	if uint64(len(req.records)) > math.MaxUint32 {
		return ErrMessageTooLarge
	}
	h := &c.batch.history
	h.base = entryID{req.PrevLogIndex, req.PrevLogTerm}
	h.end = req.PrevLogIndex
	before := req.PrevLogTerm
	for rest := req.records; len(rest) > 0; {
		record, next, err := wal.NextRecord(rest)
		if err == nil {
			err = record.Verify(seed)
		}
		if err != nil {
			return err
		}
		term := record.Term()
		if record.Index() != h.end+1 || term < before || term > req.Term || term == 0 {
			return fmt.Errorf("%w: entry %d of term %d behind entry %d of term %d, sent in term %d",
				ErrMessage, record.Index(), term, h.end, before, req.Term)
		}
		if c.offsets == nil {
			// As if they were all as large as the first.
			c.offsets = make([]uint32, 0, 1+len(rest)/len(record))
		}
		c.offsets = append(c.offsets, uint32(len(req.records)-len(rest)))
		h.append(term, 1)
		before = term
		if record.Kind() == kindConfiguration {
			configuration, err := decodeConfiguration(record.Data(), record.Index())
			if err != nil {
				return err
			}
			c.batch.configurations = append(c.batch.configurations, configuration)
		}
		rest = next
	}
	return nil
}
