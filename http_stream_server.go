package raft

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	streamProtocol     = "raft-append/1"
	switchingProtocols = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " + streamProtocol + "\r\n\r\n"

	// helloTimeout is how long each side of a new stream may take for its hello.
	helloTimeout = time.Second

	maxStreams    = 64 // held by one server
	maxStrangers  = 16 // of those, from servers that are not members here
	maxHandshakes = 16 // under way at one server
	// maxAnswers bounds the answers that wait for one connection: more than a
	// leader ever has requests in flight.
	maxAnswers = 2 * maxInFlight
)

// errImpostor says that a request on a stream is in another server's name.
var errImpostor = errors.New("raft: a request in another server's name")

// stopNotifier is what a server tells its streams by: stopped returns a channel
// that is closed when the current run ends, nil or closed while there is none.
type stopNotifier interface {
	stopped() <-chan struct{}
}

// runOf returns what ends with the server's current run, and whether there is
// one.
func runOf(server Server) (stopped <-chan struct{}, running bool) {
	notifier, ok := server.(stopNotifier)
	if !ok {
		return nil, server.Running()
	}
	if stopped = notifier.stopped(); stopped == nil {
		return nil, false
	}
	select {
	case <-stopped:
		return nil, false
	default:
		return stopped, true
	}
}

// serveStream upgrades a connection and serves it until it ends; the goroutine
// that the host's server runs the handler on is the one that reads.
func (e *endpoint) serveStream(w http.ResponseWriter, r *http.Request) {
	handshakes := e.handshakes.Add(1)
	shaken := sync.OnceFunc(func() { e.handshakes.Add(-1) })
	defer shaken()
	stopped, running := runOf(e.server)
	switch {
	case r.Method != http.MethodGet:
		w.Header().Set("Allow", http.MethodGet)
		http.Error(w, "", http.StatusMethodNotAllowed)
		return
	case !asksForStream(r.Header):
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", streamProtocol)
		http.Error(w, "", http.StatusUpgradeRequired)
		return
	case !running || handshakes > maxHandshakes:
		http.Error(w, "", http.StatusServiceUnavailable)
		return
	}
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, "", http.StatusNotImplemented)
		return
	}
	defer closeNow(conn)
	if buffered.Reader.Buffered() > 0 {
		return // it spoke before it was asked to
	}
	s := e.newServerStream(conn, stopped)
	if s.shakeHands() == nil {
		shaken()
		labelled(s.to, "http stream reader", s.run)
	}
}

// asksForStream reports whether a request's or a response's header is for an
// upgrade to the stream.
func asksForStream(h http.Header) bool {
	return strings.EqualFold(h.Get("Upgrade"), streamProtocol) &&
		strings.Contains(strings.ToLower(strings.Join(h.Values("Connection"), ",")), "upgrade")
}

// closeNow closes the connection without a farewell, which could block.
func closeNow(conn net.Conn) {
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	_ = conn.Close()
}

// serverStream is the side of a stream that takes requests. One goroutine reads
// them and hands them to the server in order; another writes the answers, which
// come from wherever the server gives them.
type serverStream struct {
	endpoint *endpoint
	server   Server
	receiver appendReceiver // nil: requests are answered one by one
	conn     net.Conn
	from     string
	to       string

	outbox  chan AppendEntriesResponse
	stopped <-chan struct{} // the server's run
	closed  atomic.Bool
	closing chan struct{}
	done    chan struct{} // closed when both goroutines are through
}

func (e *endpoint) newServerStream(conn net.Conn, stopped <-chan struct{}) *serverStream {
	receiver, _ := e.server.(appendReceiver)
	return &serverStream{
		endpoint: e,
		server:   e.server,
		receiver: receiver,
		conn:     conn,
		to:       e.server.Name(),
		outbox:   make(chan AppendEntriesResponse, maxAnswers),
		stopped:  stopped,
		closing:  make(chan struct{}),
		done:     make(chan struct{}),
	}
}

// shakeHands switches protocols, hears who is there and says who is here. The
// stream is registered when it succeeds.
func (s *serverStream) shakeHands() error {
	// The host's deadlines end with HTTP; the stream has its own.
	if err := s.conn.SetDeadline(time.Now().Add(helloTimeout)); err != nil {
		return err
	}
	if _, err := io.WriteString(s.conn, switchingProtocols); err != nil {
		return err
	}
	h, err := readHello(s.conn)
	if s.from = h.from; err == nil {
		err = s.judge(&h)
	}
	if err == nil {
		err = s.endpoint.transporter.streams.add(s)
	}
	status, known := helloStatus(err)
	if !known {
		return err // no stream at all, so no answer
	}
	reply := hello{
		status:    status,
		clusterID: s.server.ClusterID(),
		storeID:   s.server.StoreID(),
		toStoreID: h.storeID,
		from:      s.to,
		to:        h.from,
	}
	if _, writeErr := s.conn.Write(reply.appendTo(nil)); writeErr != nil && err == nil {
		s.end()
		return writeErr
	}
	return err
}

// judge says whether a stream with that hello is meant for this server, as far
// as hellos tell; each request is judged again by the server.
func (s *serverStream) judge(h *hello) error {
	switch clusterID := s.server.ClusterID(); {
	case h.from == "" || h.status != helloOK:
		return ErrHello
	case h.to != s.to:
		return ErrStreamAddressee
	case h.toStoreID != 0 && h.toStoreID != s.server.StoreID():
		return ErrStreamStore
	case h.clusterID != 0 && clusterID != 0 && h.clusterID != clusterID && s.server.CommitIndex() > 0:
		// One that has committed nothing may yet follow a leader of another
		// cluster: that is for the protocol to judge.
		return ErrStreamCluster
	}
	return nil
}

// helloStatus is the status that tells the other side of err, if there is one.
func helloStatus(err error) (status uint16, known bool) {
	for status, meaning := range helloErrors {
		if errors.Is(err, meaning) {
			return uint16(status), true
		}
	}
	return 0, false
}

// run serves the stream to its end.
func (s *serverStream) run() {
	writer := tasks{server: s.to}
	writer.Go("http stream writer", s.writeAnswers)
	// Whatever ended it, the other side sees a closed connection.
	_ = s.readRequests()
	s.close()
	writer.Wait()
	s.end()
}

// end is the last that a stream does once it is registered.
func (s *serverStream) end() {
	s.endpoint.transporter.streams.remove(s)
	close(s.done)
}

// close ends the stream, from any goroutine and any number of times.
func (s *serverStream) close() {
	if s.closed.CompareAndSwap(false, true) {
		close(s.closing)
		closeNow(s.conn)
	}
}

func (s *serverStream) readRequests() error {
	t := s.endpoint.transporter
	frames := newFrameReader(bufio.NewReaderSize(s.conn, frameBufferSize), frameRequest, t.maxMessage(),
		func(size int) {
			_ = s.conn.SetReadDeadline(time.Now().Add(t.idleTimeout(s.server) + transferTime(size)))
		})
	for {
		header, body, err := frames.next()
		if err != nil {
			return err
		}
		req, err := requestOfFrame(header, body, s.from, s.to)
		if err != nil {
			return err
		}
		if (req.ClusterID == 0 || req.To == "") && s.server.ClusterID() != 0 {
			return fmt.Errorf("%w: no identity", ErrMessage)
		}
		if err := s.submit(req); err != nil {
			return err
		}
	}
}

// requestOfFrame is the request of a frame on a stream of that server to this one.
func requestOfFrame(header, body []byte, from, to string) (*AppendEntriesRequest, error) {
	req := &AppendEntriesRequest{LeaderName: from, To: to, records: body}
	if err := req.decodeHeader(header); err != nil {
		return nil, err
	}
	if req.LeaderName != from {
		return nil, fmt.Errorf("%w: %q on a stream of %q", errImpostor, req.LeaderName, from)
	}
	return req, nil
}

// submit hands a request to the server.
func (s *serverStream) submit(req *AppendEntriesRequest) error {
	if s.receiver != nil {
		return s.receiver.submitAppend(req, s)
	}
	if len(req.records) > 0 {
		// A Server of the host's own knows the exported fields only.
		if err := req.fillEntries(); err != nil {
			return err
		}
	}
	resp := s.server.AppendEntries(req)
	if resp == nil {
		return StopError
	}
	s.answerAppend(resp)
	return nil
}

// answerAppend puts an answer into the outbox. A stream whose outbox is full has
// nobody at the other end who reads; it is closed.
func (s *serverStream) answerAppend(resp *AppendEntriesResponse) {
	select {
	case s.outbox <- *resp:
	default:
		s.close()
	}
}

// writeAnswers writes what the outbox holds, all that waits in one write, until
// the stream or the server's run ends.
func (s *serverStream) writeAnswers() {
	defer s.close()
	var out []byte
	for {
		select {
		case resp := <-s.outbox:
			out = appendResponseFrame(out[:0], &resp)
		case <-s.closing:
			return
		case <-s.stopped:
			return
		}
		for waiting := len(s.outbox); waiting > 0; waiting-- {
			resp := <-s.outbox
			out = appendResponseFrame(out, &resp)
		}
		if s.conn.SetWriteDeadline(time.Now().Add(writeTimeout(s.server, len(out)))) != nil {
			return
		}
		if _, err := s.conn.Write(out); err != nil {
			return
		}
	}
}

func appendResponseFrame(dst []byte, resp *AppendEntriesResponse) []byte {
	start := len(dst)
	dst = resp.appendTo(beginFrame(dst, frameResponse))
	finishFrame(dst, start, nil)
	return dst
}

// idleTimeout is how long a stream of the server may stay silent.
func (t *HTTPTransporter) idleTimeout(server Server) time.Duration {
	if t.StreamIdleTimeout > 0 {
		return t.StreamIdleTimeout
	}
	return max(10*server.ElectionTimeout(), time.Second)
}

// writeTimeout is how long n bytes may take to leave.
func writeTimeout(server Server, n int) time.Duration {
	return max(server.ElectionTimeout(), 100*time.Millisecond) + transferTime(n)
}

// streamRegistry knows the streams that a transporter serves.
type streamRegistry struct {
	mu      sync.Mutex
	streams map[streamKey]*serverStream
}

type streamKey struct {
	endpoint *endpoint
	from     string
}

// add registers a stream in the place of an older one from the same server, or
// fails with ErrStreamBusy.
func (r *streamRegistry) add(s *serverStream) error {
	member := s.server.Peers()[s.from] != nil
	key := streamKey{s.endpoint, s.from}
	older, err := r.put(key, s, member)
	if older != nil {
		older.close()
	}
	return err
}

func (r *streamRegistry) put(key streamKey, s *serverStream, member bool) (older *serverStream, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if older = r.streams[key]; older == nil {
		held := 0
		for k := range r.streams {
			if k.endpoint == key.endpoint {
				held++
			}
		}
		// Members find a place even when strangers have taken all of theirs.
		if held >= maxStreams || !member && held >= maxStrangers {
			return nil, ErrStreamBusy
		}
	}
	if r.streams == nil {
		r.streams = map[streamKey]*serverStream{}
	}
	r.streams[key] = s
	return older, nil
}

// remove forgets the stream, unless a newer one has its place.
func (r *streamRegistry) remove(s *serverStream) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if key := (streamKey{s.endpoint, s.from}); r.streams[key] == s {
		delete(r.streams, key)
	}
}

// closeAll ends all streams and waits for them.
func (r *streamRegistry) closeAll() {
	for _, s := range r.all() {
		s.close()
		<-s.done
	}
}

func (r *streamRegistry) all() []*serverStream {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]*serverStream, 0, len(r.streams))
	for _, s := range r.streams {
		all = append(all, s)
	}
	return all
}
