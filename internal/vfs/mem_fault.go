package vfs

import (
	"errors"
	"fmt"
)

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

// String is for messages.
func (o Op) String() string {
	switch o.Kind {
	case OpRename:
		return fmt.Sprintf("%v %s to %s", o.Kind, o.Name, o.To)
	case OpRead, OpWrite:
		return fmt.Sprintf("%v %s at %d, %d bytes", o.Kind, o.Name, o.Offset, o.Length)
	case OpTruncate:
		return fmt.Sprintf("%v %s to %d", o.Kind, o.Name, o.Offset)
	}
	return fmt.Sprintf("%v %s", o.Kind, o.Name)
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

// ErrLostWrite, returned by a fault hook for an OpWrite, is the lie of a disk that
// loses a write: the call succeeds, and so does every Sync, and readers see what
// was written until a crash; then the old sectors are there. The size is not lost.
var ErrLostWrite = errors.New("vfs: lost write")

// Misdirected, returned by a fault hook for an OpWrite, is the lie of a disk that
// writes to the wrong place: as ErrLostWrite, and what was written is, after a
// crash, found in the file To at Offset, as far as that file reaches.
type Misdirected struct {
	To     string
	Offset int64
}

// Error names the place.
func (e *Misdirected) Error() string {
	return fmt.Sprintf("write misdirected to %s at %d", e.To, e.Offset)
}

// stray puts a misdirected write where nobody looks for it.
func (m *Mem) stray(to *Misdirected, p []byte) {
	if f, err := m.lookupFile(to.To); err == nil {
		f.durable.put(p, to.Offset)
	}
}

// SetFault has hook asked before every call, from the goroutine that makes it. An
// error fails the call, which then has no effect, except for a ShortWrite, an
// ErrLostWrite, a Misdirected write, and a failed Sync (nothing written before it is
// made durable by a later one).
// The hook may block, which stalls that call and no other, and may use the disk:
// CrashClone, say, at every call in turn. nil removes it.
func (m *Mem) SetFault(hook func(Op) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.fault = hook
}
