package raft

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// soakNode is a server's place in a soak: what outlives its lives.
type soakNode struct {
	name  string
	life  atomic.Uint64 // odd while a life begins or ends
	store atomic.Pointer[soakStore]
	// What the nemesis does to it.
	slow      soakSlowness
	stall     atomic.Pointer[chan struct{}] // blocks its disk while it is set
	syncTime  atomic.Int64                  // how long its disk takes for a sync, besides
	diskError atomic.Bool                   // fails its disk's next sync
	mayFail   atomic.Bool                   // this life may stop by itself
	busy      bool                          // with a fault that decides its life; the nemesis' own
}

// soakWatch checks what servers say and send against what they, and others, said
// before.
type soakWatch struct {
	run     *soakRun
	mu      sync.Mutex
	leaders map[uint64]string   // of each term
	heard   map[string]uint64   // the highest term that a server has told another one
	votes   map[soakVote]string // for whom
	changes int
	pieces  atomic.Int64 // of snapshots
}

type soakVote struct {
	voter string
	store uint64
	term  uint64
}

func newSoakWatch(r *soakRun) *soakWatch {
	return &soakWatch{run: r, leaders: map[uint64]string{}, heard: map[string]uint64{}, votes: map[soakVote]string{}}
}

// leads takes word of who leads a term.
func (w *soakWatch) leads(term uint64, name, source string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch w.leaders[term] {
	case name:
	case "":
		w.leaders[term] = name
		w.changes++
	default:
		w.run.violated("%s says that %s leads term %d, %s did", source, name, term, w.leaders[term])
	}
}

// voted takes word of a vote.
func (w *soakWatch) voted(voter string, store uint64, candidate string, term uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	v := soakVote{voter, store, term}
	if before, ok := w.votes[v]; ok && before != candidate {
		w.run.violated("%s voted for %s and %s in term %d", voter, before, candidate, term)
	}
	w.votes[v] = candidate
}

// wiped takes notice that a server loses its store, and what it promised with it.
func (w *soakWatch) wiped(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.heard, name)
}

// sent takes notice of a message: what it says was durable when it was sent.
func (w *soakWatch) sent(m MemoryMessage) bool {
	var term uint64
	switch message := m.Message.(type) {
	case *RequestVoteRequest:
		if !message.PreVote {
			term = message.Term
			w.voted(m.From, message.StoreID, m.From, term)
		}
	case *RequestVoteResponse:
		term = message.Term
		if message.VoteGranted && !message.PreVote {
			w.voted(m.From, message.StoreID, m.To, term)
		}
	case *AppendEntriesRequest:
		term = message.Term
		w.leads(term, m.From, "a message")
	case *AppendEntriesResponse:
		term = message.Term()
	case *SnapshotRequest:
		term = message.Term
		w.leads(term, m.From, "an offer")
	case *SnapshotRecoveryRequest:
		term = message.Term
		w.leads(term, m.From, "a piece")
		w.pieces.Add(1)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.heard[m.From] = max(w.heard[m.From], term)
	return true
}

// initialized checks what a new life, which has not started, has remembered.
func (w *soakWatch) initialized(name string, s Server) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if term := s.Term(); term < w.heard[name] {
		w.run.violated("%s begins in term %d and was in %d", name, term, w.heard[name])
	}
}

// listen hears a server's events.
func (w *soakWatch) listen(name string, s Server) {
	term := uint64(0) // as far as events have told
	s.AddEventListener(TermChangeEventType, func(e Event) {
		if now := e.Value().(uint64); now < e.PrevValue().(uint64) {
			w.run.violated("%s went from term %v to %v", name, e.PrevValue(), now)
		}
		term = e.Value().(uint64)
	})
	s.AddEventListener(StateChangeEventType, func(e Event) {
		switch e.Value() {
		case Leader:
			w.leads(term, name, "an event")
		case Stopped, Initialized:
			term = 0
		}
	})
	s.AddEventListener(LeaderChangeEventType, func(e Event) {
		if leader := e.Value().(string); leader != "" && term != 0 {
			w.leads(term, leader, "an event of "+name)
		}
	})
}

// watch reads every server's Status again and again until the context ends.
func (w *soakWatch) watch(ctx context.Context, interval time.Duration) {
	type seen struct {
		life   uint64
		status Status
	}
	before := map[string]seen{}
	for ctx.Err() == nil {
		for _, n := range w.run.allNodes() {
			life := n.life.Load()
			s := w.run.fleet.server(n.name)
			if life%2 != 0 || s == nil {
				continue
			}
			status, err := s.Status(), s.Err()
			if n.life.Load() != life {
				continue
			}
			if errors.Is(err, ErrRemoved) {
				err = nil
			}
			if err != nil && !n.mayFail.Load() {
				w.run.violated("%s stopped by itself: %v", n.name, err)
			}
			if err != nil && (errors.Is(err, ErrInvariant) || errors.Is(err, ErrHalted)) {
				w.run.violated("%s: %v", n.name, err)
			}
			if last := before[n.name]; last.life == life {
				w.compare(&last.status, &status)
			}
			w.judge(&status)
			before[n.name] = seen{life, status}
		}
		w.run.wait(ctx, interval)
	}
}

// compare checks that nothing goes back within a life.
func (w *soakWatch) compare(old, now *Status) {
	if now.Term < old.Term || now.CommitIndex < old.CommitIndex || now.LastApplied < old.LastApplied ||
		now.ConfigurationIndex < old.ConfigurationIndex && old.ConfigurationIndex <= old.CommitIndex {
		w.run.violated("%s went back from %+v to %+v", now.Name, *old, *now)
	}
	if old.ClusterID != 0 && old.ClusterID != now.ClusterID || old.StoreID != now.StoreID {
		w.run.violated("%s became another server: from %+v to %+v", now.Name, *old, *now)
	}
	if old.Term == now.Term && old.VotedFor != "" && old.VotedFor != now.VotedFor {
		w.run.violated("%s changed its vote from %s to %s in term %d", now.Name, old.VotedFor, now.VotedFor, now.Term)
	}
}

// judge checks what a server says by itself.
func (w *soakWatch) judge(s *Status) {
	if s.CommitIndex > s.LastIndex || s.DurableIndex > s.LastIndex || s.LastTerm > s.Term ||
		s.UncommittedBytes > DefaultMaxUncommittedBytes {
		w.run.violated("%s contradicts itself: %+v", s.Name, *s)
	}
	if s.Leader != "" {
		w.leads(s.Term, s.Leader, "the status of "+s.Name)
	}
	if s.State == Leader {
		w.leads(s.Term, s.Name, "its own status")
	}
}
