package raft

import (
	"context"
	"errors"
	"fmt"

	"github.com/goraft/raft/internal/wal"
)

// Errors that goraft declared; programs compare them with ==, so Do returns
// them bare. DoContext wraps them in a *CommandError.
var (
	// NotLeaderError says that this server is not the leader. The command was
	// never staged and will not be applied.
	NotLeaderError = errors.New("raft.Server: Not current leader")
	// DuplicatePeerError is declared for programs that name it; it is never
	// returned.
	DuplicatePeerError = errors.New("raft.Server: Duplicate peer")
	// CommandTimeoutError says that the caller's deadline passed or the caller
	// cancelled. A command that was staged by then may still be applied.
	CommandTimeoutError = errors.New("raft: Command timeout")
	// StopError says that the server is not started or has been stopped. A
	// command that was staged before Stop may still be applied.
	StopError = errors.New("raft: Has been stopped")
)

// What is true of a command whose Do failed; errors.Is finds exactly one of
// them in a *CommandError.
var (
	// ErrNotApplied says that the command was not applied and never will be.
	ErrNotApplied = errors.New("raft: the command was not applied")
	// ErrOutcomeUnknown says that the command may have been applied, or may yet
	// be.
	ErrOutcomeUnknown = errors.New("raft: the command may have been applied")
)

// Why a command was not taken, or what became of it.
var (
	// ErrLost says that another leader's entry was committed in the command's
	// place: it is not applied.
	ErrLost = errors.New("raft: another entry was committed in the command's place")
	// ErrLeadershipLost says that this server lost its office, or could not
	// apply what it had staged, before it knew the outcome: unknown.
	ErrLeadershipLost = errors.New("raft: leadership was lost before the command was committed")
	// ErrOverloaded says that too many bytes wait to be committed; nothing was
	// staged, and the caller may try again later.
	ErrOverloaded = errors.New("raft: too many uncommitted bytes")
	// ErrNoSpace says that this server's disk is full: nothing was staged. It serves
	// again by itself when there is space.
	ErrNoSpace = wal.ErrNoSpace
	// ErrEntryTooLarge says that the encoded command exceeds the entry limit.
	ErrEntryTooLarge = errors.New("raft: entry too large")
	// ErrUnregisteredCommand says that the command's type is not registered, so
	// that no server could apply it.
	ErrUnregisteredCommand = errors.New("raft: command is not registered")
	// ErrReentrant says that Do, or another call that would wait for Apply, was
	// made from inside it.
	ErrReentrant = errors.New("raft: called from inside Apply")
	// ErrNoQuorum says that a membership change was refused because the voters
	// that would remain do not answer.
	ErrNoQuorum = errors.New("raft: the remaining voters have no live quorum")
	// ErrTooManyMembers says that a cluster has as many members as it may have, 128,
	// or that 64 changes that Apply asked for wait for the leader.
	ErrTooManyMembers = errors.New("raft: too many members")
	// ErrPeerNotFound says that a server that is to be removed is no member. The
	// error that Do and RemovePeer return wraps it and names the server.
	ErrPeerNotFound = errors.New("raft: Peer not found")
)

// Why a server stopped by itself, or is of no more use; see Server.Err.
var (
	// ErrHalted says that a committed entry cannot be applied here: its command
	// is not registered, does not decode, or its Apply panicked. The server
	// still votes and stores; it applies nothing more until it is restarted.
	ErrHalted = errors.New("raft: apply halted")
	// ErrRemoved says that the cluster has removed this server. It goes on running
	// and answering, as a follower that never stands for election, until it is
	// stopped or joined again.
	ErrRemoved = errors.New("raft: this server was removed from the cluster")
	// ErrStillRunning says that Start was called before everything of the last
	// run has ended, because the application still blocks it.
	ErrStillRunning = errors.New("raft: the last run has not ended")
	// ErrPartialWipe says that a part of the server's directory is missing: there
	// are snapshots without the log that belongs to them, or a log whose beginning
	// no snapshot covers. Init and LoadSnapshot fail with it and touch nothing. To
	// wipe a server, delete log, conf, snapshot and state together.
	ErrPartialWipe = errors.New("raft: the directory is incomplete")
	// ErrInvariant says that the server found its own state contradictory and
	// stopped, keeping its files as evidence.
	ErrInvariant = errors.New("raft: broken invariant")
)

// Why a directory cannot be opened; Init and Start wrap them. Nothing in it is
// changed then.
var (
	// ErrForeignLog says that the log is a regular file, as goraft's was, and not
	// a directory.
	ErrForeignLog = wal.ErrForeignLog
	// ErrCorrupt says that what was durable does not verify or is missing.
	ErrCorrupt = wal.ErrCorrupt
	// ErrFormat says that a file is of an unknown version or no file of this
	// package.
	ErrFormat = wal.ErrFormat
	// ErrLocked says that another server, of this process or another, uses the
	// directory.
	ErrLocked = wal.ErrLocked
)

// CommandError is how DoContext says that a command failed: errors.Is finds the
// cause (NotLeaderError, StopError, ...) and one of ErrNotApplied and
// ErrOutcomeUnknown.
type CommandError struct {
	Cause   error // what Do returns for the same failure
	Outcome error // ErrNotApplied or ErrOutcomeUnknown
	// Leader is the leader that this server knew of, or "", and
	// ConnectionString its address.
	Leader           string
	ConnectionString string
	// detail is what ended it: the caller's context's error, what halted Apply, or
	// which command is not registered.
	detail error
}

// Error tells cause, outcome and, where another server leads, its name.
func (e *CommandError) Error() string {
	if e.detail != nil {
		return fmt.Sprintf("%v: %v; %v", e.Cause, e.detail, e.Outcome)
	}
	if e.Leader != "" && errors.Is(e.Cause, NotLeaderError) {
		return fmt.Sprintf("%v; %v; the leader is %s (%s)", e.Cause, e.Outcome, e.Leader, e.ConnectionString)
	}
	return fmt.Sprintf("%v; %v", e.Cause, e.Outcome)
}

// Unwrap lets errors.Is and errors.As see cause and outcome, the context's error
// if that ended the call, the *HaltError if the leader could not apply, and the
// *UnregisteredCommandError that names the command.
func (e *CommandError) Unwrap() []error {
	if e.detail != nil {
		return []error{e.Cause, e.Outcome, e.detail}
	}
	return []error{e.Cause, e.Outcome}
}

// HaltError tells why and where apply halted. errors.Is(err, ErrHalted) holds.
type HaltError struct {
	Index   uint64 // the entry that cannot be applied
	Command string // its command's name
	Cause   error  // why
	Stack   string // of the panic, if Apply panicked
}

// Error names the entry and the cause.
func (e *HaltError) Error() string {
	return fmt.Sprintf("raft: apply halted at index %d (%s): %v", e.Index, e.Command, e.Cause)
}

// Unwrap lets errors.Is find ErrHalted and the cause.
func (e *HaltError) Unwrap() []error { return []error{ErrHalted, e.Cause} }

func peerNotFound(name string) error { return fmt.Errorf("%w: %s", ErrPeerNotFound, name) }

// failure is a failed proposal on its way to its caller.
func failure(cause, outcome error) *CommandError {
	return &CommandError{Cause: cause, Outcome: outcome}
}

// contextFailure is what a caller gets whose context ended.
func contextFailure(ctx context.Context, outcome error) *CommandError {
	return &CommandError{Cause: CommandTimeoutError, Outcome: outcome, detail: ctx.Err()}
}
