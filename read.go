package raft

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// ReadLevel says how fresh the state must be that a read sees. The zero value is
// Linearizable.
type ReadLevel struct {
	kind      levelKind
	token     Token
	staleness time.Duration
}

type levelKind uint8

const (
	levelLinearizable levelKind = iota
	levelAtLeast
	levelBounded
	levelStale
)

var (
	// Linearizable is what has no surprises: the read sees every write that was
	// acknowledged, by any server, before the read began (dissertation §6.4). It costs
	// a round of heartbeats, which all reads that wait share, and no entry in the log;
	// on a server that does not lead also a question to the leader.
	Linearizable = ReadLevel{kind: levelLinearizable}
	// Stale is the state of this server as it is: without a leader, and as old as this
	// server is behind. It may be older than what an earlier read saw elsewhere. It waits
	// only for an Apply or Recovery that is under way.
	Stale = ReadLevel{kind: levelStale}
)

// AtLeast is the state of this server when it has applied what the token stands for:
// a client that carries the token of its last call along reads its own writes, and
// never goes back in time, on any server. It asks no leader. A server that is cut off
// may never get there, so bound the wait by a context.
func AtLeast(token Token) ReadLevel { return ReadLevel{kind: levelAtLeast, token: token} }

// BoundedStaleness sees every write that was acknowledged, by any server, more than d
// before the read began. A server that has read with a leader's word within d takes
// that word again, so reads are as cheap as stale ones, and as safe as linearizable
// ones when d is over. Time is measured by this server's monotonic clock: on systems
// where that stands still while the machine sleeps, so does d.
func BoundedStaleness(d time.Duration) ReadLevel {
	return ReadLevel{kind: levelBounded, staleness: d}
}

// String is the level's name.
func (l ReadLevel) String() string {
	switch l.kind {
	case levelAtLeast:
		return fmt.Sprintf("AtLeast(%d)", l.token.Index)
	case levelBounded:
		return fmt.Sprintf("BoundedStaleness(%v)", l.staleness)
	case levelStale:
		return "Stale"
	}
	return "Linearizable"
}

// Token stands for the state of one cluster up to an entry of its log. It means
// nothing to another cluster. The zero Token stands for no state at all.
type Token struct {
	Index uint64 `json:"index"`
}

// Reader reads the state machine.
type Reader interface {
	// Read calls f with the state machine (which may be nil) as soon as that is as fresh
	// as the level demands. While f runs nothing is applied here, no snapshot restored,
	// and none taken, so f should be short; it may run at the same time as the f of other
	// reads. A state machine that is a ConcurrentReader lets all that go on meanwhile. f
	// must not call Do, Read, ReadIndex or TakeSnapshot of the same server, which would
	// wait for Apply, which waits for f; nor Stop, which would wait for two election
	// timeouts and leave f behind.
	//
	// Without an error of f's own, Read fails with ErrNoLeader when no leader confirms
	// within four election timeouts what the level demands, ErrBehind when this server
	// knows what that is and has applied nothing for as long, ErrOverloaded when too many
	// reads wait, ErrReentrant inside Apply, Save and Recovery, StopError on a server that
	// is not started or is stopped meanwhile, NotLeaderError where the Transporter cannot
	// ask the leader (see ReadIndexTransporter), a *HaltError when this server applies no
	// more, and an error that wraps CommandTimeoutError and the context's when that ends.
	// f was not called then.
	Read(ctx context.Context, level ReadLevel, f func(StateMachine) error) error
	// ReadIndex is Read without f: it returns as soon as the state machine is as fresh
	// as the level demands, and the Token of what it has applied by then. It is for
	// applications that guard their state themselves, and holds until the server is
	// stopped. After Do, or after a Read, ReadIndex with Stale on the same server returns
	// a Token that covers the command, or what was seen.
	ReadIndex(ctx context.Context, level ReadLevel) (Token, error)
}

// ConcurrentReader is an optional ability of a StateMachine: to be read while Apply,
// Recovery, Save or FixState is at work. Reads then hold off nothing. They may see a
// command that is being applied, and whose caller has no answer yet.
type ConcurrentReader interface {
	StateMachine
	// ReadsConcurrently only says so. It is never called.
	ReadsConcurrently()
}

// Why a read was not served. It may be tried again, here or elsewhere.
var (
	// ErrNoLeader says that a read found no leader that a majority confirms.
	ErrNoLeader = errors.New("raft: no leader was confirmed")
	// ErrBehind says that this server knows what a read must have seen, and does not get
	// there: it is cut off, or its Apply blocks.
	ErrBehind = errors.New("raft: this server is behind and gets no further")
)

// Read reads the server's state machine at that level and returns what f returns. See
// Reader.
func Read[T any](ctx context.Context, server Server, level ReadLevel, f func(StateMachine) (T, error)) (T, error) {
	var value, none T
	err := server.Read(ctx, level, func(machine StateMachine) (err error) {
		value, err = f(machine)
		return err
	})
	if err != nil {
		return none, err
	}
	return value, nil
}

const (
	// maxReads bounds the reads of one server that wait.
	maxReads = 1 << 16
	// readTimeouts is how many election timeouts a read looks for a leader.
	readTimeouts = 4
)

// read is a read on its way to its state. It has one answer, which whoever gives up
// first forgoes.
type read struct {
	index  uint64                      // the state that it needs
	look   uint8                       // how it looks at the state machine
	since  time.Time                   // when another server asked
	found  atomic.Bool                 // index is known; it waits for the applier
	state  atomic.Int32                // one of the following
	done   chan readOutcome            // holds one
	remote func(index uint64, ok bool) // of another server: all that it needs is to know
	home   *readPool
	timer  *time.Timer // of its caller's patience
}

const (
	readWaits int32 = iota
	readAnswered
	readGone // nobody waits for it any more
)

// readOutcome is the last entry that the state machine has applied, or why there is
// none.
type readOutcome struct {
	index uint64
	err   error
}

// readPool keeps a server's reads for use again, as a proposalPool does proposals.
type readPool struct{ pool sync.Pool }

func (p *readPool) get() *read {
	if r, ok := p.pool.Get().(*read); ok {
		return r
	}
	return &read{done: make(chan readOutcome, 1), home: p}
}

// patience returns what is ready when that time has passed.
func (r *read) patience(d time.Duration) <-chan time.Time {
	if r.timer == nil {
		r.timer = time.NewTimer(d)
	} else {
		r.timer.Reset(d)
	}
	return r.timer.C
}

// release gives the read back, of which nobody else knows any more.
func (r *read) release() {
	if r.timer != nil {
		r.timer.Stop() // of the next one's time nothing is over yet
	}
	r.index, r.look = 0, looksNot
	r.found.Store(false)
	r.state.Store(readWaits)
	r.home.pool.Put(r)
}

// answer gives the read its outcome, and reports whether anybody takes it.
func (r *read) answer(o readOutcome) bool {
	if r.remote != nil {
		r.remote(o.index, o.err == nil)
		return false
	}
	if !r.state.CompareAndSwap(readWaits, readAnswered) {
		return false
	}
	r.done <- o
	return true
}

func (r *read) gone() bool { return r.state.Load() == readGone }

// giveUp reports whether the read will get no answer any more. If not, it has one.
func (r *read) giveUp() bool { return r.state.CompareAndSwap(readWaits, readGone) }

func (s *server) ReadIndex(ctx context.Context, level ReadLevel) (Token, error) {
	return s.read(ctx, level, nil)
}

func (s *server) Read(ctx context.Context, level ReadLevel, f func(StateMachine) error) error {
	_, err := s.read(ctx, level, f)
	return err
}

// read waits for the state that the level demands, and shows it to f.
func (s *server) read(ctx context.Context, level ReadLevel, f func(StateMachine) error) (Token, error) {
	r := s.lifecycle.run.Load()
	switch {
	case s.applies():
		return Token{}, ErrReentrant
	case r == nil || s.lifecycle.state.Load() != phaseStarted:
		return Token{}, StopError
	case ctx.Err() != nil:
		return Token{}, readTimeout(ctx)
	}
	defer r.reading.Add(-1)
	if r.reading.Add(1) > maxReads {
		return Token{}, ErrOverloaded
	}
	q := s.reads.get()
	look := looksNot
	if _, concurrent := s.stateMachine.(ConcurrentReader); f != nil && concurrent {
		look = looksBeside
	} else if f != nil {
		look = looksAlone
	}
	q.look = look
	o, err := r.find(ctx, level, q)
	if err != nil {
		return Token{}, err
	}
	defer r.applier.seen(look)
	if f != nil {
		err = f(s.stateMachine)
	}
	return Token{o.index}, err
}

// find waits until the state machine is what the level demands. Who looks at it calls
// seen afterwards.
func (r *run) find(ctx context.Context, level ReadLevel, q *read) (readOutcome, error) {
	var patience <-chan time.Time
	if level.kind == levelLinearizable || level.kind == levelBounded {
		patience = q.patience(readTimeouts * r.settings.electionTimeout())
	}
	open, applied := false, r.applier.applied.Load()
	if index, known := r.demanded(level); known {
		q.index = index
		q.found.Store(true)
		open = r.applier.reads.put(q)
	} else {
		open = r.reads.put(q)
	}
	r.yield("asked")
	if !open {
		return readOutcome{}, StopError
	}
	for {
		var err error
		select {
		case o := <-q.done:
			q.release()
			return o, o.err
		case <-ctx.Done():
			err = readTimeout(ctx)
		case <-r.ctx.Done():
			err = StopError
		case <-patience:
			err = ErrNoLeader
			if now := r.applier.applied.Load(); q.found.Load() {
				if err = ErrBehind; now > applied {
					applied = now
					q.patience(readTimeouts * r.settings.electionTimeout())
					continue // it gets there
				}
			}
		}
		if q.giveUp() {
			return readOutcome{}, err
		}
	}
}

// demanded returns the index that the level demands, if no leader has to be asked.
func (r *run) demanded(level ReadLevel) (index uint64, ok bool) {
	switch level.kind {
	case levelStale:
		return 0, true
	case levelAtLeast:
		return level.token.Index, true
	case levelBounded:
		word := r.word.Load()
		if word == nil || time.Since(word.asked) > level.staleness {
			return 0, false
		}
		return word.index, true
	}
	return 0, false
}

// readTimeout is what a read gets whose context ended.
func readTimeout(ctx context.Context) error {
	return fmt.Errorf("%w: %w", CommandTimeoutError, ctx.Err())
}
