//go:build !simulation

package raft

// observing and observed are how a simulation looks into the event loop; see
// observe_simulation.go. Without the build tag there is nothing of it.
type (
	observing struct{}
	observed  struct{}
)

func (*observed) show(*eventLoop, observing) {}
