package raft

import (
	"context"
	"io"
	"log/slog"
	"math"
	"testing"

	"github.com/goraft/raft/internal/vfs"
	"github.com/goraft/raft/internal/wal"
	"github.com/stretchr/testify/require"
)

// The tests of this file hold that a command's way allocates nothing but what
// docs/performance.md lists; the benchmarks tell what each step takes.

// silentCommand is 128 bytes that nobody keeps.
type silentCommand struct{ data [128]byte }

func (c *silentCommand) CommandName() string { return "silent" }

func (c *silentCommand) Encode(w io.Writer) error {
	_, err := w.Write(c.data[:])
	return err
}

func (c *silentCommand) Decode(r io.Reader) error {
	_, err := r.Read(c.data[:])
	return err
}

func (c *silentCommand) Apply(Context) (interface{}, error) { return nil, nil }

// silentRecords returns that many records from index 1 on, each of a silentCommand, as
// a cluster without an id has them.
func silentRecords(tb testing.TB, n int) (records []byte, offsets []uint32) {
	for i := range n {
		start := len(records)
		offsets = append(offsets, uint32(start))
		var err error
		records, err = encodeCommand(records, kindCommand, &silentCommand{})
		require.NoError(tb, err)
		wal.Record(records[start:]).Stamp(uint64(i)+1, 1, wal.Seed(0))
	}
	return records, offsets
}

// allocsEach is what f allocates per command, given that it handles that many. The
// count is of the whole process, in which others may be at work: the least is f's own.
func allocsEach(commands int, f func()) float64 {
	least := math.Inf(1)
	for range 10 {
		least = min(least, testing.AllocsPerRun(5, f))
	}
	return least / float64(commands)
}

const hotBatch = 1000

func TestQueueAllocatesNothing(t *testing.T) {
	q, p := newQueue[*proposal](), new(proposal)
	var taken []*proposal
	f := func() {
		for range hotBatch {
			q.put(p)
		}
		taken = q.take(taken)
	}
	f()
	require.Zero(t, allocsEach(hotBatch, f))
}

// What is staged costs memory for its bytes, a chunk at a time.
func TestStagingAllocatesChunksOnly(t *testing.T) {
	record, _ := silentRecords(t, 1)
	var log tail
	index := uint64(0)
	f := func() {
		for range hotBatch {
			index++
			log.stage(record, entryID{index, 1}, 0)
		}
		log.trim(0, index)
	}
	require.LessOrEqual(t, allocsEach(hotBatch, f), 0.02)
}

// What a stream delivers is checked, and kept where it lies.
func TestReceivedEntriesAreNotCopied(t *testing.T) {
	records, _ := silentRecords(t, hotBatch)
	arena := append(make([]byte, 0, len(records)+1), records...)
	var log tail
	f := func() {
		call := &appendCall{req: &AppendEntriesRequest{Term: 1, records: arena}}
		if call.read() != nil {
			t.Fatal("the request was refused")
		}
		log = tail{}
		kept := log.append(1, call.req.records, call.offsets)
		if &kept[0] != &arena[0] {
			t.Fatal("the entries were copied")
		}
	}
	require.LessOrEqual(t, allocsEach(hotBatch, f), 0.01)
}

// silentApplier is an applier of its own, and a batch of entries for it.
func silentApplier(tb testing.TB) (*applier, []byte) {
	records, _ := silentRecords(tb, hotBatch)
	return &applier{
		home: &run{}, registry: testRegistry(tb, &silentCommand{}), events: &eventDispatcher{},
		ranges: newQueue[committed](), callers: newQueue[*proposal](), reads: newQueue[*read](), goroutine: goroutineID(),
	}, records
}

// Applying an entry makes the command that it carries.
func TestApplyAllocatesTheCommandOnly(t *testing.T) {
	a, records := silentApplier(t)
	require.LessOrEqual(t, allocsEach(hotBatch, func() { a.applyRecords(records) }), 1.01+raceAllocs)
	require.Nil(t, a.halt)
}

// raceAllocs is what the race detector may add, which makes pools forget.
var raceAllocs = map[bool]float64{true: 1}[raceDetector]

func BenchmarkQueue(b *testing.B) {
	q, p := newQueue[*proposal](), new(proposal)
	var taken []*proposal
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if q.put(p); i%hotBatch == 0 {
			taken = q.take(taken)
		}
	}
}

func BenchmarkStage(b *testing.B) {
	record, _ := silentRecords(b, 1)
	var log tail
	index := uint64(0)
	b.SetBytes(int64(len(record)))
	b.ReportAllocs()
	for b.Loop() {
		index++
		log.stage(record, entryID{index, 1}, 0)
		log.trim(tailBytes, index)
	}
}

func BenchmarkApply(b *testing.B) {
	a, records := silentApplier(b)
	b.SetBytes(int64(len(records) / hotBatch))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if i%hotBatch == 0 {
			a.applyRecords(records)
		}
	}
}

// BenchmarkDo is a cluster of one on a memory disk: all of a command's way but for
// the network and the syncs.
func BenchmarkDo(b *testing.B) {
	s, err := NewServer("a", "/a", deaf{}, nil, nil, "", withFileSystem(vfs.NewMem()),
		WithRegistry(testRegistry(b, &silentCommand{})), WithLogger(slog.New(slog.DiscardHandler)), WithSnapshotTrigger(0, 0))
	require.NoError(b, err)
	require.NoError(b, s.Start())
	defer s.Stop()
	_, err = s.Do(&DefaultJoinCommand{Name: "a"})
	require.NoError(b, err)
	b.Run("alone", func(b *testing.B) {
		command := &silentCommand{}
		b.ReportAllocs()
		for b.Loop() {
			if _, err := s.Do(command); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("many", func(b *testing.B) {
		b.ReportAllocs()
		b.SetParallelism(256)
		b.RunParallel(func(pb *testing.PB) {
			command := &silentCommand{}
			for pb.Next() {
				if _, err := s.DoContext(context.Background(), command); err != nil {
					b.Error(err)
					return
				}
			}
		})
	})
}
