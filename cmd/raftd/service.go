package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/goraft/raft"
)

// What the service is reached by.
const (
	keyPrefix  = "/db/"
	joinPath   = "/join"
	statusPath = "/status"
	raftPrefix = "/raft"
)

// service is one server as clients and other servers see it over HTTP. Paths
// are taken as they were sent, because a mux that cleans them would make one key
// of many.
type service struct {
	server raft.Server
	store  *store
	peers  http.Handler // of the other servers' messages
	logger *slog.Logger
	limits limits

	held atomic.Int64 // bytes of bodies in memory
}

// limits bound what one request, and all of them together, may cost.
type limits struct {
	entryBytes int           // of one command
	heldBytes  int64         // of the bodies of all requests
	command    time.Duration // from a command to its answer
	retryAfter time.Duration // what clients are told to wait
}

// ServeHTTP routes a request.
func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := r.URL.EscapedPath()
	switch key, isKey := strings.CutPrefix(path, keyPrefix); {
	case isKey:
		s.serveKey(w, r, key)
	case path == joinPath:
		s.serveJoin(w, r)
	case path == statusPath:
		s.serveStatus(w, r)
	case strings.HasPrefix(path, raftPrefix+"/"):
		s.peers.ServeHTTP(w, r)
	default:
		http.NotFound(w, r)
	}
}

// canonicalKey returns the one spelling of a key that may be escaped in many
// ways: a slash parts it, %2F does not, and all else is what it decodes to.
func canonicalKey(escaped string) (string, error) {
	parts := strings.Split(escaped, "/")
	for i, part := range parts {
		text, err := url.PathUnescape(part)
		if err != nil {
			return "", err
		}
		parts[i] = url.PathEscape(text)
	}
	return strings.Join(parts, "/"), nil
}

func (s *service) serveKey(w http.ResponseWriter, r *http.Request, escaped string) {
	key, err := canonicalKey(escaped)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		s.read(w, r, key)
	case http.MethodPut, http.MethodPost:
		s.write(w, r, key)
	case http.MethodDelete:
		s.delete(w, r, key)
	default:
		notAllowed(w, http.MethodGet, http.MethodHead, http.MethodPut, http.MethodPost, http.MethodDelete)
	}
}

// read answers with the key's value, as of a moment after the request came, whether
// this server leads or not. With stale=1 it is what this server knows, which may be
// older.
func (s *service) read(w http.ResponseWriter, r *http.Request, key string) {
	level := raft.Linearizable
	if stale, _ := strconv.ParseBool(r.URL.Query().Get("stale")); stale {
		level = raft.Stale
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.limits.command)
	defer cancel()
	ok := false
	value, err := raft.Read(ctx, s.server, level, func(raft.StateMachine) (value []byte, _ error) {
		value, ok = s.store.get(key)
		return value, nil
	})
	if err != nil {
		s.unavailable(w, err.Error())
		return
	}
	if !ok {
		http.Error(w, "no such key", http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.Itoa(len(value)))
	// An error here is the client's to notice: it gets less than the length says.
	_, _ = w.Write(value)
}

// write sets the key's value to the request's body.
func (s *service) write(w http.ResponseWriter, r *http.Request, key string) {
	if s.elsewhere(w, r) {
		return
	}
	value, release, ok := s.body(w, r)
	if !ok {
		return
	}
	defer release()
	if _, err := s.do(r, &writeCommand{key: key, value: value}); err != nil {
		s.fail(w, r, err)
	}
}

func (s *service) delete(w http.ResponseWriter, r *http.Request, key string) {
	if s.elsewhere(w, r) {
		return
	}
	existed, err := s.do(r, &deleteCommand{key: key})
	switch {
	case err != nil:
		s.fail(w, r, err)
	case existed == false:
		http.Error(w, "no such key", http.StatusNotFound)
	}
}

func (s *service) serveStatus(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		notAllowed(w, http.MethodGet, http.MethodHead)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	// An error here is the client's to notice: the JSON does not end.
	_ = json.NewEncoder(w).Encode(s.server.Status())
}

// do takes a command to the cluster and waits for it so long as the limit is.
func (s *service) do(r *http.Request, command raft.Command) (interface{}, error) {
	ctx, cancel := context.WithTimeout(r.Context(), s.limits.command)
	defer cancel()
	return s.server.DoContext(ctx, command)
}

// body reads the request's body into memory, or answers why it does not. release
// is to be called when the body is no longer needed.
func (s *service) body(w http.ResponseWriter, r *http.Request) (body []byte, release func(), ok bool) {
	limit := int64(s.limits.entryBytes)
	size := r.ContentLength
	if size > limit {
		s.tooLarge(w, r)
		return nil, nil, false
	}
	if size < 0 {
		size = limit
	}
	release = func() { s.held.Add(-size) }
	if s.held.Add(size) > s.limits.heldBytes {
		release()
		s.drain(r)
		s.unavailable(w, "too many requests are being served")
		return nil, nil, false
	}
	var err error
	if r.ContentLength < 0 {
		body, err = io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	} else {
		body = make([]byte, size)
		_, err = io.ReadFull(r.Body, body)
	}
	if err == nil {
		return body, release, true
	}
	release()
	var over *http.MaxBytesError
	switch {
	case errors.As(err, &over):
		s.tooLarge(w, r)
	case errors.Is(err, os.ErrDeadlineExceeded):
		http.Error(w, "the body took too long", http.StatusRequestTimeout)
	default:
		http.Error(w, "the body ended early", http.StatusBadRequest)
	}
	return nil, nil, false
}

// drain reads what the client is still sending, within the limit of one entry,
// so that it comes to read the answer instead of failing to send. A client that
// waits to be told to go on sends nothing.
func (s *service) drain(r *http.Request) {
	if r.Header.Get("Expect") == "" {
		// Whatever is wrong with the body does not matter any more.
		_, _ = io.CopyN(io.Discard, r.Body, int64(s.limits.entryBytes))
	}
}

// elsewhere sends the client to the leader, or away for a while if there is
// none, unless this server leads.
func (s *service) elsewhere(w http.ResponseWriter, r *http.Request) bool {
	status := s.server.Status()
	if status.State == raft.Leader {
		return false
	}
	s.drain(r)
	address := addressOf(status, status.Leader)
	if address == "" || status.Leader == status.Name {
		s.unavailable(w, "there is no leader")
		return true
	}
	w.Header().Set("Location", address+r.URL.RequestURI())
	w.WriteHeader(http.StatusTemporaryRedirect)
	return true
}

// addressOf is the address of a member, or "".
func addressOf(status raft.Status, name string) string {
	for _, m := range status.Members {
		if m.Name != name {
			continue
		}
		address := strings.TrimRight(m.ConnectionString, "/")
		if !strings.Contains(address, "://") {
			address = "http://" + address
		}
		return address
	}
	return ""
}

// fail answers for a command that failed: the status says what became of it.
func (s *service) fail(w http.ResponseWriter, r *http.Request, err error) {
	var option *raft.OptionError
	switch {
	case errors.Is(err, raft.ErrOutcomeUnknown):
		http.Error(w, "the command may have been applied, or may yet be: "+err.Error(), http.StatusGatewayTimeout)
	case errors.Is(err, raft.NotLeaderError):
		if !s.elsewhere(w, r) {
			s.unavailable(w, "the leader has only just been elected")
		}
	case errors.Is(err, raft.ErrEntryTooLarge):
		s.tooLarge(w, r)
	case errors.As(err, &option):
		http.Error(w, err.Error(), http.StatusBadRequest)
	case errors.Is(err, raft.ErrNotApplied):
		s.unavailable(w, err.Error())
	default:
		s.logger.Error("raftd: a command failed", "error", err)
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

func (s *service) tooLarge(w http.ResponseWriter, r *http.Request) {
	s.drain(r)
	http.Error(w, fmt.Sprintf("key and value together may have about %d bytes", s.limits.entryBytes), http.StatusRequestEntityTooLarge)
}

// unavailable tells the client to come again: nothing was done.
func (s *service) unavailable(w http.ResponseWriter, why string) {
	seconds := max(1, int((s.limits.retryAfter+time.Second-1)/time.Second))
	w.Header().Set("Retry-After", strconv.Itoa(seconds))
	http.Error(w, why, http.StatusServiceUnavailable)
}

func notAllowed(w http.ResponseWriter, methods ...string) {
	w.Header().Set("Allow", strings.Join(methods, ", "))
	http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
}
