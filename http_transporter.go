package raft

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"path"
	"strings"
	"sync/atomic"
	"time"
)

const (
	messageContentType = "application/protobuf"

	// maxResponseBytes bounds the body of an answer, all of which are small.
	maxResponseBytes = 64 << 10

	// httpCallTimeout bounds a call of a transporter that was made without a
	// timeout.
	httpCallTimeout = 5 * time.Second

	// transferRate is the least number of bytes a second that a deadline allows
	// for beyond its fixed part.
	transferRate = 1 << 20

	// bulkBytes is the size of a body beyond which a call takes the bulk
	// connections.
	bulkBytes = 64 << 10
)

// Why a call over HTTP got no answer, beside the errors of net and net/url.
var (
	// ErrNoAnswer says that what came back is not an answer of the peer: an
	// empty body, a page, a message of somebody else.
	ErrNoAnswer = errors.New("raft: not an answer")
	// ErrConnectionString says that no URL can be made of a peer's connection
	// string.
	ErrConnectionString = errors.New("raft: bad connection string")
)

// StatusError says that a peer, or what lies between, answered with a status
// other than the one that carries an answer.
type StatusError struct {
	Path   string // of the request
	Status int    // the HTTP status code
}

// Error tells path and status.
func (e *StatusError) Error() string {
	return fmt.Sprintf("raft: %s: status %d %s", e.Path, e.Status, http.StatusText(e.Status))
}

// HTTPTransporter carries messages over HTTP. The host mounts its handlers with
// Install, InstallRouter or Handler; it opens no port of its own. One of them
// may serve several servers, each on its own mux.
//
// AppendEntries travel on a stream, a connection that is upgraded from HTTP on
// the same port, and as single calls, a POST each, where the peer takes no
// stream. All else travels as single calls, on connections of their own, so that
// no heartbeat waits behind a snapshot. docs/wire.md has the formats.
//
// The exported fields must not be changed once the transporter is in use.
type HTTPTransporter struct {
	// DisableKeepAlives makes each single call use a connection of its own.
	DisableKeepAlives bool
	// Transport makes the connections of calls, and its dial functions and TLS
	// configuration those of streams. NewHTTPTransporter sets it, without a
	// proxy. A stream is not opened through a proxy.
	Transport *http.Transport
	// MaxMessageBytes bounds a request, its entries included. 0 means the
	// package's constant of that name. Pieces of snapshots, of at most 1 MiB, are
	// taken however small it is.
	MaxMessageBytes int
	// StreamIdleTimeout is how long a stream may stay silent before it is
	// closed. 0 means ten election timeouts of the server, at least one second.
	StreamIdleTimeout time.Duration

	prefix      string
	timeout     time.Duration
	bodyTimeout time.Duration // to receive a request's body; 0: requestBodyTimeout
	streams     streamRegistry
	bulk        atomic.Pointer[http.Transport] // see transportFor
}

var (
	_ Transporter          = (*HTTPTransporter)(nil)
	_ ContextTransporter   = (*HTTPTransporter)(nil)
	_ AppendStreamer       = (*HTTPTransporter)(nil)
	_ SnapshotTransporter  = (*HTTPTransporter)(nil)
	_ TransferTransporter  = (*HTTPTransporter)(nil)
	_ ReadIndexTransporter = (*HTTPTransporter)(nil)
)

// NewHTTPTransporter returns a transporter whose paths begin with prefix, such
// as "/raft". The timeout bounds each call from dialing to the end of the
// answer, with time added for a large body; if it is zero or less it is 5 s.
func NewHTTPTransporter(prefix string, timeout time.Duration) *HTTPTransporter {
	t := &HTTPTransporter{prefix: prefix, timeout: timeout}
	t.Transport = &http.Transport{
		DialContext:            t.dialContext,
		TLSHandshakeTimeout:    t.callTimeout(),
		ResponseHeaderTimeout:  max(timeout, 0),
		IdleConnTimeout:        90 * time.Second,
		MaxIdleConnsPerHost:    4,
		MaxResponseHeaderBytes: maxResponseBytes,
		DisableCompression:     true,
	}
	return t
}

// dialContext dials in so much time as a call has, or as the host's program says.
func (t *HTTPTransporter) dialContext(ctx context.Context, network, address string) (net.Conn, error) {
	//lint:ignore SA1019 programs made for goraft may set it
	if dial := t.Transport.Dial; dial != nil {
		return dial(network, address)
	}
	dialer := net.Dialer{Timeout: t.callTimeout()}
	return dialer.DialContext(ctx, network, address)
}

// Prefix is what all paths begin with.
func (t *HTTPTransporter) Prefix() string { return t.prefix }

// AppendEntriesPath is where AppendEntries requests are posted.
func (t *HTTPTransporter) AppendEntriesPath() string { return t.prefix + "/appendEntries" }

// RequestVotePath is where requests for votes are posted.
func (t *HTTPTransporter) RequestVotePath() string { return t.prefix + "/requestVote" }

// SnapshotPath is where offers of a snapshot are posted.
func (t *HTTPTransporter) SnapshotPath() string { return t.prefix + "/snapshot" }

// SnapshotRecoveryPath is where the pieces of snapshots are posted.
func (t *HTTPTransporter) SnapshotRecoveryPath() string { return t.prefix + "/snapshotRecovery" }

// TimeoutNowPath is where a leader posts that the addressee should stand.
func (t *HTTPTransporter) TimeoutNowPath() string { return t.prefix + "/timeoutNow" }

// ReadIndexPath is where a member posts its question to the leader what a read of
// its own must have seen.
func (t *HTTPTransporter) ReadIndexPath() string { return t.prefix + "/readIndex" }

// StreamPath is where streams of AppendEntries requests are opened.
func (t *HTTPTransporter) StreamPath() string { return t.prefix + "/stream" }

// Close ends the streams that peers have opened to the servers of this
// transporter and its idle connections. It returns when their goroutines have
// ended. The transporter can be used again.
func (t *HTTPTransporter) Close() error {
	t.streams.closeAll()
	if t.Transport != nil {
		t.Transport.CloseIdleConnections()
	}
	if bulk := t.bulk.Load(); bulk != nil {
		bulk.CloseIdleConnections()
	}
	return nil
}

// SendVoteRequest asks the peer for its vote; nil means no answer.
func (t *HTTPTransporter) SendVoteRequest(server Server, peer *Peer, req *RequestVoteRequest) *RequestVoteResponse {
	resp, _ := t.RequestVoteContext(context.Background(), server, peer, req)
	return resp
}

// SendAppendEntriesRequest sends the entries in a call of their own; nil means
// no answer.
func (t *HTTPTransporter) SendAppendEntriesRequest(server Server, peer *Peer, req *AppendEntriesRequest) *AppendEntriesResponse {
	resp, _ := t.AppendEntriesContext(context.Background(), server, peer, req)
	return resp
}

// SendSnapshotRequest offers the peer a snapshot; nil means no answer.
func (t *HTTPTransporter) SendSnapshotRequest(server Server, peer *Peer, req *SnapshotRequest) *SnapshotResponse {
	resp, _ := t.RequestSnapshotContext(context.Background(), server, peer, req)
	return resp
}

// SendSnapshotRecoveryRequest sends the peer a piece of a snapshot, or a whole
// one; nil means no answer.
func (t *HTTPTransporter) SendSnapshotRecoveryRequest(server Server, peer *Peer, req *SnapshotRecoveryRequest) *SnapshotRecoveryResponse {
	resp, _ := t.SnapshotRecoveryContext(context.Background(), server, peer, req)
	return resp
}

// RequestVoteContext asks the peer for its vote. The call ends with the context
// or at the transporter's timeout, whichever is earlier.
func (t *HTTPTransporter) RequestVoteContext(ctx context.Context, server Server, peer *Peer, req *RequestVoteRequest) (*RequestVoteResponse, error) {
	resp := &RequestVoteResponse{}
	if err := t.call(ctx, server, peer, t.RequestVotePath(), req, resp, &resp.From); err != nil {
		return nil, err
	}
	return resp, nil
}

// AppendEntriesContext sends the entries in a call of their own. The call ends
// with the context or at the transporter's timeout, whichever is earlier.
func (t *HTTPTransporter) AppendEntriesContext(ctx context.Context, server Server, peer *Peer, req *AppendEntriesRequest) (*AppendEntriesResponse, error) {
	resp := &AppendEntriesResponse{}
	if err := t.call(ctx, server, peer, t.AppendEntriesPath(), req, resp, &resp.From); err != nil {
		return nil, err
	}
	return resp, nil
}

// RequestSnapshotContext offers the peer a snapshot. The call ends with the
// context or at the transporter's timeout, whichever is earlier.
func (t *HTTPTransporter) RequestSnapshotContext(ctx context.Context, server Server, peer *Peer, req *SnapshotRequest) (*SnapshotResponse, error) {
	resp := &SnapshotResponse{}
	if err := t.call(ctx, server, peer, t.SnapshotPath(), req, resp, &resp.From); err != nil {
		return nil, err
	}
	return resp, nil
}

// SnapshotRecoveryContext sends the peer a piece of a snapshot, on a connection
// that no heartbeat waits behind. The call ends with the context or at the
// transporter's timeout and the time for the piece, whichever is earlier.
func (t *HTTPTransporter) SnapshotRecoveryContext(ctx context.Context, server Server, peer *Peer, req *SnapshotRecoveryRequest) (*SnapshotRecoveryResponse, error) {
	resp := &SnapshotRecoveryResponse{}
	if err := t.call(ctx, server, peer, t.SnapshotRecoveryPath(), req, resp, &resp.From); err != nil {
		return nil, err
	}
	return resp, nil
}

// TimeoutNowContext tells the peer to stand for election. The call ends with the
// context or at the transporter's timeout, whichever is earlier.
func (t *HTTPTransporter) TimeoutNowContext(ctx context.Context, server Server, peer *Peer, req *TimeoutNowRequest) (*TimeoutNowResponse, error) {
	resp := &TimeoutNowResponse{}
	if err := t.call(ctx, server, peer, t.TimeoutNowPath(), req, resp, &resp.From); err != nil {
		return nil, err
	}
	return resp, nil
}

// ReadIndexContext asks the peer what a linearizable read that begins now must have
// seen. The call ends with the context or at the transporter's timeout, whichever is
// earlier. ErrMessage says, among others, that the answer is one to another question.
func (t *HTTPTransporter) ReadIndexContext(ctx context.Context, server Server, peer *Peer, req *ReadIndexRequest) (*ReadIndexResponse, error) {
	resp := &ReadIndexResponse{}
	if err := t.call(ctx, server, peer, t.ReadIndexPath(), req, resp, &resp.From); err != nil {
		return nil, err
	}
	// Whatever lies between may answer with what it has kept, and an earlier
	// question's index is too low for this one.
	if resp.Sequence != req.Sequence {
		return nil, fmt.Errorf("raft: peer %s: %w: %w: it is to question %d, not %d", peer.Name, ErrNoAnswer, ErrMessage, resp.Sequence, req.Sequence)
	}
	return resp, nil
}

// call posts the request and reads into resp the peer's answer, which says in
// from who gave it.
func (t *HTTPTransporter) call(ctx context.Context, server Server, peer *Peer, path string, req, resp message, from *string) error {
	if err := t.post(ctx, peer.ConnectionString, path, req.appendTo(nil), resp); err != nil {
		return fmt.Errorf("raft: peer %s: %w", peer.Name, err)
	}
	return checkSender(server, peer, *from)
}

func (t *HTTPTransporter) post(ctx context.Context, connectionString, path string, body []byte, resp message) error {
	if t.Transport == nil {
		return errors.New("raft: HTTPTransporter has no Transport; make it with NewHTTPTransporter")
	}
	target, err := joinURL(connectionString, path)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, t.callTimeout()+transferTime(len(body)))
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Close = t.DisableKeepAlives
	r.Header.Set("Content-Type", messageContentType)
	r.Header.Set("Accept-Encoding", "identity") // nothing is unpacked, so nothing can unfold
	client := http.Client{Transport: t.transportFor(body), CheckRedirect: stayHere}
	answer, err := client.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	return readAnswer(answer, path, resp)
}

// transportFor is Transport or, for a large body, the same without its timeout
// for the answer's headers. That one begins when the system has taken the body,
// not when the peer has it: on a slow line a piece of a snapshot would never
// arrive in time. The call's own deadline counts the body.
func (t *HTTPTransporter) transportFor(body []byte) *http.Transport {
	if len(body) <= bulkBytes {
		return t.Transport
	}
	if t.bulk.Load() == nil {
		bulk := t.Transport.Clone()
		bulk.ResponseHeaderTimeout = 0
		t.bulk.CompareAndSwap(nil, bulk) // another call may have been first
	}
	return t.bulk.Load()
}

// stayHere makes a redirect an answer like any other, which has the wrong
// status.
func stayHere(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// readAnswer reads the message that answers a request, from nothing that could
// be anything else.
func readAnswer(answer *http.Response, path string, resp message) error {
	if answer.StatusCode != http.StatusOK {
		return &StatusError{Path: path, Status: answer.StatusCode}
	}
	if e := answer.Header.Get("Content-Encoding"); e != "" && e != "identity" {
		return fmt.Errorf("%w: content encoding %q", ErrNoAnswer, e)
	}
	if kind := answer.Header.Get("Content-Type"); strings.HasPrefix(kind, "text/html") {
		return fmt.Errorf("%w: content type %q", ErrNoAnswer, kind)
	}
	if _, err := decodeMessage(answer.Body, resp, maxResponseBytes); err != nil {
		return fmt.Errorf("%w: %w", ErrNoAnswer, err)
	}
	return nil
}

// checkSender says whether an answer that gives that name is the peer's. A
// server that belongs to a cluster takes none without a name.
func checkSender(server Server, peer *Peer, from string) error {
	if from == peer.Name || from == "" && server.ClusterID() == 0 {
		return nil
	}
	return fmt.Errorf("raft: peer %s: %w: it is of %q", peer.Name, ErrNoAnswer, from)
}

// callTimeout is the fixed part of the deadline of a call.
func (t *HTTPTransporter) callTimeout() time.Duration {
	if t.timeout <= 0 {
		return httpCallTimeout
	}
	return t.timeout
}

// maxMessage bounds a request.
func (t *HTTPTransporter) maxMessage() int {
	if t.MaxMessageBytes <= 0 {
		return MaxMessageBytes
	}
	return t.MaxMessageBytes
}

// transferTime is what n bytes may take on top of a deadline's fixed part.
func transferTime(n int) time.Duration {
	return time.Duration(n) * (time.Second / transferRate)
}

// joinURL returns the URL of a path at a peer. The connection string is a URL,
// with a path or without, or host and port only.
func joinURL(connectionString, p string) (*url.URL, error) {
	if !strings.Contains(connectionString, "://") {
		connectionString = "http://" + connectionString
	}
	u, err := url.Parse(connectionString)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConnectionString, err)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return nil, fmt.Errorf("%w: %q", ErrConnectionString, u.Redacted())
	}
	u.Path, u.RawPath, u.Fragment, u.RawFragment = path.Join("/", u.Path, p), "", "", ""
	return u, nil
}
