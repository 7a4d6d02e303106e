package wal

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/goraft/raft/internal/vfs"
)

const testDir = "data/log"

// record makes a record of the cluster whose id is given.
func record(cluster, index, term uint64, data []byte) Record {
	r := FinishRecord(append(BeginRecord(nil, 1, "name"), data...), 0)
	r.Stamp(index, term, Seed(cluster))
	return r
}

// records makes n of them in one buffer.
func records(cluster, first, term uint64, n, size int) []byte {
	var b []byte
	for i := range uint64(n) {
		data := bytes.Repeat([]byte{byte(first + i), byte(term)}, (size+1)/2)[:size]
		b = append(b, record(cluster, first+i, term, data)...)
	}
	return b
}

// image is a log as a test remembers it: the records from index first on.
type image struct {
	first   uint64
	records [][]byte
}

func (m *image) last() uint64 { return m.first + uint64(len(m.records)) - 1 }

func (m image) clone() image {
	return image{m.first, append([][]byte(nil), m.records...)}
}

func (m *image) cut(from uint64) {
	if from <= m.first {
		m.records = nil
		if from > 0 {
			m.first = from
		}
	} else if len(m.records) > 0 && from <= m.last() {
		m.records = m.records[:from-m.first]
	}
}

// put is Append, on the image.
func (m *image) put(first uint64, b []byte) {
	m.cut(first)
	for len(b) > 0 {
		r, rest, _ := NextRecord(b)
		if len(m.records) == 0 {
			m.first = r.Index()
		}
		m.records = append(m.records, bytes.Clone(r))
		b = rest
	}
}

func (m *image) drop(below uint64) {
	for m.first < below && len(m.records) > 0 {
		m.first, m.records = m.first+1, m.records[1:]
	}
	m.first = max(m.first, below)
}

// differs says how a store's log is not that of the image, or nothing.
func (m *image) differs(s *Store) string {
	first, last := s.Bounds()
	if first != m.first || last != m.last() {
		return fmt.Sprintf("bounds %d..%d, want %d..%d", first, last, m.first, m.last())
	}
	if first > last {
		return ""
	}
	b, err := s.Read(nil, first, last, 1<<30)
	if err != nil {
		return err.Error()
	}
	if want := bytes.Join(m.records, nil); !bytes.Equal(b, want) {
		return fmt.Sprintf("%d bytes of records are not the %d expected", len(b), len(want))
	}
	return ""
}

// watcher is a Visitor that keeps the log it was shown.
type watcher struct{ image }

func (w *watcher) Truncate(from uint64) { w.cut(from) }
func (w *watcher) Record(r Record)      { w.put(r.Index(), r) }

// disk opens stores on one memory disk after the other.
type disk struct {
	testing.TB
	*vfs.Mem
	options Options
}

func newDisk(t testing.TB, segment int64) *disk {
	id := uint64(0x5107e)
	return &disk{t, vfs.NewMem(), Options{Dir: testDir, MaxSegmentBytes: segment, StoreID: func() uint64 { id++; return id }}}
}

func (d *disk) try() (*Store, *watcher, error) {
	w := new(watcher)
	o := d.options
	o.FS, o.Visitor = d.Mem, w
	s, err := Open(o)
	return s, w, err
}

func (d *disk) open() *Store {
	d.Helper()
	s, w, err := d.try()
	if err != nil {
		d.Fatal(err)
	}
	if len(w.records) > 0 {
		if diff := w.differs(s); diff != "" {
			d.Fatal("the visitor saw another log: ", diff)
		}
	} else if first, last := s.Bounds(); first <= last {
		d.Fatal("the visitor saw nothing")
	}
	return s
}

// crash restarts the machine.
func (d *disk) crash(c vfs.Chooser) { d.Mem = d.Mem.Crash(c) }

func (d *disk) must(err error) {
	d.Helper()
	if err != nil {
		d.Fatal(err)
	}
}

func seeded(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0x10c)) }

// volume is how much of something a run does: the default run, the one of CI, the
// long one. The environment variable STORAGE says which.
func volume(short, ci, long int) int {
	return chosen(int(scale(uint64(short))), ci, long)
}

// oneOf is of how many one is looked at: the other way around than volume.
func oneOf(short, ci, long int) int {
	if testing.Short() || raceDetector {
		short *= 10
	}
	return chosen(short, ci, long)
}

func chosen(short, ci, long int) int {
	switch os.Getenv("STORAGE") {
	case "ci":
		return ci
	case "long":
		return long
	}
	return short
}

// scale cuts a number of repetitions down where they are slow: with -short, and
// under the race detector, which one goroutine has little to tell.
func scale(n uint64) uint64 {
	if testing.Short() || raceDetector {
		return min(n, max(n/10, 2))
	}
	return n
}
