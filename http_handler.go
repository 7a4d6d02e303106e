package raft

import (
	"errors"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gorilla/mux"
)

const (
	// requestBodyTimeout is how long a request's body may take to arrive, beside
	// the time for its size.
	requestBodyTimeout = 5 * time.Second

	// maxRequests bounds the requests that one server's handlers hold at once.
	maxRequests = 128
)

// HTTPMuxer is what Install mounts handlers on, such as http.ServeMux.
type HTTPMuxer interface {
	HandleFunc(string, func(http.ResponseWriter, *http.Request))
}

// Install mounts the server's handlers under the transporter's prefix, before or
// after the server's start. Requests to a server that is not running get the
// status 500.
func (t *HTTPTransporter) Install(server Server, mux HTTPMuxer) {
	for _, r := range t.routes(server) {
		mux.HandleFunc(r.path, r.handle)
	}
}

// InstallRouter is Install for a gorilla router, which is no HTTPMuxer.
func (t *HTTPTransporter) InstallRouter(server Server, router *mux.Router) {
	for _, r := range t.routes(server) {
		router.HandleFunc(r.path, r.handle)
	}
}

// Handler returns a handler with the same routes as Install mounts, and the
// status 404 for all else.
func (t *HTTPTransporter) Handler(server Server) http.Handler {
	routes := map[string]http.HandlerFunc{}
	for _, r := range t.routes(server) {
		routes["/"+strings.TrimPrefix(r.path, "/")] = r.handle
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handle, ok := routes[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		handle(w, r)
	})
}

type route struct {
	path   string
	handle http.HandlerFunc
}

func (t *HTTPTransporter) routes(server Server) []route {
	e := &endpoint{transporter: t, server: server}
	return []route{
		{t.AppendEntriesPath(), e.post(e.serveAppendEntries)},
		{t.RequestVotePath(), e.post(e.serveRequestVote)},
		{t.StreamPath(), e.serveStream},
	}
}

// endpoint is one server as it is mounted on a mux.
type endpoint struct {
	transporter *HTTPTransporter
	server      Server
	requests    atomic.Int32 // being served
	handshakes  atomic.Int32 // streams that have not yet said who they are
}

func (e *endpoint) serveAppendEntries(w http.ResponseWriter, r *http.Request) {
	var req AppendEntriesRequest
	if !e.receive(w, r, &req) || !e.addressed(w, req.ClusterID, req.To) {
		return
	}
	if resp := e.server.AppendEntries(&req); resp != nil {
		respond(w, resp)
	} else {
		http.Error(w, "Failed creating response.", http.StatusInternalServerError)
	}
}

func (e *endpoint) serveRequestVote(w http.ResponseWriter, r *http.Request) {
	var req RequestVoteRequest
	if !e.receive(w, r, &req) || !e.addressed(w, req.ClusterID, req.To) {
		return
	}
	if resp := e.server.RequestVote(&req); resp != nil {
		respond(w, resp)
	} else {
		http.Error(w, "Failed creating response.", http.StatusInternalServerError)
	}
}

// post guards a handler of messages: it lets through so many POSTs at a time,
// as they are.
func (e *endpoint) post(handle http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		encoding := r.Header.Get("Content-Encoding")
		running := e.requests.Add(1)
		defer e.requests.Add(-1)
		switch {
		case r.Method != http.MethodPost:
			w.Header().Set("Allow", http.MethodPost)
			http.Error(w, "", http.StatusMethodNotAllowed)
		case encoding != "" && encoding != "identity":
			http.Error(w, "", http.StatusUnsupportedMediaType)
		case running > maxRequests:
			http.Error(w, "", http.StatusServiceUnavailable)
		default:
			handle(w, r)
		}
	}
}

// receive reads the request's body into m, or answers what is wrong with it.
func (e *endpoint) receive(w http.ResponseWriter, r *http.Request, m message) bool {
	limit := e.transporter.maxMessage()
	if r.ContentLength > int64(limit) {
		http.Error(w, "", http.StatusRequestEntityTooLarge)
		return false
	}
	done := limitBodyTime(w, r, e.transporter.bodyTime(r.ContentLength))
	// The reader ends the connection of a body that goes on beyond the limit.
	_, err := decodeMessage(http.MaxBytesReader(w, r.Body, int64(limit)), m, limit)
	if err == nil {
		done()
		return true
	}
	// The deadline stays on what may be left of the body.
	w.Header().Set("Connection", "close")
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge) || errors.Is(err, ErrMessageTooLarge):
		http.Error(w, "", http.StatusRequestEntityTooLarge)
	case errors.Is(err, os.ErrDeadlineExceeded):
		http.Error(w, "", http.StatusRequestTimeout)
	default:
		http.Error(w, "", http.StatusBadRequest)
	}
	return false
}

// limitBodyTime gives the request's body so long to arrive, unless the host
// gives it less, and returns what ends that limit. Where the connection's
// deadline cannot be set the host's own settings must do.
func limitBodyTime(w http.ResponseWriter, r *http.Request, limit time.Duration) (done func()) {
	host, _ := r.Context().Value(http.ServerContextKey).(*http.Server)
	if host != nil && host.ReadTimeout > 0 && host.ReadTimeout <= limit {
		return func() {}
	}
	connection := http.NewResponseController(w)
	if connection.SetReadDeadline(time.Now().Add(limit)) != nil {
		return func() {}
	}
	return func() { _ = connection.SetReadDeadline(time.Time{}) }
}

// bodyTime is how long a body of that length may take, which is unknown if
// negative.
func (t *HTTPTransporter) bodyTime(length int64) time.Duration {
	if length < 0 {
		length = int64(t.maxMessage())
	}
	if t.bodyTimeout > 0 {
		return t.bodyTimeout
	}
	return requestBodyTimeout + transferTime(int(length))
}

// addressed says whether a request names cluster and addressee, which only a
// server that belongs to no cluster does without, or answers that it does not.
// What the names are is for the server to judge.
func (e *endpoint) addressed(w http.ResponseWriter, clusterID uint64, to string) bool {
	if clusterID != 0 && to != "" || e.server.ClusterID() == 0 {
		return true
	}
	http.Error(w, "", http.StatusBadRequest)
	return false
}

func respond(w http.ResponseWriter, m message) {
	w.Header().Set("Content-Type", messageContentType)
	// An error here is the client's to notice: it gets no whole answer.
	_, _ = encodeMessage(w, m)
}
