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

	// maxRecoveries bounds those of them that carry pieces of snapshots: a leader
	// sends one at a time, and calls that it gave up may still be at work.
	maxRecoveries = 4

	// maxQuestions bounds those that ask for a read index, which wait for a majority:
	// votes and entries must find a place beside them.
	maxQuestions = maxRequests / 2
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
		{t.SnapshotPath(), e.post(e.serveSnapshot)},
		{t.SnapshotRecoveryPath(), e.post(e.serveSnapshotRecovery)},
		{t.TimeoutNowPath(), e.post(e.serveTimeoutNow)},
		{t.ReadIndexPath(), e.post(e.serveReadIndex)},
		{t.StreamPath(), e.serveStream},
	}
}

// endpoint is one server as it is mounted on a mux.
type endpoint struct {
	transporter *HTTPTransporter
	server      Server
	requests    atomic.Int32 // being served
	recoveries  atomic.Int32 // of them, the pieces of snapshots
	questions   atomic.Int32 // of them, those for a read index
	handshakes  atomic.Int32 // streams that have not yet said who they are
}

func (e *endpoint) serveAppendEntries(w http.ResponseWriter, r *http.Request) {
	var req AppendEntriesRequest
	if e.receive(w, r, &req) && e.addressed(w, req.ClusterID, req.To) {
		respond(w, e.server.AppendEntries(&req))
	}
}

func (e *endpoint) serveRequestVote(w http.ResponseWriter, r *http.Request) {
	var req RequestVoteRequest
	if e.receive(w, r, &req) && e.addressed(w, req.ClusterID, req.To) {
		respond(w, e.server.RequestVote(&req))
	}
}

func (e *endpoint) serveSnapshot(w http.ResponseWriter, r *http.Request) {
	var req SnapshotRequest
	if e.receive(w, r, &req) && e.addressed(w, req.ClusterID, req.To) {
		respond(w, e.server.RequestSnapshot(&req))
	}
}

// serveSnapshotRecovery counts its requests before it reads them: they are the
// largest, and the server keeps each for as long as its disk takes.
func (e *endpoint) serveSnapshotRecovery(w http.ResponseWriter, r *http.Request) {
	running := e.recoveries.Add(1)
	defer e.recoveries.Add(-1)
	if running > maxRecoveries {
		http.Error(w, "", http.StatusServiceUnavailable)
		return
	}
	var req SnapshotRecoveryRequest
	if e.receiveUpTo(w, r, &req, e.maxRecovery()) && e.addressed(w, req.ClusterID, req.To) {
		respond(w, e.server.SnapshotRecoveryRequest(&req))
	}
}

// maxRecovery bounds a SnapshotRecoveryRequest. A whole state, as goraft sends
// it, names no cluster, so that a server of one would refuse it anyhow. A piece
// fits however little the host allows a message.
func (e *endpoint) maxRecovery() int {
	if e.server.ClusterID() == 0 {
		return maxSnapshotMessageBytes
	}
	return max(e.transporter.maxMessage(), maxPieceBytes+maxPieceHeaderBytes)
}

func (e *endpoint) serveTimeoutNow(w http.ResponseWriter, r *http.Request) {
	var req TimeoutNowRequest
	if e.receive(w, r, &req) && e.addressed(w, req.ClusterID, req.To) {
		respond(w, e.server.TimeoutNow(&req))
	}
}

func (e *endpoint) serveReadIndex(w http.ResponseWriter, r *http.Request) {
	running := e.questions.Add(1)
	defer e.questions.Add(-1)
	if running > maxQuestions {
		http.Error(w, "", http.StatusServiceUnavailable)
		return
	}
	var req ReadIndexRequest
	if e.receive(w, r, &req) && e.addressed(w, req.ClusterID, req.To) {
		respond(w, e.server.RequestReadIndex(&req))
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
	return e.receiveUpTo(w, r, m, e.transporter.maxMessage())
}

// receiveUpTo is receive for a body of at most limit bytes.
func (e *endpoint) receiveUpTo(w http.ResponseWriter, r *http.Request, m message, limit int) bool {
	if r.ContentLength > int64(limit) {
		http.Error(w, "", http.StatusRequestEntityTooLarge)
		return false
	}
	done := limitBodyTime(w, r, e.transporter.bodyTime(r.ContentLength, limit))
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

// bodyTime is how long a body of that length may take. A negative length is
// unknown, and at most limit.
func (t *HTTPTransporter) bodyTime(length int64, limit int) time.Duration {
	if length < 0 {
		length = int64(limit)
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

// respond writes the server's answer. It is nil if the server is not running.
func respond[M any, Answer interface {
	*M
	message
}](w http.ResponseWriter, answer Answer) {
	if answer == nil {
		http.Error(w, "Failed creating response.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", messageContentType)
	// An error here is the client's to notice: it gets no whole answer.
	_, _ = encodeMessage(w, answer)
}
