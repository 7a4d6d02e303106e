package main

import (
	"testing"

	"github.com/goraft/raft/examples/internal/trio"
)

func TestMain(m *testing.M) { trio.Main(m, main) }

func TestJoining(t *testing.T) {
	c := trio.New(t)
	first := c.Servers[0]
	first.Start("-address", first.Address, first.Dir)
	c.Leader()
	for _, s := range c.Servers[1:] {
		s.Start("-address", s.Address, "-join", first.Address, s.Dir)
		c.Wait("it to listen", func() bool {
			_, ok := c.Get(s, "/state")
			return ok
		})
	}
	c.Survive(func(s *trio.Server) { s.Start("-address", s.Address, s.Dir) })
}
