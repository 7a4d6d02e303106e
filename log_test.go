package raft

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/goraft/raft/internal/wal"
	"github.com/stretchr/testify/require"
)

// sizedRecord makes a record of about that many bytes, whose content is its own.
func sizedRecord(rng *rand.Rand, size int) []byte {
	b := wal.BeginRecord(make([]byte, 0, size+8), kindCommand, "c")
	size = max(size, len(b))
	for len(b) < size {
		b = binary.LittleEndian.AppendUint64(b, rng.Uint64())
	}
	return wal.FinishRecord(b[:size], 0)
}

// tailModel is a tail as a plain list of records, the first of them at index
// first.
type tailModel struct {
	first   uint64
	records [][]byte
}

func (m *tailModel) end() uint64 { return m.first + uint64(len(m.records)) - 1 }

// snapshot is a view with what it must go on showing.
type tailView struct {
	view  tail
	model tailModel
}

// Whatever is appended, staged, cut off either end: a tail and every copy that was
// ever taken of it show the records of their time, byte for byte.
func TestTailAgainstModel(t *testing.T) {
	for seed := range scale(40) {
		rng := rand.New(rand.NewPCG(seed, 2))
		first := 1 + rng.Uint64N(5)
		tail, model := tail{}, tailModel{first: first}
		var views []tailView
		term := uint64(1)
		for range 60 {
			switch rng.IntN(7) {
			case 0, 1: // a leader's own entries
				for range 1 + rng.IntN(20) {
					record := sizedRecord(rng, 30+rng.IntN(3000))
					id := entryID{model.end() + 1, term}
					staged := tail.stage(record, id, 7)
					require.NoError(t, wal.Record(staged).Verify(7))
					model.records = append(model.records, bytes.Clone(staged))
				}
			case 2, 3: // a request's, small or large
				var records []byte
				var offsets []uint32
				size := []int{100, 4000, 40000}[rng.IntN(3)]
				first := model.end() + 1
				for i := range 1 + rng.IntN(12) {
					record := sizedRecord(rng, 30+rng.IntN(size))
					wal.Record(record).Stamp(first+uint64(i), term, 7)
					offsets = append(offsets, uint32(len(records)))
					records = append(records, record...)
					model.records = append(model.records, record)
				}
				require.Equal(t, records, tail.append(first, records, offsets))
			case 4:
				index := model.first + rng.Uint64N(uint64(len(model.records))+1)
				tail.truncate(index)
				model.records = slices.Clone(model.records[:index-model.first])
				term++
			case 5:
				limit, durable := rng.IntN(600<<10), model.first+rng.Uint64N(uint64(len(model.records))+1)
				tail.trim(limit, durable-1)
				if held := tail.first(); held != 0 {
					require.LessOrEqual(t, held, durable, "trimmed what is not durable")
					model.records, model.first = slices.Clone(model.records[held-model.first:]), held
				} else {
					require.LessOrEqual(t, model.end(), durable-1)
					model.first, model.records = model.end()+1, nil
				}
			case 6:
				views = append(views, tailView{tail, tailModel{model.first, slices.Clone(model.records)}})
			}
			checkTail(t, rng, &tail, &model)
		}
		for i := range views {
			checkTail(t, rng, &views[i].view, &views[i].model)
		}
	}
}

// checkTail reads all of the tail in pieces, and some of it at random.
func checkTail(t *testing.T, rng *rand.Rand, tail *tail, model *tailModel) {
	size := 0
	for _, c := range tail.full {
		size += len(c.bytes)
	}
	require.Equal(t, size, tail.size)
	if len(model.records) == 0 {
		require.Zero(t, tail.first())
		records, _ := tail.read(model.first, model.first, 1)
		require.Nil(t, records)
		return
	}
	require.Equal(t, model.first, tail.first())
	outside, _ := tail.read(model.first-1, model.end(), 1)
	require.Nil(t, outside)
	outside, _ = tail.read(model.end()+1, model.end()+1, 1)
	require.Nil(t, outside)
	for range 3 {
		index := model.first + rng.Uint64N(uint64(len(model.records)))
		to := index + rng.Uint64N(model.end()-index+1)
		limit := rng.IntN(100 << 10)
		records, last := tail.read(index, to, limit)
		require.True(t, last >= index && last <= to, "read %d to %d gave %d", index, to, last)
		want := slices.Concat(model.records[index-model.first : last-model.first+1]...)
		require.True(t, bytes.Equal(want, records), "read from %d to %d", index, last)
		require.Equal(t, len(records), cap(records))
		require.True(t, last == index || len(records) <= limit, "%d bytes, the limit is %d", len(records), limit)
	}
	for index := model.first; index <= model.end(); {
		records, last := tail.read(index, model.end(), 1<<20)
		want := slices.Concat(model.records[index-model.first : last-model.first+1]...)
		require.True(t, bytes.Equal(want, records))
		index = last + 1
	}
}

// One piece that is read ends where the next record would pass the limit, not
// earlier.
func TestTailReadsAsMuchAsFits(t *testing.T) {
	var tail tail
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range uint64(10) {
		tail.stage(sizedRecord(rng, 100), entryID{i + 1, 1}, 0)
	}
	for limit, want := range map[int]uint64{0: 1, 1: 1, 100: 1, 199: 1, 200: 2, 201: 2, 999: 9, 1000: 10, 5000: 10} {
		_, last := tail.read(1, 10, limit)
		require.Equal(t, want, last, "limit %d", limit)
	}
	_, last := tail.read(4, 6, 1000)
	require.EqualValues(t, 6, last)
}

// Orders that are joined are one write that appends; none that drops entries,
// saves something or seals is joined to what comes before it.
func TestOrdersJoin(t *testing.T) {
	records := [][]byte{nopRecord()}
	appends := func() *order { return &order{records: records} }
	for _, test := range []struct {
		orders []*order
		want   int
	}{
		{[]*order{appends()}, 1},
		{[]*order{appends(), appends(), appends()}, 3},
		{[]*order{{ballot: &ballot{}, records: records}, appends()}, 2},
		{[]*order{{ballot: &ballot{}}, appends()}, 1},
		{[]*order{appends(), {ballot: &ballot{}, records: records}}, 1},
		{[]*order{appends(), {truncate: 3, records: records}, appends()}, 1},
		{[]*order{{truncate: 3, records: records}, appends()}, 2},
		{[]*order{appends(), {flush: true}}, 1},
		{[]*order{{flush: true}, appends()}, 1},
		{[]*order{appends(), {identity: &wal.Identity{}, reset: true}}, 1},
	} {
		require.Equal(t, test.want, joinable(test.orders), "%+v", test.orders)
	}
}

// Records that lie behind each other in memory become one piece of the order.
func TestOrderAddJoinsNeighbours(t *testing.T) {
	var tail tail
	o := &order{}
	var want []byte
	for i := range uint64(2000) {
		staged := tail.stage(nopRecord(), entryID{i + 1, 1}, 0)
		want = append(want, staged...)
		o.add(i+1, i+1, staged)
	}
	require.EqualValues(t, 1, o.first)
	require.EqualValues(t, 2000, o.last)
	require.LessOrEqual(t, len(o.records), 1+len(want)/chunkBytes)
	require.Equal(t, want, slices.Concat(o.records...))
}
