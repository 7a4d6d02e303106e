package raft

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/goraft/raft/internal/vfs"
	"github.com/goraft/raft/internal/wal"
	"github.com/stretchr/testify/require"
)

// writing is a log writer with a disk of its own, of which it is told everything.
type writing struct {
	t      *testing.T
	disk   *vfs.Mem
	store  *wal.Store
	orders *queue[*order]
	words  []written
	given  uint64
	next   uint64
	commit uint64 // that the store must know in the end
}

// inWriting runs f with a log writer whose log has n entries of 1 KiB, in segments
// of 4 KiB, and whose disk is then full.
func inWriting(t *testing.T, n int, f func(w *writing)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &writing{t: t, disk: vfs.NewMem(), orders: newQueue[*order](), next: 1}
		w.open()
		writer := &logWriter{store: w.store, orders: w.orders, latency: new(smoothed), patience: func() time.Duration { return testElection }, done: func(word written) { w.words = append(w.words, word) }}
		ended := make(chan struct{})
		go func() { writer.run(); close(ended) }()
		for range n {
			w.order(w.entry())
			synctest.Wait()
		}
		w.disk.SetQuota(&vfs.Quota{Bytes: w.disk.Used(), Entries: true})
		f(w)
		w.orders.close()
		<-ended
		// What was done is there.
		w.disk = w.disk.Crash(vfs.Nothing)
		w.disk.SetQuota(nil)
		w.open()
		defer w.store.Close()
		require.Equal(t, w.word().sequence, w.last(), "the order of each entry has its index")
		require.Equal(t, w.commit, w.store.CommitIndex())
	})
}

func (w *writing) open() {
	var err error
	w.store, err = wal.Open(wal.Options{FS: w.disk, Dir: "log", MaxSegmentBytes: 4 << 10})
	require.NoError(w.t, err)
}

func (w *writing) last() uint64 {
	_, last := w.store.Bounds()
	return last
}

// entry is an order with the next entry of 1 KiB.
func (w *writing) entry() *order {
	r := wal.FinishRecord(append(wal.BeginRecord(nil, kindCommand, "x"), make([]byte, 1<<10)...), 0)
	r.Stamp(w.next, 1, wal.Seed(0))
	w.next++
	return &order{first: w.next - 1, last: w.next - 1, records: [][]byte{r}}
}

func (w *writing) order(o *order) {
	w.given++
	o.sequence = w.given
	w.orders.put(o)
}

// word is the writer's last one.
func (w *writing) word() (last written) {
	for _, word := range w.words {
		if word.full == nil && word.err == nil && word.sequence >= last.sequence {
			last = word
		}
	}
	return last
}

func (w *writing) full() (n int) {
	for _, word := range w.words {
		if word.full != nil {
			require.ErrorIs(w.t, word.full, ErrNoSpace)
			n++
		}
	}
	return n
}

func TestLogWriterWaitsForSpace(t *testing.T) {
	inWriting(t, 3, func(w *writing) {
		for range 5 {
			w.order(w.entry())
		}
		w.pass(time.Hour)
		require.EqualValues(w.t, 3, w.word().sequence)
		require.Equal(w.t, 1, w.full(), "said once")
		w.disk.SetQuota(nil)
		w.pass(testElection + 1)
		require.EqualValues(w.t, 8, w.word().sequence)
	})
}

// What gives the space back may wait behind what waits for it.
func TestLogWriterCompactsForSpace(t *testing.T) {
	for name, put := range map[string]func(w *writing){
		"in the same order": func(w *writing) {
			o := w.entry()
			o.compact = 9
			w.order(o)
		},
		"at the same time": func(w *writing) {
			w.order(w.entry())
			w.order(&order{compact: 9})
			w.next++ // an order without an entry
		},
		"later": func(w *writing) {
			w.order(w.entry())
			w.pass(time.Hour)
			require.Equal(w.t, 1, w.full())
			w.order(&order{compact: 9})
			w.next++
		},
	} {
		t.Run(name, func(t *testing.T) {
			inWriting(t, 12, func(w *writing) {
				first, _ := w.store.Bounds()
				require.EqualValues(w.t, 1, first)
				put(w)
				synctest.Wait()
				require.Equal(w.t, 1, w.full(), "the disk was never full")
				require.Equal(w.t, w.given, w.word().sequence, "still waits")
				first, _ = w.store.Bounds()
				require.Greater(w.t, first, uint64(5))
				w.given, w.words = 13, []written{{sequence: 13}}
			})
		})
	}
}

// An order that empties the log makes nothing before it superfluous that is not
// durable elsewhere: no compaction behind it is carried out ahead of it.
func TestLogWriterCompactsNothingBehindAReset(t *testing.T) {
	inWriting(t, 12, func(w *writing) {
		w.order(&order{truncate: 1, first: 1, last: 1, records: w.entryAt(1)})
		w.order(&order{restart: 40})
		w.order(&order{compact: 9})
		w.pass(time.Hour)
		first, last := w.store.Bounds()
		require.Equal(w.t, []uint64{1, 12}, []uint64{first, last})
		w.words = []written{{sequence: 12}}
	})
}

func (w *writing) entryAt(index uint64) [][]byte {
	w.next = index
	return w.entry().records
}

// Stop does not wait for space: what was ordered is not done, and not said to be.
func TestLogWriterStopsOnAFullDisk(t *testing.T) {
	inWriting(t, 3, func(w *writing) {
		for range 5 {
			o := w.entry()
			o.commit = o.first - 1 // the last of them is told with what does not fit
			w.order(o)
		}
		w.pass(time.Hour)
		w.orders.close()
		synctest.Wait()
		require.EqualValues(w.t, 3, w.word().sequence)
		end := w.words[len(w.words)-1]
		require.True(w.t, errors.Is(end.err, ErrNoSpace), "%+v", end)
		w.commit = 3
	})
}

// pass lets time pass in the bubble, and what falls due at its end happen.
func (w *writing) pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// The end may come together with what does not fit: while a sync is under way the
// orders behind it gather, and then they are the last.
func TestLogWriterStopsOnADiskThatFillsAtTheEnd(t *testing.T) {
	inWriting(t, 3, func(w *writing) {
		w.disk.SetFault(func(op vfs.Op) error {
			if op.Kind == vfs.OpSync {
				<-time.After(time.Second)
			}
			return nil
		})
		w.order(&order{ballot: &ballot{term: 1}})
		synctest.Wait()
		for range 5 {
			w.order(w.entry())
		}
		w.order(&order{flush: true})
		w.orders.close()
		w.pass(time.Hour)
		w.disk.SetFault(nil)
		require.NotEmpty(t, w.words)
		require.ErrorIs(t, w.words[len(w.words)-1].err, ErrNoSpace, "it still waits for space")
		w.words = []written{{sequence: 3}}
	})
}

// What was committed while an order waited for space stands in the orders behind it.
func TestLogWriterStopsWithTheLastCommitIndex(t *testing.T) {
	for name, behind := range map[string]*order{
		"told by the end":           {flush: true, commit: 3},
		"told with a ballot":        {ballot: &ballot{term: 2}, commit: 3},
		"of more than is there":     {flush: true, commit: 9},
		"of what replaces the last": {truncate: 3, commit: 3},
		"of another log":            {restart: 9, commit: 8},
	} {
		for _, late := range []bool{false, true} {
			t.Run(fmt.Sprint(name, late), func(t *testing.T) {
				inWriting(t, 3, func(w *writing) {
					for range 5 {
						o := w.entry()
						o.commit = 2
						w.order(o)
					}
					if late {
						w.pass(time.Hour)
					}
					w.order(behind)
					if w.commit = 3; behind.truncate != 0 || behind.restart != 0 {
						w.commit = 2
					}
				})
			})
		}
	}
}

// A compaction behind an order that replaces entries may take nothing that the
// order needs to begin at.
func TestLogWriterCompactsNothingThatIsReplaced(t *testing.T) {
	inWriting(t, 12, func(w *writing) {
		o := &order{truncate: 4, first: 4, last: 4, records: w.entryAt(4)}
		for range 12 {
			o.records = append(o.records, w.entry().records...)
			o.last++
		}
		w.order(o)
		w.order(&order{compact: 12})
		w.pass(time.Hour)
		require.Equal(w.t, 1, w.full(), "%+v", w.words)
		w.disk.SetQuota(nil)
		w.pass(testElection + 1)
		require.Equal(w.t, w.given, w.word().sequence, "%+v", w.words)
		w.words = []written{{sequence: 16}}
	})
}

// What is ready to run when an order comes, as a leader's messages are, does not wait
// for the disk. Now and then the scheduler lets it wait all the same.
func TestMessagesLeaveBeforeTheWrite(t *testing.T) {
	onOneProcessor(t)
	const orders = 50
	inWriting(t, 0, func(w *writing) {
		w.disk.SetQuota(nil)
		first := 0
		for range orders {
			synctest.Wait()
			var left, late atomic.Bool
			w.disk.SetFault(func(vfs.Op) error {
				if !left.Load() {
					late.Store(true)
				}
				return nil
			})
			go left.Store(true)
			w.order(w.entry()) // the writer is the next to run
			synctest.Wait()
			w.disk.SetFault(nil)
			if !late.Load() {
				first++
			}
		}
		require.Greater(t, first, orders*8/10)
	})
}
