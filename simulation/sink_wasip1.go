//go:build simulation && wasip1

package simulation

import (
	"testing"
	"unsafe"
)

//go:wasmimport simulation trace
func hostTrace(line unsafe.Pointer, length uint32)

// traceSink gives every line to the host, whether it wants them or not: so a trace
// that is read is the trace of a run that nobody reads.
func traceSink(*testing.T) (sink func([]byte), done func()) {
	return func(line []byte) { hostTrace(unsafe.Pointer(&line[0]), uint32(len(line))) }, func() {}
}
