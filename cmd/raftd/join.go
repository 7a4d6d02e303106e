package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/goraft/raft"
)

const (
	// maxJoinBytes bounds what a request to join may hold.
	maxJoinBytes = 64 << 10
	// The pause between two attempts to join doubles from the first to the last.
	firstJoinPause = 50 * time.Millisecond
	lastJoinPause  = 2 * time.Second
)

// errJoinRefused says that a cluster will not take this server as it is.
var errJoinRefused = errors.New("raftd: the cluster refuses this server")

// serveJoin takes a member into the cluster, as goraft's raftd did: the body is
// a DefaultJoinCommand in JSON.
func (s *service) serveJoin(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		notAllowed(w, http.MethodPost)
		return
	}
	if s.elsewhere(w, r) {
		return
	}
	command := &raft.DefaultJoinCommand{}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxJoinBytes)).Decode(command); err != nil {
		http.Error(w, "not a join: "+err.Error(), http.StatusBadRequest)
		return
	}
	if command.Name == "" {
		http.Error(w, "not a join: it has no name", http.StatusBadRequest)
		return
	}
	if err := checkAddress(command.ConnectionString); err != nil {
		http.Error(w, "not a join: "+err.Error(), http.StatusBadRequest)
		return
	}
	if _, err := s.do(r, command); err != nil {
		s.fail(w, r, err)
		return
	}
	s.logger.Info("raftd: a server has joined", "name", command.Name, "address", command.ConnectionString)
}

// checkAddress says whether others can be sent to an address.
func checkAddress(address string) error {
	if !strings.Contains(address, "://") {
		address = "http://" + address
	}
	u, err := url.Parse(address)
	if err != nil {
		return err
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.RawQuery != "" || u.Fragment != "" {
		return fmt.Errorf("%q is not the address of a server", address)
	}
	return nil
}

// join asks the servers at the addresses, one after the other, to take this one
// into their cluster, until one of them has, or needed says that there is no
// more need to. It fails with errJoinRefused, or when ctx ends.
func (n *node) join(ctx context.Context, addresses []string, needed func() bool) error {
	body, err := json.Marshal(&raft.DefaultJoinCommand{Name: n.name, ConnectionString: n.address})
	if err != nil {
		return err
	}
	client := &http.Client{Timeout: commandTimeouts * n.config.electionTimeout}
	defer client.CloseIdleConnections()
	pause := firstJoinPause
	for i := 0; needed(); i++ {
		address := addresses[i%len(addresses)]
		err := postJoin(ctx, client, address, body)
		switch {
		case err == nil:
			n.logger.Info("raftd: joined", "by", address)
			return nil
		case errors.Is(err, errJoinRefused):
			return err
		}
		n.logger.Warn("raftd: not joined yet", "by", address, "error", err)
		wait := time.NewTimer(pause/2 + rand.N(pause))
		select {
		case <-ctx.Done():
			wait.Stop()
			return ctx.Err()
		case <-wait.C:
		}
		pause = min(2*pause, lastJoinPause)
	}
	return nil
}

// postJoin asks one server, and the leader that it names.
func postJoin(ctx context.Context, client *http.Client, address string, body []byte) error {
	if !strings.Contains(address, "://") {
		address = "http://" + address
	}
	target := strings.TrimRight(address, "/") + joinPath
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("%w: %w", errJoinRefused, err)
	}
	r.Header.Set("Content-Type", "application/json")
	answer, err := client.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode == http.StatusOK {
		return nil
	}
	text, _ := io.ReadAll(io.LimitReader(answer.Body, maxJoinBytes))
	err = fmt.Errorf("%s: %s", answer.Status, strings.TrimSpace(string(text)))
	if answer.StatusCode >= http.StatusBadRequest && answer.StatusCode < http.StatusInternalServerError {
		return fmt.Errorf("%w: %w", errJoinRefused, err)
	}
	return err
}
