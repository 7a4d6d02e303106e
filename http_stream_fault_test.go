package raft

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"testing"
	"time"
)

// Rows 116 and 117: a stream to another cluster, another server or another store
// does not come about, and both sides know why.
func TestFault116_117_StreamToTheWrongServer(t *testing.T) {
	for name, c := range map[string]struct {
		change func(from, to *wireServer, peer *Peer)
		want   error
	}{
		"as it should be": {func(from, to *wireServer, peer *Peer) { peer.storeID = to.storeID }, nil},
		"other cluster":   {func(from, to *wireServer, peer *Peer) { to.clusterID = 8 }, ErrStreamCluster},
		"other cluster, nothing committed": {func(from, to *wireServer, peer *Peer) {
			to.clusterID, to.commit = 8, 0
		}, nil},
		"peer without cluster":   {func(from, to *wireServer, peer *Peer) { to.clusterID = 0 }, nil},
		"other addressee":        {func(from, to *wireServer, peer *Peer) { peer.Name = "n3" }, ErrStreamAddressee},
		"other store":            {func(from, to *wireServer, peer *Peer) { peer.storeID = 99 }, ErrStreamStore},
		"no name of the sender":  {func(from, to *wireServer, peer *Peer) { from.name = "" }, io.EOF},
		"too long a name, to it": {func(from, to *wireServer, peer *Peer) { peer.Name = string(make([]byte, maxNameBytes+1)) }, ErrHello},
	} {
		t.Run(name, func(t *testing.T) {
			from, to := newFake("n1"), newPipelined("n2")
			peer := &Peer{Name: "n2"}
			c.change(from, to.wireServer, peer)
			real, _ := mounted(t, to)
			peer.ConnectionString = real.ConnectionString
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
	t.Parallel()
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
			peer := hung(t, switchingProtocols+string(c.reply()))
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
	t.Parallel()
	server := newPipelined("n2")
	delivered := make(chan *AppendEntriesRequest, 1<<10)
	server.onSubmit = func(req *AppendEntriesRequest, responder appendResponder) error {
		delivered <- req
		return nil
	}
	server.wireServer.peers = map[string]*Peer{"n1": {}}
	transporter := NewHTTPTransporter("/raft", patience)
	transporter.StreamIdleTimeout = patience / 10 // ends those that wait for more than there is
	peer := mountedOn(t, transporter, server)
	frame := requestFrame(wireRequest("n1", "n2", 5, 10))
	eachFlip(frame, func(bit int, b []byte) {
		if bit%31 > 0 && bit > 8*framePrefixSize || bit >= 6 && bit < 28 {
			return // tested without connections too; a longer length waits for more
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
		"other leader": wireRequest("n3", "n2", 1, 5),
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
	t.Parallel()
	peer, _ := mounted(t, newPipelined("n2"))
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
}

// What speaks before it is asked to, or something that is not HTTP, gets no
// stream either.
func TestFault115_GarbageOnThePort(t *testing.T) {
	t.Parallel()
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
	t.Parallel()
	server := newFake("n1")
	server.election = 50 * time.Millisecond
	peer := hung(t, switchingProtocols+string((&hello{clusterID: 7, from: "n2", to: "n1"}).appendTo(nil)))
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
	if err := s.Send(wireRequest("n1", "n2", 1, 1)); err == nil {
		t.Fatal("a stream goes on after an error")
	}
	if s, err = transporter.OpenAppendStream(t.Context(), server, peer); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	var working tasks
	working.Go("send", func() {
		var err error
		for err == nil {
			err = s.Send(wireRequest("n1", "n2", 1, 256<<10))
		}
		ended <- err
	})
	if err := receive(t, ended); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("got %v", err)
	}
	working.Wait()
	if took := time.Since(begin); took > patience {
		t.Errorf("it took %v", took)
	}
	// Close ends whoever waits.
	transporter.StreamIdleTimeout = time.Hour
	if s, err = transporter.OpenAppendStream(t.Context(), server, peer); err != nil {
		t.Fatal(err)
	}
	working.Go("receive", func() {
		_, err := s.Receive()
		ended <- err
	})
	_ = s.Close()
	_ = s.Close()
	if err := receive(t, ended); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v", err)
	}
	working.Wait()
}

// Row 111 from the other side: a leader that has vanished, or does not read its
// answers.
func TestFault111_ServedStreamEndsByDeadline(t *testing.T) {
	server := newPipelined("n2")
	server.election = 50 * time.Millisecond
	transporter := NewHTTPTransporter("/raft", patience)
	transporter.StreamIdleTimeout = 100 * time.Millisecond
	peer := mountedOn(t, transporter, server)
	raw := openRaw(t, peer)
	raw.greet(t, hello{clusterID: 7, from: "n1", to: "n2"})
	raw.closed(t)

	transporter = NewHTTPTransporter("/raft", patience)
	transporter.StreamIdleTimeout = time.Hour
	peer = mountedOn(t, transporter, server)
	raw = openRaw(t, peer)
	raw.greet(t, hello{clusterID: 7, from: "n1", to: "n2"})
	_ = raw.Conn.(*net.TCPConn).SetReadBuffer(1 << 10)
	frame := requestFrame(wireRequest("n1", "n2", 1, -1))
	for batch := bytes.Repeat(frame, 100); ; {
		if _, err := raw.Write(batch); isTimeout(err) {
			t.Fatal("the server takes requests without end from one who reads no answers")
		} else if err != nil {
			break
		}
	}
	noStreams(t)
}

// A newer stream of a server takes the place of its older one, and strangers do
// not take the places of members.
func TestFault142_StreamsAreCounted(t *testing.T) {
	server := newPipelined("n0")
	server.peers = map[string]*Peer{"member": {}, "other": {}}
	transporter := NewHTTPTransporter("/raft", patience)
	transporter.StreamIdleTimeout = time.Minute // none is to end by itself
	peer := mountedOn(t, transporter, server)
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
		if err := s.Send(wireRequest(name, "n0", 1, 1)); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Receive(); err != nil {
			t.Fatal(err)
		}
	}
}

// Connections that never say who they are do not pile up.
func TestFault142_HandshakesAreCounted(t *testing.T) {
	t.Parallel()
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
	transporter := NewHTTPTransporter("/raft", patience)
	transporter.MaxMessageBytes = 1 << 10
	peer := mountedOn(t, transporter, newPipelined("n2"))
	s := open(t, newFake("n1"), peer) // of a transporter with a larger limit
	if err := s.Send(wireRequest("n1", "n2", 1, 1<<10)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Receive(); err == nil {
		t.Fatal("more than the limit was taken")
	}
	sender, err := transporter.OpenAppendStream(t.Context(), newFake("n1"), peer)
	if err != nil {
		t.Fatal(err)
	}
	if err := sender.Send(wireRequest("n1", "n2", 1, 1<<10)); !errors.Is(err, ErrMessageTooLarge) {
		t.Fatalf("got %v", err)
	}
}

// What a peer answers is checked as what it is asked.
func TestStreamBadAnswers(t *testing.T) {
	t.Parallel()
	good := newFake("n2").answer(wireRequest("n1", "n2", 1, -1))
	stranger := newFake("n3").answer(wireRequest("n1", "n3", 1, -1))
	withBody := good.appendTo(beginFrame(nil, frameResponse))
	finishFrame(withBody, 0, []byte("body"))
	changed := appendResponseFrame(nil, good)
	changed[20] ^= 1
	greeting := switchingProtocols + string((&hello{clusterID: 7, from: "n2", to: "n1"}).appendTo(nil))
	for name, c := range map[string]struct {
		frame []byte
		want  error
	}{
		"good":           {appendResponseFrame(nil, good), nil},
		"of another":     {appendResponseFrame(nil, stranger), ErrNoAnswer},
		"with a body":    {append(withBody, "body"...), ErrNoAnswer},
		"changed":        {changed, ErrFrame},
		"a request":      {requestFrame(wireRequest("n1", "n2", 1, -1)), ErrFrame},
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
