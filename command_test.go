package raft

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/goraft/raft/internal/wal"
)

// setCommand is JSON, applied with a Context.
type setCommand struct {
	Key   string `json:"key"`
	Value []byte `json:"value"`
}

func (c *setCommand) CommandName() string                    { return "set" }
func (c *setCommand) Apply(ctx Context) (interface{}, error) { return ctx.CurrentIndex(), nil }

// valueCommand is JSON with value methods, applied as goraft's first users did.
type valueCommand struct{ N int }

func (c valueCommand) CommandName() string                 { return "value" }
func (c valueCommand) Apply(s Server) (interface{}, error) { return c.N, nil }

// rawCommand has an encoding of its own, on the pointer only.
type rawCommand struct{ data []byte }

func (c rawCommand) CommandName() string { return "raw" }

func (c *rawCommand) Encode(w io.Writer) error {
	_, err := w.Write(c.data)
	return err
}

func (c *rawCommand) Decode(r io.Reader) (err error) {
	c.data, err = io.ReadAll(r)
	return err
}

// hookCommand does in Encode and Decode what a test wants.
type hookCommand struct {
	name   string
	encode func(w io.Writer) error
}

func (c *hookCommand) CommandName() string      { return c.name }
func (c *hookCommand) Encode(w io.Writer) error { return c.encode(w) }
func (c *hookCommand) Decode(r io.Reader) error { panic("decoding") }

func testRecord(t testing.TB, command Command) wal.Record {
	t.Helper()
	b, err := encodeCommand(nil, kindCommand, command)
	require.NoError(t, err)
	record := wal.Record(b)
	record.Stamp(11, 3, codecSeed)
	require.NoError(t, record.Verify(codecSeed))
	return record
}

func testRegistry(t testing.TB, commands ...Command) *Registry {
	t.Helper()
	r := NewRegistry()
	for _, c := range commands {
		require.NoError(t, r.Register(c))
	}
	return r
}

func TestCommandsTravel(t *testing.T) {
	r := testRegistry(t, &setCommand{}, valueCommand{}, &rawCommand{})
	for _, c := range []struct{ sent, got Command }{
		{&setCommand{"k", []byte("v")}, &setCommand{"k", []byte("v")}},
		{valueCommand{5}, &valueCommand{5}},
		{&valueCommand{6}, &valueCommand{6}},
		{&rawCommand{[]byte("abc")}, &rawCommand{[]byte("abc")}},
		{rawCommand{[]byte("value whose pointer encodes")}, &rawCommand{[]byte("value whose pointer encodes")}},
		{&rawCommand{}, &rawCommand{}}, // nothing written, so nothing decoded
		{NOPCommand{}, &NOPCommand{}},
		{&DefaultJoinCommand{"n1", "http://h:1"}, &DefaultJoinCommand{"n1", "http://h:1"}},
		{&DefaultLeaveCommand{"n1"}, &DefaultLeaveCommand{"n1"}},
	} {
		record := testRecord(t, c.sent)
		require.Equal(t, c.sent.CommandName(), string(record.Name()))
		got, err := r.decode(record)
		require.NoError(t, err)
		require.Equal(t, c.got, got)
	}
	require.Equal(t, `{"name":"n1","connectionString":"http://h:1"}`+"\n", string(testRecord(t, &DefaultJoinCommand{"n1", "http://h:1"}).Data()), "goraft's bytes")
}

func TestEncodeCommandAppendsToAnArena(t *testing.T) {
	var arena []byte
	var err error
	for i := range 10 {
		start := len(arena)
		arena, err = encodeCommand(arena, kindCommand, valueCommand{i})
		require.NoError(t, err)
		wal.Record(arena[start:]).Stamp(uint64(i), 1, codecSeed)
	}
	r := testRegistry(t, valueCommand{})
	rest := arena
	for i := range 10 {
		var record wal.Record
		record, rest, err = wal.NextRecord(rest)
		require.NoError(t, err)
		require.NoError(t, record.Verify(codecSeed))
		got, err := r.decode(record)
		require.NoError(t, err)
		require.Equal(t, &valueCommand{i}, got)
	}
	require.Empty(t, rest)

	// A failure leaves the arena as it was.
	failure := errors.New("no")
	got, err := encodeCommand(arena, kindCommand, &hookCommand{"hook", func(w io.Writer) error {
		_, _ = w.Write([]byte("half"))
		return failure
	}})
	require.Equal(t, failure, err, "the encoder's own error")
	require.Equal(t, arena, got)
}

func TestEncodeCommandErrors(t *testing.T) {
	name := func(s string) Command {
		return &hookCommand{s, func(io.Writer) error { return nil }}
	}
	var bad *CommandNameError
	for _, c := range []Command{nil, name(""), name(strings.Repeat("x", wal.MaxRecordName+1))} {
		_, err := encodeCommand(nil, kindCommand, c)
		require.ErrorAs(t, err, &bad)
		require.NotEmpty(t, err.Error())
	}
	_, err := encodeCommand(nil, kindCommand, name(strings.Repeat("x", wal.MaxRecordName)))
	require.NoError(t, err)

	cause := errors.New("cause")
	_, err = encodeCommand(nil, kindCommand, &hookCommand{"hook", func(io.Writer) error { panic(cause) }})
	var panicked *CommandPanicError
	require.ErrorAs(t, err, &panicked)
	require.ErrorIs(t, err, cause)
	require.Contains(t, panicked.Stack, "command_test.go")
	_, err = encodeCommand(nil, kindCommand, (*valueCommand)(nil))
	require.ErrorAs(t, err, &panicked, "its CommandName panics")

	_, err = encodeCommand(nil, kindCommand, &notJSON{})
	var unsupported *json.UnsupportedTypeError
	require.ErrorAs(t, err, &unsupported)
}

type notJSON struct{ C chan int }

func (*notJSON) CommandName() string { return "not JSON" }

func TestDecodeCommandErrors(t *testing.T) {
	r := testRegistry(t, &setCommand{}, &hookCommand{name: "hook"})
	_, err := r.decode(testRecord(t, valueCommand{}))
	require.EqualError(t, err, "raft.Command: Unregistered command type: value")
	require.ErrorIs(t, err, ErrUnregisteredCommand)
	var unregistered *UnregisteredCommandError
	require.ErrorAs(t, err, &unregistered)
	require.Equal(t, "value", unregistered.Name)
	require.False(t, r.registered("value"))
	require.True(t, r.registered("set"))

	var bad *CommandDecodeError
	_, err = r.decode(wal.FinishRecord(append(wal.BeginRecord(nil, kindCommand, "set"), `{"key":1}`...), 0))
	require.ErrorAs(t, err, &bad)
	require.Equal(t, "set", bad.Name)
	var wrongType *json.UnmarshalTypeError
	require.ErrorAs(t, err, &wrongType)

	_, err = r.decode(wal.FinishRecord(append(wal.BeginRecord(nil, kindCommand, "hook"), 'x'), 0))
	require.ErrorAs(t, err, &bad)
	var panicked *CommandPanicError
	require.ErrorAs(t, err, &panicked)
	require.Contains(t, err.Error(), "decoding")
}

// What was given to Do is what is replicated: neither what the caller does to
// the command later, nor what a decoded command's owner does to it, reaches the
// record.
func TestFault136_TheValueAtTheTimeOfTheCallIsKept(t *testing.T) {
	r := testRegistry(t, &setCommand{}, &rawCommand{})
	raw, set := &rawCommand{[]byte("original")}, &setCommand{"k", []byte("original")}
	records := []wal.Record{testRecord(t, raw), testRecord(t, set)}
	raw.data[0], set.Value[0], set.Key = 'X', 'X', "other"

	for range 2 {
		for _, record := range records {
			require.NoError(t, record.Verify(codecSeed))
			command, err := r.decode(record)
			require.NoError(t, err)
			switch c := command.(type) {
			case *rawCommand:
				require.Equal(t, "original", string(c.data))
				c.data[0] = 'Y'
			case *setCommand:
				require.Equal(t, setCommand{"k", []byte("original")}, *c)
				c.Value[0] = 'Y'
			}
		}
	}
}

// An encoder that keeps its writer cannot write into another command.
func TestWriterEndsWithEncode(t *testing.T) {
	var kept io.Writer
	testRecord(t, &hookCommand{"hook", func(w io.Writer) error {
		kept = w
		_, err := w.Write([]byte("x"))
		return err
	}})
	_, err := kept.Write([]byte("late"))
	require.Error(t, err)
}

func TestRegisterCommandPanicsAsGoraftDid(t *testing.T) {
	require.PanicsWithValue(t, "raft: Cannot register nil", func() { RegisterCommand(nil) })
	require.PanicsWithValue(t, "raft: Duplicate registration: raft:nop", func() { RegisterCommand(&NOPCommand{}) })

	// Importing the package registers three commands and no more.
	require.Len(t, *NewRegistry().types.Load(), 3)
	for _, name := range []string{"raft:join", "raft:leave", "raft:nop"} {
		require.True(t, defaultRegistry.registered(name))
	}

	r := NewRegistry()
	require.EqualError(t, r.Register(nil), "raft: Cannot register nil")
	require.NoError(t, r.Register((*setCommand)(nil)), "only the type matters")
	require.EqualError(t, r.Register(&setCommand{}), "raft: Duplicate registration: set")
	got, err := r.decode(testRecord(t, &setCommand{Key: "k"}))
	require.NoError(t, err)
	require.Equal(t, &setCommand{Key: "k"}, got)
}

func TestRegistryIsSafeForConcurrentUse(t *testing.T) {
	r := testRegistry(t, &setCommand{})
	record := testRecord(t, &setCommand{Key: "k"})
	encode := func(io.Writer) error { return nil }
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			for j := range 50 {
				name := fmt.Sprintf("c%d-%d", i, j)
				if r.registered(name) {
					t.Error("registered before its time")
				}
				if err := r.Register(&hookCommand{name, encode}); err != nil || !r.registered(name) {
					t.Error("lost", name, err)
				}
				if _, err := r.decode(record); err != nil {
					t.Error(err)
				}
				if _, err := encodeCommand(nil, kindCommand, &setCommand{Key: name}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	require.Len(t, *r.types.Load(), 3+1+8*50)
}

// memberServer is what the commands of membership see of a server.
type memberServer struct {
	Server
	added, removed string
}

func (s *memberServer) AddPeer(name, connectionString string) error {
	s.added = name + "@" + connectionString
	return nil
}

func (s *memberServer) RemovePeer(name string) error {
	s.removed = name
	return nil
}

func TestApplyCommand(t *testing.T) {
	server := &memberServer{}
	ctx := &applyContext{server: server, term: 3, index: 11}
	require.Equal(t, []uint64{3, 11, 11}, []uint64{ctx.CurrentTerm(), ctx.CurrentIndex(), ctx.CommitIndex()})
	for _, c := range []struct {
		command Command
		want    interface{}
	}{
		{&setCommand{}, uint64(11)},
		{valueCommand{4}, 4},
		{&valueCommand{5}, 5},
		{NOPCommand{}, nil},
		{&NOPCommand{}, nil},
		{&DefaultJoinCommand{"n1", "http://h:1"}, []byte("join")},
		{&DefaultLeaveCommand{"n2"}, []byte("leave")},
	} {
		got, err := applyCommand(c.command, ctx)
		require.NoError(t, err)
		require.Equal(t, c.want, got)
	}
	require.Equal(t, "n1@http://h:1", server.added)
	require.Equal(t, "n2", server.removed)

	_, err := applyCommand(&rawCommand{}, ctx)
	require.EqualError(t, err, "Command does not implement Apply()")

	var join Command = &DefaultJoinCommand{Name: "n1"}
	_, isLeave := join.(LeaveCommand)
	require.True(t, isLeave, "structurally one, as the documentation says")
}

func TestNOPCommandReadsAndWritesNothing(t *testing.T) {
	var b bytes.Buffer
	require.NoError(t, NOPCommand{}.Encode(&b))
	require.Zero(t, b.Len())
	require.NoError(t, NOPCommand{}.Decode(iotest.ErrReader(io.ErrUnexpectedEOF)))
}

func TestEncodeCommandDoesNotAllocate(t *testing.T) {
	arena := make([]byte, 0, 4096)
	raw, set := &rawCommand{make([]byte, 128)}, &setCommand{"k", make([]byte, 128)}
	require.Zero(t, testing.AllocsPerRun(100, func() { _, _ = encodeCommand(arena, kindCommand, raw) }))
	allocs := testing.AllocsPerRun(100, func() { _, _ = encodeCommand(arena, kindCommand, set) })
	require.LessOrEqual(t, allocs, 3.0, "under the race detector, pools forget at random")
}

func BenchmarkEncodeCommand(b *testing.B) {
	arena := make([]byte, 0, 4096)
	for name, c := range map[string]Command{
		"encoder": &rawCommand{make([]byte, 128)}, "json": &setCommand{"k", make([]byte, 128)},
		"jsonValue": valueCommand{7}, "encoderOfValue": rawCommand{make([]byte, 128)},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = encodeCommand(arena, kindCommand, c)
			}
		})
	}
}

func BenchmarkDecodeCommand(b *testing.B) {
	r := testRegistry(b, &rawCommand{}, &setCommand{})
	for name, c := range map[string]Command{"encoder": &rawCommand{make([]byte, 128)}, "json": &setCommand{"k", make([]byte, 128)}} {
		record := testRecord(b, c)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = r.decode(record)
			}
		})
	}
}
