package toy

import "unsafe"

//go:wasmimport simulation trace
func hostTrace(line unsafe.Pointer, length uint32)

func traceLine(line string) {
	hostTrace(unsafe.Pointer(unsafe.StringData(line)), uint32(len(line)))
}
