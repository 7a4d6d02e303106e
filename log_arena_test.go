package raft

import (
	"bytes"
	"io"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// bodyFrame is a frame with that body and no header.
func bodyFrame(body []byte) []byte {
	frame := beginFrame(nil, frameRequest)
	finishFrame(frame, 0, body)
	return append(frame, body...)
}

// arenaTest is a log whose pieces come through a frame reader, with a copy of what
// each of its records must be.
type arenaTest struct {
	t     *testing.T
	dice  *rand.Rand
	tail  tail
	order order
	model [][]byte // record i+1
	looks chan func()
}

// body reads the lengths of records, a byte each, from a body.
func offsetsIn(body []byte) (offsets []uint32) {
	for at := 0; at < len(body); at += 1 + int(body[at]) {
		offsets = append(offsets, uint32(at))
	}
	return offsets
}

// randomBody is records, each a byte with the length of what follows it.
func randomBody(dice *rand.Rand, size int) (body []byte) {
	for len(body) < size {
		n := dice.IntN(200)
		body = append(body, byte(n))
		for range n {
			body = append(body, byte(dice.Uint32()))
		}
	}
	return body
}

// take appends records of a body behind entry last, which what was there gives way to.
func (a *arenaTest) take(last int, body []byte, skip int) {
	offsets := offsetsIn(body)[skip:]
	start := offsets[0]
	body = body[start:]
	for i := range offsets {
		offsets[i] -= start
	}
	if last < len(a.model) {
		a.look()
		a.order = order{}
		a.tail.truncate(uint64(last) + 1)
		a.model = a.model[:last:last]
	}
	first := uint64(len(a.model)) + 1
	for i, o := range offsets {
		end := len(body)
		if i+1 < len(offsets) {
			end = int(offsets[i+1])
		}
		a.model = append(a.model, bytes.Clone(body[o:end]))
	}
	a.order.add(first, uint64(len(a.model)), a.tail.append(first, body, offsets))
}

// lead appends a record of this server's own.
func (a *arenaTest) lead() {
	id := entryID{uint64(len(a.model)) + 1, 1}
	record := a.tail.stage(nopRecord(), id, 1)
	a.model = append(a.model, bytes.Clone(record))
	a.order.add(id.index, id.index, record)
}

// look has another goroutine compare a view and an order with what they must be.
func (a *arenaTest) look() {
	view, given, model := a.tail, a.order, a.model
	a.order = order{}
	a.looks <- func() {
		if len(given.records) > 0 && !bytes.Equal(bytes.Join(given.records, nil), bytes.Join(model[given.first-1:given.last], nil)) {
			a.t.Errorf("the order of %d to %d has other bytes", given.first, given.last)
		}
		for index := view.first(); index != 0 && index <= uint64(len(model)); index++ {
			records, last := view.read(index, uint64(len(model)), 1<<20)
			if records == nil || !bytes.Equal(records, bytes.Join(model[index-1:last], nil)) {
				a.t.Errorf("entries %d to %d have other bytes", index, last)
				return
			}
			index = last
		}
	}
}

// Row 38: a stream's reader writes the next bodies behind those that the log has, and
// nothing that was handed on ever changes: not for the log writer, not for a view,
// whatever the log takes, leaves out, replaces, or appends of its own meanwhile.
func TestFault038_BodiesBehindEachOther(t *testing.T) {
	for seed := range uint64(4) {
		dice := rand.New(rand.NewPCG(seed, 38))
		out, in := io.Pipe()
		bodies, a := make(chan []byte, 8), &arenaTest{t: t, dice: dice, looks: make(chan func(), 8)}
		var group sync.WaitGroup
		group.Go(func() {
			dice := rand.New(rand.NewPCG(seed, 39))
			for range 600 {
				size := 1 + dice.IntN(600)
				if dice.IntN(20) == 0 {
					size = 1 + dice.IntN(maxArenaBody+8<<10)
				}
				_, _ = in.Write(bodyFrame(randomBody(dice, size)))
			}
			_ = in.Close()
		})
		group.Go(func() {
			defer close(bodies)
			frames := framesOf(out, frameRequest)
			for {
				_, body, err := frames.next()
				if err != nil {
					return
				}
				bodies <- body
			}
		})
		group.Go(func() {
			for look := range a.looks {
				look()
			}
		})
		taken := 0
		for body := range bodies {
			taken++
			switch n := len(a.model); dice.IntN(12) {
			case 0: // known already
			case 1:
				a.take(n, body, dice.IntN(len(offsetsIn(body))))
			case 2:
				a.take(dice.IntN(n+1), body, 0)
			case 3:
				a.lead()
				a.take(len(a.model), body, 0)
			case 4:
				a.take(n, body, 0)
				a.lead()
			default:
				a.take(n, body, 0)
			}
			if dice.IntN(4) == 0 {
				a.look()
			}
		}
		a.look()
		close(a.looks)
		group.Wait()
		require.Equal(t, 600, taken)
	}
}

// held is how many bytes of memory the log's records keep.
func (t *tail) held() (n int) {
	chunks := append([]*chunk(nil), t.full...)
	for _, c := range append(chunks, &t.open) {
		n += cap(c.bytes) + 4*cap(c.offsets)
	}
	return n
}

// Row 38: a follower that hears little of each of many streams, because they break,
// keeps little memory alive for it.
func TestFault038_BrokenStreamsKeepNoArena(t *testing.T) {
	var log tail
	body := randomBody(rand.New(rand.NewPCG(1, 1)), 200)
	index := uint64(1)
	for range 500 {
		frames := framesOf(bytes.NewReader(bodyFrame(body)), frameRequest)
		_, got, err := frames.next()
		require.NoError(t, err)
		offsets := offsetsIn(got)
		log.append(index, got, offsets)
		index += uint64(len(offsets))
	}
	records, _ := log.read(1, index-1, len(body))
	require.Equal(t, body, records)
	require.Less(t, log.held(), chunkBytes+4*500*len(body))
}
