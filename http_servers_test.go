package raft

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/goraft/raft/internal/vfs"
)

// httpServers are servers over HTTP on loopback, with disks in memory, in real
// time: long timeouts, so that no election is due on a slow machine.
type httpServers struct {
	t        *testing.T
	servers  []Server
	journals []*journal
}

// newHTTPServers starts a cluster. handle is asked for what stands before each
// server's handler, wrap for what the server sees of its transporter.
func newHTTPServers(t *testing.T, n int, handle func(i int, next http.Handler) http.Handler, wrap func(*HTTPTransporter) Transporter, options ...Option) *httpServers {
	t.Helper()
	h := &httpServers{t: t}
	registry := NewRegistry()
	if err := registry.Register(&testCommand{}); err != nil {
		t.Fatal(err)
	}
	var peers []*Peer
	for i := range n {
		j := &journal{test: &clusterTest{t: t}, name: fmt.Sprint("n", i)}
		transporter := NewHTTPTransporter("/raft", patience)
		s, err := NewServer(j.name, "/"+j.name, wrap(transporter), j, j, "", append([]Option{
			WithElectionTimeout(2 * time.Second), WithHeartbeatInterval(20 * time.Millisecond), WithRegistry(registry),
			WithLogger(slog.New(slog.DiscardHandler)), withFileSystem(vfs.NewMem()),
		}, options...)...)
		if err != nil {
			t.Fatal(err)
		}
		handler := transporter.Handler(s)
		if handle != nil {
			handler = handle(i, handler)
		}
		host := serveHTTP(t, handler)
		t.Cleanup(func() { _ = transporter.Close() })
		t.Cleanup(s.Stop)
		peers = append(peers, &Peer{Name: s.Name(), ConnectionString: host.URL})
		h.servers, h.journals = append(h.servers, s), append(h.journals, j)
	}
	for _, s := range h.servers {
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
		for _, p := range peers {
			if err := s.AddPeer(p.Name, p.ConnectionString); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := h.servers[0].Do(&DefaultJoinCommand{Name: "n0", ConnectionString: peers[0].ConnectionString}); err != nil {
		t.Fatal(err)
	}
	return h
}

// until waits for a condition.
func (h *httpServers) until(what string, condition func() bool) {
	h.t.Helper()
	if !h.wait(condition) {
		h.t.Fatalf("waiting for %s", what)
	}
}

// wait reports whether a condition has come to hold. Any goroutine may call it.
func (h *httpServers) wait(condition func() bool) bool {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.After(12 * patience)
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline:
			return false
		}
	}
	return true
}

// do has the leader of the moment carry out a command.
func (h *httpServers) do(command Command) {
	h.t.Helper()
	h.until(command.CommandName(), func() bool {
		for _, s := range h.servers {
			if _, err := s.Do(command); err == nil {
				return true
			}
		}
		return false
	})
}

// refused has the leader of the moment refuse a command.
func (h *httpServers) refused(command Command, why error) {
	h.t.Helper()
	h.until(why.Error(), func() bool {
		for _, s := range h.servers {
			switch _, err := s.Do(command); {
			case errors.Is(err, why):
				return true
			case err == nil:
				h.t.Fatalf("%s was carried out", command.CommandName())
			}
		}
		return false
	})
}

// applied waits until every server has applied so many commands.
func (h *httpServers) applied(count int) {
	h.t.Helper()
	h.until(fmt.Sprint(count, " commands everywhere"), func() bool {
		for _, j := range h.journals {
			if len(j.entries()) < count {
				return false
			}
		}
		return true
	})
}

// leader is the one that leads, or -1.
func (h *httpServers) leader() int {
	for i, s := range h.servers {
		if s.State() == Leader {
			return i
		}
	}
	return -1
}
