package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// ErrCrashed is what every operation on a crashed disk, and on the handles that
// were open on it, returns.
var ErrCrashed = errors.New("vfs: the disk has crashed")

// Mem is a disk in memory that knows what a crash may take: of every file what
// was written since its last Sync, by sectors of SectorSize bytes, and of every
// directory what changed since its last SyncDir.
//
// Crash and States build what a crash leaves, SetFault makes calls fail, stall or
// lie, SetQuota makes the disk small, FlipBit and its kin damage what is stored.
//
// It may be used from any goroutine. Its mutex is never held while a fault hook
// runs, so a hook may block for as long as it likes.
type Mem struct {
	mu struct {
		sync.Mutex
		root    *memNode
		clock   clock
		locks   map[string]bool
		open    map[*memFile]int // how many handles
		fault   func(Op) error
		quota   *Quota
		history bool
		dead    bool
	}
}

var _ FS = (*Mem)(nil)

// NewMem returns an empty disk. Its root directory is both "/" and ".".
func NewMem() *Mem {
	return newMem(&memNode{dir: newMemDir()})
}

func newMem(root *memNode) *Mem {
	m := new(Mem)
	m.mu.root = root
	m.mu.locks = make(map[string]bool)
	m.mu.open = make(map[*memFile]int)
	return m
}

// clock gives every change its place in the order in which they were made.
type clock uint64

func (c *clock) tick() clock {
	*c++
	return *c
}

// memNode is a file or a directory: one of the two is set.
type memNode struct {
	file *memFile
	dir  *memDir
}

// memDir is what is in a directory, and what is there for good: durable plus any
// subset of pending is a possible directory after a crash.
type memDir struct {
	entries map[string]*memNode
	durable map[string]*memNode
	pending []dirOp
}

// dirOp is a change of entries that a crash keeps or drops as a whole.
type dirOp struct {
	at      clock
	op      Op
	entries []dirEntry
}

// dirEntry is what a name stands for from now on; a nil node removes it.
type dirEntry struct {
	name string
	node *memNode
}

func newMemDir() *memDir {
	return &memDir{entries: make(map[string]*memNode), durable: make(map[string]*memNode)}
}

// change changes the entries of a directory, for the sake of op.
func (m *Mem) change(d *memDir, op Op, entries ...dirEntry) {
	d.pending = append(d.pending, dirOp{m.mu.clock.tick(), op, entries})
	apply(d.entries, entries)
}

func (d *memDir) sync() {
	for _, op := range d.pending {
		apply(d.durable, op.entries)
	}
	d.pending = nil
}

func apply(entries map[string]*memNode, changed []dirEntry) {
	for _, e := range changed {
		if e.node == nil {
			delete(entries, e.name)
		} else {
			entries[e.name] = e.node
		}
	}
}

// clean is the one spelling of a path: slashes, no root.
func clean(name string) string {
	return strings.TrimPrefix(path.Clean("/"+filepath.ToSlash(name)), "/")
}

// lookup returns the node of a cleaned path.
func (m *Mem) lookup(name string) (*memNode, error) {
	node := m.mu.root
	if name == "" {
		return node, nil
	}
	for part := range strings.SplitSeq(name, "/") {
		if node.dir == nil {
			return nil, fs.ErrNotExist
		}
		next, ok := node.dir.entries[part]
		if !ok {
			return nil, fs.ErrNotExist
		}
		node = next
	}
	return node, nil
}

// parent returns the directory of a cleaned path, and the name within it.
func (m *Mem) parent(name string) (*memDir, string, error) {
	dir, base := path.Split(name)
	node, err := m.lookup(strings.TrimSuffix(dir, "/"))
	if err != nil {
		return nil, "", err
	}
	if node.dir == nil || base == "" {
		return nil, "", fs.ErrInvalid
	}
	return node.dir, base, nil
}

// begin asks the fault hook, then locks the disk: the caller unlocks it if there
// is no error. The hook may have blocked, and the disk may have crashed meanwhile.
func (m *Mem) begin(op Op) error {
	m.mu.Lock()
	hook := m.mu.fault
	m.mu.Unlock()
	var err error
	if hook != nil && op.Kind != opResume {
		err = hook(op)
	}
	m.mu.Lock()
	if m.mu.dead {
		err = ErrCrashed
	}
	if err != nil {
		m.mu.Unlock()
		return opError(op, err)
	}
	return nil
}

func opError(op Op, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op.Kind.String(), Path: op.Name, Err: err}
}

// OpenFile is FS.OpenFile.
func (m *Mem) OpenFile(name string, flag int, _ fs.FileMode) (File, error) {
	op := Op{Kind: OpOpen, Name: clean(name)}
	if flag&os.O_CREATE != 0 {
		op.Kind = OpCreate
	}
	if err := m.begin(op); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	dir, base, err := m.parent(op.Name)
	if err != nil {
		return nil, opError(op, err)
	}
	node := dir.entries[base]
	switch {
	case node == nil && flag&os.O_CREATE == 0:
		return nil, opError(op, fs.ErrNotExist)
	case node == nil:
		if err := m.roomForEntry(); err != nil {
			return nil, opError(op, err)
		}
		node = m.newFile()
		m.change(dir, op, dirEntry{base, node})
	case flag&os.O_CREATE != 0 && flag&os.O_EXCL != 0:
		return nil, opError(op, fs.ErrExist)
	case node.dir != nil:
		return nil, opError(op, errors.New("is a directory"))
	case flag&os.O_TRUNC != 0:
		node.file.truncate(&m.mu.clock, 0)
	}
	m.mu.open[node.file]++
	return &memHandle{m: m, file: node.file, name: op.Name, readOnly: flag&(os.O_RDWR|os.O_WRONLY) == 0}, nil
}

// Mkdir is FS.Mkdir.
func (m *Mem) Mkdir(name string, _ fs.FileMode) error {
	op := Op{Kind: OpMkdir, Name: clean(name)}
	if err := m.begin(op); err != nil {
		return err
	}
	defer m.mu.Unlock()
	dir, base, err := m.parent(op.Name)
	if err == nil && dir.entries[base] != nil {
		err = fs.ErrExist
	}
	if err == nil {
		err = m.roomForDirectory()
	}
	if err != nil {
		return opError(op, err)
	}
	m.change(dir, op, dirEntry{base, &memNode{dir: newMemDir()}})
	return nil
}

// Rename is FS.Rename. A crash keeps or drops it as a whole if both names are in
// one directory; it may take them apart if not.
func (m *Mem) Rename(from, to string) error {
	op := Op{Kind: OpRename, Name: clean(from), To: clean(to)}
	if err := m.begin(op); err != nil {
		return err
	}
	defer m.mu.Unlock()
	source, sourceBase, err := m.parent(op.Name)
	if err != nil {
		return opError(op, err)
	}
	target, targetBase, err := m.parent(op.To)
	if err != nil {
		return opError(op, err)
	}
	node := source.entries[sourceBase]
	switch old := target.entries[targetBase]; {
	case node == nil:
		return opError(op, fs.ErrNotExist)
	case old == node:
		return nil
	case old != nil && (old.dir != nil || node.dir != nil):
		return opError(op, fs.ErrExist)
	case old == nil:
		if err := m.roomForEntry(); err != nil {
			return opError(op, err)
		}
	}
	if source == target {
		m.change(source, op, dirEntry{sourceBase, nil}, dirEntry{targetBase, node})
		return nil
	}
	m.change(target, op, dirEntry{targetBase, node})
	m.change(source, op, dirEntry{sourceBase, nil})
	return nil
}

// Remove is FS.Remove. Open handles keep working.
func (m *Mem) Remove(name string) error {
	op := Op{Kind: OpRemove, Name: clean(name)}
	if err := m.begin(op); err != nil {
		return err
	}
	defer m.mu.Unlock()
	dir, base, err := m.parent(op.Name)
	if err != nil {
		return opError(op, err)
	}
	node := dir.entries[base]
	switch {
	case node == nil:
		return opError(op, fs.ErrNotExist)
	case node.dir != nil && len(node.dir.entries) > 0:
		return opError(op, errors.New("directory not empty"))
	}
	m.change(dir, op, dirEntry{base, nil})
	return nil
}

// ReadDir is FS.ReadDir.
func (m *Mem) ReadDir(name string) ([]string, error) {
	op := Op{Kind: OpReadDir, Name: clean(name)}
	if err := m.begin(op); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	node, err := m.lookup(op.Name)
	if err == nil && node.dir == nil {
		err = errors.New("not a directory")
	}
	if err != nil {
		return nil, opError(op, err)
	}
	names := make([]string, 0, len(node.dir.entries))
	for name := range node.dir.entries {
		names = append(names, name)
	}
	slices.Sort(names)
	return names, nil
}

// Stat is FS.Stat.
func (m *Mem) Stat(name string) (fs.FileInfo, error) {
	op := Op{Kind: OpStat, Name: clean(name)}
	if err := m.begin(op); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	node, err := m.lookup(op.Name)
	if err != nil {
		return nil, opError(op, err)
	}
	info := memInfo{name: path.Base("/" + op.Name), dir: node.dir != nil}
	if node.file != nil {
		info.size = node.file.data.size()
	}
	return info, nil
}

// SyncDir is FS.SyncDir.
func (m *Mem) SyncDir(name string) error {
	op := Op{Kind: OpSyncDir, Name: clean(name)}
	if err := m.begin(op); err != nil {
		return err
	}
	defer m.mu.Unlock()
	node, err := m.lookup(op.Name)
	if err == nil && node.dir == nil {
		err = errors.New("not a directory")
	}
	if err != nil {
		return opError(op, err)
	}
	node.dir.sync()
	return nil
}

// Lock is FS.Lock. A crash frees the lock.
func (m *Mem) Lock(name string) (io.Closer, error) {
	op := Op{Kind: OpLock, Name: clean(name)}
	if err := m.begin(op); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	dir, base, err := m.parent(op.Name)
	if err != nil {
		return nil, opError(op, err)
	}
	if m.mu.locks[op.Name] {
		return nil, fmt.Errorf("%w: %s", ErrLocked, name)
	}
	if dir.entries[base] == nil {
		if err := m.roomForEntry(); err != nil {
			return nil, opError(op, err)
		}
		m.change(dir, op, dirEntry{base, m.newFile()})
	}
	m.mu.locks[op.Name] = true
	return &memLock{m: m, name: op.Name}, nil
}

type memLock struct {
	m    *Mem
	name string
}

func (l *memLock) Close() error {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	if !l.m.mu.locks[l.name] {
		return fs.ErrClosed
	}
	delete(l.m.mu.locks, l.name)
	return nil
}

type memInfo struct {
	name string
	size int64
	dir  bool
}

func (i memInfo) Name() string       { return i.name }
func (i memInfo) Size() int64        { return i.size }
func (i memInfo) ModTime() time.Time { return time.Time{} }
func (i memInfo) IsDir() bool        { return i.dir }
func (i memInfo) Sys() any           { return nil }

func (i memInfo) Mode() fs.FileMode {
	if i.dir {
		return fs.ModeDir | DirPerm
	}
	return FilePerm
}
