package wal

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io"
	"io/fs"
	"math"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/goraft/raft/internal/vfs"
)

// forgeSegment gives any bytes the checksums of a segment of a store, so that what
// lies behind the checksums is reached.
func forgeSegment(b []byte, storeID, number uint64) {
	if len(b) < segmentHeaderSize {
		return
	}
	putPrologue(b, segmentMagic, formatVersion)
	binary.LittleEndian.PutUint64(b[16:], storeID)
	binary.LittleEndian.PutUint64(b[32:], number)
	binary.LittleEndian.PutUint32(b[68:], segmentHeaderChecksum(b))
	seed := Seed(binary.LittleEndian.Uint64(b[24:]))
	forgeBatches(b, Seed(storeID), number, func(body []byte) {
		for {
			r, rest, err := NextRecord(body)
			if err != nil {
				return
			}
			r.Stamp(r.Index(), r.Term(), seed)
			body = rest
		}
	})
}

// forgeBatches gives the batches of a segment checksums that verify, as a program
// does that has the wrong bytes in memory. It goes by their headers as they are.
func forgeBatches(b []byte, seed uint32, number uint64, stamp func(body []byte)) {
	prev := binary.LittleEndian.Uint32(b[68:])
	for off := int64(segmentHeaderSize); off+batchHeaderSize <= int64(len(b)); {
		if binary.LittleEndian.Uint32(b[off:]) != batchMagic {
			if off == alignSector(off) {
				return
			}
			off = alignSector(off)
			continue
		}
		h := decodeForged(b[off:])
		size := h.size()
		if size > int64(len(b))-off {
			return
		}
		if stamp != nil {
			stamp(b[off+batchHeaderSize:][:h.length])
		}
		h.prev, h.segment, h.offset = prev, number, off
		h.sealBatch(b[off:off+size], seed)
		prev, off = h.checksum, off+size
	}
}

// decodeForged is a batch's header, whether or not it verifies.
func decodeForged(b []byte) batchHeader {
	b = bytes.Clone(b[:batchHeaderSize])
	segment, offset := binary.LittleEndian.Uint64(b[48:]), int64(binary.LittleEndian.Uint64(b[56:]))
	binary.LittleEndian.PutUint32(b[4:], crc32.Update(0, castagnoli, b[8:]))
	h, _ := decodeBatchHeader(b, 0, segment, offset)
	return h
}

// allocated is how many bytes f allocates. Others may allocate meanwhile: it is the
// least of some tries that counts.
func allocated(f func()) uint64 {
	least := uint64(math.MaxUint64)
	for range 3 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		f()
		runtime.ReadMemStats(&after)
		if least = min(least, after.TotalAlloc-before.TotalAlloc); least < 64<<10 {
			break
		}
	}
	return least
}

// flatFS is files in memory, and nothing else: it allocates for what is written
// behind the end of a file only.
type flatFS map[string]*flatFile

type flatFile struct {
	name string
	data []byte
}

func (f flatFS) OpenFile(name string, flag int, _ fs.FileMode) (vfs.File, error) {
	if file := f[filepath.Base(name)]; file != nil {
		return file, nil
	}
	return nil, fs.ErrNotExist
}
func (f flatFS) Mkdir(string, fs.FileMode) error  { return nil }
func (f flatFS) Rename(string, string) error      { return fs.ErrInvalid }
func (f flatFS) Remove(name string) error         { return fs.ErrInvalid }
func (f flatFS) SyncDir(string) error             { return nil }
func (f flatFS) Lock(string) (io.Closer, error)   { return io.NopCloser(nil), nil }
func (f flatFS) Stat(string) (fs.FileInfo, error) { return flatDir{}, nil }
func (f flatFS) ReadDir(string) ([]string, error) {
	var names []string
	for name := range f {
		names = append(names, name)
	}
	slices.Sort(names)
	return names, nil
}

// flatDir is any directory.
type flatDir struct{}

func (flatDir) Name() string       { return "" }
func (flatDir) Size() int64        { return 0 }
func (flatDir) Mode() fs.FileMode  { return fs.ModeDir }
func (flatDir) ModTime() time.Time { return time.Time{} }
func (flatDir) IsDir() bool        { return true }
func (flatDir) Sys() any           { return nil }

func (f *flatFile) ReadAt(p []byte, off int64) (int, error) {
	if off >= int64(len(f.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *flatFile) WriteAt(p []byte, off int64) (int, error) {
	for int64(len(f.data)) < off+int64(len(p)) {
		f.data = append(f.data, 0)
	}
	return copy(f.data[off:], p), nil
}
func (f *flatFile) Truncate(size int64) error { f.data = f.data[:size]; return nil }
func (f *flatFile) Sync() error               { return nil }
func (f *flatFile) Size() (int64, error)      { return int64(len(f.data)), nil }
func (f *flatFile) Close() error              { return nil }

// flat copies the files of a disk, but for the lock.
func (d *disk) flat() flatFS {
	names, err := d.ReadDir(testDir)
	d.must(err)
	files := flatFS{}
	for _, name := range names {
		if name != lockName && !strings.HasSuffix(name, vfs.TempSuffix) {
			b, err := d.Bytes(filepath.Join(testDir, name))
			d.must(err)
			files[name] = &flatFile{name, b}
		}
	}
	return files
}
