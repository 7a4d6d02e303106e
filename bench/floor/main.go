// Floor is the least that a replicated durable log can do: a leader gathers what
// its clients ask for, writes and syncs the batch on a pre-allocated file while it
// goes over one TCP hop to the other servers, which do the same and answer, and
// tells the clients when a majority has it. Two batches are in flight. There is no
// index, no term, no checksum, and nothing is applied: it is no system, but what a
// system can be measured against. With -grow the files grow instead, as those of a log
// that keeps what it has been given: disks and file systems take new space slower than
// they overwrite.
package main

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"sync"
	"sync/atomic"

	"github.com/goraft/raft/bench/load"
)

// inFlight is how many batches are under way at once.
const inFlight = 2

var grow = flag.Bool("grow", false, "write new space instead of the same again and again")

func main() { load.Main(start) }

// batch is what goes out together: its frame, and the clients that wait for it.
type batch struct {
	sequence uint64
	frame    []byte
	callers  []chan struct{}
	acks     atomic.Int32
	users    atomic.Int32 // who may still look at it
}

// leader has the clients, and one of the files.
type leader struct {
	size      int
	majority  int32
	own       *disk
	followers []*follower
	ready     chan struct{} // holds a token while a batch waits
	slots     chan struct{} // holds a token for each batch under way
	work      chan *batch   // to the leader's own disk
	spare     sync.Pool
	wait      sync.WaitGroup

	mu   sync.Mutex
	next *batch // what clients add to

	// under has the batches that followers answer, by their sequence.
	under sync.Map
}

func start(c load.Config) (_ load.System, err error) {
	followers := c.Servers - 1
	switch c.Workload {
	case load.Write:
	case load.Stalled:
		followers-- // nobody waits for that one
	default:
		return nil, load.ErrWorkload{Workload: c.Workload}
	}
	l := &leader{
		size: c.Size, majority: int32(c.Servers/2 + 1),
		ready: make(chan struct{}, 1), slots: make(chan struct{}, inFlight), work: make(chan *batch, inFlight),
		spare: sync.Pool{New: func() any { return new(batch) }},
	}
	l.next = l.empty()
	fileSize := int64(max(minFileSize, 2*c.Clients*c.Size)) // all clients may be in one batch
	if *grow {
		fileSize = 0
	}
	if l.own, err = newDisk(c.Dir, 0, fileSize); err != nil {
		return nil, err
	}
	for i := range followers {
		f, err := startFollower(c.Dir, i+1, fileSize)
		if err != nil {
			return nil, errors.Join(err, l.Close())
		}
		l.followers = append(l.followers, f)
		l.wait.Go(func() { f.acks(l.stored) })
	}
	l.wait.Go(l.save)
	l.wait.Go(l.lead)
	return l, nil
}

// Client adds commands of zeros to the batch that is next.
func (l *leader) Client(int) (func(context.Context) error, error) {
	command, done := make([]byte, l.size), make(chan struct{}, 1)
	return func(context.Context) error {
		l.mu.Lock()
		b := l.next
		b.frame = binary.LittleEndian.AppendUint32(b.frame, uint32(len(command)))
		b.frame = append(b.frame, command...)
		b.callers = append(b.callers, done)
		first := len(b.callers) == 1
		l.mu.Unlock()
		if first {
			l.ready <- struct{}{}
		}
		<-done
		return nil
	}, nil
}

// lead sends one batch after the other, as long as there is a slot for it.
func (l *leader) lead() {
	defer close(l.work)
	var sequence uint64
	for range l.ready {
		l.slots <- struct{}{}
		l.mu.Lock()
		b := l.next
		l.next = l.empty()
		l.mu.Unlock()
		sequence++
		b.sequence = sequence
		binary.LittleEndian.PutUint32(b.frame, uint32(len(b.frame)-headerSize))
		binary.LittleEndian.PutUint64(b.frame[4:], sequence)
		b.acks.Store(0)
		b.users.Store(int32(2 + len(l.followers))) // every server, and this function
		l.under.Store(sequence, b)
		l.work <- b
		for _, f := range l.followers {
			if !f.send(b.frame) {
				return
			}
		}
		l.release(b)
	}
}

// save writes the batches to the leader's own file.
func (l *leader) save() {
	for b := range l.work {
		if l.own.append(b.frame) != nil {
			return
		}
		l.stored(b.sequence)
	}
}

// stored counts a server that has the batch, and answers the callers when a
// majority has it.
func (l *leader) stored(sequence uint64) {
	found, _ := l.under.Load(sequence)
	b := found.(*batch)
	if b.acks.Add(1) == l.majority {
		<-l.slots
		for _, done := range b.callers {
			done <- struct{}{}
		}
	}
	l.release(b)
}

func (l *leader) empty() *batch {
	b := l.spare.Get().(*batch)
	b.frame = append(b.frame[:0], make([]byte, headerSize)...)
	b.callers = b.callers[:0]
	return b
}

// release gives the batch back when nobody looks at it any more.
func (l *leader) release(b *batch) {
	if b.users.Add(-1) == 0 {
		l.under.Delete(b.sequence)
		l.spare.Put(b)
	}
}

// Close ends all servers.
func (l *leader) Close() error {
	close(l.ready)
	var errs []error
	for _, f := range l.followers {
		errs = append(errs, f.close())
	}
	l.wait.Wait()
	return errors.Join(append(errs, l.own.file.Close())...)
}
