package main

import (
	"strings"
	"testing"

	"github.com/goraft/raft/examples/internal/trio"
)

func TestMain(m *testing.M) { trio.Main(m, main) }

func TestStatic(t *testing.T) {
	c := trio.New(t)
	var all []string
	for _, s := range c.Servers {
		all = append(all, s.Address)
	}
	start := func(s *trio.Server, flags ...string) {
		s.Start(append(flags, "-address", s.Address, "-peers", strings.Join(all, ","), s.Dir)...)
	}
	resume := func(s *trio.Server) { start(s, "-resume") }
	for _, s := range c.Servers {
		start(s)
	}
	c.Survive(resume)

	// One server starts without its state, and is taken in again.
	for _, s := range c.Servers[:2] {
		s.Kill()
		start(s)
		c.Write("wiped-"+s.Address+"-", 5)
		c.Agree()
		c.Wait("it to follow", func() bool {
			leader, ok := c.Get(s, "/leader")
			return ok && leader != ""
		})
		c.Voters(3) // before the next one
	}

	// All do: it is another cluster.
	for _, s := range c.Servers {
		s.Kill()
	}
	for _, s := range c.Servers {
		start(s)
	}
	c.Forget()
	c.Write("fresh", 5)
	c.Agree()
}

// A lone server that resumes leads at once.
func TestStaticAlone(t *testing.T) {
	c := trio.New(t)
	s := c.Servers[0]
	s.Start("-address", s.Address, "-peers", s.Address, s.Dir)
	for range 3 {
		c.Write("alone", 10)
		s.Kill()
		s.Start("-address", s.Address, "-peers", s.Address, "-resume", s.Dir)
		c.Agree()
		c.Leader()
	}
}
