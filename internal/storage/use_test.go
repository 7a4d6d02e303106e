package storage

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/goraft/raft/internal/snapshot"
	"github.com/goraft/raft/internal/wal"
)

// logUser uses the log in every way that its package allows.
type logUser struct {
	*machine
	term   uint64
	cursor uint64 // of a reader
}

func (u *logUser) step() {
	w, rng := &u.world, u.rng
	u.commit = rng.Uint64N(w.last() + 1) // also one that is lower than what was said before
	inside := w.first + rng.Uint64N(uint64(len(w.records)+1))
	u.term++
	switch k := rng.IntN(20); {
	case k < 10:
		u.write(inside)
	case k < 12:
		u.truncate(inside)
	case k < 13:
		u.seal()
	case k < 15:
		u.saveHardState(wal.HardState{Term: u.term, VotedFor: string(bytes.Repeat([]byte("n"), rng.IntN(1200)))})
	case k < 16:
		u.reset(w.last()+1+rng.Uint64N(5), u.commit)
	case k < 17 && len(w.records) == 0:
		u.saveIdentity(wal.Identity{ClusterID: u.term, Initial: bytes.Repeat([]byte("i"), rng.IntN(9000))})
	case k < 18:
		u.restart()
	default:
		u.machine.compact(inside)
	}
	u.read()
}

// write appends, now and then in place of the end of the log.
func (u *logUser) write(inside uint64) {
	first := u.world.last() + 1
	if u.rng.IntN(4) == 0 {
		first = inside
	}
	size := u.rng.IntN(300)
	if u.rng.IntN(20) == 0 {
		size = 5000
	}
	u.append(first, u.term, 1+u.rng.IntN(5), size)
}

// read takes a step as a reader that goes on where it stopped, or starts anew.
func (u *logUser) read() {
	w := &u.world
	if len(w.records) == 0 {
		return
	}
	if u.cursor < w.first || u.cursor > w.last() {
		u.cursor = w.first + u.rng.Uint64N(uint64(len(w.records)))
	}
	to := u.cursor + u.rng.Uint64N(w.last()-u.cursor+1)
	b, err := u.store.Read(nil, u.cursor, to, u.rng.IntN(1500))
	u.must(err)
	if len(b) == 0 {
		u.Fatal("read nothing")
	}
	for ; len(b) > 0; u.cursor++ {
		r, rest, err := wal.NextRecord(b)
		u.must(err)
		if u.cursor > to || !bytes.Equal(r, w.records[u.cursor-w.first]) {
			u.Fatalf("reading %d to %d: a wrong record %d", u.cursor, to, r.Index())
		}
		b = rest
	}
}

// replicaUser uses log and snapshots as a server does: nothing that is committed is
// taken back, a snapshot is of committed entries, and the log is only cut for one.
type replicaUser struct {
	logUser
	draft *draft
}

// draft is a snapshot on its way: taken here, or received.
type draft struct {
	label    snapshot.Label
	state    []byte
	writer   *snapshot.Writer
	receiver *snapshot.Receiver
	file     []byte // what is received
}

func (u *replicaUser) step() {
	rng := u.rng
	crashes := u.crashes
	switch k := rng.IntN(20); {
	case k < 7:
		u.term++
		u.write(max(u.commit, u.world.first-1) + 1 + rng.Uint64N(u.uncommitted()+1))
	case k < 8:
		u.truncate(max(u.commit, u.world.first-1) + 1 + rng.Uint64N(u.uncommitted()+1))
	case k < 10:
		u.commit += rng.Uint64N(u.uncommitted() + 1)
	case k < 11:
		u.seal()
	case k < 12:
		u.term++
		u.saveHardState(wal.HardState{Term: u.term, VotedFor: "n"})
	case k < 13 && u.world.last() == 0 && len(u.world.snapshots) == 0:
		u.saveIdentity(wal.Identity{ClusterID: 7})
	case k < 14:
		u.restart()
		u.join()
	default:
		u.snapshot()
	}
	if crashes != u.crashes {
		u.join()
	}
	u.read()
}

// uncommitted is how many entries may be taken back.
func (u *replicaUser) uncommitted() uint64 {
	return u.world.last() - min(u.world.last(), max(u.commit, u.world.first-1))
}

// snapshot takes a step towards one.
func (u *replicaUser) snapshot() {
	switch d := u.draft; {
	case d == nil && u.rng.IntN(3) == 0:
		u.receive()
	case d == nil:
		u.take()
	case u.rng.IntN(12) == 0:
		u.draft = nil
		u.do(op{name: "abort", disk: func() error {
			if d.writer != nil {
				return d.writer.Abort()
			}
			return d.receiver.Abort()
		}})
	case d.receiver != nil && d.receiver.Offset() < int64(len(d.file)):
		at := d.receiver.Offset()
		n := 1 + u.rng.Int64N(int64(len(d.file))-at)
		u.do(op{name: "piece", disk: func() error { return d.receiver.Append(at, d.file[at:at+n]) }})
	case d.receiver != nil:
		u.install(d)
	default:
		u.publish(d)
	}
}

func (u *replicaUser) header(l snapshot.Label) snapshot.Header {
	return snapshot.Header{Label: l, ClusterID: u.world.identity.ClusterID, ID: 1 + u.rng.Uint64N(1<<40), Meta: []byte("meta")}
}

func (u *replicaUser) state() []byte {
	return bytes.Repeat([]byte{byte(u.rng.IntN(256)), byte(u.term)}, u.rng.IntN(800))
}

// take begins a snapshot of the state after some committed entry.
func (u *replicaUser) take() {
	from := max(u.world.newest().Index+1, u.world.first)
	if to := min(u.commit, u.world.last()); from <= to {
		index := from + u.rng.Uint64N(to-from+1)
		d := &draft{label: snapshot.Label{Index: index, Term: u.world.term(index)}, state: u.state()}
		h := u.header(d.label)
		if u.do(op{name: fmt.Sprintf("take %v", d.label), disk: func() (err error) {
			d.writer, err = createSnapshot(u.files, h, d.state)
			return err
		}}) {
			u.draft = d
		}
	}
}

// publish ends a snapshot that was taken: the file, the log as far as it goes, its
// name, and only then what it makes superfluous.
func (u *replicaUser) publish(d *draft) {
	u.draft = nil
	_ = u.do(op{name: "finish", disk: d.writer.Finish}) && u.seal() && u.named(d, func() error {
		_, err := d.writer.Publish()
		return err
	}) && u.keep()
}

func (u *replicaUser) named(d *draft, publish func() error) bool {
	return u.do(op{
		name:  fmt.Sprintf("publish %v", d.label),
		disk:  publish,
		world: func(w *world) { w.snapshots[d.label] = d.state },
	})
}

// receive begins to take a snapshot from a leader: of an entry that is not known to
// be committed here, be it in the log or not.
func (u *replicaUser) receive() {
	u.term++
	d := &draft{label: snapshot.Label{Index: u.commit + 1 + u.rng.Uint64N(6), Term: u.term}, state: u.state()}
	if w := &u.world; d.label.Index <= w.last() && d.label.Index >= w.first && u.rng.IntN(2) == 0 {
		d.label.Term = w.term(d.label.Index)
	}
	if !u.saveHardState(wal.HardState{Term: u.term}) {
		return
	}
	h := u.header(d.label)
	var err error
	d.file, err = makeFile(h, d.state)
	u.must(err)
	if u.do(op{name: fmt.Sprintf("receive %v", d.label), disk: func() (err error) {
		d.receiver, err = u.files.Receive(d.label, h.ID, int64(len(d.file)))
		return err
	}}) {
		u.draft = d
	}
}

// install publishes what was received; then the log is emptied, unless it holds the
// entry.
func (u *replicaUser) install(d *draft) {
	u.draft = nil
	if d.label.Index <= u.commit {
		u.do(op{name: "too late", disk: d.receiver.Abort})
		return
	}
	publish := func() error {
		_, err := d.receiver.Publish()
		return err
	}
	if !u.named(d, publish) {
		return
	}
	u.commit = d.label.Index
	if !u.world.holds(d.label) && !u.goOnBehind(d.label.Index) {
		return
	}
	u.keep()
}

// goOnBehind empties the log, which goes on behind a snapshot.
func (u *replicaUser) goOnBehind(index uint64) bool {
	return u.reset(index+1, index) && u.compact(index+1)
}

// keep drops what is no longer needed: the log before the second newest snapshot,
// and the snapshots before that one. Those that end before the log begins, with a
// gap, lead nowhere.
func (u *replicaUser) keep() bool {
	labels := u.world.labels()
	kept := 1
	if len(labels) > 1 && labels[1].Index+1 >= u.world.first {
		kept = 2
	}
	compact := func() bool { return kept < 2 || u.compact(labels[1].Index+1) }
	remove := func() bool {
		return !slices.ContainsFunc(labels[kept:], func(l snapshot.Label) bool {
			return !u.do(op{
				name:  fmt.Sprintf("remove %v", l),
				disk:  func() error { return u.files.Remove(l) },
				world: func(w *world) { delete(w.snapshots, l) },
			})
		})
	}
	if u.rng.IntN(2) == 0 {
		return compact() && remove()
	}
	return remove() && compact()
}

// join is what a server does when it starts: it makes one history of the newest
// snapshot and the log. Whatever was known to be committed must be in one of them.
func (u *replicaUser) join() {
	u.draft = nil
	w, newest, commit := &u.world, u.world.newest(), u.store.CommitIndex()
	if gap := w.gap(commit); gap != "" {
		u.Fatal(gap)
	}
	u.commit = max(commit, newest.Index)
	if newest.Index == 0 || newest.Index < w.first || w.holds(newest) {
		return
	}
	crashes := u.crashes
	if !u.goOnBehind(newest.Index) && crashes != u.crashes {
		u.join()
	}
}
