package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/goraft/raft/examples/internal/trio"
)

func TestMain(m *testing.M) { trio.Main(m, main) }

func TestNaming(t *testing.T) {
	c := trio.New(t)
	names := make(map[*trio.Server]string)
	for i, s := range c.Servers {
		names[s] = fmt.Sprint("node", i+1)
	}
	start := func(s *trio.Server, flags ...string) {
		s.Start(append(flags, "-name", names[s], "-address", s.Address, s.Dir)...)
	}
	first := c.Servers[0]
	start(first)
	c.Leader()
	for _, s := range c.Servers[1:] {
		start(s, "-cluster", first.Address)
	}
	peers := func(of *trio.Server, n int) {
		c.Wait(fmt.Sprint(of.Address, " to have ", n, " peers"), func() bool {
			body, ok := c.Get(of, "/peers")
			return ok && strings.Count(body, `"connectionString":""`) == n
		})
	}
	for _, s := range c.Servers {
		peers(s, 2)
	}
	c.Survive(func(s *trio.Server) { start(s) })

	// The leader is removed by a command; it stops by itself, and the others go on.
	leader := c.Leader()
	if _, ok := c.Post(leader, "/remove/"+names[leader], ""); !ok {
		t.Fatal("the leader does not remove itself")
	}
	c.Wait("the removed server to end", func() bool { return !leader.Running() })
	c.Write("without it", 10)
	c.Agree()
	for _, s := range c.Servers {
		if s != leader {
			peers(s, 1)
		}
	}
}
