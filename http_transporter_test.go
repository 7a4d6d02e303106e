package raft

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"
)

func TestHTTPPaths(t *testing.T) {
	transporter := NewHTTPTransporter("/raft", time.Second)
	for want, got := range map[string]string{
		"/raft":                  transporter.Prefix(),
		"/raft/appendEntries":    transporter.AppendEntriesPath(),
		"/raft/requestVote":      transporter.RequestVotePath(),
		"/raft/snapshot":         transporter.SnapshotPath(),
		"/raft/snapshotRecovery": transporter.SnapshotRecoveryPath(),
		"/raft/timeoutNow":       transporter.TimeoutNowPath(),
		"/raft/readIndex":        transporter.ReadIndexPath(),
		"/raft/stream":           transporter.StreamPath(),
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	if got := transporter.Transport.ResponseHeaderTimeout; got != time.Second {
		t.Errorf("ResponseHeaderTimeout is %v", got)
	}
	if transporter.Transport.Proxy != nil {
		t.Error("a proxy is used")
	}
}

func TestHTTPJoinURL(t *testing.T) {
	for connectionString, want := range map[string]string{
		"http://h:1":        "http://h:1/raft/x",
		"http://h:1/":       "http://h:1/raft/x",
		"http://h:1/base":   "http://h:1/base/raft/x",
		"http://h:1/base/":  "http://h:1/base/raft/x",
		"https://h":         "https://h/raft/x",
		"localhost:4001":    "http://localhost:4001/raft/x",
		"127.0.0.1:4001":    "http://127.0.0.1:4001/raft/x",
		"[::1]:4001":        "http://[::1]:4001/raft/x",
		"h":                 "http://h/raft/x",
		"http://h:1/a?q=1":  "http://h:1/a/raft/x?q=1",
		"http://h:1/../../": "http://h:1/raft/x",
		"http://h:1/a%2fb#": "http://h:1/a/b/raft/x",
	} {
		if u, err := joinURL(connectionString, "/raft/x"); err != nil || u.String() != want {
			t.Errorf("%s: %v, %v; want %s", connectionString, u, err, want)
		}
	}
}

var badConnectionStrings = []string{
	"", "http://", "://x", "ftp://h", "http://h:port", "http://[::1", "\x00", "http://h\r\nX: y", "http://%zz", "/only/a/path", "unix:///a",
}

// goraft panicked, on every server, because the string comes by a join.
func TestHTTPBadConnectionString(t *testing.T) {
	server, transporter := newFake("n1"), NewHTTPTransporter("/raft", time.Second)
	for _, s := range badConnectionStrings {
		peer := &Peer{Name: "n2", ConnectionString: s}
		if _, err := transporter.RequestVoteContext(t.Context(), server, peer, &RequestVoteRequest{}); !errors.Is(err, ErrConnectionString) {
			t.Errorf("%q: %v", s, err)
		}
		if _, err := transporter.OpenAppendStream(t.Context(), server, peer); !errors.Is(err, ErrConnectionString) {
			t.Errorf("%q: %v", s, err)
		}
		for name, nothing := range allCalls(transporter, server, peer) {
			if !nothing() {
				t.Errorf("%q: %s has an answer", s, name)
			}
		}
	}
}

// allCalls are the four calls of a Transporter; each reports whether there was
// no answer.
func allCalls(transporter Transporter, server Server, peer *Peer) map[string]func() bool {
	return map[string]func() bool{
		"vote": func() bool { return transporter.SendVoteRequest(server, peer, &RequestVoteRequest{}) == nil },
		"append": func() bool {
			return transporter.SendAppendEntriesRequest(server, peer, wireRequest("n1", "n2", 1, 5)) == nil
		},
		"snapshot": func() bool {
			return transporter.SendSnapshotRequest(server, peer, &SnapshotRequest{}) == nil
		},
		"recovery": func() bool {
			return transporter.SendSnapshotRecoveryRequest(server, peer, &SnapshotRecoveryRequest{}) == nil
		},
	}
}

// What travels is goraft's: a POST of the message, answered by the message.
func TestHTTPCallGolden(t *testing.T) {
	type seen struct{ method, path, contentType, body string }
	requests := make(chan seen, 1)
	answers := map[string]message{
		"/raft/requestVote":      &RequestVoteResponse{Term: 4, VoteGranted: true, From: "n2"},
		"/raft/appendEntries":    &AppendEntriesResponse{term: 3, index: 2, success: true, From: "n2"},
		"/raft/snapshot":         &SnapshotResponse{Success: true, From: "n2"},
		"/raft/snapshotRecovery": &SnapshotRecoveryResponse{Term: 3, Success: true, From: "n2"},
	}
	host := serveHTTP(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		requests <- seen{r.Method, r.URL.Path, r.Header.Get("Content-Type"), string(body)}
		_, _ = w.Write(answers[r.URL.Path].appendTo(nil))
	}))
	server, transporter := newFake("n1"), NewHTTPTransporter("/raft", patience)
	peer := &Peer{Name: "n2", ConnectionString: host.URL}
	for path, body := range map[string]message{
		"/raft/requestVote":      &RequestVoteRequest{},
		"/raft/appendEntries":    wireRequest("n1", "n2", 1, 5),
		"/raft/snapshot":         &SnapshotRequest{},
		"/raft/snapshotRecovery": &SnapshotRecoveryRequest{},
	} {
		call := map[string]string{
			"/raft/requestVote": "vote", "/raft/appendEntries": "append",
			"/raft/snapshot": "snapshot", "/raft/snapshotRecovery": "recovery",
		}[path]
		if allCalls(transporter, server, peer)[call]() {
			t.Fatalf("%s: no answer", call)
		}
		want := seen{http.MethodPost, path, "application/protobuf", string(body.appendTo(nil))}
		if got := receive(t, requests); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	resp := transporter.SendAppendEntriesRequest(server, peer, wireRequest("n1", "n2", 1, 5))
	if resp == nil || resp.Term() != 3 || resp.Index() != 2 || !resp.Success() {
		t.Errorf("the answer is %+v", resp)
	}
}

// falseAnswer is what a call gets instead of its answer.
type falseAnswer struct {
	name   string
	status int
	header string // of the response, with its value after it
	value  string
	body   []byte
}

func falseAnswers() []falseAnswer {
	vote := (&RequestVoteResponse{Term: 4, VoteGranted: true, From: "n2"}).appendTo(nil)
	stranger := (&RequestVoteResponse{Term: 4, VoteGranted: true, From: "n3"}).appendTo(nil)
	nameless, _ := hex.DecodeString("08041001")
	var packed bytes.Buffer
	zip := gzip.NewWriter(&packed)
	_, _ = zip.Write(vote)
	_ = zip.Close()
	flipped := bytes.Clone(vote)
	flipped[len(flipped)/2] ^= 4
	return []falseAnswer{
		{"unavailable, empty", 503, "", "", nil},
		{"unavailable, a valid body", 503, "", "", vote},
		{"redirect", 302, "Location", "/raft/elsewhere", nil},
		{"redirect with method", 307, "Location", "/raft/elsewhere", vote},
		{"created", 201, "", "", vote},
		{"no content", 204, "", "", nil},
		{"not found", 404, "", "", []byte("404 page not found\n")},
		{"ok, empty", 200, "", "", nil},
		{"ok, a page", 200, "Content-Type", "text/html", []byte("<html>sorry</html>")},
		{"ok, a page without type", 200, "Content-Type", "", []byte("<html>sorry</html>")},
		{"ok, said to be a page", 200, "Content-Type", "text/html; charset=utf-8", vote},
		{"ok, text", 200, "", "", []byte("ok\n")},
		{"ok, packed", 200, "Content-Encoding", "gzip", packed.Bytes()},
		{"ok, said to be packed", 200, "Content-Encoding", "br", vote},
		{"ok, changed", 200, "", "", flipped},
		{"ok, cut", 200, "", "", vote[:len(vote)-1]},
		{"ok, too long", 200, "", "", append(bytes.Clone(vote), make([]byte, maxResponseBytes)...)},
		{"ok, of another server", 200, "", "", stranger},
		{"ok, of nobody", 200, "", "", nameless},
	}
}

// A message of another server, or a page, or nothing at all is no answer, with
// whatever status it comes.
func TestFault118_ErrorPageIsNoAnswer(t *testing.T) {
	t.Parallel()
	vote := (&RequestVoteResponse{Term: 4, VoteGranted: true, From: "n2"}).appendTo(nil)
	for _, c := range falseAnswers() {
		t.Run(c.name, func(t *testing.T) {
			var elsewhere atomic.Int32
			host := serveHTTP(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/raft/elsewhere" {
					elsewhere.Add(1)
					_, _ = w.Write(vote)
					return
				}
				if c.header != "" {
					w.Header().Set(c.header, c.value)
				}
				w.WriteHeader(c.status)
				_, _ = w.Write(c.body)
			}))
			server, transporter := newFake("n1"), NewHTTPTransporter("/raft", patience)
			peer := &Peer{Name: "n2", ConnectionString: host.URL}
			resp, err := transporter.RequestVoteContext(t.Context(), server, peer, &RequestVoteRequest{})
			var status *StatusError
			switch {
			case resp != nil || err == nil:
				t.Fatalf("taken for an answer: %+v", resp)
			case c.status != 200 && (!errors.As(err, &status) || status.Status != c.status):
				t.Fatalf("got %v", err)
			case c.status == 200 && !errors.Is(err, ErrNoAnswer):
				t.Fatalf("got %v", err)
			}
			for name, nothing := range allCalls(transporter, server, peer) {
				if !nothing() {
					t.Errorf("%s has an answer", name)
				}
			}
			if elsewhere.Load() > 0 {
				t.Error("a redirect was followed")
			}
		})
	}
}

// goraft's own short answers are answers while no cluster is known.
func TestHTTPNamelessAnswerToUnbound(t *testing.T) {
	host := serveHTTP(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte("\x08\x04\x10\x01"))
	}))
	server, transporter := newFake("n1"), NewHTTPTransporter("/raft", patience)
	server.clusterID = 0
	resp := transporter.SendVoteRequest(server, &Peer{Name: "n2", ConnectionString: host.URL}, &RequestVoteRequest{})
	if resp == nil || resp.Term != 4 || !resp.VoteGranted {
		t.Fatalf("got %+v", resp)
	}
}

// An answer to another question is none, and a question ends with its context
// however long the other side thinks about it.
func TestHTTPReadIndexIsTheQuestions(t *testing.T) {
	fake := newFake("n2")
	peer, transporter := mounted(t, fake)
	ask := func(ctx context.Context) error {
		_, err := transporter.ReadIndexContext(ctx, newFake("n1"), peer, &ReadIndexRequest{ClusterID: 7, To: "n2", Sequence: 5})
		return err
	}
	for sequence, ok := range map[uint64]bool{0: false, 4: false, 5: true, 6: false} {
		fake.onRead = func(req *ReadIndexRequest) *ReadIndexResponse {
			resp := fake.told(req)
			resp.Sequence = sequence
			return resp
		}
		if err := ask(t.Context()); ok && err != nil || !ok && !(errors.Is(err, ErrMessage) && errors.Is(err, ErrNoAnswer)) {
			t.Errorf("an answer to question %d: %v", sequence, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	release := make(chan struct{})
	defer close(release)
	fake.onRead = func(req *ReadIndexRequest) *ReadIndexResponse {
		cancel()
		<-release
		return fake.told(req)
	}
	if err := ask(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestFault114_EndlessAnswerIsBounded(t *testing.T) {
	t.Parallel()
	for name, handler := range map[string]http.HandlerFunc{
		"body": func(w http.ResponseWriter, r *http.Request) {
			for chunk := make([]byte, 1<<16); ; {
				if _, err := w.Write(chunk); err != nil {
					return
				}
			}
		},
		"header": func(w http.ResponseWriter, r *http.Request) {
			conn, _, _ := http.NewResponseController(w).Hijack()
			_, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\n")
			for err == nil {
				_, err = io.WriteString(conn, "X: 0123456789012345678901234567890123456789\r\n")
			}
			_ = conn.Close()
		},
	} {
		host := serveHTTP(t, handler)
		server, transporter := newFake("n1"), NewHTTPTransporter("/raft", patience)
		peer := &Peer{Name: "n2", ConnectionString: host.URL}
		begin := time.Now()
		if _, err := transporter.RequestVoteContext(t.Context(), server, peer, &RequestVoteRequest{}); err == nil {
			t.Errorf("%s: taken for an answer", name)
		}
		if _, err := transporter.OpenAppendStream(t.Context(), server, peer); err == nil {
			t.Errorf("%s: taken for a stream", name)
		}
		if took := time.Since(begin); took > patience/2 {
			t.Errorf("%s: ended by the deadline only, after %v", name, took)
		}
	}
}

// A peer that took the connection and says nothing, or never stops saying it,
// costs one deadline.
func TestFault111_CallsEndByDeadline(t *testing.T) {
	t.Parallel()
	const timeout = 50 * time.Millisecond
	for name, greeting := range map[string]string{
		"silent":        "",
		"in the header": "HTTP/1.1 200 OK\r\nContent-",
		"in the body":   "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n\x08",
		"continuing":    "HTTP/1.1 100 Continue\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			peer := hung(t, greeting)
			server, transporter := newFake("n1"), NewHTTPTransporter("/raft", timeout)
			begin := time.Now()
			for call, nothing := range allCalls(transporter, server, peer) {
				ended := make(chan bool, 1)
				go func() { ended <- nothing() }()
				if !receive(t, ended) {
					t.Errorf("%s has an answer", call)
				}
			}
			if took := time.Since(begin); took > 4*timeout+patience {
				t.Errorf("four calls took %v", took)
			}
			if _, err := transporter.OpenAppendStream(t.Context(), server, peer); err == nil {
				t.Error("a stream was opened")
			}
			// The earlier of two deadlines counts.
			slow := NewHTTPTransporter("/raft", time.Hour)
			ctx, cancel := context.WithTimeout(t.Context(), timeout)
			defer cancel()
			if _, err := slow.AppendEntriesContext(ctx, server, peer, wireRequest("n1", "n2", 1, 1)); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
			if _, err := slow.OpenAppendStream(ctx, server, peer); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
			// What the peer has said already is known, however busy the machine is.
			known := greeting != "" && name != "in the header"
			if known {
				ctx = t.Context()
			}
			_, err := slow.OpenAppendStream(ctx, server, peer)
			if known != errors.Is(err, ErrStreamUnsupported) ||
				!known && !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// hung is a peer that takes connections, answers the first byte with the
// greeting, and then neither reads nor says more.
func hung(t testing.TB, greeting string) *Peer {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	var serving tasks
	serving.Go("accept", func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go("hang", func() {
				defer conn.Close()
				_ = conn.SetReadDeadline(time.Now().Add(patience))
				if _, err := conn.Read(make([]byte, 1)); err == nil {
					_, _ = io.WriteString(conn, greeting)
				}
				<-ended
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		close(ended)
		serving.Wait()
	})
	return &Peer{Name: "n2", ConnectionString: listener.Addr().String()}
}

func TestHTTPDisableKeepAlives(t *testing.T) {
	t.Parallel()
	for _, disable := range []bool{false, true} {
		var opened atomic.Int32
		transporter := NewHTTPTransporter("/raft", patience)
		transporter.DisableKeepAlives = disable
		fake := newFake("n2")
		host := serveHTTP(t, transporter.Handler(fake), func(s *http.Server) {
			s.ConnState = func(_ net.Conn, state http.ConnState) {
				if state == http.StateNew {
					opened.Add(1)
				}
			}
		})
		peer := &Peer{Name: "n2", ConnectionString: host.URL}
		for range 3 {
			if transporter.SendVoteRequest(newFake("n1"), peer, &RequestVoteRequest{ClusterID: 7, To: "n2"}) == nil {
				t.Fatal("no answer")
			}
		}
		if got, want := opened.Load(), map[bool]int32{false: 1, true: 3}[disable]; got != want {
			t.Errorf("disable %v: %d connections, want %d", disable, got, want)
		}
		if err := transporter.Close(); err != nil {
			t.Error(err)
		}
	}
}

// Programs made for goraft set Transport.Dial, the only dial function there was.
func TestHTTPDialOfTheHost(t *testing.T) {
	peer, _ := mounted(t, newPipelined("n2"))
	target, _ := joinURL(peer.ConnectionString, "/")
	var dialed atomic.Int32
	transporter := NewHTTPTransporter("/raft", patience)
	//lint:ignore SA1019 it is what is tested
	transporter.Transport.Dial = func(network, address string) (net.Conn, error) {
		dialed.Add(1)
		return net.Dial(network, target.Host)
	}
	nowhere := &Peer{Name: "n2", ConnectionString: "http://nowhere.invalid:1"}
	if transporter.SendVoteRequest(newFake("n1"), nowhere, &RequestVoteRequest{ClusterID: 7, To: "n2"}) == nil {
		t.Error("no answer")
	}
	s, err := transporter.OpenAppendStream(t.Context(), newFake("n1"), nowhere)
	if err != nil {
		t.Fatal(err)
	}
	_ = s.Close()
	if dialed.Load() != 2 {
		t.Errorf("dialed %d times", dialed.Load())
	}
	if _, err := (&HTTPTransporter{}).RequestVoteContext(t.Context(), newFake("n1"), peer, &RequestVoteRequest{}); err == nil {
		t.Error("a transporter without a Transport has an answer")
	}
	_ = (&HTTPTransporter{}).Close()
}
