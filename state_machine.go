package raft

import "io"

// StateMachine is what an application implements so that its state can be saved
// and restored as a whole; commands change it through their Apply.
type StateMachine interface {
	// Save returns the state. The server calls it between two commands, never
	// during one, and may keep the bytes: they must not change any more.
	Save() ([]byte, error)
	// Recovery replaces the state by one that Save returned, on this server or
	// another. An error, or a panic, halts the server as one that cannot apply.
	Recovery(state []byte) error
}

// StateStreamer is an optional ability of a StateMachine whose state is too large
// to lie in one piece of memory beside itself, or takes too long to write between
// two commands. Save and Recovery are then not called.
type StateStreamer interface {
	// FixState returns the state as it is now, for writing. The server calls it
	// between two commands; later commands are applied while the view is written,
	// and must not change what it writes.
	FixState() (StateView, error)
	// RecoverFrom replaces the state by one that a StateView wrote, on this server
	// or another. It should read to the end. An error of the reader says that the
	// state is not whole; that or an error of its own halts the server.
	RecoverFrom(state io.Reader) error
}

// StateView is a state that was fixed. It is written at most once and released
// once, on a goroutine of the server's.
type StateView interface {
	io.WriterTo
	// Release is called when the view is no longer needed, written or not.
	Release()
}
