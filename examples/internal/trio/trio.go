// Package trio runs a program as three processes, kills them, and looks at what
// they kept. The processes are the test binary itself, which Main turns into the
// program.
//
// A program that is run so answers, over HTTP at its address:
//
//	GET  /state      the server's State()
//	GET  /voters     how many members have a vote
//	POST /db/{key}   stores the body; 200 when it is stored
//	GET  /db         everything, as JSON
package trio

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	// patience is how long a condition may take to come true.
	patience = 30 * time.Second
	// pause lies between two looks at a condition.
	pause = 20 * time.Millisecond
	// child is set in the environment of the processes.
	child = "RAFT_EXAMPLE"
	// keptOutput is how much of a process's output a failure shows.
	keptOutput = 8 << 10
)

// Main is a package's TestMain: the processes run the program, the test the tests.
func Main(m *testing.M, program func()) {
	if os.Getenv(child) != "" {
		program()
		return
	}
	os.Exit(m.Run())
}

// Trio is three processes, and what they were asked to keep.
type Trio struct {
	t       *testing.T
	Servers [3]*Server
	client  *http.Client
	written map[string]string
}

// Server is one process, which may be killed and started again.
type Server struct {
	Address string // host:port, where it listens
	Dir     string // its own
	t       *testing.T
	process *exec.Cmd
	ended   chan struct{}
	output  output
}

// New returns three servers that are not started. The test is skipped unless it
// is asked for.
func New(t *testing.T) *Trio {
	t.Helper()
	if os.Getenv("E2E") == "" {
		t.Skip("starts and kills processes; set E2E=1, or make examples")
	}
	c := &Trio{t: t, client: &http.Client{Timeout: 5 * time.Second}, written: make(map[string]string)}
	for i := range c.Servers {
		c.Servers[i] = &Server{Address: FreeAddress(t), Dir: t.TempDir(), t: t}
	}
	return c
}

// The ports that servers get lie below those that systems give to the near end of
// connections: a server that was killed must find its own free again.
const (
	firstPort = 20_000
	lastPort  = 32_000
)

// FreeAddress is one of loopback that nobody listens on; no two calls return the
// same.
func FreeAddress(t *testing.T) string {
	t.Helper()
	for range 1000 {
		address := fmt.Sprint("127.0.0.1:", firstPort+rand.IntN(lastPort-firstPort))
		if _, given := given.LoadOrStore(address, true); given {
			continue
		}
		if l, err := net.Listen("tcp", address); err == nil {
			_ = l.Close()
			return address
		}
	}
	t.Fatal("no port is free")
	return ""
}

var given sync.Map // the addresses that FreeAddress has returned or passed over

// Start starts the server as a process with these arguments.
func (s *Server) Start(args ...string) {
	s.t.Helper()
	s.process, s.ended = exec.Command(os.Args[0], args...), make(chan struct{})
	s.process.Env = append(os.Environ(), child+"=1")
	s.process.Stdout, s.process.Stderr = &s.output, &s.output
	if err := s.process.Start(); err != nil {
		s.t.Fatal(err)
	}
	process, ended := s.process, s.ended
	go func() {
		_ = process.Wait()
		close(ended)
	}()
	s.t.Cleanup(func() {
		_ = process.Process.Kill()
		<-ended
		if s.t.Failed() {
			s.t.Logf("%s wrote:\n%s", s.Address, s.output.take())
		}
	})
}

// Kill ends the process as kill -9 does.
func (s *Server) Kill() {
	_ = s.process.Process.Kill()
	<-s.ended
	s.process = nil
}

// Running reports whether the process runs.
func (s *Server) Running() bool {
	if s.process == nil {
		return false
	}
	select {
	case <-s.ended:
		return false
	default:
		return true
	}
}

// Wait waits until the condition holds.
func (c *Trio) Wait(what string, condition func() bool) {
	c.t.Helper()
	deadline := time.Now().Add(patience)
	for !condition() {
		if time.Now().After(deadline) {
			c.t.Fatalf("waiting for %s: not within %v", what, patience)
		}
		time.Sleep(pause)
	}
}

// Get asks a server and returns the body of the answer, if that is of status 200.
func (c *Trio) Get(s *Server, path string) (string, bool) {
	return read(c.client.Get("http://" + s.Address + path))
}

// Post sends a body to a server and returns that of the answer, if that is of
// status 200.
func (c *Trio) Post(s *Server, path, body string) (string, bool) {
	return read(c.client.Post("http://"+s.Address+path, "text/plain", strings.NewReader(body)))
}

func read(response *http.Response, err error) (string, bool) {
	if err != nil {
		return "", false
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return string(body), err == nil && response.StatusCode == http.StatusOK
}

// Leader waits until a server that runs leads, and returns it.
func (c *Trio) Leader() (leader *Server) {
	c.t.Helper()
	c.Wait("a leader", func() bool {
		leader = nil
		for _, s := range c.Servers {
			if !s.Running() {
				continue
			}
			if state, ok := c.Get(s, "/state"); ok && state == "leader" {
				leader = s
			}
		}
		return leader != nil
	})
	return leader
}

// Voters waits until so many members have a vote, by the word of all servers that
// run: until then the cluster does not outlive its leader.
func (c *Trio) Voters(n int) {
	c.t.Helper()
	c.Wait(fmt.Sprint(n, " voters"), func() bool {
		for _, s := range c.Servers {
			if s.Running() {
				if voters, ok := c.Get(s, "/voters"); !ok || voters != fmt.Sprint(n) {
					return false
				}
			}
		}
		return true
	})
}

// Write stores n values, each at whatever server takes it.
func (c *Trio) Write(prefix string, n int) {
	c.t.Helper()
	for i := range n {
		key, value := fmt.Sprint(prefix, i), fmt.Sprint("value of ", prefix, i)
		c.Wait("a write of "+key, func() bool {
			for _, s := range c.Servers {
				if s.Running() {
					if _, ok := c.Post(s, "/db/"+url.PathEscape(key), value); ok {
						return true
					}
				}
			}
			return false
		})
		c.written[key] = value
	}
}

// Agree waits until every server that runs has all that was written, and nothing
// else.
func (c *Trio) Agree() {
	c.t.Helper()
	for _, s := range c.Servers {
		if !s.Running() {
			continue
		}
		var got map[string]string
		c.Wait(s.Address+" to have what was written", func() bool {
			got = nil
			body, ok := c.Get(s, "/db")
			return ok && json.Unmarshal([]byte(body), &got) == nil && maps.Equal(got, c.written)
		})
	}
}

// Forget expects the servers to have nothing from now on: they were wiped.
func (c *Trio) Forget() { c.written = make(map[string]string) }

// Survive is what every program of these goes through: writes, the death of the
// leader, writes without it, the death of all, and their return. start starts a
// server that has been started before.
func (c *Trio) Survive(start func(s *Server)) {
	c.t.Helper()
	c.Write("first", 30)
	c.Agree()
	c.Voters(len(c.Servers))
	c.Leader().Kill()
	c.Write("second", 30)
	c.Agree()
	for _, s := range c.Servers {
		if s.Running() {
			s.Kill()
		}
	}
	for _, s := range c.Servers {
		start(s)
	}
	c.Agree()
	c.Write("third", 10)
	c.Agree()
}

// output keeps the end of what a process writes.
type output struct {
	mu   sync.Mutex
	text []byte
}

// Write never fails.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text = append(o.text, p...)
	if over := len(o.text) - keptOutput; over > 0 {
		o.text = append(o.text[:0], o.text[over:]...)
	}
	return len(p), nil
}

func (o *output) take() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(bytes.Clone(o.text))
}
