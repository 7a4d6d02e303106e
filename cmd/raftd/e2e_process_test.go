package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/goraft/raft"
)

const (
	// readyTimeout is how long a cluster may take to have a leader that serves.
	readyTimeout = 30 * time.Second
	// pollPause is the pause between two looks at a condition.
	pollPause = 20 * time.Millisecond
	// keptOutput is how much of a process's output a failure shows.
	keptOutput = 16 << 10
)

// skipWithoutE2E skips a test that starts processes, unless it is asked for.
func skipWithoutE2E(t *testing.T) {
	t.Helper()
	if os.Getenv("E2E") == "" {
		t.Skip("starts and kills processes for minutes; set E2E=1, or make e2e")
	}
}

// must ends the test if there is an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// buildRaftd builds the program and returns its path.
func buildRaftd(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "raftd")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return binary
}

// freePorts returns so many ports that nobody listens on.
func freePorts(t *testing.T, count int) (ports []int) {
	t.Helper()
	for range count {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports
}

// process is one raftd, which may be killed and started again.
type process struct {
	binary string
	args   []string
	cmd    *exec.Cmd
	output *tail
	ended  chan error
}

// startProcess starts a raftd that is killed at the end of the test.
func startProcess(t *testing.T, binary string, args ...string) *process {
	t.Helper()
	p := &process{binary: binary, args: args, output: &tail{}}
	must(t, p.start())
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("raftd %s wrote:\n%s", strings.Join(args, " "), p.output)
		}
	})
	return p
}

func (p *process) start() error {
	cmd, ended := exec.Command(p.binary, p.args...), make(chan error, 1)
	cmd.Stdout, cmd.Stderr = p.output, p.output
	if err := cmd.Start(); err != nil {
		return err
	}
	p.cmd, p.ended = cmd, ended
	go func() { ended <- cmd.Wait() }()
	return nil
}

// kill ends the process as kill -9 does, and waits until it is gone.
func (p *process) kill() {
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Kill()
	<-p.ended
	p.cmd = nil
}

// terminate asks the process to end by the signal, and returns how long that
// took.
func (p *process) terminate(signal os.Signal, limit time.Duration) (time.Duration, error) {
	begun := time.Now()
	if err := p.cmd.Process.Signal(signal); err != nil {
		return 0, err
	}
	select {
	case err := <-p.ended:
		p.cmd = nil
		return time.Since(begun), err
	case <-time.After(limit):
		_ = p.cmd.Process.Signal(syscall.SIGQUIT) // shows the goroutines
		<-p.ended
		p.cmd = nil
		return limit, fmt.Errorf("not ended within %v", limit)
	}
}

// tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	text []byte
}

// Write never fails.
func (w *tail) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text = append(w.text, p...)
	if over := len(w.text) - keptOutput; over > 0 {
		w.text = append(w.text[:0], w.text[over:]...)
	}
	return len(p), nil
}

// String is what was kept.
func (w *tail) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return string(w.text)
}

// client talks to a cluster as curl -L does, and tries again what was not done.
type client struct {
	http  http.Client
	bases []string
}

func newClient(ports []int) *client {
	c := &client{http: http.Client{
		Timeout:   30 * time.Second,
		Transport: &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true},
	}}
	for _, port := range ports {
		c.bases = append(c.bases, fmt.Sprintf("http://127.0.0.1:%d", port))
	}
	return c
}

// errAgain says that a request may be tried again.
var errAgain = errors.New("try again")

// once sends a request to one server and follows redirects.
func (c *client) once(method, url string, body []byte) (status int, answer []byte, err error) {
	r, err := http.NewRequest(method, url, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	resp, err := c.http.Do(r)
	if err != nil {
		return 0, nil, fmt.Errorf("%w: %w", errAgain, err)
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(resp.Body)
	if err != nil {
		return 0, nil, fmt.Errorf("%w: %w", errAgain, err)
	}
	switch resp.StatusCode {
	case http.StatusServiceUnavailable, http.StatusGatewayTimeout, http.StatusTemporaryRedirect:
		return resp.StatusCode, answer, fmt.Errorf("%w: %s: %s", errAgain, resp.Status, answer)
	}
	return resp.StatusCode, answer, nil
}

// do sends a request to the first server, and if that may be tried again, to the
// next and so on, for at most readyTimeout.
func (c *client) do(first int, method, path string, body []byte) (status int, answer []byte, retries int, err error) {
	deadline := time.Now().Add(readyTimeout)
	for ; ; retries++ {
		status, answer, err = c.once(method, c.bases[(first+retries)%len(c.bases)]+path, body)
		if !errors.Is(err, errAgain) || time.Now().After(deadline) {
			return status, answer, retries, err
		}
		<-time.After(pollPause)
	}
}

// status is what one server says of itself.
func (c *client) status(server int) (status raft.Status, err error) {
	code, body, err := c.once(http.MethodGet, c.bases[server]+statusPath, nil)
	if err != nil {
		return status, err
	}
	if code != http.StatusOK {
		return status, fmt.Errorf("%s is %d", statusPath, code)
	}
	return status, json.Unmarshal(body, &status)
}

// leader waits until one server leads so many voters, and returns which it is.
func (c *client) leader(voters int) (leader int, err error) {
	err = poll(fmt.Sprintf("a leader of %d voters", voters), func() (string, bool) {
		var seen []string
		for i := range c.bases {
			status, err := c.status(i)
			seen = append(seen, fmt.Sprintf("%+v %v", status, err))
			if err != nil || !status.Ready {
				continue
			}
			voting := 0
			for _, m := range status.Members {
				if m.Voter {
					voting++
				}
			}
			if voting == voters {
				leader = i
				return "", true
			}
		}
		return strings.Join(seen, "\n"), false
	})
	return leader, err
}

// caughtUp waits until every server has applied what the leader has.
func (c *client) caughtUp(voters int) error {
	leader, err := c.leader(voters)
	if err != nil {
		return err
	}
	want, err := c.status(leader)
	if err != nil {
		return err
	}
	for i := range c.bases {
		err := poll(fmt.Sprintf("%s to apply %d", c.bases[i], want.LastApplied), func() (string, bool) {
			status, err := c.status(i)
			return fmt.Sprintf("%+v %v", status, err), err == nil && status.LastApplied >= want.LastApplied
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// poll looks at the condition until it holds. If that takes longer than
// readyTimeout, the error tells what was seen last.
func poll(what string, condition func() (seen string, ok bool)) error {
	deadline := time.Now().Add(readyTimeout)
	for {
		seen, ok := condition()
		if ok {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("waited %v for %s; last seen:\n%s", readyTimeout, what, seen)
		}
		<-time.After(pollPause)
	}
}
