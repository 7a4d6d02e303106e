//go:build !simulation

package raft

// yielding is how a simulation interrupts the server where one goroutine hands
// something to another; see hand_over_simulation.go. Without the build tag there
// is nothing of it.
type yielding struct{}

func (yielding) yield(point string) {}

func (yielding) of(what string) yielding { return yielding{} }
