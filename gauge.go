package raft

import (
	"sync/atomic"
	"time"
)

// smoothed is a moving average of durations, each of which counts for an eighth. One
// goroutine observes; any may look.
type smoothed struct{ nanoseconds atomic.Int64 }

func (s *smoothed) observe(d time.Duration) {
	old := s.nanoseconds.Load()
	if old == 0 {
		old = int64(d)
	}
	s.nanoseconds.Store(max(1, old+(int64(d)-old)/8))
}

func (s *smoothed) get() time.Duration { return time.Duration(s.nanoseconds.Load()) }

// sending is what a sender shows of itself, as of one moment. It never changes.
type sending struct {
	state           string
	next            uint64
	requests, bytes int
}

// gauge lets others see how the sender stands.
func (s *sender) gauge() {
	now := sending{state: ProgressReplicate, next: s.progress.next, requests: len(s.progress.window), bytes: s.progress.bytes}
	switch {
	case s.shipped != nil:
		now.state = ProgressSnapshot
	case s.progress.probing:
		now.state = ProgressProbe
	}
	if old := s.gauged.Load(); old == nil || *old != now {
		s.gauged.Store(&now)
	}
}

// tell adds to the member's status what its sender shows.
func (s *sender) tell(m *MemberStatus) {
	m.RTT = s.rtt.get()
	if now := s.gauged.Load(); now != nil {
		m.Progress, m.Next, m.InFlight, m.InFlightBytes = now.state, now.next, now.requests, now.bytes
	}
}
