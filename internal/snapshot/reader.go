package snapshot

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"

	"github.com/goraft/raft/internal/vfs"
)

// Reader is an open snapshot. Read hands out the state, ReadAt the raw bytes of the
// file; the latter may be called from any goroutine.
type Reader struct {
	file vfs.File
	name string
	info Info
	head fixed

	buf    []byte // a block
	rest   []byte // what of it was not handed out yet
	off    int64  // of the next block in the file
	totals totals // of the blocks that were read
	err    error  // how Read ends from now on
}

// ReadFile opens a snapshot in a directory without a Store: nothing is changed.
func ReadFile(fsys vfs.FS, dir string, l Label) (*Reader, error) {
	name := filepath.Join(dir, Name(l))
	file, err := fsys.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	r, err := newReader(file, name)
	if err == nil && r.info.Label != l {
		err = corrupt(name, 16, "it is the snapshot %s", Name(r.info.Label))
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return r, nil
}

// newReader reads and checks the header. What the header says is believed only
// after its checksum, and nothing is allocated that is not in the file.
func newReader(file vfs.File, name string) (*Reader, error) {
	size, err := file.Size()
	if err != nil {
		return nil, err
	}
	b := make([]byte, min(size, headerSize))
	if err := readFull(file, name, b, 0); err != nil {
		return nil, err
	}
	h, err := decodeHeader(name, b)
	if err != nil {
		return nil, err
	}
	state, ok := h.stateSize(size)
	if !ok {
		return nil, corrupt(name, size, "the file was cut short or extended")
	}
	meta := make([]byte, h.metaLength)
	if err := readFull(file, name, meta, headerSize); err != nil {
		return nil, err
	}
	if crc32.Checksum(meta, castagnoli) != h.metaSum {
		return nil, corrupt(name, headerSize, "the meta bytes do not verify")
	}
	return &Reader{
		file: file,
		name: name,
		head: h,
		info: Info{Header: Header{Label: h.label, ClusterID: h.clusterID, ID: h.id, Meta: meta}, Size: size, StateSize: state},
		off:  headerSize + int64(h.metaLength),
	}, nil
}

// Info describes the file. StateSize follows from the size of the file, and is
// proved when Read has returned io.EOF; the header is verified.
func (r *Reader) Info() Info { return r.info }

// Size is the size of the file.
func (r *Reader) Size() int64 { return r.info.Size }

// ReadAt is io.ReaderAt over the raw bytes of the file, which are the same on every
// server that has it. Nothing of them is verified.
func (r *Reader) ReadAt(p []byte, off int64) (int, error) { return r.file.ReadAt(p, off) }

// Read reads the state. No byte is handed out before its block was verified, and
// io.EOF says that the file is whole.
func (r *Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if len(r.rest) == 0 {
		if err := r.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// next reads a block into rest. The first error stays.
func (r *Reader) next() error {
	if r.err != nil {
		return r.err
	}
	left := r.info.StateSize - r.totals.size
	if left == 0 {
		r.err = r.readEnd()
	} else {
		r.err = r.readBlock(int(min(left, int64(r.head.blockSize))))
	}
	return r.err
}

func (r *Reader) readBlock(length int) error {
	if r.buf == nil {
		r.buf = make([]byte, blockHeaderSize+length)
	}
	b := r.buf[:blockHeaderSize+length]
	if err := readFull(r.file, r.name, b, r.off); err != nil {
		return err
	}
	sum, err := checkBlock(b, r.head.sum, r.totals.blocks)
	if err != nil {
		return corrupt(r.name, r.off, "%v", err)
	}
	r.totals.add(length, sum)
	r.off += int64(len(b))
	r.rest = b[blockHeaderSize:]
	return nil
}

// readEnd returns io.EOF if the end block is what the blocks that were read ask
// for, and still the end of the file.
func (r *Reader) readEnd() error {
	b := make([]byte, endSize)
	if err := readFull(r.file, r.name, b, r.off); err != nil {
		return err
	}
	if string(b) != string(r.totals.end(r.head.sum)) {
		return corrupt(r.name, r.off, "the end does not verify after %d blocks", r.totals.blocks)
	}
	size, err := r.file.Size()
	if err != nil {
		return err
	}
	if size != r.info.Size {
		return corrupt(r.name, r.info.Size, "the file has changed its size to %d", size)
	}
	r.buf = nil
	return io.EOF
}

// verify reads the state to its end, unless stop says something else meanwhile.
func (r *Reader) verify(stop func() error) (Info, error) {
	for {
		if stop != nil {
			if err := stop(); err != nil {
				return Info{}, err
			}
		}
		if err := r.next(); err == io.EOF {
			return r.info, nil
		} else if err != nil {
			return Info{}, err
		}
	}
}

// Close closes the file.
func (r *Reader) Close() error { return r.file.Close() }

// readFull reads exactly len(b) bytes. A file that ends before was cut short.
func readFull(file vfs.File, name string, b []byte, off int64) error {
	n, err := file.ReadAt(b, off)
	switch {
	case n == len(b):
		return nil
	case err == nil || err == io.EOF:
		return corrupt(name, off+int64(n), "the file ends")
	}
	return fmt.Errorf("snapshot: reading %s: %w", name, err)
}
