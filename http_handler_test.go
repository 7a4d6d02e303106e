package raft

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/mux"
)

// foreignMux is the adapter that programs wrote around gorilla's router.
type foreignMux struct{ router *mux.Router }

func (m foreignMux) HandleFunc(pattern string, handler func(http.ResponseWriter, *http.Request)) {
	m.router.HandleFunc(pattern, handler)
}

// Every way to mount the handlers serves calls and streams, beside the host's
// own routes and under its middleware.
func TestHTTPMounts(t *testing.T) {
	mounts := map[string]func(*HTTPTransporter, Server) http.Handler{
		"ServeMux": func(t *HTTPTransporter, s Server) http.Handler {
			m := http.NewServeMux()
			t.Install(s, m)
			return m
		},
		"gorilla": func(t *HTTPTransporter, s Server) http.Handler {
			r := mux.NewRouter()
			t.InstallRouter(s, r)
			return r
		},
		"HTTPMuxer": func(t *HTTPTransporter, s Server) http.Handler {
			r := mux.NewRouter()
			t.Install(s, foreignMux{r})
			return r
		},
		"Handler": func(t *HTTPTransporter, s Server) http.Handler { return t.Handler(s) },
		"middleware": func(t *HTTPTransporter, s Server) http.Handler {
			next := t.Handler(s)
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { next.ServeHTTP(wrapped{w}, r) })
		},
		"StripPrefix": func(t *HTTPTransporter, s Server) http.Handler {
			return http.StripPrefix("/base", t.Handler(s))
		},
	}
	for name, mount := range mounts {
		t.Run(name, func(t *testing.T) {
			transporter := NewHTTPTransporter("/raft", patience)
			host := serveHTTP(t, mount(transporter, newPipelined("n2")))
			defer transporter.Close()
			peer := &Peer{Name: "n2", ConnectionString: host.URL}
			if name == "StripPrefix" {
				peer.ConnectionString += "/base/"
			}
			server := newFake("n1")
			if resp := transporter.SendVoteRequest(server, peer, &RequestVoteRequest{Term: 9, ClusterID: 7, To: "n2"}); resp == nil || resp.Term != 9 {
				t.Errorf("vote: %+v", resp)
			}
			if resp := transporter.SendAppendEntriesRequest(server, peer, wireRequest("n1", "n2", 5, 10)); resp == nil || resp.Sequence != 5 {
				t.Errorf("append: %+v", resp)
			}
			s := open(t, server, peer)
			if err := s.Send(wireRequest("n1", "n2", 6, 10)); err != nil {
				t.Fatal(err)
			}
			if resp, err := s.Receive(); err != nil || resp.Sequence != 6 {
				t.Errorf("stream: %+v, %v", resp, err)
			}
			takesNewerCalls(t, transporter, server, peer)
			answer, err := http.Post(peer.ConnectionString+"/raft/elsewhere", messageContentType, strings.NewReader("x"))
			if err != nil {
				t.Fatal(err)
			}
			_ = answer.Body.Close()
			if answer.StatusCode != http.StatusNotFound {
				t.Errorf("another path has status %d", answer.StatusCode)
			}
		})
	}
}

// takesNewerCalls makes each of newerCalls, which peer must take.
func takesNewerCalls(t *testing.T, transporter *HTTPTransporter, server Server, peer *Peer) {
	t.Helper()
	if resp := transporter.SendSnapshotRequest(server, peer, &SnapshotRequest{Term: 9, ClusterID: 7, To: "n2"}); resp == nil || resp.Term != 9 {
		t.Errorf("snapshot: %+v", resp)
	}
	if resp := transporter.SendSnapshotRecoveryRequest(server, peer, pieceRequest(1000)); resp == nil || resp.Offset != 1000 {
		t.Errorf("recovery: %+v", resp)
	}
	if resp, err := transporter.TimeoutNowContext(t.Context(), server, peer, &TimeoutNowRequest{Term: 9, ClusterID: 7, To: "n2"}); err != nil || resp.Term != 9 {
		t.Errorf("timeout: %+v, %v", resp, err)
	}
	if resp, err := transporter.ReadIndexContext(t.Context(), server, peer, &ReadIndexRequest{ClusterID: 7, To: "n2", Sequence: 9}); err != nil || resp.Index != 1 || resp.Sequence != 9 {
		t.Errorf("read index: %+v, %v", resp, err)
	}
}

// wrapped is what a middleware makes of a ResponseWriter.
type wrapped struct{ http.ResponseWriter }

func (w wrapped) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func TestHTTPHandlerStatus(t *testing.T) {
	bound, unbound, halted := newFake("n2"), newFake("n2"), newFake("n2")
	unbound.clusterID = 0
	halted.halted.Store(true)
	golden := func(s string) []byte { b, _ := hex.DecodeString(s); return b }
	vote := (&RequestVoteRequest{Term: 4, CandidateName: "n1", ClusterID: 7, To: "n2"}).appendTo(nil)
	flipped := bytes.Clone(vote)
	flipped[3] ^= 1
	for _, c := range []struct {
		name   string
		server *wireServer
		method string
		path   string
		body   []byte
		status int
		answer string
	}{
		{"vote", bound, "POST", "requestVote", vote, 200, ""},
		{"append", bound, "POST", "appendEntries", wireRequest("n1", "n2", 1, 3).appendTo(nil), 200, ""},
		{"goraft's vote to unbound", unbound, "POST", "requestVote", golden("08041002180022026e32"), 200, ""},
		{"goraft's vote to bound", bound, "POST", "requestVote", golden("08041002180022026e32"), 400, "\n"},
		{"goraft's append to unbound", unbound, "POST", "appendEntries", golden("08031001180020012a026e31320e080210001a08726166743a6e6f70"), 200, ""},
		{"goraft's append to bound", bound, "POST", "appendEntries", golden("08031001180020012a026e31"), 400, "\n"},
		{"no addressee", bound, "POST", "requestVote", (&RequestVoteRequest{ClusterID: 7}).appendTo(nil), 400, "\n"},
		{"no cluster", bound, "POST", "requestVote", (&RequestVoteRequest{To: "n2"}).appendTo(nil), 400, "\n"},
		{"empty", unbound, "POST", "requestVote", nil, 400, "\n"},
		{"garbage", unbound, "POST", "appendEntries", []byte("garbage"), 400, "\n"},
		{"changed on the way", bound, "POST", "requestVote", flipped, 400, "\n"},
		{"halted vote", halted, "POST", "requestVote", vote, 500, "Failed creating response.\n"},
		{"halted append", halted, "POST", "appendEntries", wireRequest("n1", "n2", 1, 3).appendTo(nil), 500, "Failed creating response.\n"},
		{"get", bound, "GET", "requestVote", vote, 405, "\n"},
		{"put", bound, "PUT", "appendEntries", vote, 405, "\n"},
		{"stream by post", bound, "POST", "stream", nil, 405, "\n"},
		{"stream without upgrade", bound, "GET", "stream", nil, 426, "\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := httptest.NewRecorder()
			handler := NewHTTPTransporter("/raft", time.Second).Handler(c.server)
			handler.ServeHTTP(w, httptest.NewRequest(c.method, "/raft/"+c.path, bytes.NewReader(c.body)))
			if w.Code != c.status || c.status != 200 && w.Body.String() != c.answer {
				t.Fatalf("got %d %q", w.Code, w.Body)
			}
			if c.status == 405 && w.Header().Get("Allow") == "" {
				t.Error("no Allow header")
			}
			if c.status == 200 && w.Header().Get("Content-Type") != "application/protobuf" {
				t.Errorf("the content type is %q", w.Header().Get("Content-Type"))
			}
		})
	}
}

// A body beyond the limit is refused as soon as that is known, whether it says
// its length or not, and is not unpacked.
func TestFault114_OversizeRequestIsRefused(t *testing.T) {
	t.Parallel()
	transporter := NewHTTPTransporter("/raft", patience)
	transporter.MaxMessageBytes = 1 << 20
	host := serveHTTP(t, transporter.Handler(newFake("n2")))
	for _, c := range []struct {
		name   string
		header string
		body   io.Reader
		status int
	}{
		{"declared", "Content-Length: 1048577\r\n", strings.NewReader(""), 413},
		{"declared, the most there is", "Content-Length: 9223372036854775807\r\n", strings.NewReader(""), 413},
		{"chunked without end", "Transfer-Encoding: chunked\r\n", endlessBody{}, 413},
		{"packed", "Content-Length: 4\r\nContent-Encoding: gzip\r\n", strings.NewReader("\x1f\x8b\x08\x00"), 415},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn, err := net.Dial("tcp", host.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(patience))
			_, _ = fmt.Fprintf(conn, "POST /raft/appendEntries HTTP/1.1\r\nHost: h\r\n%s\r\n", c.header)
			var writer tasks
			writer.Go("body", func() { _, _ = io.Copy(conn, c.body) })
			answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			if answer.StatusCode != c.status {
				t.Errorf("status %d", answer.StatusCode)
			}
			_ = conn.Close()
			writer.Wait()
		})
	}
}

// endlessBody is a chunked body that never ends.
type endlessBody struct{}

func (endlessBody) Read(b []byte) (int, error) {
	return copy(b, "400\r\n"+strings.Repeat("x", 1024)+"\r\n"), nil
}

// Whoever sends a byte a second is cut off, with the host's deadlines or
// without.
func TestFault142_SlowBodyEnds(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*http.Server){
		"no deadlines":   func(*http.Server) {},
		"longer ones":    func(s *http.Server) { s.ReadTimeout = time.Hour },
		"shorter ones":   func(s *http.Server) { s.ReadTimeout = 50 * time.Millisecond },
		"for the header": func(s *http.Server) { s.ReadHeaderTimeout = 50 * time.Millisecond },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			transporter := NewHTTPTransporter("/raft", patience)
			transporter.bodyTimeout = 100 * time.Millisecond
			host := serveHTTP(t, transporter.Handler(newFake("n2")), change)
			conn, err := net.Dial("tcp", host.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(patience))
			_, _ = io.WriteString(conn, "POST /raft/appendEntries HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n\x08")
			begin := time.Now()
			if _, err := io.ReadAll(conn); isTimeout(err) {
				t.Fatal("the connection stays open")
			}
			if took := time.Since(begin); took > patience/2 {
				t.Errorf("it took %v", took)
			}
		})
	}
}

// The deadline of the body is not one of the answer, which waits for the disk.
func TestHTTPSlowAnswerIsNotCutOff(t *testing.T) {
	t.Parallel()
	fake := newFake("n2")
	transporter := NewHTTPTransporter("/raft", patience)
	transporter.bodyTimeout = 30 * time.Millisecond
	cancelled := make(chan bool, 1)
	handler := transporter.Handler(fake)
	host := serveHTTP(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fake.onVote = func(req *RequestVoteRequest) *RequestVoteResponse {
			select {
			case <-r.Context().Done():
				cancelled <- true
			case <-time.After(150 * time.Millisecond):
				cancelled <- false
			}
			return &RequestVoteResponse{Term: 1, From: "n2"}
		}
		handler.ServeHTTP(w, r)
	}))
	peer := &Peer{Name: "n2", ConnectionString: host.URL}
	resp, err := transporter.RequestVoteContext(t.Context(), newFake("n1"), peer, &RequestVoteRequest{ClusterID: 7, To: "n2"})
	if err != nil || resp.Term != 1 || receive(t, cancelled) {
		t.Fatalf("got %+v, %v", resp, err)
	}
}

// Requests beyond a number are turned away before anything of them is read.
func TestFault142_RequestsAreCounted(t *testing.T) {
	fake := newFake("n2")
	entered, release := make(chan struct{}, maxRequests), make(chan struct{})
	fake.onVote = func(*RequestVoteRequest) *RequestVoteResponse {
		entered <- struct{}{}
		<-release
		return &RequestVoteResponse{Term: 1, From: "n2"}
	}
	peer, _ := mounted(t, fake)
	transporter := NewHTTPTransporter("/raft", patience)
	req := &RequestVoteRequest{ClusterID: 7, To: "n2"}
	var callers tasks
	for range maxRequests {
		callers.Go("vote", func() { transporter.SendVoteRequest(newFake("n1"), peer, req) })
	}
	for range maxRequests {
		receive(t, entered)
	}
	_, err := transporter.RequestVoteContext(t.Context(), newFake("n1"), peer, req)
	var status *StatusError
	if !errors.As(err, &status) || status.Status != http.StatusServiceUnavailable {
		t.Errorf("got %v", err)
	}
	close(release)
	callers.Wait()
	fake.onVote = nil
	if _, err := transporter.RequestVoteContext(t.Context(), newFake("n1"), peer, req); err != nil {
		t.Error(err)
	}
	transporter.Transport.CloseIdleConnections()
}

func fuzzHandler(f *testing.F, path string, seeds ...message) {
	for _, m := range seeds {
		f.Add(m.appendTo(nil))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, clusterID := range []uint64{0, 7} {
			fake := newFake("n2")
			fake.clusterID = clusterID
			fake.onAppend = func(req *AppendEntriesRequest) *AppendEntriesResponse {
				if clusterID != 0 && (req.ClusterID == 0 || req.To == "") {
					t.Fatal("a message without identity was delivered")
				}
				return fake.answer(req)
			}
			w := httptest.NewRecorder()
			NewHTTPTransporter("", time.Second).Handler(fake).ServeHTTP(w, httptest.NewRequest("POST", path, bytes.NewReader(body)))
			if w.Code != 200 && w.Code != 400 {
				t.Fatalf("status %d", w.Code)
			}
		}
	})
}

func FuzzAppendEntriesHandler(f *testing.F) {
	fuzzHandler(f, "/appendEntries", wireRequest("n1", "n2", 1, 3), wireRequest("n1", "n2", 1, -1))
}

func FuzzRequestVoteHandler(f *testing.F) {
	fuzzHandler(f, "/requestVote", &RequestVoteRequest{Term: 1, ClusterID: 7, To: "n2"})
}
