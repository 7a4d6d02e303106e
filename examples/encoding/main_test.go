package main

import (
	"fmt"
	"testing"

	"github.com/goraft/raft/examples/internal/trio"
)

func TestMain(m *testing.M) { trio.Main(m, main) }

func TestEncoding(t *testing.T) {
	c := trio.New(t)
	names := make(map[*trio.Server]string)
	for i, s := range c.Servers {
		names[s] = fmt.Sprint("n", i+1)
	}
	start := func(s *trio.Server, flags ...string) {
		s.Start(append(flags, "-name", names[s], "-address", s.Address, s.Dir)...)
	}
	post := func(s *trio.Server, path, body string) {
		t.Helper()
		c.Wait(path, func() bool {
			_, ok := c.Post(s, path, body)
			return ok
		})
	}
	start(c.Servers[0])
	c.Leader()
	c.Write("before", 20)
	post(c.Servers[0], "/snapshot", "")
	for _, s := range c.Servers[1:] {
		start(s, "-seed", c.Servers[0].Address)
	}
	c.Survive(func(s *trio.Server) { start(s) })

	// Snapshots on request, by all of them; what they hold is there after a kill.
	for _, s := range c.Servers {
		post(s, "/snapshot", "")
	}
	c.Write("behind the snapshot", 10)
	for _, s := range c.Servers {
		s.Kill()
		start(s)
	}
	c.Agree()
	for _, s := range c.Servers {
		c.Wait("it to tell what it loaded", func() bool {
			loaded, ok := c.Get(s, "/loaded")
			return ok && loaded == "1"
		})
	}

	// A server moves to another address, and is served there.
	leader := c.Leader()
	for _, s := range c.Servers {
		if s != leader {
			s.Kill()
			s.Address = trio.FreeAddress(t)
			start(s, "-seed", leader.Address)
			c.Write("after the move of "+names[s], 10)
			c.Agree()
			c.Voters(3)
		}
	}

	// The one that leads leaves.
	leader = c.Leader()
	post(leader, "/cluster/leave", fmt.Sprintf(`{"name":%q}`, names[leader]))
	leader.Kill()
	c.Write("without "+names[leader], 10)
	c.Agree()
}
