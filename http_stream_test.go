package raft

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
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
	transporter := NewHTTPTransporter("/raft", patience)
	transporter.StreamIdleTimeout = time.Minute // the largest takes its time on a busy machine
	peer := mountedOn(t, transporter, server)
	s, err := transporter.OpenAppendStream(t.Context(), newFake("n1"), peer)
	if err != nil {
		t.Fatal(err)
	}
	sizes := []int{-1, 0, 10, copyBelow, copyBelow + 1, frameGrant, -1, 1 << 20, 8 << 20, 1}
	for i, size := range sizes {
		if err := s.Send(wireRequest("n1", "n2", uint64(i), size)); err != nil {
			t.Fatal(err)
		}
		resp, err := s.Receive()
		if err != nil {
			t.Fatal(err)
		}
		if want := server.answer(wireRequest("n1", "n2", uint64(i), size)); *resp != *want {
			t.Fatalf("got %+v, want %+v", resp, want)
		}
	}
	_ = transporter.Close()
	noStreams(t)
	for i, size := range sizes {
		want := wireRequest("n1", "n2", uint64(i), size)
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
				if err := s.Send(wireRequest(name, "n0", uint64(seq), seq)); err != nil {
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
		if err := s.Send(wireRequest("n1", "n2", uint64(i), 5)); err != nil {
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
	if err := s.Send(wireRequest("n1", "n2", 9, -1)); err != nil {
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
	req := wireRequest("n1", "n2", 1, 100)
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

// The host's deadlines are for HTTP; a stream outlives them.
func TestStreamUnderHostDeadlines(t *testing.T) {
	t.Parallel()
	const deadline = 40 * time.Millisecond
	peer, _ := mounted(t, newPipelined("n2"), func(s *http.Server) {
		s.ReadTimeout, s.WriteTimeout, s.IdleTimeout, s.ReadHeaderTimeout = deadline, deadline, deadline, deadline
	})
	s := open(t, newFake("n1"), peer)
	tick := time.NewTicker(deadline)
	defer tick.Stop()
	for i := range 6 {
		<-tick.C
		if err := s.Send(wireRequest("n1", "n2", uint64(i), 10)); err != nil {
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
	if err := s.Send(wireRequest("n1", "n2", 1, 1)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Receive(); !errors.Is(err, io.EOF) {
		t.Fatalf("got %v", err)
	}
	noStreams(t)
}

func TestStreamOverTLS(t *testing.T) {
	transporter := NewHTTPTransporter("/raft", patience)
	host := httptest.NewUnstartedServer(transporter.Handler(newPipelined("n2")))
	host.Config.ErrorLog = log.New(io.Discard, "", 0)
	host.StartTLS()
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
		if err := s.Send(wireRequest("n1", "n2", uint64(i), size)); err != nil {
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
	var accepting tasks
	accepting.Go("accept", func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		_, _ = io.WriteString(conn, switchingProtocols+string((&hello{clusterID: 7, from: "n2", to: "n1"}).appendTo(nil)))
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
		req := wireRequest("n1", "n2", 1, size)
		if _, _, err := wal.NextRecord(append(req.records, make([]byte, wal.RecordHeaderSize)...)); err != nil {
			t.Fatal(err)
		}
		// The count is of the whole process: the least is the call's own.
		allocations := math.Inf(1)
		for range 5 {
			allocations = min(allocations, testing.AllocsPerRun(100, func() {
				if err := s.Send(req); err != nil {
					t.Fatal(err)
				}
			}))
		}
		if allocations >= 1 {
			t.Errorf("%d bytes: %v allocations", size, allocations)
		}
	}
	_ = s.Close()
}
