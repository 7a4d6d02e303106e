package raft

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// piece is a piece of a snapshot of so many bytes, from n1 to n2.
func pieceRequest(size int) *SnapshotRecoveryRequest {
	return &SnapshotRecoveryRequest{
		LeaderName: "n1", LastIndex: 10, LastTerm: 3, ClusterID: 7, To: "n2", StoreID: 1, Term: 4,
		SnapshotID: 5, Size: uint64(size), State: bytes.Repeat([]byte{'s'}, size),
	}
}

// callForm is a call that is posted: how it and its answer begin, and what
// goraft sent.
type callForm struct {
	path   string
	whole  message
	lacks  []message // without cluster, without addressee
	others []message // of another cluster, to another server
	golden string    // goraft's; "": it had no such call
	answer func() message
}

// newerCalls are the calls that are neither votes nor entries.
var newerCalls = []callForm{
	{
		"snapshot", &SnapshotRequest{LeaderName: "n1", ClusterID: 7, To: "n2"},
		[]message{&SnapshotRequest{To: "n2"}, &SnapshotRequest{ClusterID: 7}},
		[]message{&SnapshotRequest{ClusterID: 8, To: "n2"}, &SnapshotRequest{ClusterID: 7, To: "n3"}},
		"0a026e31100a1803", func() message { return new(SnapshotResponse) },
	},
	{
		"snapshotRecovery", pieceRequest(1000),
		[]message{&SnapshotRecoveryRequest{To: "n2"}, &SnapshotRecoveryRequest{ClusterID: 7}},
		[]message{&SnapshotRecoveryRequest{ClusterID: 8, To: "n2"}, &SnapshotRecoveryRequest{ClusterID: 7, To: "n3"}},
		"0a026e31100a180322100a026e32120a687474703a2f2f683a322a027374", func() message { return new(SnapshotRecoveryResponse) },
	},
	{
		"timeoutNow", &TimeoutNowRequest{Term: 4, LeaderName: "n1", ClusterID: 7, To: "n2"},
		[]message{&TimeoutNowRequest{To: "n2"}, &TimeoutNowRequest{ClusterID: 7}},
		[]message{&TimeoutNowRequest{ClusterID: 8, To: "n2"}, &TimeoutNowRequest{ClusterID: 7, To: "n3"}},
		"", func() message { return new(TimeoutNowResponse) },
	},
	{
		"readIndex", &ReadIndexRequest{Term: 4, Name: "n1", ClusterID: 7, To: "n2", Sequence: 5},
		[]message{&ReadIndexRequest{To: "n2"}, &ReadIndexRequest{ClusterID: 7}},
		[]message{&ReadIndexRequest{ClusterID: 8, To: "n2"}, &ReadIndexRequest{ClusterID: 7, To: "n3"}},
		"", func() message { return new(ReadIndexResponse) },
	},
}

func TestHTTPNewerCallsStatus(t *testing.T) {
	bound, unbound, halted := newFake("n2"), newFake("n2"), newFake("n2")
	unbound.clusterID = 0
	halted.halted.Store(true)
	for _, form := range newerCalls {
		whole := form.whole.appendTo(nil)
		flipped := bytes.Clone(whole)
		flipped[3] ^= 1
		for _, c := range []struct {
			name   string
			server *wireServer
			method string
			body   []byte
			status int
			answer string
		}{
			{"whole", bound, "POST", whole, 200, ""},
			{"whole to unbound", unbound, "POST", whole, 200, ""},
			{"another cluster is the server's to refuse", bound, "POST", form.others[0].appendTo(nil), 200, ""},
			{"another addressee is the server's to refuse", bound, "POST", form.others[1].appendTo(nil), 200, ""},
			{"no cluster", bound, "POST", form.lacks[0].appendTo(nil), 400, "\n"},
			{"no addressee", bound, "POST", form.lacks[1].appendTo(nil), 400, "\n"},
			{"no cluster to unbound", unbound, "POST", form.lacks[0].appendTo(nil), 200, ""},
			{"goraft's to bound", bound, "POST", unhex(t, form.golden), 400, "\n"},
			{"empty", unbound, "POST", nil, 400, "\n"},
			{"garbage", unbound, "POST", []byte("garbage"), 400, "\n"},
			{"changed on the way", bound, "POST", flipped, 400, "\n"},
			{"cut", bound, "POST", whole[:len(whole)-1], 400, "\n"},
			{"halted", halted, "POST", whole, 500, "Failed creating response.\n"},
			{"get", bound, "GET", whole, 405, "\n"},
			{"put", bound, "PUT", whole, 405, "\n"},
		} {
			t.Run(form.path+"/"+c.name, func(t *testing.T) {
				w := httptest.NewRecorder()
				NewHTTPTransporter("/raft", time.Second).Handler(c.server).
					ServeHTTP(w, httptest.NewRequest(c.method, "/raft/"+form.path, bytes.NewReader(c.body)))
				if w.Code != c.status || c.status != 200 && w.Body.String() != c.answer {
					t.Fatalf("got %d %q", w.Code, w.Body)
				}
				if c.status == 405 && w.Header().Get("Allow") != "POST" {
					t.Errorf("allowed is %q", w.Header().Get("Allow"))
				}
				if answer := form.answer(); c.status == 200 && answer.parse(w.Body.Bytes()) != nil {
					t.Errorf("the answer is %x", w.Body)
				}
			})
		}
	}
}

// Rows 116 and 117: a request in the name of another cluster or for another
// server reaches this one, whose answer says that it was refused.
func TestHTTPNewerCallsTellRefusal(t *testing.T) {
	peer, transporter := mounted(t, newFake("n2"))
	server := newFake("n1")
	for i, want := range []uint32{refusedCluster, refusedAddressee} {
		offer, err := transporter.RequestSnapshotContext(t.Context(), server, peer, newerCalls[0].others[i].(*SnapshotRequest))
		if err != nil || offer.Refused != want {
			t.Errorf("offer: %+v, %v", offer, err)
		}
		recovery, err := transporter.SnapshotRecoveryContext(t.Context(), server, peer, newerCalls[1].others[i].(*SnapshotRecoveryRequest))
		if err != nil || recovery.Refused != want {
			t.Errorf("recovery: %+v, %v", recovery, err)
		}
		timeout, err := transporter.TimeoutNowContext(t.Context(), server, peer, newerCalls[2].others[i].(*TimeoutNowRequest))
		if err != nil || timeout.Refused != want {
			t.Errorf("timeout: %+v, %v", timeout, err)
		}
		read, err := transporter.ReadIndexContext(t.Context(), server, peer, newerCalls[3].others[i].(*ReadIndexRequest))
		if err != nil || read.Refused != want {
			t.Errorf("read index: %+v, %v", read, err)
		}
	}
}

// goraft's own bytes are a request to a server that belongs to no cluster yet.
func TestHTTPGoraftSnapshotCalls(t *testing.T) {
	transporter := NewHTTPTransporter("/raft", patience)
	s, err := NewServer("n2", t.TempDir(), transporter, nil, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Stop()
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	peer := mountedOn(t, transporter, s)
	for _, form := range newerCalls {
		if form.golden == "" {
			continue
		}
		answer, err := http.Post(peer.ConnectionString+"/raft/"+form.path, messageContentType, bytes.NewReader(unhex(t, form.golden)))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		if m := form.answer(); err != nil || answer.StatusCode != 200 || m.parse(body) != nil {
			t.Errorf("%s: status %d, %x, %v", form.path, answer.StatusCode, body, err)
		}
	}
}

// A body beyond the limit is refused as soon as that is known. A piece of a
// snapshot fits however low the host sets the limit; a whole state, as goraft
// sent it, only into a server that belongs to no cluster.
func TestFault114_OversizeSnapshotIsRefused(t *testing.T) {
	t.Parallel()
	state := &SnapshotRecoveryRequest{LeaderName: "n1", LastIndex: 1, LastTerm: 1, State: make([]byte, 10<<20)}
	for _, c := range []struct {
		name    string
		cluster uint64
		limit   int
		path    string
		length  int64 // declared
		body    []byte
		status  int
	}{
		{"a piece", 7, 1 << 10, "snapshotRecovery", 0, pieceRequest(maxPieceBytes).appendTo(nil), 200},
		{"a piece that is too large", 7, 1 << 10, "snapshotRecovery", 0, pieceRequest(2 * maxPieceBytes).appendTo(nil), 413},
		{"declared", 7, 0, "snapshotRecovery", MaxMessageBytes + 1, nil, 413},
		{"declared, the most there is", 0, 0, "snapshotRecovery", 1<<63 - 1, nil, 413},
		{"declared to unbound", 0, 0, "snapshotRecovery", maxSnapshotMessageBytes + 1, nil, 413},
		{"a state", 7, 0, "snapshotRecovery", 0, state.appendTo(nil), 413},
		{"a state to unbound", 0, 0, "snapshotRecovery", 0, state.appendTo(nil), 200},
		{"an offer", 0, 1 << 10, "snapshot", 1<<10 + 1, nil, 413},
		{"a word", 0, 1 << 10, "timeoutNow", 1<<10 + 1, nil, 413},
		{"a question", 0, 1 << 10, "readIndex", 1<<10 + 1, nil, 413},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			fake := newFake("n2")
			fake.clusterID = c.cluster
			transporter := NewHTTPTransporter("/raft", patience)
			transporter.MaxMessageBytes = c.limit
			host := serveHTTP(t, transporter.Handler(fake))
			length := max(c.length, int64(len(c.body)))
			if status := posted(t, host, c.path, fmt.Sprintf("Content-Length: %d", length), bytes.NewReader(c.body)); status != c.status {
				t.Errorf("status %d, want %d", status, c.status)
			}
		})
	}
	for _, form := range newerCalls {
		t.Run(form.path, func(t *testing.T) {
			t.Parallel()
			transporter := NewHTTPTransporter("/raft", patience)
			transporter.MaxMessageBytes = 1 << 10
			host := serveHTTP(t, transporter.Handler(newFake("n2")))
			if status := posted(t, host, form.path, "Transfer-Encoding: chunked", endlessBody{}); status != 413 {
				t.Errorf("without end: status %d", status)
			}
			packed := "Content-Length: 4\r\nContent-Encoding: gzip"
			if status := posted(t, host, form.path, packed, strings.NewReader("\x1f\x8b\x08\x00")); status != 415 {
				t.Errorf("packed: status %d", status)
			}
		})
	}
}

// posted posts to the host what may be no whole request, and returns the status
// of the answer. Without a body nothing follows the header, not even an end.
func posted(t *testing.T, host *httptest.Server, path, header string, body io.Reader) int {
	t.Helper()
	conn, err := net.Dial("tcp", host.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(patience))
	_, _ = fmt.Fprintf(conn, "POST /raft/%s HTTP/1.1\r\nHost: h\r\n%s\r\n\r\n", path, header)
	var writer tasks
	if body != nil {
		writer.Go("body", func() {
			if _, err := io.Copy(conn, body); err == nil {
				_ = conn.(*net.TCPConn).CloseWrite()
			}
		})
	}
	defer writer.Wait()
	defer conn.Close()
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode
}

// A body that is shorter or longer than it says is not taken for the message.
func TestHTTPNewerCallsLyingLength(t *testing.T) {
	t.Parallel()
	transporter := NewHTTPTransporter("/raft", patience)
	transporter.bodyTimeout = 100 * time.Millisecond
	fake := newFake("n2")
	host := serveHTTP(t, transporter.Handler(fake))
	for _, form := range newerCalls {
		whole := form.whole.appendTo(nil)
		for _, c := range []struct {
			name   string
			length int
			status int
		}{
			{"true", len(whole), 200},
			{"too long", len(whole) + 100, 400},
			{"too short", len(whole) - 1, 400},
			{"none", 0, 400},
		} {
			if status := posted(t, host, form.path, fmt.Sprintf("Content-Length: %d", c.length), bytes.NewReader(whole)); status != c.status {
				t.Errorf("%s, %s: status %d, want %d", form.path, c.name, status, c.status)
			}
		}
		if status := posted(t, host, form.path, "Content-Length: 100", nil); status != 408 {
			t.Errorf("%s that never comes: status %d", form.path, status)
		}
	}
}

// While as many pieces are taken as may be at once, one more is refused before it
// is read, and everything else goes on: votes, calls, and heartbeats on a stream.
func TestFault113_HeartbeatsDoNotWaitBehindSnapshot(t *testing.T) {
	fake := newPipelined("n2")
	entered, release := make(chan struct{}, maxRecoveries), make(chan struct{})
	fake.onRecovery = func(req *SnapshotRecoveryRequest) *SnapshotRecoveryResponse {
		entered <- struct{}{}
		<-release
		return fake.took(req)
	}
	peer, transporter := mounted(t, fake)
	server := newFake("n1")
	var callers tasks
	answers := make(chan *SnapshotRecoveryResponse, maxRecoveries)
	for range maxRecoveries {
		callers.Go("piece", func() { answers <- transporter.SendSnapshotRecoveryRequest(server, peer, pieceRequest(maxPieceBytes)) })
	}
	for range maxRecoveries {
		receive(t, entered)
	}
	_, err := transporter.SnapshotRecoveryContext(t.Context(), server, peer, pieceRequest(1))
	var status *StatusError
	if !errors.As(err, &status) || status.Status != http.StatusServiceUnavailable || status.Path != "/raft/snapshotRecovery" {
		t.Errorf("got %v", err)
	}
	if _, err := transporter.RequestSnapshotContext(t.Context(), server, peer, &SnapshotRequest{ClusterID: 7, To: "n2"}); err != nil {
		t.Errorf("offer: %v", err)
	}
	if transporter.SendVoteRequest(server, peer, &RequestVoteRequest{ClusterID: 7, To: "n2"}) == nil {
		t.Error("no vote")
	}
	s := open(t, server, peer)
	for sequence := range uint64(3) {
		if err := s.Send(wireRequest("n1", "n2", sequence+1, -1)); err != nil {
			t.Fatal(err)
		}
		if resp, err := s.Receive(); err != nil || resp.Sequence != sequence+1 {
			t.Fatalf("got %+v, %v", resp, err)
		}
	}
	close(release)
	callers.Wait()
	for range maxRecoveries {
		if resp := receive(t, answers); resp == nil || resp.Offset != maxPieceBytes {
			t.Errorf("got %+v", resp)
		}
	}
	fake.onRecovery = nil
	if _, err := transporter.SnapshotRecoveryContext(t.Context(), server, peer, pieceRequest(1)); err != nil {
		t.Error(err)
	}
}

// The timeout of a transporter is one for small messages. A piece may take longer,
// in proportion to its size, whether the line or the peer is slow; goraft's
// snapshots never arrived on such a line.
func TestHTTPPieceHasTimeOfItsOwn(t *testing.T) {
	t.Parallel()
	fake := newFake("n2")
	fake.onRecovery = func(req *SnapshotRecoveryRequest) *SnapshotRecoveryResponse {
		<-time.After(300 * time.Millisecond)
		return fake.took(req)
	}
	peer, _ := mounted(t, fake)
	transporter := NewHTTPTransporter("/raft", 100*time.Millisecond)
	defer transporter.Close()
	if resp, err := transporter.SnapshotRecoveryContext(t.Context(), newFake("n1"), peer, pieceRequest(maxPieceBytes)); err != nil || !resp.Success {
		t.Errorf("got %+v, %v", resp, err)
	}
	if _, err := transporter.SnapshotRecoveryContext(t.Context(), newFake("n1"), peer, pieceRequest(1)); !isTimeout(errors.Unwrap(err)) {
		t.Errorf("got %v", err)
	}
	if got := transporter.Transport.ResponseHeaderTimeout; got != 100*time.Millisecond {
		t.Errorf("the host's timeout has become %v", got)
	}
}

// What is no answer of the peer is an error of the calls with a context, too.
func TestFault118_NewerCallsTakeNoErrorPage(t *testing.T) {
	for _, c := range falseAnswers() {
		host := serveHTTP(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if c.header != "" {
				w.Header().Set(c.header, c.value)
			}
			w.WriteHeader(c.status)
			_, _ = w.Write(c.body)
		}))
		server, transporter := newFake("n1"), NewHTTPTransporter("/raft", patience)
		peer := &Peer{Name: "n2", ConnectionString: host.URL}
		_, offer := transporter.RequestSnapshotContext(t.Context(), server, peer, &SnapshotRequest{})
		_, recovery := transporter.SnapshotRecoveryContext(t.Context(), server, peer, pieceRequest(1000))
		_, timeout := transporter.TimeoutNowContext(t.Context(), server, peer, &TimeoutNowRequest{})
		_, read := transporter.ReadIndexContext(t.Context(), server, peer, &ReadIndexRequest{})
		for call, err := range map[string]error{"offer": offer, "recovery": recovery, "timeout": timeout, "read": read} {
			var status *StatusError
			if c.status != 200 && (!errors.As(err, &status) || status.Status != c.status) || c.status == 200 && !errors.Is(err, ErrNoAnswer) {
				t.Errorf("%s, %s: %v", c.name, call, err)
			}
		}
		_ = transporter.Close()
	}
}

func FuzzNewerCallsHandler(f *testing.F) {
	for i, form := range newerCalls {
		f.Add(byte(i), form.whole.appendTo(nil))
		f.Add(byte(i), form.lacks[0].appendTo(nil))
	}
	f.Fuzz(func(t *testing.T, kind byte, body []byte) {
		form := newerCalls[int(kind)%len(newerCalls)]
		for _, clusterID := range []uint64{0, 7} {
			fake := newFake("n2")
			fake.clusterID = clusterID
			fake.onRecovery = func(req *SnapshotRecoveryRequest) *SnapshotRecoveryResponse {
				if clusterID != 0 && (req.ClusterID == 0 || req.To == "") {
					t.Fatal("a message without identity was delivered")
				}
				return fake.took(req)
			}
			fake.onRead = func(req *ReadIndexRequest) *ReadIndexResponse {
				if clusterID != 0 && (req.ClusterID == 0 || req.To == "") {
					t.Fatal("a question without identity was delivered")
				}
				return fake.told(req)
			}
			w := httptest.NewRecorder()
			NewHTTPTransporter("", time.Second).Handler(fake).
				ServeHTTP(w, httptest.NewRequest("POST", "/"+form.path, bytes.NewReader(body)))
			if w.Code != 200 && w.Code != 400 {
				t.Fatalf("status %d", w.Code)
			}
		}
	})
}
