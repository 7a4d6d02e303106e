//go:build !simulation

package raft

import (
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
)

// A build without the tag contains nothing of what interrupts the server.
func TestHandOverIsNothing(t *testing.T) {
	require.Zero(t, unsafe.Sizeof(yielding{}))
	require.Equal(t, unsafe.Sizeof(struct {
		ready chan struct{}
		over  bool
		mu    struct {
			lock  [8]byte
			items []int
			told  bool
		}
	}{}), unsafe.Sizeof(queue[int]{}))
	require.Equal(t, yielding{}, yielding{}.of("anything"))
}
