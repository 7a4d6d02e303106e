package wal

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/goraft/raft/internal/vfs"
)

// world is everything that a store must remember, as a test remembers it.
type world struct {
	image
	identity Identity
	hard     HardState
	commit   uint64
}

func (w world) clone() world {
	w.image = w.image.clone()
	return w
}

// differs says what a reopened store remembers wrongly. The commit index and a
// compaction may have got further than asked; that is checked by the caller.
func (w *world) differs(s *Store) string {
	id := s.Identity()
	switch {
	case id.ClusterID != w.identity.ClusterID || !bytes.Equal(id.Initial, w.identity.Initial):
		return fmt.Sprintf("identity %+v, want %+v", id, w.identity)
	case s.HardState() != w.hard:
		return fmt.Sprintf("hard state %+v, want %+v", s.HardState(), w.hard)
	case s.CommitIndex() < w.commit:
		return fmt.Sprintf("commit index %d, want %d", s.CommitIndex(), w.commit)
	}
	return w.image.differs(s)
}

// historyStep is one of the operations of TestFault102: on the store, and on the
// image beside it.
type historyStep struct {
	name string
	do   func(*history)
}

// history is a small log over several segments, that operations are done to.
type history struct {
	*disk
	store *Store
	want  image
	term  uint64
}

// write replaces everything from an index on by n records.
func (h *history) write(first uint64, n int) {
	h.term++
	b := records(0, first, h.term, n, 90)
	h.want.put(first, b)
	h.must(h.store.Append(first, 0, b))
}

// compact asks for everything below an index; how much of it goes is the store's.
func (h *history) compact(first uint64) {
	h.must(h.store.Compact(first))
	begins, _ := h.store.Bounds()
	if begins > first {
		h.Fatalf("compacted to %d, and it begins at %d", first, begins)
	}
	h.want.drop(begins)
}

func (h *history) truncate(first uint64) {
	h.want.cut(first)
	h.must(h.store.Truncate(first, 0))
}

func (h *history) reopen() {
	h.store = h.open()
	h.expect(h.store, h.want)
}

// within returns the index that lies so many tenths into the log.
func (h *history) within(tenths uint64) uint64 {
	return h.want.first + uint64(len(h.want.records))*tenths/10
}

var historySteps = []historyStep{
	{"compact", func(h *history) { h.compact(h.within(7)) }},
	{"truncate", func(h *history) { h.truncate(h.within(5)) }},
	{"append", func(h *history) { h.write(h.want.last()+1, 3) }},
	{"restart", func(h *history) { h.must(h.store.Close()); h.reopen() }},
	{"compact all", func(h *history) { h.compact(h.want.last() + 1) }},
	{"truncate all", func(h *history) { h.truncate(h.want.first) }},
	{"replace", func(h *history) { h.write(h.within(6), 2) }},
	{"crash", func(h *history) { h.crash(vfs.Nothing); h.reopen() }},
}

// The row's own: compact, truncate, append and restart, in every order of up to
// five. With STORAGE=ci also what replaces entries, what takes all, and a crash.
func TestFault102_EveryOrderOfFive(t *testing.T) {
	steps := historySteps
	if os.Getenv("STORAGE") == "" {
		steps = steps[:4]
	}
	longest := 5
	if raceDetector {
		longest = 4
	}
	base, want := filled(t, 1024, 12, 90)
	orders := 0
	var extend func(order []historyStep)
	extend = func(order []historyStep) {
		if len(order) > 0 {
			orders++
			h := &history{disk: &disk{t, base.CrashClone(vfs.Nothing), base.options}, want: want.clone(), term: 1}
			h.reopen()
			for i, step := range order {
				step.do(h)
				if diff := h.want.differs(h.store); diff != "" {
					t.Fatalf("after %s: %s", namesOf(order[:i+1]), diff)
				}
			}
			h.must(h.store.Close())
			h.reopen()
		}
		for _, step := range steps {
			if len(order) < longest {
				extend(append(order[:len(order):len(order)], step))
			}
		}
	}
	extend(nil)
	t.Logf("%d orders", orders)
}

func namesOf(order []historyStep) string {
	var names []string
	for _, step := range order {
		names = append(names, step.name)
	}
	return strings.Join(names, ", ")
}
