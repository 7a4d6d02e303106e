package raft

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/goraft/raft/internal/wal"
)

// maxUpgradeBytes bounds what may come before a stream's first frame.
const maxUpgradeBytes = 16 << 10

// copyBelow is the size up to which entries are copied behind their header, which
// costs less than to hand the kernel two pieces.
const copyBelow = 2 << 10

// OpenAppendStream opens a stream to the peer. A peer that does not know streams
// is an error that wraps ErrStreamUnsupported and a *StatusError; one that is
// not running a *StatusError alone; one that is not the peer, or takes no more
// streams, an ErrStream... of its own.
func (t *HTTPTransporter) OpenAppendStream(ctx context.Context, server Server, peer *Peer) (AppendStream, error) {
	ctx, cancel := context.WithTimeout(ctx, t.callTimeout())
	defer cancel()
	s, err := t.openStream(ctx, server, peer)
	if err != nil {
		if ended := ctx.Err(); ended != nil && !errors.Is(err, ended) {
			err = fmt.Errorf("%w: %w", ended, err)
		}
		return nil, fmt.Errorf("raft: append stream to %s: %w", peer.Name, err)
	}
	return s, nil
}

func (t *HTTPTransporter) openStream(ctx context.Context, server Server, peer *Peer) (*clientStream, error) {
	target, err := joinURL(peer.ConnectionString, t.StreamPath())
	if err != nil {
		return nil, err
	}
	conn, err := t.dial(ctx, target)
	if err != nil {
		return nil, err
	}
	// When the context ends first, whatever waits on the connection returns.
	stop := context.AfterFunc(ctx, func() { closeNow(conn) })
	limited := &io.LimitedReader{R: conn, N: maxUpgradeBytes}
	in := bufio.NewReaderSize(limited, frameBufferSize)
	err = upgrade(conn, in, target)
	if err == nil {
		err = greet(conn, in, server, peer)
	}
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		closeNow(conn)
		return nil, err
	}
	limited.N = math.MaxInt64
	s := &clientStream{transporter: t, server: server, peer: peer.Name, conn: conn}
	s.frames = newFrameReader(in, frameResponse, maxResponseFrames, func(size int) {
		_ = conn.SetReadDeadline(time.Now().Add(t.idleTimeout(server) + transferTime(size)))
	})
	return s, nil
}

// dial connects to the host of the URL as the transporter's Transport would.
func (t *HTTPTransporter) dial(ctx context.Context, target *url.URL) (net.Conn, error) {
	if t.Transport == nil || t.Transport.Proxy != nil {
		return nil, fmt.Errorf("%w: by way of a proxy", ErrStreamUnsupported)
	}
	port := target.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[target.Scheme]
	}
	address := net.JoinHostPort(target.Hostname(), port)
	dial := t.Transport.DialContext
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	if target.Scheme == "http" {
		return dial(ctx, "tcp", address)
	}
	if t.Transport.DialTLSContext != nil {
		return t.Transport.DialTLSContext(ctx, "tcp", address)
	}
	conn, err := dial(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	config := t.Transport.TLSClientConfig.Clone()
	if config == nil {
		config = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if config.ServerName == "" {
		config.ServerName = target.Hostname()
	}
	config.NextProtos = []string{"http/1.1"}
	secure := tls.Client(conn, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		closeNow(conn)
		return nil, err
	}
	return secure, nil
}

// upgrade asks for the stream over HTTP.
func upgrade(conn net.Conn, in *bufio.Reader, target *url.URL) error {
	r := &http.Request{Method: http.MethodGet, URL: target, Host: target.Host, Header: http.Header{
		"Connection": {"Upgrade"},
		"Upgrade":    {streamProtocol},
	}}
	if u := target.User; u != nil {
		password, _ := u.Password()
		r.SetBasicAuth(u.Username(), password)
	}
	if err := r.Write(conn); err != nil {
		return err
	}
	answer, err := http.ReadResponse(in, r)
	if err != nil {
		return err
	}
	status := &StatusError{Path: target.Path, Status: answer.StatusCode}
	switch {
	case answer.StatusCode == http.StatusSwitchingProtocols && asksForStream(answer.Header):
		return nil
	case answer.StatusCode == http.StatusServiceUnavailable:
		return status // for now
	}
	return fmt.Errorf("%w: %w", ErrStreamUnsupported, status)
}

// greet says who is here and hears who is there.
func greet(conn net.Conn, in *bufio.Reader, server Server, peer *Peer) error {
	h := hello{
		clusterID: server.ClusterID(),
		storeID:   server.StoreID(),
		toStoreID: peer.storeID,
		from:      server.Name(),
		to:        peer.Name,
	}
	if len(h.from) > maxNameBytes || len(h.to) > maxNameBytes {
		return fmt.Errorf("%w: a name is too long", ErrHello)
	}
	if err := conn.SetDeadline(time.Now().Add(helloTimeout)); err != nil {
		return err
	}
	if _, err := conn.Write(h.appendTo(nil)); err != nil {
		return err
	}
	reply, err := readHello(in)
	switch {
	case err != nil:
		return err
	case reply.status == helloOK && reply.from != peer.Name:
		return fmt.Errorf("%w: %q", ErrStreamAddressee, reply.from)
	case reply.status == helloOK && peer.storeID != 0 && reply.storeID != peer.storeID:
		return fmt.Errorf("%w: %x", ErrStreamStore, reply.storeID)
	case reply.status == helloOK:
		return conn.SetDeadline(time.Time{})
	case int(reply.status) < len(helloErrors):
		return fmt.Errorf("%w: %q of cluster %x, store %x", helloErrors[reply.status], reply.from, reply.clusterID, reply.storeID)
	}
	return fmt.Errorf("%w: status %d", ErrHello, reply.status)
}

// clientStream is the side of a stream that sends requests.
type clientStream struct {
	transporter *HTTPTransporter
	server      Server
	peer        string
	conn        net.Conn
	closed      atomic.Bool

	// Receive's.
	frames frameReader

	// Send's.
	out     []byte      // a frame but for its body
	pieces  [2][]byte   // what buffers begins as
	buffers net.Buffers // what is left to write
}

// Send writes the request before it returns. One that does not leave within an
// election timeout, and the time for its size, ends the stream.
func (s *clientStream) Send(req *AppendEntriesRequest) error {
	err := s.send(req)
	if err != nil {
		_ = s.Close()
		return fmt.Errorf("raft: append stream to %s: %w", s.peer, err)
	}
	return nil
}

func (s *clientStream) send(req *AppendEntriesRequest) error {
	body := req.records
	if len(body) == 0 && len(req.Entries) > 0 {
		var err error
		if body, err = req.recordsFromEntries(wal.Seed(req.ClusterID)); err != nil {
			return err
		}
	}
	s.out = req.appendHeader(beginFrame(s.out[:0], frameRequest))
	size := len(s.out) + len(body)
	if size > s.transporter.maxMessage() {
		return fmt.Errorf("%w: %d bytes", ErrMessageTooLarge, size)
	}
	finishFrame(s.out, 0, body)
	if len(body) <= copyBelow {
		s.out, body = append(s.out, body...), nil
	}
	if err := s.conn.SetWriteDeadline(time.Now().Add(writeTimeout(s.server, size))); err != nil {
		return err
	}
	if len(body) == 0 {
		_, err := s.conn.Write(s.out)
		return err
	}
	s.pieces = [2][]byte{s.out, body}
	s.buffers = s.pieces[:]
	_, err := s.buffers.WriteTo(s.conn)
	s.pieces = [2][]byte{}
	return err
}

// Receive waits for the next answer, as long as a stream may stay silent.
func (s *clientStream) Receive() (*AppendEntriesResponse, error) {
	resp, err := s.receive()
	if err != nil {
		_ = s.Close()
		return nil, fmt.Errorf("raft: append stream to %s: %w", s.peer, err)
	}
	return resp, nil
}

func (s *clientStream) receive() (*AppendEntriesResponse, error) {
	header, body, err := s.frames.next()
	if err != nil {
		return nil, err
	}
	return responseOfFrame(header, body, s.peer)
}

// responseOfFrame is the answer of a frame on a stream to that peer.
func responseOfFrame(header, body []byte, peer string) (*AppendEntriesResponse, error) {
	resp := &AppendEntriesResponse{From: peer}
	if err := resp.parse(header); err != nil {
		return nil, err
	}
	if len(body) > 0 || resp.From != peer {
		return nil, fmt.Errorf("%w: it is of %q", ErrNoAnswer, resp.From)
	}
	return resp, nil
}

// Close ends the stream at once, whatever waits on it.
func (s *clientStream) Close() error {
	if s.closed.CompareAndSwap(false, true) {
		closeNow(s.conn)
	}
	return nil
}
