package raft

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/goraft/raft/internal/wal"
)

const (
	goldenJoin = "20202020202033660a080110001a09726166743a6a6f696e222e7b226e616d65223a226e31222c22636f6e6e656374696f6e537472696e67223a22687474703a2f2f683a31227d0a"
	goldenNOP  = "20202020202020650a080210001a08726166743a6e6f70"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	require.NoError(t, err)
	return b
}

func TestGoldenLogEntries(t *testing.T) {
	join, nop := unhex(t, goldenJoin), unhex(t, goldenNOP)
	file := bytes.NewReader(append(bytes.Clone(join), nop...))

	var e LogEntry
	n, err := e.Decode(file)
	require.NoError(t, err)
	require.Equal(t, len(join), n)
	require.Equal(t, uint64(1), e.Index())
	require.Equal(t, uint64(0), e.Term())
	require.Equal(t, "raft:join", e.CommandName())
	require.Equal(t, `{"name":"n1","connectionString":"http://h:1"}`+"\n", string(e.Command()))
	var b bytes.Buffer
	n, err = e.Encode(&b)
	require.NoError(t, err)
	require.Equal(t, len(join), n, "the header counts")
	require.Equal(t, join, b.Bytes())

	n, err = e.Decode(file)
	require.NoError(t, err)
	require.Equal(t, len(nop), n)
	require.Equal(t, "raft:nop", e.CommandName())
	require.Nil(t, e.Command())

	n, err = e.Decode(file)
	require.Equal(t, io.EOF, err)
	require.Zero(t, n)
}

func TestLogEntryKeepsWhatItsRecordSays(t *testing.T) {
	record := wal.Record(appendTestRecords(nil, 9, 1, 0))
	e := newLogEntry(record)
	var b bytes.Buffer
	_, err := e.Encode(&b)
	require.NoError(t, err)
	var got LogEntry
	_, err = got.Decode(bytes.NewReader(b.Bytes()))
	require.NoError(t, err)
	require.Equal(t, record.Checksum(), got.checksum())
	require.Equal(t, uint16(kindNOP), got.record.Kind())
	var again bytes.Buffer
	_, err = got.Encode(&again)
	require.NoError(t, err)
	require.Equal(t, b.Bytes(), again.Bytes())
}

func TestLogEntryCommandIsACopy(t *testing.T) {
	records := appendTestRecords(nil, 1, 2, 4)
	_, rest, err := wal.NextRecord(records)
	require.NoError(t, err)
	e := newLogEntry(rest)
	e.Command()[0] = 'x'
	require.Equal(t, make([]byte, 4), e.Command())
}

func TestZeroLogEntry(t *testing.T) {
	var e LogEntry
	require.Zero(t, e.Index()+e.Term())
	require.Empty(t, e.CommandName())
	require.Nil(t, e.Command())
	b, err := json.Marshal([]*LogEntry{&e, newLogEntry(appendTestRecords(nil, 1, 1, 0))})
	require.NoError(t, err)
	require.Equal(t, `[{"Position":0},{"Position":0}]`, string(b))
	var buffer bytes.Buffer
	_, err = e.Encode(&buffer)
	require.NoError(t, err)
}

func TestLogEntryDecodeRefusesWhatIsNoEntry(t *testing.T) {
	golden := string(unhex(t, goldenJoin))
	for n := 1; n < len(golden); n++ {
		var e LogEntry
		got, err := e.Decode(strings.NewReader(golden[:n]))
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		require.Equal(t, n, got)
		require.Zero(t, e.Index())
	}
	for _, bad := range []string{"       0\n", "        \n", "      -1\n", "00000003 abc", "       1\n\xff", "       2\n\x10\x01", "deadbeef\r", strings.Repeat("\x00", 64)} {
		_, err := new(LogEntry).Decode(strings.NewReader(bad))
		require.ErrorIs(t, err, ErrMessage, "%q", bad)
	}
	_, err := new(LogEntry).Decode(strings.NewReader("7fffffff\n"))
	require.ErrorIs(t, err, ErrMessageTooLarge)
}

func FuzzLogEntryDecode(f *testing.F) {
	f.Add(unhex(f, goldenJoin))
	f.Add(unhex(f, goldenNOP))
	f.Fuzz(func(t *testing.T, b []byte) {
		var e LogEntry
		n, err := e.Decode(bytes.NewReader(b))
		require.LessOrEqual(t, n, len(b))
		if err != nil {
			return
		}
		var encoded bytes.Buffer
		_, err = e.Encode(&encoded)
		require.NoError(t, err)
		var again LogEntry
		n, err = again.Decode(&encoded)
		require.NoError(t, err)
		require.Zero(t, encoded.Len())
		require.Positive(t, n)
		require.Equal(t, e, again)
	})
}
