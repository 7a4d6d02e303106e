package raft

import (
	"encoding/json"
	"fmt"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/goraft/raft/internal/wal"
	"github.com/goraft/raft/protobuf"
)

const codecSeed = 0x5eed

// appendTestRecords appends n records of the given size of data, from an index
// on; the first is a no-op.
func appendTestRecords(dst []byte, first uint64, n, size int) []byte {
	for i := range n {
		start := len(dst)
		if i == 0 {
			dst = wal.BeginRecord(dst, kindNOP, "raft:nop")
		} else {
			dst = wal.BeginRecord(dst, kindCommand, "set")
			dst = append(dst, make([]byte, size)...)
		}
		wal.FinishRecord(dst, start).Stamp(first+uint64(i), 7, codecSeed)
	}
	return dst
}

func testAppendRequest(n, size int) *AppendEntriesRequest {
	return &AppendEntriesRequest{
		Term: 7, PrevLogIndex: 1000, PrevLogTerm: 6, CommitIndex: 998, LeaderName: "n1",
		ClusterID: 0xc1, To: "n2", StoreID: 0x51, ToStoreID: 0x52, InitialDigest: 0xd1, Sequence: 12345,
		records: appendTestRecords(nil, 1001, n, size),
	}
}

func TestRecordsTravelAsEntriesAndBack(t *testing.T) {
	r := testAppendRequest(5, 128)
	var got AppendEntriesRequest
	require.NoError(t, got.parse(r.appendTo(nil)))
	require.Nil(t, got.records)
	require.Len(t, got.Entries, 5)
	records, err := got.recordsFromEntries(codecSeed)
	require.NoError(t, err)
	require.Equal(t, r.records, records)

	// Entries made of the records are the entries that were decoded, and encode
	// to the same bytes.
	filled := *r
	require.NoError(t, filled.fillEntries())
	for i, e := range got.Entries {
		require.True(t, proto.Equal(e, filled.Entries[i]))
	}
	require.Equal(t, r.appendTo(nil), filled.appendTo(nil))

	heartbeat := testAppendRequest(0, 0)
	require.NoError(t, heartbeat.fillEntries())
	require.Nil(t, heartbeat.Entries)
	records, err = heartbeat.recordsFromEntries(codecSeed)
	require.NoError(t, err)
	require.Empty(t, records)
	require.ErrorIs(t, (&AppendEntriesRequest{records: []byte("bad")}).fillEntries(), wal.ErrRecord)
}

func TestRecordsFromEntriesRefusesWhatCannotBeARecord(t *testing.T) {
	refused := func(change func(e *protobuf.LogEntry)) {
		t.Helper()
		r := testAppendRequest(2, 10)
		require.NoError(t, r.fillEntries())
		change(r.Entries[1])
		_, err := r.recordsFromEntries(codecSeed)
		require.ErrorIs(t, err, ErrMessage)
	}
	refused(func(e *protobuf.LogEntry) { e.Command = []byte("other") })
	refused(func(e *protobuf.LogEntry) { *e.Index++ })
	refused(func(e *protobuf.LogEntry) { *e.Term++ })
	refused(func(e *protobuf.LogEntry) { e.CommandName = proto.String("put") })
	refused(func(e *protobuf.LogEntry) { e.Kind = proto.Uint32(kindConfiguration) })
	refused(func(e *protobuf.LogEntry) { e.Kind = proto.Uint32(maxKind + 1) })
	refused(func(e *protobuf.LogEntry) { e.CommandName = proto.String(string(make([]byte, wal.MaxRecordName+1))) })

	r := testAppendRequest(2, 10)
	require.NoError(t, r.fillEntries())
	_, err := r.recordsFromEntries(codecSeed + 1)
	require.ErrorIs(t, err, ErrMessage, "another cluster's")

	require.NoError(t, json.Unmarshal([]byte(`{"Entries":[null]}`), r))
	_, err = r.recordsFromEntries(codecSeed)
	require.ErrorIs(t, err, ErrMessage)
	require.NotPanics(t, func() { r.appendTo(nil) })

	// An entry without a checksum is what it says.
	r.Entries = []*protobuf.LogEntry{goraftNOP()}
	records, err := r.recordsFromEntries(codecSeed)
	require.NoError(t, err)
	require.NoError(t, wal.Record(records).Verify(codecSeed))
	require.Equal(t, uint64(2), wal.Record(records).Index())
}

func TestHeaderTravelsBesideTheRecords(t *testing.T) {
	r := testAppendRequest(3, 10)
	header := r.appendHeader([]byte("before"))[len("before"):]
	require.Less(t, len(header), 100)

	got := AppendEntriesRequest{records: []byte("stay"), Entries: []*protobuf.LogEntry{goraftNOP()}}
	require.NoError(t, got.decodeHeader(header))
	want := *r
	want.records = []byte("stay")
	require.Equal(t, want, got)

	require.ErrorIs(t, got.decodeHeader(r.appendTo(nil)), ErrMessage, "entries in a header")
	require.ErrorIs(t, got.decodeHeader(header[1:]), ErrMessage)
	require.Equal(t, want, got)
	require.Zero(t, testing.AllocsPerRun(100, func() { _ = got.decodeHeader(header) }))
}

func TestAppendEntriesAsJSON(t *testing.T) {
	const goraft = `{"Term":3,"PrevLogIndex":1,"PrevLogTerm":0,"CommitIndex":1,"LeaderName":"n1","Entries":[{"Index":2,"Term":0,"CommandName":"raft:nop"},` +
		`{"Index":3,"Term":0,"CommandName":"set","Command":"e30K"}]`
	var r AppendEntriesRequest
	require.NoError(t, json.Unmarshal([]byte(goraft+"}"), &r))
	require.Equal(t, "{}\n", string(r.Entries[1].Command))
	b, err := json.Marshal(&r)
	require.NoError(t, err)
	require.Equal(t, goraft, string(b[:len(goraft)]))

	sent := testAppendRequest(3, 10)
	require.NoError(t, sent.fillEntries())
	b, err = json.Marshal(sent)
	require.NoError(t, err)
	var got AppendEntriesRequest
	require.NoError(t, json.Unmarshal(b, &got))
	records, err := got.recordsFromEntries(codecSeed)
	require.NoError(t, err)
	require.Equal(t, sent.records, records, "kind and checksum travel too")
	got.Entries, got.records, sent.Entries = nil, sent.records, nil
	require.Equal(t, sent, &got)
}

func TestResponsesAsJSON(t *testing.T) {
	sent := newAppendEntriesResponse(1<<63-1, 5, 3, true)
	sent.ClusterID, sent.From, sent.StoreID, sent.Sequence = 1<<64-1, "n2", 7, 8
	sent.ConflictTerm, sent.ConflictIndex, sent.Refused, sent.PreVote = 9, 10, refusedTerm, true
	b, err := json.Marshal(sent)
	require.NoError(t, err)
	require.JSONEq(t, `{"Term":9223372036854775807,"Index":5,"CommitIndex":3,"Success":true,"ClusterID":18446744073709551615,"From":"n2",`+
		`"StoreID":7,"Sequence":8,"ConflictTerm":9,"ConflictIndex":10,"Refused":5,"PreVote":true}`, string(b))
	byValue, err := json.Marshal(*sent)
	require.NoError(t, err)
	require.Equal(t, b, byValue)
	got := AppendEntriesResponse{From: "before"}
	require.NoError(t, json.Unmarshal(b, &got))
	require.Equal(t, *sent, got)
	require.Error(t, json.Unmarshal([]byte(`{"Term":"x"}`), &got))
	require.Error(t, json.Unmarshal([]byte(`{"Term":1,"From":2}`), &got))
	require.Equal(t, *sent, got)

	b, err = json.Marshal(&RequestVoteRequest{Term: 4, LastLogIndex: 2, CandidateName: "n2"})
	require.NoError(t, err)
	const goraft = `{"Term":4,"LastLogIndex":2,"LastLogTerm":0,"CandidateName":"n2"`
	require.Equal(t, goraft, string(b[:len(goraft)]))
}

func TestLargestEntryFitsIntoAMessage(t *testing.T) {
	r := testAppendRequest(2, 8<<20)
	require.Less(t, len(r.appendTo(nil)), MaxMessageBytes)
}

// Each command ends where it ends: appending to one does not reach the next.
func TestDecodedEntriesDoNotGrowIntoEachOther(t *testing.T) {
	var got AppendEntriesRequest
	require.NoError(t, got.parse(testAppendRequest(3, 10).appendTo(nil)))
	before := string(got.Entries[2].Command)
	_ = append(got.Entries[1].Command, "garbage that would overwrite what follows in the body"...)
	require.Equal(t, before, string(got.Entries[2].Command))
}

func TestHotPathsDoNotAllocate(t *testing.T) {
	r, buffer := testAppendRequest(64, 128), make([]byte, 0, 64<<10)
	filled := *r
	require.NoError(t, filled.fillEntries())
	response := newAppendEntriesResponse(7, 8, 9, true)
	response.From = "n2"
	encoded := response.appendTo(nil)
	vote, voted := &RequestVoteRequest{CandidateName: "n1"}, &RequestVoteResponse{From: "n2"}
	for name, f := range map[string]func(){
		"request of records": func() { r.appendTo(buffer) },
		"request of entries": func() { filled.appendTo(buffer) },
		"header":             func() { r.appendHeader(buffer) },
		"response":           func() { response.appendTo(buffer) },
		"decode response":    func() { _ = response.parse(encoded) },
		"vote":               func() { vote.appendTo(buffer) },
		"vote response":      func() { voted.appendTo(buffer) },
	} {
		require.Zero(t, testing.AllocsPerRun(100, f), name)
	}
}

func BenchmarkAppendEntries(b *testing.B) {
	for _, n := range []int{0, 1, 64, 1024} {
		r := testAppendRequest(n, 128)
		body := r.appendTo(nil)
		buffer := make([]byte, 0, len(body))
		run := func(name string, f func()) {
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(int64(len(body)))
				for b.Loop() {
					f()
				}
			})
		}
		run("encode", func() { r.appendTo(buffer) })
		run("encodeWriter", func() { _, _ = r.Encode(io.Discard) })
		var got AppendEntriesRequest
		run("decode", func() { _ = got.parse(body) })
		run("records", func() { _, _ = got.recordsFromEntries(codecSeed) })
		run("fillEntries", func() { _ = r.fillEntries() })
		var pb protobuf.AppendEntriesRequest
		run("generatedDecode", func() { _ = proto.Unmarshal(body, &pb) })
		run("generatedEncode", func() { _, _ = proto.MarshalOptions{}.MarshalAppend(buffer, &pb) })
	}
}

func BenchmarkAppendEntriesHeader(b *testing.B) {
	r := testAppendRequest(64, 128)
	header := r.appendHeader(nil)
	var got AppendEntriesRequest
	b.ReportAllocs()
	for b.Loop() {
		_ = got.decodeHeader(r.appendHeader(header[:0]))
	}
}

func BenchmarkAppendEntriesResponse(b *testing.B) {
	r := newAppendEntriesResponse(7, 8, 9, true)
	r.From = "n2"
	buffer := r.appendTo(nil)
	b.ReportAllocs()
	for b.Loop() {
		_ = r.parse(r.appendTo(buffer[:0]))
	}
}
