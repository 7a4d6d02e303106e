package load

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Result is what one run measured. Times are in nanoseconds.
type Result struct {
	Config     Config
	Seconds    float64 // of the window
	Operations int
	P50, P99   float64
	Max        float64
	CPU        float64 // of the process, user and system, per operation
	Allocs     float64 // per operation, in the whole process
	Bytes      float64 // allocated per operation
	Heap       uint64  // in use when the window ended, after a collection
	Resident   uint64  // memory of the process that was in RAM then, 0 if unknown
	Own        map[string]float64
}

// Rate is the operations per second.
func (r *Result) Rate() float64 { return float64(r.Operations) / r.Seconds }

// measurement runs the clients.
type measurement struct {
	config       Config
	system       System
	began, ended func()
}

// The phases of a run, as the clients see them.
const (
	warming = iota
	measuring
	over
)

// client is one of them; nobody else touches it before it has ended.
type client struct {
	operate func(context.Context) error
	took    []time.Duration // in the window
	warm    int             // operations before it
	err     error
}

func (m *measurement) run() (*Result, error) {
	c := m.config
	clients := make([]*client, c.Clients)
	for i := range clients {
		operate, err := m.system.Client(i)
		if err != nil {
			return nil, fmt.Errorf("client %d: %w", i, err)
		}
		clients[i] = &client{operate: operate}
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if err := m.prefill(ctx); err != nil {
		return nil, err
	}
	var phase atomic.Int32
	var settled, ended sync.WaitGroup
	gate := make(chan struct{})
	for _, one := range clients {
		settled.Add(1)
		ended.Go(func() { one.loop(ctx, &phase, &settled, gate) })
	}
	time.Sleep(c.Warmup)
	phase.Store(measuring)
	settled.Wait() // nobody is at work: what is counted now belongs to the window
	for _, one := range clients {
		expected := float64(one.warm) / c.Warmup.Seconds() * c.Window.Seconds()
		one.took = make([]time.Duration, 0, 1024+int(2*expected))
	}
	runtime.GC()
	before, began := usage(), time.Now()
	watcher, watches := m.system.(Watcher)
	if m.began != nil {
		m.began()
	}
	var err error
	if watches {
		err = watcher.Began()
	}
	close(gate)
	err = errors.Join(err, m.wait(ctx))
	if m.ended != nil {
		m.ended()
	}
	if watches {
		err = errors.Join(err, watcher.Ended())
	}
	phase.Store(over)
	spent, took := usage().since(before), time.Since(began)
	ended.Wait()
	result := &Result{Config: c, Seconds: took.Seconds()}
	told := map[string]bool{}
	for _, one := range clients {
		// A thousand clients fail in one way when a leader is lost.
		if one.err != nil && !told[one.err.Error()] {
			told[one.err.Error()] = true
			err = errors.Join(err, one.err)
		}
	}
	result.fill(clients, spent)
	if t, ok := m.system.(Teller); ok {
		result.Own = t.Tell()
	}
	return result, err
}

// fillers are the clients that write the entries: as many as it takes to be done
// with millions of them within minutes.
const fillers = 2048

// prefill has the system take Config.Entries commands, in the way in which it takes
// all others.
func (m *measurement) prefill(ctx context.Context) error {
	var left atomic.Int64
	left.Store(int64(m.config.Entries))
	clients := min(m.config.Entries, fillers)
	errs := make(chan error, clients)
	for i := range clients {
		operate, err := m.system.Client(i)
		if err != nil {
			return fmt.Errorf("client %d: %w", i, err)
		}
		go func() {
			var err error
			for err == nil && left.Add(-1) >= 0 {
				err = operate(ctx)
			}
			errs <- err
		}()
	}
	var first error
	for range clients {
		if err := <-errs; first == nil && err != nil {
			first = fmt.Errorf("writing %d entries: %w", m.config.Entries, err)
		}
	}
	return first
}

// wait lets the window pass.
func (m *measurement) wait(ctx context.Context) error {
	if d, ok := m.system.(Disturber); ok && (m.config.Workload == Snapshot || m.config.Workload == Start) {
		return d.Disturb(ctx)
	}
	time.Sleep(m.config.Window)
	return nil
}

// loop operates until the run is over. Between the warm-up and the window it
// waits for the others.
func (c *client) loop(ctx context.Context, phase *atomic.Int32, settled *sync.WaitGroup, gate chan struct{}) {
	for phase.Load() == warming && c.err == nil {
		c.err = c.operate(ctx)
		c.warm++
	}
	settled.Done()
	<-gate
	for c.err == nil {
		began := time.Now()
		err := c.operate(ctx)
		if phase.Load() == over {
			return // it does not belong to the window any more
		}
		c.err = err
		c.took = append(c.took, time.Since(began))
	}
}

func (r *Result) fill(clients []*client, spent spending) {
	var all []time.Duration
	for _, one := range clients {
		all = append(all, one.took...)
		one.took = nil // it is not to be counted as memory of the system
	}
	slices.Sort(all)
	r.Operations = len(all)
	if len(all) > 0 {
		r.P50, r.P99, r.Max = quantile(all, 0.5), quantile(all, 0.99), float64(all[len(all)-1])
	}
	each := math.Max(1, float64(len(all)))
	r.CPU, r.Allocs, r.Bytes = float64(spent.cpu)/each, float64(spent.allocs)/each, float64(spent.bytes)/each
	if r.Config.Clients == 0 { // per second
		r.CPU, r.Allocs, r.Bytes = float64(spent.cpu)/r.Seconds, float64(spent.allocs)/r.Seconds, float64(spent.bytes)/r.Seconds
	}
	runtime.GC()
	var now runtime.MemStats
	runtime.ReadMemStats(&now)
	r.Heap, r.Resident = now.HeapAlloc, resident()
}

// quantile is the q-th of the sorted values by rank.
func quantile(sorted []time.Duration, q float64) float64 {
	rank := int(math.Ceil(q * float64(len(sorted))))
	return float64(sorted[max(0, rank-1)])
}
