package vfs

import "fmt"

// OpKind is the kind of a call to a Mem.
type OpKind int

// The calls to a Mem and to its files. OpCreate is an OpenFile that may create.
const (
	OpOpen OpKind = iota + 1
	OpCreate
	OpMkdir
	OpRename
	OpRemove
	OpReadDir
	OpStat
	OpSyncDir
	OpLock
	OpRead
	OpWrite
	OpTruncate
	OpSync
	OpSize
	OpClose
)

// opResume is the rest of a write that a fault has shortened. No hook sees it.
const opResume OpKind = -1

var opNames = [...]string{"", "open", "create", "mkdir", "rename", "remove", "readdir", "stat", "syncdir", "lock",
	"read", "write", "truncate", "sync", "size", "close"}

// String returns the name of the call.
func (k OpKind) String() string {
	if k <= 0 || int(k) >= len(opNames) {
		return fmt.Sprintf("op %d", int(k))
	}
	return opNames[k]
}

// Changes reports whether a call of this kind can change what a crash leaves.
func (k OpKind) Changes() bool {
	switch k {
	case OpCreate, OpMkdir, OpRename, OpRemove, OpSyncDir, OpLock, OpWrite, OpTruncate, OpSync:
		return true
	}
	return false
}

// Op is a call that is about to be made. Names have slashes and no root.
type Op struct {
	Kind           OpKind
	Name           string
	To             string // the new name, of a rename
	Offset, Length int64  // of a read or write; a truncation's size is its Offset
}

// ShortWrite, returned by a fault hook for an OpWrite, lets the first N bytes
// through; the call returns N and an error that unwraps to Err.
type ShortWrite struct {
	N   int
	Err error
}

// Error is that of Err, with the number of bytes.
func (s *ShortWrite) Error() string { return fmt.Sprintf("short write of %d bytes: %v", s.N, s.Err) }

// Unwrap returns Err.
func (s *ShortWrite) Unwrap() error { return s.Err }

// SetFault has hook asked before every call, from the goroutine that makes it. An
// error fails the call, which then has no effect, except for those of a ShortWrite
// and of a failed Sync (nothing written before it is made durable by a later one).
// The hook may block, which stalls that call and no other, and may use the disk:
// CrashClone, say, at every call in turn. nil removes it.
func (m *Mem) SetFault(hook func(Op) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.fault = hook
}
