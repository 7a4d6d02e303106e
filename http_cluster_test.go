package raft

import (
	"fmt"
	"testing"
	"time"
)

// Three servers over HTTP on loopback: they elect a leader, replicate on streams,
// leave no goroutine behind when they stop, and go on when they start again.
func TestHTTPCluster(t *testing.T) {
	var servers []Server
	var transporters []*HTTPTransporter
	var peers []*Peer
	for i := range 3 {
		transporter := NewHTTPTransporter("/raft", time.Second)
		s, err := NewServer(fmt.Sprintf("n%d", i), t.TempDir(), transporter, nil, nil, "",
			WithElectionTimeout(300*time.Millisecond), WithHeartbeatInterval(30*time.Millisecond))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Stop)
		peers = append(peers, mountedOn(t, transporter, s))
		servers, transporters = append(servers, s), append(transporters, transporter)
	}
	for _, s := range servers {
		if err := s.Init(); err != nil {
			t.Fatal(err)
		}
		for _, p := range peers {
			if err := s.AddPeer(p.Name, p.ConnectionString); err != nil {
				t.Fatal(err)
			}
		}
	}
	for round := range 2 {
		for _, s := range servers {
			if err := s.Start(); err != nil {
				t.Fatal(err)
			}
		}
		if round == 0 {
			_, _ = servers[0].Do(&DefaultJoinCommand{Name: "n0", ConnectionString: peers[0].ConnectionString})
		}
		replicate(t, servers, transporters)
		if round == 1 {
			removeLeader(t, servers)
		}
		for _, s := range servers {
			s.Stop()
		}
		noStreams(t)
	}
}

// removeLeader has the leader remove itself, while no election timer ends: only
// its word to stand makes another one lead.
func removeLeader(t *testing.T, servers []Server) {
	t.Helper()
	for _, s := range servers {
		s.SetElectionTimeout(time.Hour)
	}
	var old Server
	wait(t, "a leader that answers", func() bool {
		for _, s := range servers {
			if _, err := s.Do(&DefaultLeaveCommand{Name: s.Name()}); err == nil {
				old = s
				return true
			}
		}
		return false
	})
	wait(t, "another leader", func() bool {
		for _, s := range servers {
			if _, err := s.Do(NOPCommand{}); err == nil && s != old {
				return true
			}
		}
		return false
	})
	wait(t, "word of the removal", func() bool { return old.Err() == ErrRemoved })
}

// wait waits until the condition holds.
func wait(t *testing.T, what string, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(4 * patience)
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("no %s", what)
		}
	}
}

// replicate waits until a leader has committed a command and both others take
// it on streams.
func replicate(t *testing.T, servers []Server, transporters []*HTTPTransporter) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(4 * patience)
	committed := false
	for {
		streams := 0
		for i, s := range servers {
			if _, err := s.Do(NOPCommand{}); err == nil {
				committed = true
			}
			streams += len(transporters[i].streams.all())
		}
		if committed && streams >= 2 {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("committed %v, %d streams", committed, streams)
		}
	}
}
