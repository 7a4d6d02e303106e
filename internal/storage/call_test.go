package storage

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/goraft/raft/internal/snapshot"
	"github.com/goraft/raft/internal/wal"
)

// call is an operation that two processes tell each other of: what it does to a
// disk and to a world follows from its numbers alone.
type call struct {
	verb   string
	index  uint64
	term   uint64
	count  uint64
	commit uint64
}

func (c call) String() string {
	return fmt.Sprintf("%s %d %d %d %d", c.verb, c.index, c.term, c.count, c.commit)
}

func parseCall(s string) (c call, err error) {
	_, err = fmt.Sscanf(s, "%s %d %d %d %d", &c.verb, &c.index, &c.term, &c.count, &c.commit)
	return c, err
}

func (c call) label() snapshot.Label { return snapshot.Label{Index: c.index, Term: c.term} }

// records are those of an append: now and then they are large.
func (c call) records() []byte {
	size := (c.index*31 + c.term*17) % 900
	if c.term%40 == 0 {
		size += 20_000
	}
	return records(0, c.index, c.term, int(c.count), int(size))
}

// state is that of a snapshot: some are of more than one block.
func (c call) state() []byte {
	size := (c.index*131 + c.term) % 3000
	if c.term%10 == 0 {
		size += 300_000
	}
	return bytes.Repeat([]byte{byte(c.index), byte(c.term), 7}, int(size/3))
}

func (c call) header() snapshot.Header {
	return snapshot.Header{Label: c.label(), ID: c.term<<32 | c.index, Meta: []byte("meta")}
}

// do does it to the disk.
func (c call) do(s *wal.Store, files *snapshot.Store) error {
	switch c.verb {
	case "append":
		return s.Append(c.index, c.commit, c.records())
	case "truncate":
		return s.Truncate(c.index, c.commit)
	case "reset":
		return s.Reset(c.index, c.commit)
	case "compact":
		return s.Compact(c.index)
	case "seal":
		return s.Seal(c.commit)
	case "vote":
		return s.SaveHardState(wal.HardState{Term: c.term, VotedFor: fmt.Sprint("n", c.count)})
	case "take":
		return c.take(s, files)
	case "receive":
		return c.receive(files)
	case "remove":
		return files.Remove(c.label())
	}
	return errors.New("no such call: " + c.verb)
}

// take makes a snapshot: its name is given when the log is durable as far as it goes.
func (c call) take(s *wal.Store, files *snapshot.Store) error {
	w, err := createSnapshot(files, c.header(), c.state())
	if err != nil {
		return err
	}
	if err = w.Finish(); err == nil {
		err = s.Seal(c.commit)
	}
	if err != nil {
		return errors.Join(err, w.Abort())
	}
	_, err = w.Publish()
	return err
}

// receive makes a snapshot of a file that comes in pieces.
func (c call) receive(files *snapshot.Store) error {
	file, err := makeFile(c.header(), c.state())
	if err != nil {
		return err
	}
	r, err := files.Receive(c.label(), c.header().ID, int64(len(file)))
	for at := 0; err == nil && at < len(file); at += 4000 {
		err = r.Append(int64(at), file[at:min(at+4000, len(file))])
	}
	if err != nil {
		return err
	}
	_, err = r.Publish()
	return err
}

// happen does it to a world. first is where the log begins afterwards, which after a
// compaction the store knows alone.
func (c call) happen(w *world, first uint64) {
	if c.verb != "vote" && c.verb != "remove" && c.verb != "receive" && c.verb != "compact" {
		w.commit = max(w.commit, c.commit)
	}
	switch c.verb {
	case "append":
		w.append(c.index, c.records())
	case "truncate":
		w.truncate(c.index)
	case "reset":
		w.reset(c.index)
	case "compact":
		w.compact(first)
	case "vote":
		w.hard = wal.HardState{Term: c.term, VotedFor: fmt.Sprint("n", c.count)}
	case "take", "receive":
		w.snapshots[c.label()] = c.state()
	case "remove":
		delete(w.snapshots, c.label())
	}
}
