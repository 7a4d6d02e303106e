//go:build simulation

package raft

import "github.com/goraft/raft/internal/vfs"

// yielding is where the server's goroutines hand something to each other. The
// schedulers of a bubble and of wasm run a goroutine to its next wait, so that much
// of what could happen in between never does unless a simulation interrupts it
// here. No mutex is ever held at a yield.
type yielding struct {
	tell func(point string)
	what string
}

// WithYield has f called wherever one of the server's goroutines is about to hand
// something to another or has just been handed it, with the name of that place. f
// may wait as long as it likes, and return to let the goroutine go on. Other
// servers' goroutines and the network's are never the ones that call.
func WithYield(f func(point string)) Option {
	return func(o *options) { o.yielding.tell = f }
}

// WithFileSystem gives the server a disk.
func WithFileSystem(fs vfs.FS) Option { return withFileSystem(fs) }

// WithSeed gives the server its source of randomness, which several goroutines
// draw from.
func WithSeed(seed func() uint64) Option { return withSeed(seed) }

func (h yielding) yield(point string) {
	if h.tell != nil {
		h.tell(h.what + point)
	}
}

// of is the same for something that stands in several places.
func (h yielding) of(what string) yielding { return yielding{h.tell, what + " "} }
