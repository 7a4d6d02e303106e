package raft

import (
	"sync/atomic"
	"time"
)

// settings are what may be changed while the server runs.
type settings struct {
	election  atomic.Int64
	beat      atomic.Int64
	transport atomic.Pointer[Transporter]
}

// electionTimeout is the least election timeout.
func (s *settings) electionTimeout() time.Duration { return time.Duration(s.election.Load()) }

// heartbeat is the heartbeat interval in use: at most a third of the election
// timeout, so that the two can be set in any order.
func (s *settings) heartbeat() time.Duration {
	return max(1, min(time.Duration(s.beat.Load()), s.electionTimeout()/3))
}
