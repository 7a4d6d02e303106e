package main

import (
	"errors"
	"net"
	"net/http"
	"os"
	"sync"

	"github.com/goraft/raft"
)

// node is one server with its listener.
type node struct {
	url      string
	server   raft.Server
	listener *listener
	http     *http.Server
}

func startNode(name, dir string, holds bool, state raft.StateMachine, options ...raft.Option) (*node, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	n := &node{url: "http://" + tcp.Addr().String(), listener: newListener(tcp, holds)}
	transporter := raft.NewHTTPTransporter("/raft", electionTimeout)
	if n.server, err = raft.NewServer(name, dir, transporter, state, new(counter), n.url, options...); err != nil {
		return nil, errors.Join(err, tcp.Close())
	}
	mux := http.NewServeMux()
	transporter.Install(n.server, mux)
	n.http = &http.Server{Handler: mux}
	go func() { _ = n.http.Serve(n.listener) }() // ends with close, and says so
	if err := n.server.Start(); err != nil {
		return nil, errors.Join(err, n.http.Close())
	}
	return n, nil
}

func (n *node) close() error {
	n.listener.resume()
	n.server.Stop()
	return n.http.Close()
}

// listener accepts connections whose data can be held back, as if the server
// behind them did not get to run.
type listener struct {
	net.Listener
	holds bool          // whether it ever will; if not, connections are as they come
	gate  chan struct{} // closed for as long as nothing is held back
	mu    sync.Mutex
}

func newListener(l net.Listener, holds bool) *listener {
	open := make(chan struct{})
	close(open)
	return &listener{Listener: l, holds: holds, gate: open}
}

// stall holds back all data, until resume.
func (l *listener) stall() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gate = make(chan struct{})
}

func (l *listener) resume() {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.gate:
	default:
		close(l.gate)
	}
}

// opened is closed while nothing is held back.
func (l *listener) opened() chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.gate
}

// Accept is net.Listener's.
func (l *listener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil || !l.holds {
		return conn, err
	}
	return &heldConn{Conn: conn, listener: l, closed: make(chan struct{})}, nil
}

// heldConn is a connection of a listener that may hold data back.
type heldConn struct {
	net.Conn
	listener *listener
	closed   chan struct{}
	once     sync.Once
}

// Read is net.Conn's, but for a deadline that passes while data is held back.
func (c *heldConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	select {
	case <-c.listener.opened():
	case <-c.closed:
		return 0, net.ErrClosed
	}
	return n, err
}

// Close is net.Conn's.
func (c *heldConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}
