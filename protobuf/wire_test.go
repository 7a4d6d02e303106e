package protobuf

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
)

func TestEntryAgreesWithGeneratedCode(t *testing.T) {
	for _, e := range []Entry[[]byte]{
		{},
		{Index: 1, Name: []byte("raft:nop"), Kind: 1},
		{Index: 1 << 63, Term: 127, Name: []byte("x"), Command: []byte("data"), Kind: 1<<32 - 1, Checksum: 1},
		{Index: 128, Term: 1<<64 - 1, Name: bytes.Repeat([]byte("n"), 300), Command: make([]byte, 70_000), Checksum: 1<<32 - 1},
	} {
		const key = 6<<3 | Bytes
		var request AppendEntriesRequest
		require.NoError(t, proto.Unmarshal(AppendEntry(nil, key, &e), &request))
		require.Len(t, request.Entries, 1)
		requireEntry(t, request.Entries[0], &e)

		named := Entry[string]{Index: e.Index, Term: e.Term, Name: string(e.Name), Command: e.Command, Kind: e.Kind, Checksum: e.Checksum}
		require.Equal(t, AppendEntry(nil, key, &e), AppendEntry(nil, key, &named))
	}
}

func requireEntry(t *testing.T, want *LogEntry, got *Entry[[]byte]) {
	t.Helper()
	require.Equal(t, want.GetIndex(), got.Index)
	require.Equal(t, want.GetTerm(), got.Term)
	require.Equal(t, want.GetCommandName(), string(got.Name))
	require.Equal(t, string(want.GetCommand()), string(got.Command))
	require.Equal(t, want.GetKind(), got.Kind)
	require.Equal(t, want.GetChecksum(), got.Checksum)
}

// The generated code is the specification: it and the codec take the same bytes
// for the same entry, whatever the bytes.
func FuzzEntry(f *testing.F) {
	f.Add([]byte("\x08\x02\x10\x00\x1a\x08raft:nop"))
	f.Add([]byte("\x08\x02\x10\x00\x1a\x01x\x22\x01y\x28\x01\x35abcd"))
	f.Add([]byte("\x0b\x08\x01\x0c\x08\x80\x01\x09abcdefgh")) // a group, twice field 1
	f.Add([]byte("\xf8\xff\xff\xff\x0f\x01"))                 // the highest field number
	f.Add([]byte("\xf8\xff\xff\xff\x1f\x01"))                 // one too high
	f.Fuzz(func(t *testing.T, b []byte) {
		var want LogEntry
		var got Entry[[]byte]
		err := proto.Unmarshal(b, &want)
		require.Equal(t, err == nil, ParseEntry(b, &got) == nil, "generated: %v", err)
		if err == nil {
			requireEntry(t, &want, &got)
			field := AppendEntry(nil, 6<<3|Bytes, &got)
			var again AppendEntriesRequest
			require.NoError(t, proto.Unmarshal(field, &again))
			requireEntry(t, again.Entries[0], &got)
		}
	})
}

func TestScannerStopsAtWhatIsNoMessage(t *testing.T) {
	for _, b := range []string{"\x00", "\x08", "\x0a\x05abc", "\x0c", "\x0b\x08", "\x0e\x01", "\x80", "\x09abc"} {
		s := NewScanner([]byte(b))
		for s.Next() {
		}
		require.ErrorIs(t, s.Err(), ErrTruncated, "%q", b)
		require.ErrorIs(t, s.Verify(), ErrTruncated, "%q", b)
		require.False(t, s.Next())
	}
}

func TestVerifyWantsTheChecksumOfOwnFields(t *testing.T) {
	verify := func(b []byte) error {
		s := NewScanner(b)
		for s.Next() {
		}
		return s.Verify()
	}
	plain := AppendVarint(nil, 1<<3|Varint, 5)
	own := AppendFixed64(bytes.Clone(plain), 7<<3|Fixed64, 5)
	require.NoError(t, verify(plain))
	require.ErrorIs(t, verify(own), ErrChecksum)
	require.NoError(t, verify(AppendChecksum(bytes.Clone(plain), 0)))
	require.NoError(t, verify(AppendChecksum(bytes.Clone(own), 0)))
	require.NoError(t, verify(AppendChecksum(AppendVarint(bytes.Clone(own), 99<<3|Varint, 1), 0)), "an unknown field")
	require.ErrorIs(t, verify(AppendVarint(AppendChecksum(bytes.Clone(own), 0), 99<<3|Varint, 1)), ErrChecksum, "not last")
}

func BenchmarkParseEntry(b *testing.B) {
	entry := Entry[[]byte]{Index: 1000, Term: 7, Name: []byte("set"), Command: make([]byte, 128), Checksum: 77}
	body := AppendEntry(nil, 6<<3|Bytes, &entry)[3:]
	b.ReportAllocs()
	for b.Loop() {
		if err := ParseEntry(body, &entry); err != nil {
			b.Fatal(err)
		}
	}
}
