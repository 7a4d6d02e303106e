package raft

import (
	"sync"
	"time"
)

// Peer is another member as Peers and transporters see it.
type Peer struct {
	Name             string `json:"name"`
	ConnectionString string `json:"connectionString"`
	// RWMutex is goraft's; nothing here uses it.
	sync.RWMutex

	storeID      uint64 // that the configuration binds the name to, 0 if none
	lastActivity time.Time
}

// LastActivity is when the peer last answered this server while it led, or the
// zero time.
func (p *Peer) LastActivity() time.Time { return p.lastActivity }
