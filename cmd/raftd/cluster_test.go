package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goraft/raft"
)

// startThreeNodes starts three nodes as raftd does without arguments, and stops
// them at the end of the test.
func startThreeNodes(t *testing.T, c config, ports []int) ([]*node, *client) {
	t.Helper()
	nodes, err := openThree(c, ports)
	must(t, err)
	t.Cleanup(func() { must(t, stopAll(nodes)) })
	var unused []*node
	for _, n := range nodes {
		if n.unused() {
			unused = append(unused, n)
		}
	}
	must(t, startThree(nodes))
	must(t, enterThree(t.Context(), nodes, unused))
	cl := newClient(ports)
	_, err = cl.leader(3)
	must(t, err)
	return nodes, cl
}

// put and get go through every server in turn.
func put(t *testing.T, c *client, count int) {
	t.Helper()
	for i := range count {
		path := fmt.Sprintf("%sa%%2F%d/b", keyPrefix, i)
		status, answer, _, err := c.do(i, http.MethodPut, path, []byte(path))
		if status != http.StatusOK || err != nil {
			t.Fatalf("PUT %s: %d %s %v", path, status, answer, err)
		}
		for j := range c.bases { // never older than the last acknowledged write
			get(t, c, j, path)
		}
	}
}

func get(t *testing.T, c *client, server int, path string) {
	t.Helper()
	status, answer, _, err := c.do(server, http.MethodGet, path, nil)
	if status != http.StatusOK || string(answer) != path || err != nil {
		t.Fatalf("GET %s from %d: %d %q %v", path, server, status, answer, err)
	}
}

func TestThreeServers(t *testing.T) {
	c, ports := testConfig(t), freePorts(t, 3)
	nodes, cl := startThreeNodes(t, c, ports)
	put(t, cl, 30)
	must(t, cl.caughtUp(3))
	for _, n := range nodes {
		for i := range 30 {
			key := fmt.Sprintf("a%%2F%d/b", i)
			if value, ok := n.service.store.get(key); !ok || string(value) != keyPrefix+key {
				t.Errorf("server %s has %q as %s", n.name, value, key)
			}
		}
	}
	must(t, stopAll(nodes))

	nodes, cl = startThreeNodes(t, c, ports)
	for i := range 30 {
		get(t, cl, i, fmt.Sprintf("%sa%%2F%d/b", keyPrefix, i))
	}
	must(t, stopAll(nodes))

	_, err := openThree(c, freePorts(t, 3))
	var address *addressError
	if !errors.As(err, &address) || address.known != nodes[0].address {
		t.Errorf("at other ports: %v", err)
	}
}

func TestAServerThatLostItsDirectory(t *testing.T) {
	c, ports := testConfig(t), freePorts(t, 3)
	nodes, cl := startThreeNodes(t, c, ports)
	put(t, cl, 10)
	must(t, stopAll(nodes))
	must(t, os.RemoveAll(filepath.Join(c.dir, "1")))
	nodes, cl = startThreeNodes(t, c, ports)
	must(t, cl.caughtUp(3))
	if _, ok := nodes[0].service.store.get("a%2F9/b"); !ok {
		t.Error("it did not get its data back")
	}
}

// TestJoin starts servers as raftd -join does, one of them before there is
// anybody to join.
func TestJoin(t *testing.T) {
	ports := freePorts(t, 3)
	first := fmt.Sprintf("localhost:%d", ports[0])
	var nodes []*node
	for _, port := range ports {
		c := testConfig(t)
		c.port = port
		n, err := openNode(c)
		must(t, err)
		must(t, n.start())
		nodes = append(nodes, n)
	}
	t.Cleanup(func() { must(t, stopAll(nodes)) })
	joined := make(chan error, 1)
	go func() { joined <- nodes[1].enter(t.Context(), first) }()
	must(t, nodes[0].enter(t.Context(), ""))
	must(t, <-joined)
	must(t, nodes[2].enter(t.Context(), fmt.Sprintf("127.0.0.1:%d", ports[1]))) // of a follower
	cl := newClient(ports)
	leader, err := cl.leader(3)
	must(t, err)
	put(t, cl, 10)
	must(t, cl.caughtUp(3))

	again := nodes[(leader+1)%3]
	before := again.server.Status().LastIndex
	must(t, again.enter(t.Context(), "127.0.0.1:1")) // where nobody is: it does not join again
	if now := again.server.Status(); now.LastIndex != before || len(now.Members) != 3 {
		t.Errorf("after entering again: %+v", now)
	}
}

// TestJoinBeforeListening posts a join for a server that answers nobody yet.
func TestJoinBeforeListening(t *testing.T) {
	first := startAlone(t, testConfig(t))
	second, err := openNode(testConfig(t))
	must(t, err)
	t.Cleanup(second.stop)
	body, err := json.Marshal(&raft.DefaultJoinCommand{Name: second.name, ConnectionString: second.address})
	must(t, err)
	must(t, postJoin(t.Context(), http.DefaultClient, first.address, body))
	must(t, second.start())
	must(t, poll("the second to vote", func() (string, bool) {
		status := first.server.Status()
		return fmt.Sprintf("%+v", status), len(status.Members) == 2 && status.Members[1].Voter
	}))
}

func TestJoinIsGoraftsJSON(t *testing.T) {
	n := startAlone(t, testConfig(t))
	for body, want := range map[string]int{
		`{"name":"x","connectionString":"http://127.0.0.1:1"}`:                                 http.StatusOK,
		`{"name":"y","connectionString":"127.0.0.1:2"}`:                                        http.StatusOK,
		`{"name":"","connectionString":"http://127.0.0.1:3"}`:                                  http.StatusBadRequest,
		`{"name":"z","connectionString":""}`:                                                   http.StatusBadRequest,
		`{"name":"z","connectionString":"ftp://127.0.0.1"}`:                                    http.StatusBadRequest,
		`{"name":"z","connectionString":"http://%zz"}`:                                         http.StatusBadRequest,
		`{"name":"` + strings.Repeat("n", 2000) + `","connectionString":"http://127.0.0.1:3"}`: http.StatusBadRequest,
		`{"name":`: http.StatusBadRequest,
		``:         http.StatusBadRequest,
	} {
		expect(t, http.MethodPost, n.address+joinPath, body, want, "")
	}
	expect(t, http.MethodPost, n.address+joinPath, `{"name":"x","connectionString":"http://127.0.0.1:4"}`, http.StatusOK, "")
	peers := n.server.Peers() // again and with another address is a change of the address
	if len(peers) != 2 || peers["x"].ConnectionString != "http://127.0.0.1:4" {
		t.Errorf("%v", peers)
	}
}

func TestJoinGivesUp(t *testing.T) {
	n, err := openNode(testConfig(t))
	must(t, err)
	t.Cleanup(n.stop)
	ctx, cancel := context.WithCancel(t.Context())
	n.logger = n.config.logger
	asked := 0
	err = n.join(ctx, []string{"127.0.0.1:1"}, func() bool {
		if asked++; asked == 2 {
			cancel()
		}
		return true
	})
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	must(t, n.start())
	if err := n.join(t.Context(), []string{n.address + statusPath}, func() bool { return true }); !errors.Is(err, errJoinRefused) {
		t.Error(err)
	}
}

func TestNameStays(t *testing.T) {
	dir := t.TempDir()
	first, err := nameIn(dir)
	must(t, err)
	again, err := nameIn(dir)
	must(t, err)
	other, err := nameIn(t.TempDir())
	must(t, err)
	if first == "" || again != first || other == first {
		t.Errorf("%q, then %q, elsewhere %q", first, again, other)
	}
	must(t, os.WriteFile(filepath.Join(dir, nameFile), []byte("\n"), fileMode))
	if name, err := nameIn(dir); err == nil {
		t.Errorf("an empty file names %q", name)
	}
}

func TestCommandLine(t *testing.T) {
	for line, three := range map[string]bool{
		"": true, "-v -ports 1,2,3 -data x": true, "DIR": false, "-p 5 -h localhost -join h:1 DIR": false,
	} {
		o, err := parse(strings.Fields(line), &bytes.Buffer{})
		if err != nil || o.three != three {
			t.Errorf("%q: %+v, %v", line, o, err)
		}
	}
	for _, line := range []string{
		"A B", "-p 1", "-join h:1", "-data x DIR", "-ports 1,2,3 DIR", "-ports 1,2", "-ports 1,2,x", "-ports 1,2,70000",
		"-p 0 DIR", "-p x DIR", "-none", "-h 0.0.0.0 DIR", "-h :: DIR",
	} {
		var told bytes.Buffer
		if code := run(strings.Fields(line), &told, &told); code != exitUsage || told.Len() == 0 {
			t.Errorf("%q: code %d, %q", line, code, &told)
		}
	}
	if code := run([]string{"-help"}, &bytes.Buffer{}, &bytes.Buffer{}); code != exitOK {
		t.Errorf("-help: code %d", code)
	}
}
