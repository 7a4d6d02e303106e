package raft

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"time"

	"github.com/goraft/raft/internal/snapshot"
	"github.com/goraft/raft/internal/vfs"
)

// Server is one member of a cluster. All methods may be called from any
// goroutine, from inside Apply and from event listeners without deadlock; Do
// from inside Apply fails with ErrReentrant.
//
// It keeps goraft's methods and grows by the interfaces embedded here, so that a
// program's fake that embeds raft.Server goes on compiling.
type Server interface {
	Lifecycle
	Proposer
	Reader
	Membership
	Leadership
	Replication
	Maintenance
	Introspection
	Settings
}

// Lifecycle starts and stops a server. A server may be started again after Stop:
// it then reads everything back from its directory.
type Lifecycle interface {
	// Init opens the directory, restores the application's state up to the
	// durable commit index by calling Apply, and leaves the server Initialized.
	// Start does it if it was not done.
	Init() error
	// Start begins to take part in the cluster. The errors are those of the
	// directory (ErrCorrupt, ErrForeignLog, ErrFormat, ErrLocked and those of the
	// system) and of calls in the wrong order.
	Start() error
	// Stop ends every goroutine and closes the directory. It may be called any
	// number of times, from anywhere, and returns within two election timeouts;
	// an Apply that still blocks then keeps its goroutine, and Start refuses
	// until it has returned.
	Stop()
	// Running reports whether the server takes part in a cluster.
	Running() bool
	// Err says why the server stopped by itself or halted, or nil.
	Err() error
}

// Proposer takes commands to the cluster.
type Proposer interface {
	// Do replicates the command and returns what its Apply returned on this
	// server. It fails at once with NotLeaderError on a server that does not
	// lead. See the table in the package documentation for what an error says
	// about the command's fate. Do has no deadline of its own while this server
	// leads.
	Do(command Command) (interface{}, error)
	// DoContext is Do with a deadline or cancellation; its error is a
	// *CommandError or what Apply returned.
	DoContext(ctx context.Context, command Command) (interface{}, error)
}

// Membership tells and changes who belongs to the cluster.
type Membership interface {
	// AddPeer names a member, or changes the address of one; an empty connection
	// string is legal. On a server that belongs to no cluster yet it adds
	// to the initial configuration, which must be the same on every server that
	// starts with one. On the leader it joins the member and waits until that is
	// committed. On a follower it returns nil if the configuration already says
	// so, else NotLeaderError. ErrTooManyMembers refuses more than 128 of them.
	//
	// Inside Apply it never waits: it queues, on every server, what the leader of
	// the day then carries out, even if leaders change and servers restart. An
	// error is the same on every server.
	AddPeer(name string, connectionString string) error
	// RemovePeer removes a member, in all cases like AddPeer. For a name that is
	// no member the error wraps ErrPeerNotFound; where the leader removes, outside
	// of Apply, ErrNoQuorum says that the voters that would remain do not answer.
	RemovePeer(name string) error
	// Peers returns copies of the other members, by name.
	Peers() map[string]*Peer
	// MemberCount counts all members, this server and learners included.
	MemberCount() int
	// QuorumSize is the number of voters that a decision needs.
	QuorumSize() int
}

// Replication takes the requests of other servers; transports call it. Each
// returns nil when the server is not running. The answer is given when what it
// promises is durable.
type Replication interface {
	AppendEntries(req *AppendEntriesRequest) *AppendEntriesResponse
	RequestVote(req *RequestVoteRequest) *RequestVoteResponse
	// RequestSnapshot takes a leader's offer of a snapshot.
	RequestSnapshot(req *SnapshotRequest) *SnapshotResponse
	// SnapshotRecoveryRequest takes a piece of a leader's snapshot, or a whole one.
	SnapshotRecoveryRequest(req *SnapshotRecoveryRequest) *SnapshotRecoveryResponse
	// TimeoutNow takes the leader's word that this server should stand for election.
	TimeoutNow(req *TimeoutNowRequest) *TimeoutNowResponse
	// RequestReadIndex takes another member's question what a read of its own must
	// have seen. The answer is given when a majority has confirmed that this server
	// leads, or when it does not.
	RequestReadIndex(req *ReadIndexRequest) *ReadIndexResponse
}

// Maintenance keeps the log short.
type Maintenance interface {
	// TakeSnapshot saves the state as of the last applied entry, and returns when
	// the snapshot is durable and verified; what the log holds before the second
	// newest one is dropped then. It returns nil if nothing was applied since the
	// last one, an error with goraft's text if there is no state machine or another
	// snapshot is being taken, ErrReentrant inside Apply, StopError on a server
	// that is not started, and what Save or the disk failed with.
	TakeSnapshot() error
	// LoadSnapshot, before Init or Start, gives the newest snapshot that is whole
	// to the state machine; Init does so by itself, and does not do it again. It
	// returns nil if there is none, and an error for which os.IsNotExist holds if
	// the directory of snapshots has never been made. On a server that is
	// initialized or started it does nothing; after a Stop that left something
	// behind it refuses, as Start does.
	LoadSnapshot() error
}

// Introspection reads what a server is and knows. The calls never wait for the
// protocol: each reads the values of the last finished turn of the event loop.
type Introspection interface {
	Name() string
	Context() interface{}
	StateMachine() StateMachine
	// Leader is the name of the leader that this server follows, or "".
	Leader() string
	// State is one of Stopped, Initialized, Follower, Candidate, Leader and
	// Snapshotting.
	State() string
	Path() string
	// LogPath is the directory of the log.
	LogPath() string
	// SnapshotPath is the file of the snapshot that ends with this entry, whether
	// there is one or not.
	SnapshotPath(lastIndex uint64, lastTerm uint64) string
	Term() uint64
	CommitIndex() uint64
	// VotedFor is who got this server's vote in the current term, or "".
	VotedFor() string
	// IsLogEmpty reports whether the server has neither entries nor a snapshot.
	IsLogEmpty() bool
	// LogEntries returns the entries that are held in memory, oldest first.
	LogEntries() []*LogEntry
	// LastCommandName is the name of the last entry's command, or "".
	LastCommandName() string
	// GetState is a line for people: name, state, term and commit index.
	GetState() string
	// Status is everything at once, consistent in itself.
	Status() Status
	// Explain is Status in words: what keeps this server, or the cluster as far as it
	// knows, from working as it should, and what to do. See Status.Explain.
	Explain() []Finding
	// ClusterID is the identity of the cluster that this server's log belongs
	// to, 0 while it belongs to none; StoreID that of its directory, 0 before
	// Init.
	ClusterID() uint64
	StoreID() uint64
	AddEventListener(eventType string, listener EventListener)
}

// Settings can be changed while the server runs, in any order. What waits by an old
// heartbeat interval does so once more.
type Settings interface {
	// ElectionTimeout is the least time without a leader before this server
	// stands for election; each wait is drawn from one to two times of it.
	ElectionTimeout() time.Duration
	// SetElectionTimeout ignores a duration of zero or less.
	SetElectionTimeout(duration time.Duration)
	// HeartbeatInterval is the longest time between a leader's messages. In use
	// it is at most a third of the election timeout.
	HeartbeatInterval() time.Duration
	// SetHeartbeatInterval ignores a duration of zero or less.
	SetHeartbeatInterval(duration time.Duration)
	Transporter() Transporter
	SetTransporter(t Transporter)
	// FlushCommitIndex makes the commit index that a restart begins with exact.
	FlushCommitIndex()
}

// server is a handle: what it holds is fixed, or safe to share. The protocol's
// state is the event loop's alone, one for each run.
type server struct {
	eventDispatcher
	name             string
	path             string
	connectionString string
	stateMachine     StateMachine
	context          interface{}
	options          options
	settings         settings
	lifecycle        *lifecycle
	proposals        proposalPool
	reads            readPool
	leaders          leaders
	restored         restoredSnapshot
}

var _ Server = (*server)(nil)

// NewServer makes a server that is Stopped. name must be unique in the cluster
// and must not change; path is the server's own directory, which is created if
// it is missing; connectionString is how transports of other servers reach this
// one. stateMachine may be nil; context is handed to commands by way of Context.
//
// The error names a parameter or an option that makes no sense. A nil
// transporter panics, as it did in goraft.
func NewServer(name string, path string, transporter Transporter, stateMachine StateMachine, ctx interface{}, connectionString string, opts ...Option) (Server, error) {
	if name == "" {
		return nil, errors.New("raft.Server: Name cannot be blank")
	}
	if len(name) > maxNameBytes {
		return nil, &OptionError{"name", fmt.Sprintf("longer than %d bytes", maxNameBytes)}
	}
	if transporter == nil {
		panic("raft: Transporter required")
	}
	s := &server{
		name: name, path: path, connectionString: connectionString,
		stateMachine: stateMachine, context: ctx,
		options: options{
			logger: slog.Default(), registry: defaultRegistry, fs: vfs.OS(), seed: rand.Uint64,
			electionTimeout: DefaultElectionTimeout, heartbeatInterval: DefaultHeartbeatInterval,
			maxEntryBytes: DefaultMaxEntryBytes, maxUncommittedBytes: DefaultMaxUncommittedBytes,
			maxSegmentBytes: DefaultMaxSegmentBytes, preVote: true,
			snapshotTrigger: logSize{DefaultSnapshotEntries, DefaultSnapshotBytes},
		},
	}
	for _, opt := range opts {
		opt(&s.options)
	}
	if err := s.options.validate(); err != nil {
		return nil, err
	}
	s.options.logger = widen(s.options.logger)
	s.source, s.yielding = s, s.options.yielding
	s.settings.election.Store(int64(s.options.electionTimeout))
	s.settings.beat.Store(int64(s.options.heartbeatInterval))
	s.settings.transport.Store(&transporter)
	s.lifecycle = newLifecycle()
	return s, nil
}

// now is what the server is: of the run that it is in, or of the last one.
func (s *server) now() *published {
	if r := s.lifecycle.run.Load(); r != nil {
		return r.published.Load()
	}
	if loaded := s.restored.Load(); loaded != nil {
		return loaded.published(s.name)
	}
	return &published{
		status:        Status{Name: s.name, State: Stopped},
		configuration: newConfiguration(0, nil),
	}
}

func (s *server) Name() string               { return s.name }
func (s *server) Context() interface{}       { return s.context }
func (s *server) StateMachine() StateMachine { return s.stateMachine }
func (s *server) Leader() string             { return s.now().status.Leader }
func (s *server) State() string              { return s.now().status.State }
func (s *server) Path() string               { return s.path }
func (s *server) LogPath() string            { return filepath.Join(s.path, "log") }
func (s *server) Term() uint64               { return s.now().status.Term }
func (s *server) CommitIndex() uint64        { return s.now().status.CommitIndex }
func (s *server) VotedFor() string           { return s.now().status.VotedFor }
func (s *server) IsLogEmpty() bool           { return s.now().status.LastIndex == 0 }
func (s *server) LogEntries() []*LogEntry    { return s.now().entries() }
func (s *server) Peers() map[string]*Peer    { return s.now().peers() }
func (s *server) QuorumSize() int            { return s.now().configuration.quorum() }
func (s *server) ClusterID() uint64          { return s.now().status.ClusterID }
func (s *server) StoreID() uint64            { return s.now().status.StoreID }

// SnapshotPath has the term first in the file's name, as goraft had it.
func (s *server) SnapshotPath(lastIndex uint64, lastTerm uint64) string {
	return filepath.Join(s.snapshotDir(), snapshot.Name(snapshot.Label{Index: lastIndex, Term: lastTerm}))
}

func (s *server) snapshotDir() string { return filepath.Join(s.path, "snapshot") }

// MemberCount counts this server even before it belongs to a cluster.
func (s *server) MemberCount() int { return max(1, len(s.now().configuration.members)) }

func (s *server) LastCommandName() string {
	entries := s.LogEntries()
	if len(entries) == 0 {
		return ""
	}
	return entries[len(entries)-1].CommandName()
}

// GetState keeps goraft's text, trailing space and spelling included, because
// programs match it.
func (s *server) GetState() string {
	status := s.now().status
	return fmt.Sprintf("Name: %s, State: %s, Term: %v, CommitedIndex: %v ", s.name, status.State, status.Term, status.CommitIndex)
}

func (s *server) Status() Status {
	status := s.now().status
	if r := s.lifecycle.run.Load(); r != nil {
		status.LastApplied = r.applier.applied.Load()
		status.WaitingReads = int(r.reading.Load())
		if text := r.snapshotError.Load(); text != nil {
			status.SnapshotError = *text
		}
	}
	if err := s.Err(); err != nil {
		status.Error = err.Error()
	}
	return status
}

func (s *server) Explain() []Finding { return s.Status().Explain() }

func (s *server) ElectionTimeout() time.Duration { return s.settings.electionTimeout() }

func (s *server) SetElectionTimeout(d time.Duration) {
	if d <= 0 {
		s.options.logger.Warn("raft: election timeout ignored", "duration", d)
		return
	}
	s.settings.election.Store(int64(d))
	s.options.logger.Debug("raft: election timeout set", "server", s.name, "duration", d)
	s.control(func(l *eventLoop) { l.rearm = true })
}

func (s *server) HeartbeatInterval() time.Duration { return time.Duration(s.settings.beat.Load()) }

func (s *server) SetHeartbeatInterval(d time.Duration) {
	if d <= 0 {
		s.options.logger.Warn("raft: heartbeat interval ignored", "duration", d)
		return
	}
	s.settings.beat.Store(int64(d))
	s.options.logger.Debug("raft: heartbeat interval set", "server", s.name, "duration", d)
	s.control(func(l *eventLoop) { l.rearm = true })
}

func (s *server) Transporter() Transporter { return *s.settings.transport.Load() }

func (s *server) SetTransporter(t Transporter) {
	if t == nil {
		panic("raft: Transporter required")
	}
	s.settings.transport.Store(&t)
	s.control(func(l *eventLoop) { l.redial() })
}

// control gives the event loop something to do, if there is one.
func (s *server) control(c control) bool {
	r := s.lifecycle.run.Load()
	return r != nil && r.inbox.put(c)
}
