package raft

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/goraft/raft/internal/wal"
	"github.com/goraft/raft/protobuf"
)

// AppendEntriesRequest is what a leader sends: entries, or none as a heartbeat.
// Every exported field must reach the addressee, by Encode and Decode or as
// JSON.
type AppendEntriesRequest struct {
	Term         uint64
	PrevLogIndex uint64
	PrevLogTerm  uint64
	CommitIndex  uint64
	LeaderName   string
	// Entries may alias the log of the server that made the request: read them
	// only.
	Entries []*protobuf.LogEntry

	ClusterID     uint64 // the sender's cluster
	To            string // the name of the addressee
	StoreID       uint64 // the sender's store
	ToStoreID     uint64 // the addressee's store by the sender's configuration; 0: not bound
	InitialDigest uint64 // of the names of the sender's initial configuration
	Sequence      uint64 // identity of the request, repeated in its response

	// records are the same entries as contiguous records of the log: what servers
	// and streams of this package use. Entries may be nil where records are set.
	records []byte
}

// The keys of an AppendEntriesRequest's fields; the rest are in message_codec.go.
const (
	appendTerm      = 1<<3 | protobuf.Varint
	appendPrevIndex = 2<<3 | protobuf.Varint
	appendPrevTerm  = 3<<3 | protobuf.Varint
	appendCommit    = 4<<3 | protobuf.Varint
	appendLeader    = 5<<3 | protobuf.Bytes
	appendEntry     = 6<<3 | protobuf.Bytes
)

// Encode writes the request with one Write and returns the bytes written and
// the writer's error.
func (r *AppendEntriesRequest) Encode(w io.Writer) (int, error) { return encodeMessage(w, r) }

// Decode reads a request to the end of the reader and returns the bytes read.
// ErrMessage says that they are no whole, unchanged request, ErrMessageTooLarge
// that there are more than MaxMessageBytes.
func (r *AppendEntriesRequest) Decode(rd io.Reader) (int, error) {
	return decodeMessage(rd, r, MaxMessageBytes)
}

func (r *AppendEntriesRequest) appendTo(dst []byte) []byte {
	return r.appendMessage(dst, true)
}

// appendHeader appends the request without its entries, for transports that
// carry the records beside it.
func (r *AppendEntriesRequest) appendHeader(dst []byte) []byte {
	return r.appendMessage(dst, false)
}

func (r *AppendEntriesRequest) appendMessage(dst []byte, entries bool) []byte {
	start := len(dst)
	dst = protobuf.AppendFixed64(dst, fieldClusterID, r.ClusterID)
	dst = protobuf.AppendVarint(dst, appendTerm, r.Term)
	dst = protobuf.AppendVarint(dst, appendPrevIndex, r.PrevLogIndex)
	dst = protobuf.AppendVarint(dst, appendPrevTerm, r.PrevLogTerm)
	dst = protobuf.AppendVarint(dst, appendCommit, r.CommitIndex)
	dst = protobuf.AppendBytes(dst, appendLeader, r.LeaderName)
	if entries {
		dst = r.appendEntries(dst)
	}
	dst = protobuf.AppendBytes(dst, fieldTo, r.To)
	dst = protobuf.AppendFixed64(dst, fieldStoreID, r.StoreID)
	dst = protobuf.AppendFixed64(dst, fieldToStoreID, r.ToStoreID)
	dst = protobuf.AppendFixed64(dst, fieldInitialDigest, r.InitialDigest)
	dst = protobuf.AppendVarint(dst, fieldSequence, r.Sequence)
	return protobuf.AppendChecksum(dst, start)
}

// appendEntries appends Entries or, where there are none, the records in their
// form.
func (r *AppendEntriesRequest) appendEntries(dst []byte) []byte {
	if r.Entries == nil {
		return appendRecordsAsEntries(dst, r.records)
	}
	for _, pb := range r.Entries {
		dst = protobuf.AppendEntry(dst, appendEntry, &protobuf.Entry[string]{
			Index: pb.GetIndex(), Term: pb.GetTerm(),
			Name: pb.GetCommandName(), Command: pb.GetCommand(),
			Kind: pb.GetKind(), Checksum: pb.GetChecksum(),
		})
	}
	return dst
}

func appendRecordsAsEntries(dst, records []byte) []byte {
	for len(records) > 0 {
		record, rest, err := wal.NextRecord(records)
		if err != nil {
			break // unreachable: a request's records are whole
		}
		dst = protobuf.AppendEntry(dst, appendEntry, &protobuf.Entry[[]byte]{
			Index: record.Index(), Term: record.Term(),
			Name: record.Name(), Command: record.Data(),
			Kind: uint32(record.Kind()), Checksum: record.Checksum(),
		})
		records = rest
	}
	return dst
}

func (r *AppendEntriesRequest) parse(b []byte) error {
	m := AppendEntriesRequest{}
	count, err := m.parseFields(b, r)
	if err != nil {
		return err
	}
	if m.Entries, err = parseEntries(b, count); err != nil {
		return err
	}
	*r = m
	return nil
}

// decodeHeader reads what appendHeader wrote. It allocates nothing where the
// names are those that r had before, and leaves the records of r alone.
func (r *AppendEntriesRequest) decodeHeader(b []byte) error {
	m := AppendEntriesRequest{records: r.records}
	count, err := m.parseFields(b, r)
	if err != nil {
		return err
	}
	if count > 0 {
		return fmt.Errorf("%w: AppendEntriesRequest: entries in a header", ErrMessage)
	}
	*r = m
	return nil
}

// parseFields reads everything but the entries, and counts those. Names equal to
// those of before are shared with it.
func (r *AppendEntriesRequest) parseFields(b []byte, before *AppendEntriesRequest) (count int, err error) {
	var leader, to []byte
	hasTerm := false
	s := protobuf.NewScanner(b)
	for s.Next() {
		switch s.Key {
		case appendTerm:
			r.Term, hasTerm = s.Value, true
		case appendPrevIndex:
			r.PrevLogIndex = s.Value
		case appendPrevTerm:
			r.PrevLogTerm = s.Value
		case appendCommit:
			r.CommitIndex = s.Value
		case appendLeader:
			leader = s.Data
		case appendEntry:
			count++
		case fieldClusterID:
			r.ClusterID = s.Value
		case fieldTo:
			to = s.Data
		case fieldStoreID:
			r.StoreID = s.Value
		case fieldToStoreID:
			r.ToStoreID = s.Value
		case fieldInitialDigest:
			r.InitialDigest = s.Value
		case fieldSequence:
			r.Sequence = s.Value
		}
	}
	if err := finish(&s, "AppendEntriesRequest", hasTerm); err != nil {
		return 0, err
	}
	r.LeaderName, r.To = intern(leader, before.LeaderName), intern(to, before.To)
	return count, nil
}

// entrySlab is a decoded LogEntry together with what its fields point to, so
// that a message's entries cost one allocation.
type entrySlab struct {
	pb          protobuf.LogEntry
	index, term uint64
	name        string
	kind, sum   uint32
}

// set fills the entry from e, whose command it keeps.
func (s *entrySlab) set(e *protobuf.Entry[[]byte], nameBefore string) *protobuf.LogEntry {
	s.index, s.term, s.name = e.Index, e.Term, intern(e.Name, nameBefore)
	s.pb.Index, s.pb.Term, s.pb.CommandName, s.pb.Command = &s.index, &s.term, &s.name, e.Command
	if s.kind = e.Kind; s.kind != 0 {
		s.pb.Kind = &s.kind
	}
	if s.sum = e.Checksum; s.sum != 0 {
		s.pb.Checksum = &s.sum
	}
	return &s.pb
}

// parseEntries reads the count entries of the message b; their commands alias it.
func parseEntries(b []byte, count int) ([]*protobuf.LogEntry, error) {
	if count == 0 {
		return nil, nil
	}
	if count > maxMessageEntries {
		return nil, fmt.Errorf("%w: %d entries", ErrMessageTooLarge, count)
	}
	slab, entries := make([]entrySlab, count), make([]*protobuf.LogEntry, 0, count)
	var e protobuf.Entry[[]byte]
	name := ""
	s := protobuf.NewScanner(b)
	for s.Next() {
		if s.Key != appendEntry {
			continue
		}
		if err := protobuf.ParseEntry(s.Data, &e); err != nil {
			return nil, fmt.Errorf("%w: entry %d: %w", ErrMessage, len(entries), err)
		}
		if e.Command != nil {
			e.Command = e.Command[:len(e.Command):len(e.Command)]
		}
		entries = append(entries, slab[len(entries)].set(&e, name))
		name = slab[len(entries)-1].name
	}
	return entries, nil
}

// fillEntries sets Entries from the records, for transporters that carry only
// exported fields. The entries' commands alias the records.
func (r *AppendEntriesRequest) fillEntries() error {
	count := 0
	for rest := r.records; len(rest) > 0; count++ {
		_, tail, err := wal.NextRecord(rest)
		if err != nil {
			return err
		}
		rest = tail
	}
	if count == 0 {
		r.Entries = nil
		return nil
	}
	slab, entries := make([]entrySlab, count), make([]*protobuf.LogEntry, count)
	name, rest := "", r.records
	for i := range slab {
		var record wal.Record
		record, rest, _ = wal.NextRecord(rest)
		entries[i] = slab[i].set(&protobuf.Entry[[]byte]{
			Index: record.Index(), Term: record.Term(),
			Name: record.Name(), Command: nonEmpty(record.Data()),
			Kind: uint32(record.Kind()), Checksum: record.Checksum(),
		}, name)
		name = slab[i].name
	}
	r.Entries = entries
	return nil
}

// nonEmpty is b, or nil where it is empty: an absent field.
func nonEmpty(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return b
}

// recordsFromEntries returns the entries as contiguous records of the cluster
// with that checksum seed, in memory of its own. ErrMessage says that an entry
// cannot be a record, or is not what its checksum was made of.
func (r *AppendEntriesRequest) recordsFromEntries(seed uint32) ([]byte, error) {
	size := 0
	for _, pb := range r.Entries {
		size += wal.RecordHeaderSize + len(pb.GetCommandName()) + len(pb.GetCommand())
	}
	if size == 0 {
		return nil, nil
	}
	records := make([]byte, 0, size)
	for _, pb := range r.Entries {
		start := len(records)
		var err error
		if records, err = appendRecord(records, pb); err != nil {
			return nil, err
		}
		record := wal.Record(records[start:])
		record.Stamp(pb.GetIndex(), pb.GetTerm(), seed)
		if sum := pb.GetChecksum(); sum != 0 && sum != record.Checksum() {
			return nil, fmt.Errorf("%w: checksum of the entry at index %d, term %d", ErrMessage, pb.GetIndex(), pb.GetTerm())
		}
	}
	return records, nil
}

// appendRecord appends the entry as a record whose place and checksum are open.
func appendRecord(dst []byte, pb *protobuf.LogEntry) ([]byte, error) {
	if pb == nil {
		return dst, fmt.Errorf("%w: an entry is null", ErrMessage)
	}
	if pb.GetKind() > maxKind {
		return dst, fmt.Errorf("%w: an entry of kind %d", ErrMessage, pb.GetKind())
	}
	if len(pb.GetCommandName()) > wal.MaxRecordName {
		return dst, fmt.Errorf("%w: a command name of %d bytes", ErrMessage, len(pb.GetCommandName()))
	}
	if len(pb.GetCommand()) > maxCommandBytes {
		return dst, fmt.Errorf("%w: a command of %d bytes", ErrMessageTooLarge, len(pb.GetCommand()))
	}
	start := len(dst)
	dst = wal.BeginRecord(dst, uint16(pb.GetKind()), pb.GetCommandName())
	dst = append(dst, pb.GetCommand()...)
	wal.FinishRecord(dst, start)
	return dst, nil
}

// AppendEntriesResponse is the answer to an AppendEntriesRequest. It is JSON
// with all its values, those of the methods too.
type AppendEntriesResponse struct {
	term        uint64
	index       uint64
	commitIndex uint64
	success     bool

	ClusterID     uint64 // the sender's cluster
	From          string // the sender's name
	StoreID       uint64 // the sender's store
	Sequence      uint64 // the request's
	ConflictTerm  uint64 // the term of the sender's entry at PrevLogIndex; 0: it has none
	ConflictIndex uint64 // the first index of that term in the sender's log
	Refused       uint32 // why the request was not looked at; 0: it was (see protobuf/raft.proto)
	PreVote       bool   // the sender supports pre-votes
}

// newAppendEntriesResponse makes the response that goraft knew.
func newAppendEntriesResponse(term, index, commitIndex uint64, success bool) *AppendEntriesResponse {
	return &AppendEntriesResponse{term: term, index: index, commitIndex: commitIndex, success: success}
}

// Index is the last index of the sender's log.
func (r *AppendEntriesResponse) Index() uint64 { return r.index }

// CommitIndex is the sender's commit index.
func (r *AppendEntriesResponse) CommitIndex() uint64 { return r.commitIndex }

// Term is the sender's term.
func (r *AppendEntriesResponse) Term() uint64 { return r.term }

// Success says that the sender holds the entries, durably, and the request's
// entry before them.
func (r *AppendEntriesResponse) Success() bool { return r.success }

// The keys of an AppendEntriesResponse's fields; the rest are in
// message_codec.go.
const (
	appendedTerm          = 1<<3 | protobuf.Varint
	appendedIndex         = 2<<3 | protobuf.Varint
	appendedCommit        = 3<<3 | protobuf.Varint
	appendedSuccess       = 4<<3 | protobuf.Varint
	appendedConflictTerm  = 11<<3 | protobuf.Varint
	appendedConflictIndex = 14<<3 | protobuf.Varint
)

// Encode writes the response with one Write and returns the bytes written and
// the writer's error.
func (r *AppendEntriesResponse) Encode(w io.Writer) (int, error) { return encodeMessage(w, r) }

// Decode reads a response to the end of the reader and returns the bytes read.
// ErrMessage says that they are no whole, unchanged response, ErrMessageTooLarge
// that there are more than MaxMessageBytes.
func (r *AppendEntriesResponse) Decode(rd io.Reader) (int, error) {
	return decodeMessage(rd, r, MaxMessageBytes)
}

func (r *AppendEntriesResponse) appendTo(dst []byte) []byte {
	start := len(dst)
	dst = protobuf.AppendFixed64(dst, fieldClusterID, r.ClusterID)
	dst = protobuf.AppendVarint(dst, appendedTerm, r.term)
	dst = protobuf.AppendVarint(dst, appendedIndex, r.index)
	dst = protobuf.AppendVarint(dst, appendedCommit, r.commitIndex)
	dst = protobuf.AppendBool(dst, appendedSuccess, r.success)
	dst = protobuf.AppendBytes(dst, fieldTo, r.From)
	dst = protobuf.AppendFixed64(dst, fieldStoreID, r.StoreID)
	dst = protobuf.AppendVarint(dst, fieldRefused, uint64(r.Refused))
	dst = protobuf.AppendVarint(dst, appendedConflictTerm, r.ConflictTerm)
	dst = protobuf.AppendVarint(dst, fieldSequence, r.Sequence)
	dst = protobuf.AppendBool(dst, fieldPreVote, r.PreVote)
	dst = protobuf.AppendVarint(dst, appendedConflictIndex, r.ConflictIndex)
	return protobuf.AppendChecksum(dst, start)
}

func (r *AppendEntriesResponse) parse(b []byte) error {
	var m AppendEntriesResponse
	var from []byte
	hasTerm := false
	s := protobuf.NewScanner(b)
	for s.Next() {
		switch s.Key {
		case appendedTerm:
			m.term, hasTerm = s.Value, true
		case appendedIndex:
			m.index = s.Value
		case appendedCommit:
			m.commitIndex = s.Value
		case appendedSuccess:
			m.success = s.Value != 0
		case fieldClusterID:
			m.ClusterID = s.Value
		case fieldTo:
			from = s.Data
		case fieldStoreID:
			m.StoreID = s.Value
		case fieldRefused:
			m.Refused = uint32(s.Value)
		case appendedConflictTerm:
			m.ConflictTerm = s.Value
		case fieldSequence:
			m.Sequence = s.Value
		case fieldPreVote:
			m.PreVote = s.Value != 0
		case appendedConflictIndex:
			m.ConflictIndex = s.Value
		}
	}
	if err := finish(&s, "AppendEntriesResponse", hasTerm); err != nil {
		return err
	}
	m.From = intern(from, r.From)
	*r = m
	return nil
}

// appendedFields are the values of the methods in JSON; Term is a pointer
// because an answer without one is none.
type appendedFields struct {
	Term        *uint64
	Index       uint64
	CommitIndex uint64
	Success     bool
}

// appendedExported is AppendEntriesResponse without its methods.
type appendedExported AppendEntriesResponse

// MarshalJSON gives all values of the response, under the names of its methods
// and fields. It has a value receiver so that a response which is no pointer
// keeps its term as well.
func (r AppendEntriesResponse) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		appendedFields
		appendedExported
	}{appendedFields{&r.term, r.index, r.commitIndex, r.success}, appendedExported(r)})
}

// UnmarshalJSON takes what MarshalJSON gave. ErrMessage says that the term is
// absent.
func (r *AppendEntriesResponse) UnmarshalJSON(b []byte) error {
	var fields appendedFields
	var m AppendEntriesResponse
	if err := json.Unmarshal(b, &fields); err != nil {
		return err
	}
	if err := json.Unmarshal(b, (*appendedExported)(&m)); err != nil {
		return err
	}
	if fields.Term == nil {
		return fmt.Errorf("%w: AppendEntriesResponse: no Term", ErrMessage)
	}
	m.term, m.index, m.commitIndex, m.success = *fields.Term, fields.Index, fields.CommitIndex, fields.Success
	*r = m
	return nil
}
