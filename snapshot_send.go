package raft

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/goraft/raft/internal/snapshot"
)

// leastPieceBytes is how much of a snapshot's file a call carries on a link on
// which calls with more get no answer in time.
const leastPieceBytes = 16 << 10

// behind reports whether the peer needs entries that the log no longer has.
func (s *sender) behind(view *leaderView) bool { return s.progress.next <= view.terms.base.index }

// ship has the newest snapshot sent to a peer that is behind. The calls are made
// beside the sender's goroutine and its stream, so that no heartbeat waits.
func (s *sender) ship() {
	view := s.view.Load()
	if view == nil || view.snapshot == nil || s.shipped != nil || s.ctx.Err() != nil {
		return
	}
	if !s.behind(view) {
		// What it was sent is of no more use once it has the newest from the log.
		if s.shipping.Load() != 0 && s.progress.matched >= view.snapshot.Index {
			s.shipping.Store(0)
		}
		return
	}
	info, shipped := *view.snapshot, make(chan uint64, 1)
	s.shipping.Store(info.Index)
	s.shipped = shipped
	p := &shipment{sender: s, info: info, room: maxPieceBytes, lost: -1, rand: rand.New(rand.NewPCG(s.rand.Uint64(), s.rand.Uint64()))}
	s.tasks.Go("snapshot:"+s.member.name, func() { shipped <- p.run() })
}

// delivered takes notice that the peer has a snapshot, or that it was not to be
// had.
func (s *sender) delivered(index uint64) {
	s.shipped = nil
	if index == 0 {
		s.shipping.Store(0)
		return
	}
	s.progress.shared(index)
	s.heartbeat()
}

// shipment is a snapshot on its way to a peer. It uses what is fixed of the
// sender only.
type shipment struct {
	*sender
	info  snapshot.Info
	rand  *rand.Rand
	room  int64 // bytes that the next call carries
	lost  int64 // where the last piece that got no answer began, -1 if there is none
	whole bool  // the peer has had all of the file
}

// run sends the file until the peer has it in force, whatever breaks meanwhile:
// each call has a deadline of its own, the whole has none, and after a break it
// goes on with what the peer holds. It returns the snapshot's index, or 0 if the
// peer is better served by another one.
func (p *shipment) run() uint64 {
	file, err := p.snapshots.Read(p.info.Label)
	if err != nil {
		return p.unsound(err)
	}
	defer file.Close()
	p.info = file.Info() // a received file may have taken the place of one that was taken here
	for attempt := 0; p.ctx.Err() == nil; attempt++ {
		if attempt > 0 {
			p.pause()
		}
		response := p.offer()
		switch {
		case response == nil:
			continue
		case !response.Success && response.CommitIndex >= p.info.Index:
			return p.info.Index
		case !response.Success:
			continue
		}
		if newest := p.view.Load().snapshot; response.Offset == 0 && attempt > 0 && newest.Index > p.info.Index {
			return 0
		}
		if response.Offset == 0 && p.whole {
			// The peer had all of it, and threw it away: what was wrong with it?
			if _, err := p.snapshots.Verify(p.info.Label); err != nil {
				return p.unsound(err)
			}
			p.whole = false
		}
		done, err := p.resume(file, int64(response.Offset))
		switch {
		case err != nil:
			return p.unsound(err)
		case done:
			return p.info.Index
		}
	}
	return 0
}

// resume goes on at an offset, with smaller pieces if the last one was lost.
func (p *shipment) resume(file *snapshot.Reader, offset int64) (bool, error) {
	if offset <= p.lost {
		p.room = max(p.room/2, leastPieceBytes)
	}
	p.lost = -1
	return p.send(file, offset)
}

// unsound tells the event loop of a file that cannot be read or is damaged.
func (p *shipment) unsound(err error) uint64 {
	if p.ctx.Err() == nil {
		p.log.Error("raft: reading a snapshot", "index", p.info.Index, "error", err)
		info := p.info
		p.inbox.put(control(func(l *eventLoop) { l.unsound(info) }))
		p.pause()
	}
	return 0
}

// send sends the file from offset on, and reports whether the peer has it in
// force. The error is that of the file.
func (p *shipment) send(file *snapshot.Reader, offset int64) (bool, error) {
	buffer := make([]byte, min(maxPieceBytes, p.info.Size)) // its own: a call that was given up may still hold the last one
	for offset < p.info.Size && p.ctx.Err() == nil {
		b := buffer[:min(p.room, p.info.Size-offset)]
		if _, err := file.ReadAt(b, offset); err != nil {
			return false, err
		}
		began := time.Now()
		response := p.piece(b, offset)
		if response != nil && time.Since(began) < p.patience()/2 {
			p.room = min(2*p.room, maxPieceBytes)
		}
		switch {
		case response == nil:
			p.lost = offset
			return false, nil
		case response.CommitIndex >= p.info.Index:
			return true, nil
		case int64(response.Offset) == p.info.Size:
			p.whole = true // and is looked at, or was
		}
		if !response.Success {
			return false, nil
		}
		offset += int64(len(b))
	}
	return false, nil
}

// offer tells the peer of the snapshot and hears how much of it is there.
func (p *shipment) offer() *SnapshotResponse {
	req := &SnapshotRequest{
		LeaderName: p.name, LastIndex: p.info.Index, LastTerm: p.info.Term, Term: p.term,
		ClusterID: p.request.ClusterID, To: p.member.name, StoreID: p.request.StoreID, ToStoreID: p.member.storeID,
		SnapshotID: p.info.ID, Size: uint64(p.info.Size),
	}
	response := callSnapshot(p, func(ctx context.Context, t Transporter) *SnapshotResponse {
		if c, ok := t.(SnapshotTransporter); ok {
			response, err := c.RequestSnapshotContext(ctx, p.server, p.peer, req)
			if err != nil {
				return nil
			}
			return response
		}
		return t.SendSnapshotRequest(p.server, p.peer, req)
	})
	if response == nil || !p.heard(response.Term, response.CommitIndex, response.From, response.Refused, response.ClusterID, response.StoreID) {
		return nil
	}
	return response
}

// piece sends bytes of the file.
func (p *shipment) piece(b []byte, offset int64) *SnapshotRecoveryResponse {
	req := &SnapshotRecoveryRequest{
		LeaderName: p.name, LastIndex: p.info.Index, LastTerm: p.info.Term, Term: p.term, State: b,
		ClusterID: p.request.ClusterID, To: p.member.name, StoreID: p.request.StoreID, ToStoreID: p.member.storeID,
		SnapshotID: p.info.ID, Size: uint64(p.info.Size), Offset: uint64(offset),
	}
	response := callSnapshot(p, func(ctx context.Context, t Transporter) *SnapshotRecoveryResponse {
		if c, ok := t.(SnapshotTransporter); ok {
			response, err := c.SnapshotRecoveryContext(ctx, p.server, p.peer, req)
			if err != nil {
				return nil
			}
			return response
		}
		return t.SendSnapshotRecoveryRequest(p.server, p.peer, req)
	})
	if response == nil || !p.heard(response.Term, response.CommitIndex, response.From, response.Refused, response.ClusterID, response.StoreID) {
		return nil
	}
	return response
}

// heard hands an answer to the event loop, as evidence of life and of terms, and
// reports whether it is one of the peer, in this term.
func (p *shipment) heard(term, commit uint64, from string, refused uint32, clusterID, storeID uint64) bool {
	word := newAppendEntriesResponse(term, 0, commit, false)
	word.From, word.Refused, word.ClusterID, word.StoreID = from, refused, clusterID, storeID
	p.inbox.put(&ack{term: p.term, name: p.member.name, incarnation: p.member.incarnation, response: word, at: time.Now()})
	return term <= p.term && refused == refusedNot && (from == "" || from == p.member.name)
}

// leastCallTime is how long a call with a piece may take at least: a piece is
// larger than most messages.
const leastCallTime = 2 * time.Second

// patience is how long a call may take.
func (p *shipment) patience() time.Duration {
	return max(leastCallTime, p.settings.electionTimeout())
}

// callSnapshot makes a call that may be given up; nil is no answer.
func callSnapshot[A any](p *shipment, f func(ctx context.Context, t Transporter) *A) *A {
	answer := make(chan *A, 1)
	ctx, cancel := context.WithTimeout(p.ctx, p.patience())
	defer cancel()
	p.call(ctx, &p.shipBusy, func(_ context.Context, t Transporter) { answer <- f(ctx, t) })
	select {
	case a := <-answer:
		return a
	case <-ctx.Done():
		return nil
	}
}

// pause waits between two attempts.
func (p *shipment) pause() {
	d := p.settings.heartbeat()
	timer := time.NewTimer(d + time.Duration(p.rand.Int64N(int64(d)+1)))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-p.ctx.Done():
	}
}
