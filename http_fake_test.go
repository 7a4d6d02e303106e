package raft

import (
	"bufio"
	"bytes"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime/pprof"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goraft/raft/internal/wal"
)

// patience is how long a test waits for what must happen.
const patience = 5 * time.Second

// wireServer is a Server that answers what the test says; methods that no
// transport should call panic.
type wireServer struct {
	Server
	name      string
	clusterID uint64
	storeID   uint64
	commit    uint64
	election  time.Duration
	peers     map[string]*Peer
	halted    atomic.Bool

	onAppend   func(*AppendEntriesRequest) *AppendEntriesResponse
	onVote     func(*RequestVoteRequest) *RequestVoteResponse
	onRecovery func(*SnapshotRecoveryRequest) *SnapshotRecoveryResponse
	onRead     func(*ReadIndexRequest) *ReadIndexResponse
}

func newFake(name string) *wireServer {
	return &wireServer{name: name, clusterID: 7, storeID: uint64(name[0]), commit: 1, election: 150 * time.Millisecond}
}

func (f *wireServer) Name() string                   { return f.name }
func (f *wireServer) ClusterID() uint64              { return f.clusterID }
func (f *wireServer) StoreID() uint64                { return f.storeID }
func (f *wireServer) CommitIndex() uint64            { return f.commit }
func (f *wireServer) ElectionTimeout() time.Duration { return f.election }
func (f *wireServer) Running() bool                  { return !f.halted.Load() }
func (f *wireServer) Peers() map[string]*Peer        { return f.peers }

func (f *wireServer) AppendEntries(req *AppendEntriesRequest) *AppendEntriesResponse {
	if f.halted.Load() {
		return nil
	}
	if f.onAppend != nil {
		return f.onAppend(req)
	}
	return f.answer(req)
}

func (f *wireServer) RequestVote(req *RequestVoteRequest) *RequestVoteResponse {
	if f.halted.Load() {
		return nil
	}
	if f.onVote != nil {
		return f.onVote(req)
	}
	return &RequestVoteResponse{Term: req.Term, VoteGranted: true, ClusterID: f.clusterID, From: f.name, StoreID: f.storeID}
}

func (f *wireServer) RequestSnapshot(req *SnapshotRequest) *SnapshotResponse {
	if f.halted.Load() {
		return nil
	}
	return &SnapshotResponse{
		Success: true, Term: req.Term, Offset: req.Size, Refused: f.judge(req.ClusterID, req.To),
		ClusterID: f.clusterID, From: f.name, StoreID: f.storeID,
	}
}

func (f *wireServer) SnapshotRecoveryRequest(req *SnapshotRecoveryRequest) *SnapshotRecoveryResponse {
	if f.halted.Load() {
		return nil
	}
	if f.onRecovery != nil {
		return f.onRecovery(req)
	}
	return f.took(req)
}

// took is a success that tells what was sent.
func (f *wireServer) took(req *SnapshotRecoveryRequest) *SnapshotRecoveryResponse {
	return &SnapshotRecoveryResponse{
		Success: true, Term: req.Term, Offset: req.Offset + uint64(len(req.State)), Refused: f.judge(req.ClusterID, req.To),
		ClusterID: f.clusterID, From: f.name, StoreID: f.storeID,
	}
}

func (f *wireServer) TimeoutNow(req *TimeoutNowRequest) *TimeoutNowResponse {
	if f.halted.Load() {
		return nil
	}
	return &TimeoutNowResponse{
		Success: true, Term: req.Term, Refused: f.judge(req.ClusterID, req.To),
		ClusterID: f.clusterID, From: f.name, StoreID: f.storeID,
	}
}

func (f *wireServer) RequestReadIndex(req *ReadIndexRequest) *ReadIndexResponse {
	if f.halted.Load() {
		return nil
	}
	if f.onRead != nil {
		return f.onRead(req)
	}
	return f.told(req)
}

// told is a success with the fake's commit index.
func (f *wireServer) told(req *ReadIndexRequest) *ReadIndexResponse {
	return &ReadIndexResponse{
		Success: true, Term: req.Term, Index: f.commit, Sequence: req.Sequence, Refused: f.judge(req.ClusterID, req.To),
		ClusterID: f.clusterID, From: f.name, StoreID: f.storeID,
	}
}

// judge says what a server finds wrong with whom a request names.
func (f *wireServer) judge(clusterID uint64, to string) uint32 {
	switch {
	case clusterID != 0 && f.clusterID != 0 && clusterID != f.clusterID:
		return refusedCluster
	case to != "" && to != f.name:
		return refusedAddressee
	}
	return refusedNot
}

// answer is a success that tells what was asked.
func (f *wireServer) answer(req *AppendEntriesRequest) *AppendEntriesResponse {
	resp := newAppendEntriesResponse(req.Term, req.PrevLogIndex, req.CommitIndex, true)
	resp.ClusterID, resp.From, resp.StoreID, resp.Sequence = f.clusterID, f.name, f.storeID, req.Sequence
	return resp
}

// pipelined is a wireServer that takes requests as the package's own does.
type pipelined struct {
	*wireServer
	run      atomic.Pointer[chan struct{}]
	onSubmit func(*AppendEntriesRequest, appendResponder) error
}

func newPipelined(name string) *pipelined {
	p := &pipelined{wireServer: newFake(name)}
	p.start()
	return p
}

func (p *pipelined) start() {
	run := make(chan struct{})
	p.run.Store(&run)
}

func (p *pipelined) stop() { close(*p.run.Load()) }

func (p *pipelined) stopped() <-chan struct{} {
	if run := p.run.Load(); run != nil {
		return *run
	}
	return nil
}

func (p *pipelined) submitAppend(req *AppendEntriesRequest, responder appendResponder) error {
	if p.onSubmit != nil {
		return p.onSubmit(req, responder)
	}
	responder.answerAppend(p.answer(req))
	return nil
}

// request is an AppendEntriesRequest from server to peer with so many bytes of
// data in one record, or none if negative.
func wireRequest(server, peer string, sequence uint64, data int) *AppendEntriesRequest {
	req := &AppendEntriesRequest{
		Term: 3, PrevLogIndex: 4, PrevLogTerm: 2, CommitIndex: 1, LeaderName: server,
		ClusterID: 7, To: peer, StoreID: uint64(server[0]), Sequence: sequence,
	}
	if data >= 0 {
		record := wal.BeginRecord(nil, 0, "cmd")
		record = append(record, bytes.Repeat([]byte{'x'}, data)...)
		wal.FinishRecord(record, 0).Stamp(5, 3, wal.Seed(7))
		req.records = record
	}
	return req
}

// serveHTTP starts a host on loopback whose http.Server the test may change.
func serveHTTP(t testing.TB, handler http.Handler, change ...func(*http.Server)) *httptest.Server {
	t.Helper()
	host := httptest.NewUnstartedServer(handler)
	host.Config.ErrorLog = log.New(io.Discard, "", 0)
	for _, f := range change {
		f(host.Config)
	}
	host.Start()
	t.Cleanup(host.Close)
	return host
}

// mounted starts a host for the server and returns the peer that it is to
// others, and its transporter.
func mounted(t testing.TB, server Server, change ...func(*http.Server)) (*Peer, *HTTPTransporter) {
	t.Helper()
	transporter := NewHTTPTransporter("/raft", patience)
	return mountedOn(t, transporter, server, change...), transporter
}

func mountedOn(t testing.TB, transporter *HTTPTransporter, server Server, change ...func(*http.Server)) *Peer {
	t.Helper()
	host := serveHTTP(t, transporter.Handler(server), change...)
	t.Cleanup(func() { _ = transporter.Close() })
	return &Peer{Name: server.Name(), ConnectionString: host.URL}
}

// open opens a stream from the server to the peer.
func open(t testing.TB, from Server, to *Peer) *clientStream {
	t.Helper()
	transporter := NewHTTPTransporter("/raft", patience)
	s, err := transporter.OpenAppendStream(t.Context(), from, to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s.(*clientStream)
}

// rawStream is a stream to the peer as bytes, after the upgrade.
type rawStream struct {
	net.Conn
	in *bufio.Reader
}

func openRaw(t testing.TB, to *Peer) *rawStream {
	t.Helper()
	target, err := joinURL(to.ConnectionString, "/raft/stream")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", target.Host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(conn)
	if err := upgrade(conn, in, target); err != nil {
		t.Fatal(err)
	}
	return &rawStream{conn, in}
}

// greet says the hello and returns the answer.
func (r *rawStream) greet(t testing.TB, h hello) hello {
	t.Helper()
	r.write(t, h.appendTo(nil))
	reply, err := readHello(r.in)
	if err != nil {
		t.Fatal(err)
	}
	return reply
}

func (r *rawStream) write(t testing.TB, b []byte) {
	t.Helper()
	if _, err := r.Write(b); err != nil {
		t.Fatal(err)
	}
}

// closed waits until the other side has closed the connection without a word.
func (r *rawStream) closed(t testing.TB) {
	t.Helper()
	if b, err := io.ReadAll(r.in); isTimeout(err) || len(b) > 0 {
		t.Fatalf("read %d bytes and %v of a connection that should be closed", len(b), err)
	}
}

func isTimeout(err error) bool {
	timeout, ok := err.(net.Error)
	return ok && timeout.Timeout()
}

// requestFrame is the request as it travels on a stream.
func requestFrame(req *AppendEntriesRequest) []byte {
	b := req.appendHeader(beginFrame(nil, frameRequest))
	finishFrame(b, 0, req.records)
	return append(b, req.records...)
}

// noStreams waits until no goroutine of a stream is left.
func noStreams(t testing.TB) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for {
		var profile strings.Builder
		_ = pprof.Lookup("goroutine").WriteTo(&profile, 2)
		if !strings.Contains(profile.String(), "raft.(*serverStream)") {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("goroutines of streams are left:\n%s", profile.String())
		}
	}
}

// receive is the next value of the channel, which must come.
func receive[T any](t testing.TB, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatal("nothing came")
		panic("unreachable")
	}
}
