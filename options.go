package raft

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/goraft/raft/internal/vfs"
)

// Limits that a server starts with.
const (
	// DefaultMaxEntryBytes bounds one encoded command with its header.
	DefaultMaxEntryBytes = 8 << 20
	// DefaultMaxUncommittedBytes bounds what a leader has staged and not yet
	// committed; past it Do fails with ErrOverloaded.
	DefaultMaxUncommittedBytes = 16 << 20
	// DefaultMaxSegmentBytes is the size that log files grow to.
	DefaultMaxSegmentBytes = 64 << 20
	// DefaultSnapshotEntries and DefaultSnapshotBytes are how much of the log is
	// applied between two snapshots that a server takes by itself, whichever is
	// reached first.
	DefaultSnapshotEntries = 10_000
	DefaultSnapshotBytes   = 64 << 20
	// NumberOfLogEntriesAfterSnapshot is how many entries before a snapshot's end
	// stay in the log, at least, for servers that lag behind a little.
	NumberOfLogEntriesAfterSnapshot = 200

	maxBatchBytes      = 1 << 20 // of entries in one AppendEntries, or one larger entry
	maxInFlightBytes   = 4 << 20 // of entries to one peer, or one larger entry
	maxInFlight        = 256     // requests to one peer
	tailBytes          = 16 << 20
	maxNameBytes       = 1 << 10
	maxConnectionBytes = 4 << 10
)

// Option changes how a server is made; see NewServer.
type Option func(*options)

type options struct {
	yielding
	logger              *slog.Logger
	registry            *Registry
	fs                  vfs.FS
	seed                func() uint64 // draws the seeds and ids of a server
	electionTimeout     time.Duration
	heartbeatInterval   time.Duration
	maxEntryBytes       int
	maxUncommittedBytes int
	maxSegmentBytes     int64
	snapshotTrigger     logSize
	preVote             bool
	observing           observing
}

// WithLogger sets where the server tells of transitions and errors; nothing of
// a command's content is ever logged. The default is slog.Default. SetLogLevel
// makes the logger's handler take records below its own level, too.
func WithLogger(logger *slog.Logger) Option {
	return func(o *options) { o.logger = logger }
}

// WithRegistry gives the server command types of its own instead of those that
// RegisterCommand knows.
func WithRegistry(registry *Registry) Option {
	return func(o *options) { o.registry = registry }
}

// WithElectionTimeout sets the election timeout that the server starts with.
func WithElectionTimeout(d time.Duration) Option {
	return func(o *options) { o.electionTimeout = d }
}

// WithHeartbeatInterval sets the heartbeat interval that the server starts with.
func WithHeartbeatInterval(d time.Duration) Option {
	return func(o *options) { o.heartbeatInterval = d }
}

// WithMaxEntryBytes bounds one encoded command; Do refuses a larger one with
// ErrEntryTooLarge. It must be the same on every server, and at most
// DefaultMaxEntryBytes unless the transports' limits are raised as well.
func WithMaxEntryBytes(n int) Option {
	return func(o *options) { o.maxEntryBytes = n }
}

// WithMaxUncommittedBytes bounds what a leader stages without a commit.
func WithMaxUncommittedBytes(n int) Option {
	return func(o *options) { o.maxUncommittedBytes = n }
}

// WithMaxSegmentBytes bounds the size of one log file.
func WithMaxSegmentBytes(n int64) Option {
	return func(o *options) { o.maxSegmentBytes = n }
}

// WithSnapshotTrigger sets how much of the log is applied before a server with a
// state machine takes a snapshot by itself: so many entries, or so many bytes of
// them. A zero turns that one off; with both off there are only the snapshots
// that TakeSnapshot asks for, and the log grows between them.
func WithSnapshotTrigger(entries uint64, bytes int64) Option {
	return func(o *options) { o.snapshotTrigger = logSize{entries, bytes} }
}

// withFileSystem and withSeed give tests a disk and a source of randomness of
// their own.
func withFileSystem(fs vfs.FS) Option { return func(o *options) { o.fs = fs } }

func withSeed(seed func() uint64) Option { return func(o *options) { o.seed = seed } }

// OptionError names the option whose value makes no sense.
type OptionError struct {
	Option string
	Reason string
}

// Error names the option and what is wrong with it.
func (e *OptionError) Error() string { return fmt.Sprintf("raft: option %s: %s", e.Option, e.Reason) }

func (o *options) validate() error {
	switch {
	case o.logger == nil:
		return &OptionError{"Logger", "must not be nil"}
	case o.registry == nil:
		return &OptionError{"Registry", "must not be nil"}
	case o.electionTimeout <= 0:
		return &OptionError{"ElectionTimeout", "must be positive"}
	case o.heartbeatInterval <= 0:
		return &OptionError{"HeartbeatInterval", "must be positive"}
	case o.heartbeatInterval >= o.electionTimeout:
		return &OptionError{"HeartbeatInterval", "must be shorter than the election timeout"}
	case o.maxEntryBytes < 1<<10:
		return &OptionError{"MaxEntryBytes", "must be at least 1 KiB"}
	case o.maxUncommittedBytes < o.maxEntryBytes:
		return &OptionError{"MaxUncommittedBytes", "must hold at least one entry"}
	case o.maxSegmentBytes < 64<<10:
		return &OptionError{"MaxSegmentBytes", "must be at least 64 KiB"}
	case o.snapshotTrigger.bytes < 0:
		return &OptionError{"SnapshotTrigger", "must not be negative"}
	}
	return nil
}
