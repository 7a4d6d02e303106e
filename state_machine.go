package raft

// StateMachine is what an application implements so that its state can be saved
// and restored as a whole; commands change it through their Apply.
type StateMachine interface {
	// Save returns the state. The server calls it between two commands, never
	// during one.
	Save() ([]byte, error)
	// Recovery replaces the state by one that Save returned, on this server or
	// another.
	Recovery(state []byte) error
}
