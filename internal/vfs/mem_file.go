package vfs

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"syscall"
)

// SectorSize is what a Mem, like the log, takes for the unit that a disk writes
// whole or not at all.
const SectorSize = 512

// memFile is what a reader sees, and what a crash may leave: durable, with any of
// the versions of each dirty sector over it, at the durable or one of the later
// sizes. Sectors beyond what durable holds read as zeros.
type memFile struct {
	data    content
	durable content
	dirty   map[int64][]version
	sizes   []sizing
	written bitmap              // the sectors that take space; see Quota
	broken  map[int64]bool      // the sectors that cannot be read; see BreakSectors
	past    map[int64][]version // all that was ever written; nil without RecordHistory
}

// version is the content of a sector after a write. A lost one was there when a
// Sync failed: the system forgot that it has to be written, though readers still
// see it, and only writing the sector again brings it to the disk.
type version struct {
	at    clock
	bytes []byte
	whole int64 // the length of the write that it is from
	lost  bool
}

// sizing is a size that the file was given.
type sizing struct {
	at   clock
	size int64
}

// content is bytes that may be shared with other disks, which are copied before
// they are changed. What lies between the length and the capacity of bytes that
// are not shared is always zero, and so is what lies behind the first used ones of
// all: a log fills its files with zeros, ahead. Memory that was never used is zero
// anyhow, and stays unused, because the first touch of a page costs the most, and
// many times that under the race detector.
type content struct {
	bytes  []byte
	used   int64
	shared bool
}

// share returns the content for another owner.
func (c *content) share() content {
	c.shared = true
	return *c
}

// own makes the content changeable, with room for a size.
func (c *content) own(size int64) {
	if !c.shared && size <= int64(cap(c.bytes)) {
		return
	}
	room := max(size, int64(len(c.bytes)))
	if !c.shared {
		room *= 2
	}
	bigger := make([]byte, len(c.bytes), room)
	copy(bigger, c.bytes[:c.used])
	c.bytes, c.shared = bigger, false
}

// resize cuts the content, or extends it with zeros.
func (c *content) resize(size int64) {
	c.own(size)
	if size < c.used {
		clear(c.bytes[size:c.used])
		c.used = size
	}
	c.bytes = c.bytes[:size]
}

// put writes bytes at a place, as far as the content reaches.
func (c *content) put(b []byte, off int64) {
	if off < c.used || off < c.size() && !allZero(b) {
		c.own(0)
		n := copy(c.bytes[off:], b)
		c.used = max(c.used, off+int64(n))
	}
}

var zeros [4 << 10]byte

func allZero(b []byte) bool {
	for len(b) > len(zeros) {
		if !bytes.Equal(b[:len(zeros)], zeros[:]) {
			return false
		}
		b = b[len(zeros):]
	}
	return bytes.Equal(b, zeros[:len(b)])
}

func (c *content) size() int64 { return int64(len(c.bytes)) }

// newFile makes a file that is in no directory yet.
func (m *Mem) newFile() *memNode {
	f := new(memFile)
	if m.mu.history {
		f.past = make(map[int64][]version)
	}
	return &memNode{file: f}
}

func (f *memFile) write(c *clock, p []byte, off int64) {
	f.cache(c, p, off)
	f.touch(c, off, off+int64(len(p)))
}

// cache is a write that only readers see: the sectors are not on their way to the
// disk, though the size is.
func (f *memFile) cache(c *clock, p []byte, off int64) {
	if len(p) == 0 {
		return
	}
	end := off + int64(len(p))
	f.resize(c, max(end, f.data.size()))
	f.data.put(p, off)
	f.written.set(off/SectorSize, (end-1)/SectorSize)
}

func (f *memFile) truncate(c *clock, size int64) {
	old := f.data.size()
	f.resize(c, size)
	if size < old {
		f.written.cut((size + SectorSize - 1) / SectorSize)
		f.touch(c, size, old)
	}
}

func (f *memFile) resize(c *clock, size int64) {
	if size == f.data.size() {
		return
	}
	f.data.resize(size)
	f.sizes = append(f.sizes, sizing{c.tick(), size})
}

// touch records what the sectors of a range hold now.
func (f *memFile) touch(c *clock, from, to int64) {
	if from >= to {
		return
	}
	if f.dirty == nil {
		f.dirty = make(map[int64][]version)
	}
	first, last := from/SectorSize, (to-1)/SectorSize
	var image []byte // nil: zeros
	if start := first * SectorSize; start < f.data.used {
		image = make([]byte, (last-first+1)*SectorSize)
		copy(image, f.data.bytes[start:f.data.used])
	}
	for s := first; s <= last; s++ {
		v := version{at: c.tick(), bytes: zeros[:SectorSize:SectorSize], whole: to - from}
		if at := (s - first) * SectorSize; image != nil {
			v.bytes = image[at : at+SectorSize : at+SectorSize]
		}
		f.dirty[s] = append(f.dirty[s], v)
		if f.past != nil {
			f.past[s] = append(f.past[s], v)
		}
	}
}

func (f *memFile) sync() {
	f.durable.resize(f.data.size())
	f.sizes = nil
	for s, versions := range f.dirty {
		if newest := versions[len(versions)-1]; !newest.lost {
			f.durable.put(newest.bytes, s*SectorSize)
			delete(f.dirty, s)
		}
	}
}

func (f *memFile) lose() {
	for _, versions := range f.dirty {
		for i := range versions {
			versions[i].lost = true
		}
	}
}

// memHandle is an open file of a Mem.
type memHandle struct {
	m        *Mem
	file     *memFile
	name     string
	readOnly bool
	closed   bool // guarded by m.mu
}

var errReadOnly = errors.New("opened for reading only")

// begin is Mem.begin, for an open handle.
func (h *memHandle) begin(op Op) error {
	op.Name = h.name
	if err := h.m.begin(op); err != nil {
		return err
	}
	if h.closed {
		h.m.mu.Unlock()
		return opError(op, fs.ErrClosed)
	}
	return nil
}

func (h *memHandle) ReadAt(p []byte, off int64) (int, error) {
	op := Op{Kind: OpRead, Offset: off, Length: int64(len(p))}
	if err := h.begin(op); err != nil {
		return 0, err
	}
	defer h.m.mu.Unlock()
	if off < 0 {
		return 0, fs.ErrInvalid
	}
	if off >= h.file.data.size() {
		return 0, io.EOF
	}
	n := copy(p, h.file.data.bytes[off:])
	if good := h.file.readable(off, int64(n)); good < int64(n) {
		return int(good), opError(Op{Kind: OpRead, Name: h.name}, syscall.EIO)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (h *memHandle) WriteAt(p []byte, off int64) (int, error) {
	err := h.begin(Op{Kind: OpWrite, Offset: off, Length: int64(len(p))})
	var (
		short  *ShortWrite
		astray *Misdirected
	)
	lost := errors.Is(err, ErrLostWrite) || errors.As(err, &astray)
	if errors.As(err, &short) && short.N > 0 {
		p = p[:min(short.N, len(p))]
	} else if err != nil && !lost {
		return 0, err
	}
	if err != nil {
		if dead := h.begin(Op{Kind: opResume}); dead != nil {
			return 0, err
		}
	}
	defer h.m.mu.Unlock()
	op := Op{Kind: OpWrite, Name: h.name}
	switch {
	case h.readOnly:
		return 0, opError(op, errReadOnly)
	case off < 0:
		return 0, fs.ErrInvalid
	}
	if n := h.m.room(h.file, off, int64(len(p))); n < int64(len(p)) {
		p, err, lost = p[:n], opError(op, syscall.ENOSPC), false
	}
	if h.file.mends(off, off+int64(len(p))) != nil {
		return 0, opError(op, syscall.EIO)
	}
	if !lost {
		h.file.write(&h.m.mu.clock, p, off)
		return len(p), err
	}
	h.file.cache(&h.m.mu.clock, p, off)
	if astray != nil {
		h.m.stray(astray, p)
	}
	return len(p), nil
}

func (h *memHandle) Truncate(size int64) error {
	if err := h.begin(Op{Kind: OpTruncate, Offset: size}); err != nil {
		return err
	}
	defer h.m.mu.Unlock()
	if h.readOnly {
		return opError(Op{Kind: OpTruncate, Name: h.name}, errReadOnly)
	}
	if size < 0 {
		return fs.ErrInvalid
	}
	h.file.truncate(&h.m.mu.clock, size)
	return nil
}

// Sync that fails leaves behind what a failed fsync does: see version.
func (h *memHandle) Sync() error {
	if err := h.begin(Op{Kind: OpSync}); err != nil {
		h.m.mu.Lock()
		h.file.lose()
		h.m.mu.Unlock()
		return err
	}
	defer h.m.mu.Unlock()
	h.file.sync()
	return nil
}

func (h *memHandle) Size() (int64, error) {
	if err := h.begin(Op{Kind: OpSize}); err != nil {
		return 0, err
	}
	defer h.m.mu.Unlock()
	return h.file.data.size(), nil
}

// Close closes the handle even when a fault makes it return an error.
func (h *memHandle) Close() error {
	err := h.begin(Op{Kind: OpClose})
	if err != nil {
		h.m.mu.Lock()
	}
	if !h.closed {
		h.closed = true
		if h.m.mu.open[h.file]--; h.m.mu.open[h.file] == 0 {
			delete(h.m.mu.open, h.file)
		}
	}
	h.m.mu.Unlock()
	return err
}
