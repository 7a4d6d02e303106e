package raft

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"github.com/goraft/raft/internal/wal"
)

// Requests arrive in order and whole, their records as the bytes that were sent;
// answers arrive in the order in which they were given.
func TestStreamCarriesRequests(t *testing.T) {
	var kept []*AppendEntriesRequest
	server := newPipelined("n2")
	server.onSubmit = func(req *AppendEntriesRequest, responder appendResponder) error {
		kept = append(kept, req)
		responder.answerAppend(server.answer(req))
		return nil
	}
	peer, transporter := mounted(t, server)
	s := open(t, newFake("n1"), peer)
	sizes := []int{-1, 0, 10, copyBelow, copyBelow + 1, frameGrant, -1, 1 << 20, 8 << 20, 1}
	for i, size := range sizes {
		if err := s.Send(request("n1", "n2", uint64(i), size)); err != nil {
			t.Fatal(err)
		}
		resp, err := s.Receive()
		if err != nil {
			t.Fatal(err)
		}
		if want := server.answer(request("n1", "n2", uint64(i), size)); *resp != *want {
			t.Fatalf("got %+v, want %+v", resp, want)
		}
	}
	_ = transporter.Close()
	noStreams(t)
	for i, size := range sizes {
		want := request("n1", "n2", uint64(i), size)
		if !bytes.Equal(kept[i].records, want.records) {
			t.Fatalf("the records of request %d changed", i)
		}
		kept[i].records, want.records = nil, nil
		if fmt.Sprintf("%+v", kept[i]) != fmt.Sprintf("%+v", want) {
			t.Fatalf("got %+v, want %+v", kept[i], want)
		}
	}
}

// Several leaders send on streams of their own at once, each many requests
// without waiting, while the server answers from other goroutines.
func TestStreamsConcurrently(t *testing.T) {
	const streams, requests = 4, 300
	server := newPipelined("n0")
	type submitted struct {
		resp      *AppendEntriesResponse
		responder appendResponder
	}
	queue := make(chan submitted, 64)
	server.onSubmit = func(req *AppendEntriesRequest, responder appendResponder) error {
		queue <- submitted{server.answer(req), responder}
		return nil
	}
	peer, _ := mounted(t, server)
	var answering, sending tasks
	for range 2 {
		answering.Go("answer", func() {
			for a := range queue {
				a.responder.answerAppend(a.resp)
			}
		})
	}
	for i := range streams {
		name := fmt.Sprintf("n%d", i+1)
		s := open(t, newFake(name), peer)
		window := make(chan struct{}, maxInFlight)
		sending.Go("send", func() {
			for seq := range requests {
				window <- struct{}{}
				if err := s.Send(request(name, "n0", uint64(seq), seq)); err != nil {
					t.Error(err)
					return
				}
			}
		})
		sending.Go("receive", func() {
			seen := make([]bool, requests)
			for range requests {
				resp, err := s.Receive()
				if err != nil {
					t.Error(err)
					return
				}
				if seen[resp.Sequence] {
					t.Errorf("answer %d came twice", resp.Sequence)
				}
				seen[resp.Sequence] = true
				<-window
			}
		})
	}
	sending.Wait()
	close(queue)
	answering.Wait()
}

// A Server that only has goraft's methods is served too: it sees entries, and
// each request is answered before the next.
func TestStreamToForeignServer(t *testing.T) {
	server := newFake("n2")
	names := make(chan string, 10)
	server.onAppend = func(req *AppendEntriesRequest) *AppendEntriesResponse {
		for _, e := range req.Entries {
			names <- e.GetCommandName()
		}
		return server.answer(req)
	}
	peer, transporter := mounted(t, server)
	s := open(t, newFake("n1"), peer)
	for i := range 3 {
		if err := s.Send(request("n1", "n2", uint64(i), 5)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 3 {
		if resp, err := s.Receive(); err != nil || resp.Sequence != uint64(i) {
			t.Fatalf("got %+v, %v", resp, err)
		}
		if got := receive(t, names); got != "cmd" {
			t.Fatalf("the command is %q", got)
		}
	}
	server.halted.Store(true)
	if err := s.Send(request("n1", "n2", 9, -1)); err != nil {
		t.Fatal(err)
	}
	if resp, err := s.Receive(); err == nil {
		t.Fatalf("a halted server answered %+v", resp)
	}
	var status *StatusError
	if _, err := transporter.OpenAppendStream(t.Context(), newFake("n1"), peer); !errors.As(err, &status) || status.Status != 503 {
		t.Fatalf("got %v", err)
	}
	noStreams(t)
}

// Entries without records, as a Server of the host's own would send them.
func TestStreamOfForeignServer(t *testing.T) {
	server := newPipelined("n2")
	records := make(chan []byte, 1)
	server.onSubmit = func(req *AppendEntriesRequest, responder appendResponder) error {
		records <- req.records
		return nil
	}
	peer, _ := mounted(t, server)
	req := request("n1", "n2", 1, 100)
	want := req.records
	if err := req.fillEntries(); err != nil {
		t.Fatal(err)
	}
	req.records = nil
	if err := open(t, newFake("n1"), peer).Send(req); err != nil {
		t.Fatal(err)
	}
	if got := receive(t, records); !bytes.Equal(got, want) {
		t.Fatalf("got %x", got)
	}
	s := open(t, newFake("n1"), peer)
	req.Entries[0].Checksum = new(uint32(1))
	if err := s.Send(req); !errors.Is(err, ErrMessage) {
		t.Fatalf("got %v", err)
	}
	if err := s.Send(req); err == nil {
		t.Fatal("a stream goes on after an error")
	}
}

// The peer that takes no streams is known by its status, and takes calls.
func TestStreamUnsupported(t *testing.T) {
	for _, status := range []int{200, 302, 400, 401, 403, 404, 405, 426, 500, 501, 502, 101} {
		host := serveHTTP(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost {
				_, _ = w.Write((&RequestVoteResponse{Term: 1, From: "n2"}).appendTo(nil))
				return
			}
			w.WriteHeader(status)
			_, _ = io.WriteString(w, "<html>")
		}))
		transporter, peer := NewHTTPTransporter("/raft", patience), &Peer{Name: "n2", ConnectionString: host.URL}
		_, err := transporter.OpenAppendStream(t.Context(), newFake("n1"), peer)
		var got *StatusError
		if !errors.Is(err, ErrStreamUnsupported) || !errors.As(err, &got) || got.Status != status {
			t.Errorf("%d: %v", status, err)
		}
		if transporter.SendVoteRequest(newFake("n1"), peer, &RequestVoteRequest{}) == nil {
			t.Errorf("%d: no answer to a call", status)
		}
	}
	// A host whose connections cannot be taken over.
	fake := newPipelined("n2")
	handler := NewHTTPTransporter("/raft", patience).Handler(fake)
	host := serveHTTP(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handler.ServeHTTP(struct{ http.ResponseWriter }{w}, r)
	}))
	peer := &Peer{Name: "n2", ConnectionString: host.URL}
	transporter := NewHTTPTransporter("/raft", patience)
	if _, err := transporter.OpenAppendStream(t.Context(), newFake("n1"), peer); !errors.Is(err, ErrStreamUnsupported) {
		t.Errorf("got %v", err)
	}
	transporter.Transport.Proxy = http.ProxyFromEnvironment
	if _, err := transporter.OpenAppendStream(t.Context(), newFake("n1"), peer); !errors.Is(err, ErrStreamUnsupported) {
		t.Errorf("got %v", err)
	}
}

// Rows 116 and 117: a stream to another cluster, another server or another store
// does not come about, and both sides know why.
func TestFault116_117_StreamToTheWrongServer(t *testing.T) {
	for name, c := range map[string]struct {
		change func(from, to *fakeServer, peer *Peer)
		want   error
	}{
		"as it should be": {func(from, to *fakeServer, peer *Peer) { peer.storeID = to.storeID }, nil},
		"other cluster":   {func(from, to *fakeServer, peer *Peer) { to.clusterID = 8 }, ErrStreamCluster},
		"other cluster, nothing committed": {func(from, to *fakeServer, peer *Peer) {
			to.clusterID, to.commit = 8, 0
		}, nil},
		"peer without cluster":   {func(from, to *fakeServer, peer *Peer) { to.clusterID = 0 }, nil},
		"other addressee":        {func(from, to *fakeServer, peer *Peer) { peer.Name = "n3" }, ErrStreamAddressee},
		"other store":            {func(from, to *fakeServer, peer *Peer) { peer.storeID = 99 }, ErrStreamStore},
		"no name of the sender":  {func(from, to *fakeServer, peer *Peer) { from.name = "" }, io.EOF},
		"too long a name, to it": {func(from, to *fakeServer, peer *Peer) { peer.Name = string(make([]byte, maxNameBytes+1)) }, ErrHello},
	} {
		t.Run(name, func(t *testing.T) {
			from, to := newFake("n1"), newPipelined("n2")
			peer, _ := mounted(t, to)
			c.change(from, to.fakeServer, peer)
			transporter := NewHTTPTransporter("/raft", patience)
			s, err := transporter.OpenAppendStream(t.Context(), from, peer)
			if !errors.Is(err, c.want) || c.want == nil && err != nil {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if errors.Is(err, ErrStreamUnsupported) {
				t.Error("it is taken for a peer that knows no streams")
			}
			if s != nil {
				_ = s.Close()
			}
		})
	}
}

// The client does not believe a peer that answers for another one.
func TestFault117_WrongServerAnswersTheHello(t *testing.T) {
	for name, c := range map[string]struct {
		reply func() []byte
		want  error
	}{
		"other name":     {(&hello{clusterID: 7, from: "n3", to: "n1"}).bytes, ErrStreamAddressee},
		"other store":    {(&hello{clusterID: 7, storeID: 5, from: "n2", to: "n1"}).bytes, ErrStreamStore},
		"busy":           {(&hello{status: helloBusy, from: "n2"}).bytes, ErrStreamBusy},
		"unknown status": {(&hello{status: 999, from: "n2"}).bytes, ErrHello},
		"garbage":        {func() []byte { return bytes.Repeat([]byte("GET "), 20) }, ErrHello},
		"newer version":  {func() []byte { return newerHello(&hello{from: "n2", to: "n1"}) }, ErrStreamVersion},
		"silence":        {func() []byte { return nil }, os.ErrDeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const switching = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " + streamProtocol + "\r\n\r\n"
			peer := hung(t, switching+string(c.reply()))
			peer.storeID = 'n'
			_, err := NewHTTPTransporter("/raft", patience).OpenAppendStream(t.Context(), newFake("n1"), peer)
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
		})
	}
}

func (h *hello) bytes() []byte { return h.appendTo(nil) }

// newerHello is a hello of a version that there is not yet.
func newerHello(h *hello) []byte {
	b := h.appendTo(nil)
	b[4]++
	return b
}

// An older server tells a newer one which version it speaks.
func TestStreamVersionIsNegotiable(t *testing.T) {
	peer, _ := mounted(t, newPipelined("n2"))
	raw := openRaw(t, peer)
	raw.write(t, newerHello(&hello{clusterID: 7, from: "n1", to: "n2"}))
	reply, err := readHello(raw.in)
	if err != nil || reply.status != helloVersion || reply.from != "n2" {
		t.Fatalf("got %+v, %v", reply, err)
	}
	raw.closed(t)
}

// Row 119: a frame of which a bit was flipped ends the connection and is never
// delivered.
func TestFault119_FlippedFrameIsNotDelivered(t *testing.T) {
	server := newPipelined("n2")
	delivered := make(chan *AppendEntriesRequest, 1<<10)
	server.onSubmit = func(req *AppendEntriesRequest, responder appendResponder) error {
		delivered <- req
		return nil
	}
	server.fakeServer.peers = map[string]*Peer{"n1": {}}
	peer, transporter := mounted(t, server)
	transporter.StreamIdleTimeout = 100 * time.Millisecond // a longer length waits for more
	frame := requestFrame(request("n1", "n2", 5, 10))
	eachFlip(frame, func(bit int, b []byte) {
		if bit%5 > 0 && bit > 8*framePrefixSize || bit >= 20 && bit < 32 {
			return // the rest is tested without connections; these wait
		}
		raw := openRaw(t, peer)
		raw.greet(t, hello{clusterID: 7, from: "n1", to: "n2"})
		raw.write(t, b)
		raw.closed(t)
		_ = raw.Close()
	})
	select {
	case req := <-delivered:
		t.Fatalf("delivered: %+v", req)
	default:
	}
	raw := openRaw(t, peer)
	raw.greet(t, hello{clusterID: 7, from: "n1", to: "n2"})
	raw.write(t, frame)
	if req := receive(t, delivered); req.Sequence != 5 {
		t.Fatalf("got %+v", req)
	}
}

// Row 140: what a stream carries is in the name of the server that opened it.
func TestFault140_RequestInAnotherName(t *testing.T) {
	for name, req := range map[string]*AppendEntriesRequest{
		"other leader": request("n3", "n2", 1, 5),
		"no cluster":   {LeaderName: "n1", To: "n2"},
		"no addressee": {LeaderName: "n1", ClusterID: 7},
	} {
		server := newPipelined("n2")
		server.onSubmit = func(req *AppendEntriesRequest, responder appendResponder) error {
			t.Errorf("%s: delivered: %+v", name, req)
			return nil
		}
		peer, _ := mounted(t, server)
		raw := openRaw(t, peer)
		raw.greet(t, hello{clusterID: 7, from: "n1", to: "n2"})
		raw.write(t, requestFrame(req))
		raw.closed(t)
	}
}

// Row 115: what is no hello, or none yet, is closed within the hello's time, and
// nothing is said to it.
func TestFault115_GarbageOnTheStream(t *testing.T) {
	peer, transporter := mounted(t, newPipelined("n2"))
	whole := (&hello{clusterID: 7, from: "n1", to: "n2"}).appendTo(nil)
	flipped := bytes.Clone(whole)
	flipped[40] ^= 1
	for name, banner := range map[string][]byte{
		"nothing":    nil,
		"http":       []byte("GET / HTTP/1.1\r\nHost: h\r\n\r\n"),
		"ssh":        []byte("SSH-2.0-OpenSSH_9.6\r\n"),
		"tls":        {0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3},
		"zeros":      make([]byte, 1000),
		"ones":       bytes.Repeat([]byte{0xff}, 1000),
		"half":       whole[:20],
		"long names": append(append(bytes.Clone(whole[:32]), 0xff, 0xff, 0xff, 0xff), make([]byte, 100)...),
		"flipped":    flipped,
		"status":     (&hello{status: 1, clusterID: 7, from: "n1", to: "n2"}).appendTo(nil),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			begin := time.Now()
			raw := openRaw(t, peer)
			raw.write(t, banner)
			raw.closed(t)
			if took := time.Since(begin); took > 3*helloTimeout {
				t.Errorf("it took %v", took)
			}
		})
	}
	_ = transporter
}

// What speaks before it is asked to, or something that is not HTTP, gets no
// stream either.
func TestFault115_GarbageOnThePort(t *testing.T) {
	peer, _ := mounted(t, newPipelined("n2"), func(s *http.Server) { s.ReadHeaderTimeout = 100 * time.Millisecond })
	target, _ := joinURL(peer.ConnectionString, "/raft/stream")
	early := (&hello{clusterID: 7, from: "n1", to: "n2"}).appendTo(nil)
	for name, banner := range map[string]string{
		"ssh":       "SSH-2.0-OpenSSH_9.6\r\n\r\n",
		"nothing":   "",
		"binary":    helloMagic + "\x01\x00",
		"too early": "GET /raft/stream HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: raft-append/1\r\n\r\n" + string(early),
	} {
		conn, err := net.Dial("tcp", target.Host)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(patience))
		_, _ = io.WriteString(conn, banner)
		b, err := io.ReadAll(conn)
		if isTimeout(err) || bytes.Contains(b, []byte("101 Switching")) {
			t.Errorf("%s: %q, %v", name, b, err)
		}
		_ = conn.Close()
	}
}

// Row 111: a peer that reads nothing ends Send, one that says nothing Receive.
func TestFault111_StreamEndsByDeadline(t *testing.T) {
	server := newFake("n1")
	server.election = 50 * time.Millisecond
	const switching = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " + streamProtocol + "\r\n\r\n"
	peer := hung(t, switching+string((&hello{clusterID: 7, from: "n2", to: "n1"}).appendTo(nil)))
	transporter := NewHTTPTransporter("/raft", patience)
	transporter.StreamIdleTimeout = 100 * time.Millisecond
	begin := time.Now()
	s, err := transporter.OpenAppendStream(t.Context(), server, peer)
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := s.Receive(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("got %+v, %v", resp, err)
	}
	if err := s.Send(request("n1", "n2", 1, 1)); err == nil {
		t.Fatal("a stream goes on after an error")
	}
	if s, err = transporter.OpenAppendStream(t.Context(), server, peer); err != nil {
		t.Fatal(err)
	}
	for err == nil {
		err = s.Send(request("n1", "n2", 1, 256<<10))
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("got %v", err)
	}
	if took := time.Since(begin); took > patience {
		t.Errorf("it took %v", took)
	}
	// Close ends whoever waits.
	transporter.StreamIdleTimeout = time.Hour
	if s, err = transporter.OpenAppendStream(t.Context(), server, peer); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	var receiving tasks
	receiving.Go("receive", func() {
		_, err := s.Receive()
		ended <- err
	})
	_ = s.Close()
	_ = s.Close()
	if err := receive(t, ended); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v", err)
	}
	receiving.Wait()
}

// Row 111 from the other side: a leader that has vanished, or does not read its
// answers.
func TestFault111_ServedStreamEndsByDeadline(t *testing.T) {
	server := newPipelined("n2")
	server.election = 50 * time.Millisecond
	peer, transporter := mounted(t, server)
	transporter.StreamIdleTimeout = 100 * time.Millisecond
	raw := openRaw(t, peer)
	raw.greet(t, hello{clusterID: 7, from: "n1", to: "n2"})
	raw.closed(t)

	transporter.StreamIdleTimeout = time.Hour
	raw = openRaw(t, peer)
	raw.greet(t, hello{clusterID: 7, from: "n1", to: "n2"})
	_ = raw.Conn.(*net.TCPConn).SetReadBuffer(1 << 10)
	frame := requestFrame(request("n1", "n2", 1, -1))
	for batch := bytes.Repeat(frame, 100); ; {
		if _, err := raw.Write(batch); isTimeout(err) {
			t.Fatal("the server takes requests without end from one who reads no answers")
		} else if err != nil {
			break
		}
	}
	noStreams(t)
}

// The host's deadlines are for HTTP; a stream outlives them.
func TestStreamUnderHostDeadlines(t *testing.T) {
	const deadline = 40 * time.Millisecond
	peer, _ := mounted(t, newPipelined("n2"), func(s *http.Server) {
		s.ReadTimeout, s.WriteTimeout, s.IdleTimeout, s.ReadHeaderTimeout = deadline, deadline, deadline, deadline
	})
	s := open(t, newFake("n1"), peer)
	tick := time.NewTicker(deadline)
	defer tick.Stop()
	for i := range 6 {
		<-tick.C
		if err := s.Send(request("n1", "n2", uint64(i), 10)); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Receive(); err != nil {
			t.Fatal(err)
		}
	}
}

// Stop ends the streams of its run; the next run gets new ones.
func TestStreamEndsWithTheRun(t *testing.T) {
	server := newPipelined("n2")
	peer, transporter := mounted(t, server)
	for range 3 {
		s := open(t, newFake("n1"), peer)
		server.stop()
		if _, err := s.Receive(); err == nil || isTimeout(errors.Unwrap(err)) {
			t.Fatalf("got %v", err)
		}
		noStreams(t)
		var status *StatusError
		_, err := transporter.OpenAppendStream(t.Context(), newFake("n1"), peer)
		if !errors.As(err, &status) || status.Status != 503 || errors.Is(err, ErrStreamUnsupported) {
			t.Fatalf("got %v", err)
		}
		server.run.Store(nil)
		if _, err = transporter.OpenAppendStream(t.Context(), newFake("n1"), peer); !errors.As(err, &status) {
			t.Fatalf("got %v", err)
		}
		server.start()
	}
	s := open(t, newFake("n1"), peer)
	if err := transporter.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Receive(); err == nil {
		t.Fatal("the stream is open")
	}
	open(t, newFake("n1"), peer)
}

// A server that refuses a request ends the stream.
func TestStreamEndsWithARefusedSubmit(t *testing.T) {
	server := newPipelined("n2")
	server.onSubmit = func(*AppendEntriesRequest, appendResponder) error { return StopError }
	peer, _ := mounted(t, server)
	s := open(t, newFake("n1"), peer)
	if err := s.Send(request("n1", "n2", 1, 1)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Receive(); !errors.Is(err, io.EOF) {
		t.Fatalf("got %v", err)
	}
	noStreams(t)
}

// A newer stream of a server takes the place of its older one, and strangers do
// not take the places of members.
func TestFault142_StreamsAreCounted(t *testing.T) {
	server := newPipelined("n0")
	server.peers = map[string]*Peer{"member": {}, "other": {}}
	peer, transporter := mounted(t, server)
	first := open(t, newFake("member"), peer)
	second := open(t, newFake("member"), peer)
	if _, err := first.Receive(); err == nil {
		t.Fatal("the older stream is open")
	}
	for i := range maxStrangers - 1 {
		open(t, newFake(fmt.Sprintf("stranger %d", i)), peer)
	}
	if _, err := transporter.OpenAppendStream(t.Context(), newFake("stranger"), peer); !errors.Is(err, ErrStreamBusy) {
		t.Fatalf("got %v", err)
	}
	third := open(t, newFake("other"), peer)
	for _, s := range []*clientStream{second, third} {
		name := s.server.Name()
		if err := s.Send(request(name, "n0", 1, 1)); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Receive(); err != nil {
			t.Fatal(err)
		}
	}
}

// Connections that never say who they are do not pile up.
func TestFault142_HandshakesAreCounted(t *testing.T) {
	peer, transporter := mounted(t, newPipelined("n2"))
	for range maxHandshakes {
		openRaw(t, peer)
	}
	var status *StatusError
	if _, err := transporter.OpenAppendStream(t.Context(), newFake("n1"), peer); !errors.As(err, &status) || status.Status != 503 {
		t.Fatalf("got %v", err)
	}
	raw := openRawEventually(t, peer)
	raw.greet(t, hello{clusterID: 7, from: "n1", to: "n2"})
}

// openRawEventually opens a stream once the peer takes one again.
func openRawEventually(t *testing.T, peer *Peer) *rawStream {
	t.Helper()
	transporter := NewHTTPTransporter("/raft", patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for {
		s, err := transporter.OpenAppendStream(t.Context(), newFake("n1"), peer)
		if err == nil {
			_ = s.Close()
			return openRaw(t, peer)
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal(err)
		}
	}
}

// A server whose answers nobody takes closes the stream instead of keeping them.
func TestStreamOutboxIsBounded(t *testing.T) {
	conn, other := net.Pipe()
	defer other.Close()
	transporter := NewHTTPTransporter("/raft", patience)
	s := (&endpoint{transporter: transporter, server: newPipelined("n2")}).newServerStream(conn, nil)
	for range maxAnswers {
		s.answerAppend(&AppendEntriesResponse{})
	}
	if s.closed.Load() {
		t.Fatal("it was closed too early")
	}
	s.answerAppend(&AppendEntriesResponse{})
	s.answerAppend(&AppendEntriesResponse{})
	if !s.closed.Load() {
		t.Fatal("it was not closed")
	}
}

func TestStreamTooLargeARequest(t *testing.T) {
	peer, transporter := mounted(t, newPipelined("n2"))
	transporter.MaxMessageBytes = 1 << 10
	s := open(t, newFake("n1"), peer) // of a transporter with a larger limit
	if err := s.Send(request("n1", "n2", 1, 1<<10)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Receive(); err == nil {
		t.Fatal("more than the limit was taken")
	}
	sender, err := transporter.OpenAppendStream(t.Context(), newFake("n1"), peer)
	if err != nil {
		t.Fatal(err)
	}
	if err := sender.Send(request("n1", "n2", 1, 1<<10)); !errors.Is(err, ErrMessageTooLarge) {
		t.Fatalf("got %v", err)
	}
}

// What a peer answers is checked as what it is asked.
func TestStreamBadAnswers(t *testing.T) {
	good := newFake("n2").answer(request("n1", "n2", 1, -1))
	stranger := newFake("n3").answer(request("n1", "n3", 1, -1))
	withBody := good.appendTo(beginFrame(nil, frameResponse))
	finishFrame(withBody, 0, []byte("body"))
	changed := appendResponseFrame(nil, good)
	changed[20] ^= 1
	const switching = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " + streamProtocol + "\r\n\r\n"
	greeting := switching + string((&hello{clusterID: 7, from: "n2", to: "n1"}).appendTo(nil))
	for name, c := range map[string]struct {
		frame []byte
		want  error
	}{
		"good":           {appendResponseFrame(nil, good), nil},
		"of another":     {appendResponseFrame(nil, stranger), ErrNoAnswer},
		"with a body":    {append(withBody, "body"...), ErrNoAnswer},
		"changed":        {changed, ErrFrame},
		"a request":      {requestFrame(request("n1", "n2", 1, -1)), ErrFrame},
		"not a response": {append(emptyFrame(frameResponse), 0), ErrMessage},
	} {
		peer := hung(t, greeting+string(c.frame))
		s := open(t, newFake("n1"), peer)
		resp, err := s.Receive()
		if !errors.Is(err, c.want) || c.want == nil && (err != nil || *resp != *good) {
			t.Errorf("%s: %+v, %v", name, resp, err)
		}
	}
}

func emptyFrame(kind byte) []byte {
	b := beginFrame(nil, kind)
	finishFrame(b, 0, nil)
	return b
}

func TestStreamOverTLS(t *testing.T) {
	transporter := NewHTTPTransporter("/raft", patience)
	host := httptest.NewTLSServer(transporter.Handler(newPipelined("n2")))
	defer host.Close()
	defer transporter.Close()
	trusting := NewHTTPTransporter("/raft", patience)
	trusting.Transport.TLSClientConfig = host.Client().Transport.(*http.Transport).TLSClientConfig
	peer, server := &Peer{Name: "n2", ConnectionString: host.URL}, newFake("n1")
	s, err := trusting.OpenAppendStream(t.Context(), server, peer)
	if err != nil {
		t.Fatal(err)
	}
	for i, size := range []int{1, 1 << 20} {
		if err := s.Send(request("n1", "n2", uint64(i), size)); err != nil {
			t.Fatal(err)
		}
		if resp, err := s.Receive(); err != nil || resp.Sequence != uint64(i) {
			t.Fatalf("got %+v, %v", resp, err)
		}
	}
	_ = s.Close()
	// Without the certificate, or without TLS, there is no stream.
	strict := NewHTTPTransporter("/raft", patience)
	var unknown *tls.CertificateVerificationError
	if _, err := strict.OpenAppendStream(t.Context(), server, peer); !errors.As(err, &unknown) {
		t.Errorf("got %v", err)
	}
	plain := &Peer{Name: "n2", ConnectionString: host.Listener.Addr().String()}
	if _, err := trusting.OpenAppendStream(t.Context(), server, plain); err == nil {
		t.Error("a stream without TLS was opened")
	}
}

func TestStreamOpenIsCancelled(t *testing.T) {
	peer := hung(t, "")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	var opening tasks
	opening.Go("open", func() {
		_, err := NewHTTPTransporter("/raft", time.Hour).OpenAppendStream(ctx, newFake("n1"), peer)
		ended <- err
	})
	cancel()
	if err := receive(t, ended); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	opening.Wait()
}

// discarding is a peer that takes a stream and whatever comes on it.
func discarding(t testing.TB) *Peer {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	const switching = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " + streamProtocol + "\r\n\r\n"
	var accepting tasks
	accepting.Go("accept", func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		_, _ = io.WriteString(conn, switching+string((&hello{clusterID: 7, from: "n2", to: "n1"}).appendTo(nil)))
		_, _ = io.Copy(io.Discard, conn)
		_ = conn.Close()
	})
	t.Cleanup(func() {
		_ = listener.Close()
		accepting.Wait()
	})
	return &Peer{Name: "n2", ConnectionString: listener.Addr().String()}
}

func TestStreamSendDoesNotAllocate(t *testing.T) {
	s := open(t, newFake("n1"), discarding(t))
	for _, size := range []int{-1, 128, 64 << 10} {
		req := request("n1", "n2", 1, size)
		if _, _, err := wal.NextRecord(append(req.records, make([]byte, wal.RecordHeaderSize)...)); err != nil {
			t.Fatal(err)
		}
		allocations := testing.AllocsPerRun(100, func() {
			if err := s.Send(req); err != nil {
				t.Fatal(err)
			}
		})
		if allocations >= 1 {
			t.Errorf("%d bytes: %v allocations", size, allocations)
		}
	}
	_ = s.Close()
}
