package raft

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/goraft/raft/internal/script"
)

// TestScripts runs the scripts of messages in testdata/rules. Their commands are the
// cases of scriptWorld.do.
func TestScripts(t *testing.T) {
	script.Run(t, "testdata/rules/*.txt", func(t *testing.T) func(*script.Command) string {
		s := newScriptWorld()
		return func(c *script.Command) string {
			s.out.Reset()
			if err := s.do(c); err != "" {
				t.Fatalf("line %d: %s: %s", c.Line, c.Name, err)
			}
			for _, failure := range s.failures {
				fmt.Fprintf(&s.out, "VIOLATION %s\n", failure)
			}
			s.failures = nil
			return s.out.String()
		}
	})
}

// scriptWorld is a world that a script plays with.
type scriptWorld struct {
	*world
	out  strings.Builder
	kept map[string]*letter // letters that keep put aside
}

func newScriptWorld() *scriptWorld {
	s := &scriptWorld{world: newWorld(), kept: map[string]*letter{}}
	s.trace = func(format string, args ...any) { fmt.Fprintf(&s.out, format+"\n", args...) }
	return s
}

// play does the commands, one a line, and fails the test where one is wrong or
// an invariant is violated.
func (s *scriptWorld) play(t *testing.T, commands string) {
	t.Helper()
	for i, line := range strings.Split(commands, "\n") {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		if err := s.do(script.ParseCommand(i+1, line)); err != "" {
			t.Fatalf("%s: %s\n%s", line, err, s.out.String())
		}
		if len(s.failures) > 0 {
			t.Fatalf("%s: %s\n%s", line, strings.Join(s.failures, "; "), s.out.String())
		}
	}
}

// played is a world in which the commands were done.
func played(t *testing.T, commands string) *scriptWorld {
	t.Helper()
	s := newScriptWorld()
	s.play(t, commands)
	return s
}

// leads returns the names of all that lead.
func (s *scriptWorld) leads() string {
	var names []string
	for _, x := range s.servers {
		if !x.down && x.role == Leader {
			names = append(names, x.name)
		}
	}
	return strings.Join(names, " ")
}

// do does one command; it returns what is wrong with it.
func (s *scriptWorld) do(c *script.Command) string {
	switch c.Name {
	case "cluster", "world", "server", "log", "commit":
		return s.setUp(c)
	case "deliver", "drop", "keep", "again", "pass", "quiet":
		return s.letterCommand(c)
	case "show":
		for _, x := range s.servers {
			if len(c.Args) == 0 || slices.Contains(c.Args, x.name) {
				s.logf("%s", x)
			}
		}
		return ""
	}
	return s.serverCommand(c, s.server(c.Arg(0)))
}

// setUp has the commands that make servers:
//
//	cluster a b c [prevote=on] [batch=1] [group=x] [new=yes]  servers that were started with each other's names
//	world batch=1                         no more entries than that in one message
//	server d                              one that waits to be joined
//	log a 1 1 4 [term=6] [bound=a,b,c]    a log of these terms, durable; bound servers of cluster 1000
//	commit a 2                            a commit index that is durable
func (s *scriptWorld) setUp(c *script.Command) string {
	switch c.Name {
	case "cluster":
		if c.Option("new", "no") == "yes" {
			trace := s.trace
			s.world = newWorld()
			s.trace = trace
		}
		s.preVote = s.preVote || c.Option("prevote", "off") == "on"
		s.maxEntries, _ = strconv.Atoi(c.Option("batch", "1000"))
		for _, name := range c.Args {
			s.start(name, c.Option("group", ""), c.Args...)
		}
	case "world":
		s.maxEntries, _ = strconv.Atoi(c.Option("batch", "1000"))
	case "server":
		s.start(c.Arg(0), "")
	case "log":
		x := s.server(c.Arg(0))
		x.disk.clusterID = 1000
		x.disk.entries = nil
		for _, text := range c.Args[1:] {
			term, _ := strconv.ParseUint(text, 10, 64)
			x.disk.term = max(x.disk.term, term)
			var configuration *configuration
			if len(x.disk.entries) == 0 {
				configuration = s.bindAll(x.disk.initial).at(1)
			}
			value := fmt.Sprintf("%d.%d", len(x.disk.entries)+1, term)
			x.disk.entries = append(x.disk.entries, newToyEntry(x.disk.entries, term, value, configuration))
		}
		if term := c.Option("term", ""); term != "" {
			x.disk.term, _ = strconv.ParseUint(term, 10, 64)
		}
		x.boot(x.name)
	case "commit":
		x := s.server(c.Arg(0))
		x.disk.commit, _ = strconv.ParseUint(c.Arg(1), 10, 64)
		x.boot(x.name)
		s.committed(x, 0)
	}
	return ""
}

// bindAll binds the members of a configuration to the stores that they have.
func (s *scriptWorld) bindAll(c *configuration) *configuration {
	stores := map[string]uint64{}
	for _, x := range s.servers {
		stores[x.name] = x.storeID
	}
	return c.bind(stores)
}

// letterCommand has the commands about letters under way. Those that name a way
// mean the oldest letter on it, deliver as many as n says; without a way deliver
// means all, and what they cause, until nothing is under way.
//
//	deliver [a->b] [n=2]
//	drop [a->b]
//	keep a->b as=late      puts a letter aside
//	again late             delivers the letter that was put aside
//	pass a->b              delivers a letter and leaves it under way
//	quiet                  delivers everything without a trace
func (s *scriptWorld) letterCommand(c *script.Command) string {
	if c.Name == "again" {
		s.arrive(s.kept[c.Arg(0)])
		return ""
	}
	if c.Arg(0) == "" {
		trace := s.trace
		if c.Name == "quiet" {
			s.trace = nil
		}
		for c.Name != "drop" && len(s.letters) > 0 {
			s.arrive(s.take(0))
		}
		s.trace, s.letters = trace, nil
		return ""
	}
	n, _ := strconv.Atoi(c.Option("n", "1"))
	for range n {
		i := slices.IndexFunc(s.letters, func(l *letter) bool { return l.from+"->"+l.to == c.Arg(0) })
		if i < 0 {
			return "no letter on " + c.Arg(0)
		}
		l := s.letters[i]
		if c.Name != "pass" {
			s.take(i)
		}
		switch c.Name {
		case "deliver", "pass":
			s.arrive(l)
		case "keep":
			s.kept[c.Option("as", c.Arg(0))] = l
		}
	}
	return ""
}

func (s *scriptWorld) take(i int) *letter {
	l := s.letters[i]
	s.letters = slices.Delete(s.letters, i, i+1)
	return l
}

func (s *scriptWorld) arrive(l *letter) {
	if x := s.server(l.to); !x.down {
		x.receive(l)
	}
}

// serverCommand has the commands to one server:
//
//	timeout a        its election timer fires; silent a: its leader was not heard of for long
//	heartbeat a      as a leader; lost a: nothing that it sent was answered
//	checkquorum a    as a leader
//	propose a x      ; join a d, remove a d: ask the leader a to change the members
//	compact a 5      a snapshot stands for its log up to there
//	stand a b        as a leader, tells b to stand for election
//	hold a, flush a  its disk does not get done; gets done
//	crash a, restart a, wipe a
func (s *scriptWorld) serverCommand(c *script.Command, x *toyServer) string {
	if leading := []string{"heartbeat", "checkquorum", "lost"}; x.office == nil && slices.Contains(leading, c.Name) {
		s.logf("%s: leads nobody", x.name)
		return ""
	}
	switch c.Name {
	case "timeout":
		x.timeout()
	case "silent":
		x.alive = false
	case "heartbeat":
		x.heartbeat()
		x.housekeep()
		x.settle()
	case "lost":
		for _, p := range x.peers {
			p.lost()
		}
	case "checkquorum":
		if !x.office.checkQuorum(x.configuration()) {
			x.stepDown()
			x.settle()
		}
	case "propose":
		return s.told(x, x.propose(c.Arg(1)))
	case "join":
		return s.told(x, x.join(c.Arg(1)))
	case "remove":
		return s.told(x, x.remove(c.Arg(1)))
	case "compact":
		return s.compact(x, c.Arg(1))
	case "stand":
		to := c.Arg(1)
		x.post(&letter{to: to, timeoutNow: &TimeoutNowRequest{Term: x.term, LeaderName: x.name, ClusterID: x.clusterID, To: to}})
	case "hold":
		x.held = true
	case "flush":
		x.held = false
		x.flush(len(x.orders))
	case "crash":
		x.crash(0)
	case "wipe":
		x.down, x.orders = true, nil
		x.wipe()
	case "restart":
		x.boot(x.name)
	default:
		return "no such command"
	}
	return ""
}

// told says what became of a request to a leader.
func (s *scriptWorld) told(x *toyServer, taken bool) string {
	if !taken {
		s.logf("%s: refuses", x.name)
	}
	x.settle()
	return ""
}
