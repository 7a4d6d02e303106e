package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/goraft/raft"
)

const (
	// commandTimeouts is how many election timeouts a command may take, and
	// stopTimeouts how many the end of a server.
	commandTimeouts = 10
	stopTimeouts    = 2

	// headerTimeout, bodyTimeout and answerTimeout bound what a client can keep
	// a connection busy with; idleTimeout is how long one waits for a request.
	headerTimeout = 10 * time.Second
	bodyTimeout   = time.Minute
	answerTimeout = 2 * time.Minute
	idleTimeout   = 2 * time.Minute

	// heldEntries is how many of the largest values may be in memory on their
	// way into the log.
	heldEntries = 16
)

// config is what a node is made of.
type config struct {
	dir  string
	name string // "": the one in dir, drawn when it is first used
	host string
	port int // 0: any

	electionTimeout   time.Duration
	heartbeatInterval time.Duration
	maxEntryBytes     int
	logger            *slog.Logger
}

// node is one server of the service: its state, its part in the cluster and its
// listener.
type node struct {
	config      config
	name        string
	address     string // how clients and other servers reach it
	logger      *slog.Logger
	server      raft.Server
	service     *service
	transporter *raft.HTTPTransporter
	listener    net.Listener
	http        *http.Server
	failed      chan error // why it stopped by itself
}

// openNode reads the directory back and opens the port. The node takes part in
// nothing and answers nobody until start.
func openNode(c config) (*node, error) {
	if err := os.MkdirAll(c.dir, dirMode); err != nil {
		return nil, err
	}
	n := &node{config: c, name: c.name, failed: make(chan error, 1)}
	if n.name == "" {
		name, err := nameIn(c.dir)
		if err != nil {
			return nil, err
		}
		n.name = name
	}
	n.logger = c.logger.With("server", n.name)
	listener, err := net.Listen("tcp", net.JoinHostPort(c.host, strconv.Itoa(c.port)))
	if err != nil {
		return nil, err
	}
	n.listener = listener
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err == nil {
		n.address = "http://" + net.JoinHostPort(c.host, port)
		err = n.makeServer()
	}
	if err == nil {
		err = n.server.Init()
	}
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	return n, nil
}

func (n *node) makeServer() error {
	c := n.config
	registry, err := newRegistry()
	if err != nil {
		return err
	}
	state := newStore()
	n.transporter = raft.NewHTTPTransporter(raftPrefix, c.electionTimeout)
	n.server, err = raft.NewServer(n.name, c.dir, n.transporter, state, nil, n.address,
		raft.WithRegistry(registry), raft.WithLogger(c.logger),
		raft.WithElectionTimeout(c.electionTimeout), raft.WithHeartbeatInterval(c.heartbeatInterval),
		raft.WithMaxEntryBytes(c.maxEntryBytes))
	if err != nil {
		return err
	}
	n.server.AddEventListener(raft.StateChangeEventType, func(e raft.Event) {
		if e.Value() != raft.Stopped {
			return
		}
		select {
		case n.failed <- n.server.Err():
		default:
		}
	})
	n.service = &service{
		server: n.server, store: state, logger: n.logger, peers: n.transporter.Handler(n.server),
		limits: limits{
			entryBytes: c.maxEntryBytes,
			heldBytes:  heldEntries * int64(c.maxEntryBytes),
			command:    commandTimeouts * c.electionTimeout,
			retryAfter: c.electionTimeout,
		},
	}
	n.http = &http.Server{
		Handler:           n.service,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       bodyTimeout,
		WriteTimeout:      answerTimeout,
		IdleTimeout:       idleTimeout,
		ErrorLog:          slog.NewLogLogger(n.logger.Handler(), slog.LevelDebug),
	}
	return nil
}

// start takes part in the cluster and answers requests.
func (n *node) start() error {
	if err := n.server.Start(); err != nil {
		return err
	}
	go func() {
		if err := n.http.Serve(n.listener); !errors.Is(err, http.ErrServerClosed) {
			select {
			case n.failed <- err:
			default:
			}
		}
	}()
	return nil
}

// unused reports whether the node has never belonged to a cluster.
func (n *node) unused() bool { return n.server.IsLogEmpty() && n.server.ClusterID() == 0 }

// enter makes a started node a member: of the cluster that its directory says,
// else of the one that the server at the address belongs to, else, without an
// address, of a new one of its own.
func (n *node) enter(ctx context.Context, address string) error {
	switch {
	case !n.server.IsLogEmpty():
		n.checkAddress()
		return nil
	case address != "":
		return n.join(ctx, []string{address}, n.server.IsLogEmpty)
	case n.unused():
		return n.begin(ctx)
	}
	return nil // it goes on where a crash cut the beginning off
}

// begin begins the cluster that this server is told of, or a cluster of one.
func (n *node) begin(ctx context.Context) error {
	_, err := n.server.DoContext(ctx, &raft.DefaultJoinCommand{Name: n.name, ConnectionString: n.address})
	return err
}

// checkAddress warns of a server that the others look for elsewhere.
func (n *node) checkAddress() {
	status := n.server.Status()
	if known := addressOf(status, n.name); known != "" && known != n.address {
		n.logger.Warn("raftd: the cluster knows this server by another address; post a join with the new one", "known", known, "new", n.address)
	}
}

// stop ends the node: requests under way get half an election timeout, the rest
// an error.
func (n *node) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), n.config.electionTimeout/2)
	defer cancel()
	if err := n.http.Shutdown(ctx); err != nil {
		n.logger.Info("raftd: requests were cut off", "error", err)
	}
	n.server.Stop()
	_ = n.transporter.Close() // what it could not close is closed now
	_ = n.http.Close()
	_ = n.listener.Close() // for a node that was never started
}

// stopAll ends the nodes at the same time. It gives up after two election
// timeouts: the directories are as safe then as after a crash.
func stopAll(nodes []*node) error {
	if len(nodes) == 0 {
		return nil
	}
	limit := time.NewTimer(stopTimeouts * nodes[0].config.electionTimeout)
	defer limit.Stop()
	stopped := make(chan *node, len(nodes))
	for _, n := range nodes {
		go func() {
			n.stop()
			stopped <- n
		}()
	}
	for range nodes {
		select {
		case <-stopped:
		case <-limit.C:
			return fmt.Errorf("raftd: not everything ended within %v", stopTimeouts*nodes[0].config.electionTimeout)
		}
	}
	return nil
}
