package raft

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/goraft/raft/protobuf"
)

// codec is a message as its users see it.
type codec interface {
	message
	Encode(io.Writer) (int, error)
	Decode(io.Reader) (int, error)
}

// messageType is a type of message: this package's, its specification, and
// goraft's bytes of an example, or what they would be.
type messageType struct {
	name   string
	make   func() codec
	spec   proto.Message
	golden map[string]codec
}

func goraftNOP() *protobuf.LogEntry {
	return &protobuf.LogEntry{Index: proto.Uint64(2), Term: proto.Uint64(0), CommandName: proto.String("raft:nop")}
}

var messageTypes = []messageType{
	{"AppendEntriesRequest", func() codec { return new(AppendEntriesRequest) }, &protobuf.AppendEntriesRequest{}, map[string]codec{
		"08031001180020012a026e31320e080210001a08726166743a6e6f70": &AppendEntriesRequest{Term: 3, PrevLogIndex: 1, CommitIndex: 1, LeaderName: "n1",
			Entries: []*protobuf.LogEntry{goraftNOP()}},
		"08001000180020002a026e31": &AppendEntriesRequest{LeaderName: "n1"},
	}},
	{"AppendEntriesResponse", func() codec { return new(AppendEntriesResponse) }, &protobuf.AppendEntriesResponse{}, map[string]codec{
		"0803100218012001": newAppendEntriesResponse(3, 2, 1, true),
		"0800100018002000": &AppendEntriesResponse{},
	}},
	{"RequestVoteRequest", func() codec { return new(RequestVoteRequest) }, &protobuf.RequestVoteRequest{}, map[string]codec{
		"08041002180022026e32": &RequestVoteRequest{Term: 4, LastLogIndex: 2, CandidateName: "n2"},
	}},
	{"RequestVoteResponse", func() codec { return new(RequestVoteResponse) }, &protobuf.RequestVoteResponse{}, map[string]codec{
		"08041000": &RequestVoteResponse{Term: 4},
	}},
	{"SnapshotRequest", func() codec { return new(SnapshotRequest) }, &protobuf.SnapshotRequest{}, map[string]codec{
		"0a026e31100a1803": &SnapshotRequest{LeaderName: "n1", LastIndex: 10, LastTerm: 3},
	}},
	{"SnapshotResponse", func() codec { return new(SnapshotResponse) }, &protobuf.SnapshotResponse{}, map[string]codec{
		"0801": &SnapshotResponse{Success: true},
	}},
	{"SnapshotRecoveryRequest", func() codec { return new(SnapshotRecoveryRequest) }, &protobuf.SnapshotRecoveryRequest{}, map[string]codec{
		"0a026e31100a180322100a026e32120a687474703a2f2f683a322a027374": &SnapshotRecoveryRequest{LeaderName: "n1", LastIndex: 10, LastTerm: 3,
			Peers: []*Peer{{Name: "n2", ConnectionString: "http://h:2"}}, State: []byte("st")},
	}},
	{"SnapshotRecoveryResponse", func() codec { return new(SnapshotRecoveryResponse) }, &protobuf.SnapshotRecoveryResponse{}, map[string]codec{
		"08031001180a": &SnapshotRecoveryResponse{Term: 3, Success: true, CommitIndex: 10},
	}},
	{"TimeoutNowRequest", func() codec { return new(TimeoutNowRequest) }, &protobuf.TimeoutNowRequest{}, map[string]codec{
		"080412026e31": &TimeoutNowRequest{Term: 4, LeaderName: "n1"},
	}},
	{"TimeoutNowResponse", func() codec { return new(TimeoutNowResponse) }, &protobuf.TimeoutNowResponse{}, map[string]codec{
		"08041001": &TimeoutNowResponse{Term: 4, Success: true},
	}},
	{"ReadIndexRequest", func() codec { return new(ReadIndexRequest) }, &protobuf.ReadIndexRequest{}, map[string]codec{
		"080412026e31": &ReadIndexRequest{Term: 4, Name: "n1"},
	}},
	{"ReadIndexResponse", func() codec { return new(ReadIndexResponse) }, &protobuf.ReadIndexResponse{}, map[string]codec{
		"080410011809": &ReadIndexResponse{Term: 4, Success: true, Index: 9},
	}},
}

// specify gives a message as the generated code has it, found by the names of
// its fields, with every field present and no checksum.
func specify(m codec, spec proto.Message) proto.Message {
	pb := spec.ProtoReflect().New()
	fields := reflect.ValueOf(m)
	byName := func(name string) reflect.Value {
		if method := fields.MethodByName(name); method.IsValid() {
			return method.Call(nil)[0]
		}
		return fields.Elem().FieldByName(name)
	}
	descriptors := pb.Descriptor().Fields()
	for i := range descriptors.Len() {
		fd := descriptors.Get(i)
		switch value := byName(string(fd.Name())); {
		case fd.Name() == "Checksum":
		case fd.Name() == "Entries":
			for _, e := range value.Interface().([]*protobuf.LogEntry) {
				pb.Mutable(fd).List().Append(protoreflect.ValueOfMessage(proto.CloneOf(e).ProtoReflect()))
			}
		case fd.Name() == "Peers":
			for _, p := range value.Interface().([]*Peer) {
				peer := &protobuf.SnapshotRecoveryRequest_Peer{Name: &p.Name, ConnectionString: &p.ConnectionString}
				pb.Mutable(fd).List().Append(protoreflect.ValueOfMessage(peer.ProtoReflect()))
			}
		default:
			pb.Set(fd, protoreflect.ValueOf(value.Interface()))
		}
	}
	return complete(pb.Interface())
}

// complete returns the message with zeros for its absent fields, without
// checksum and unknown fields.
func complete(m proto.Message) proto.Message {
	pb := proto.Clone(m).ProtoReflect()
	pb.SetUnknown(nil)
	fields := pb.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		switch {
		case fd.IsList():
			list := pb.Get(fd).List()
			for j := range list.Len() {
				list.Set(j, protoreflect.ValueOfMessage(complete(list.Get(j).Message().Interface()).ProtoReflect()))
			}
		case fd.Name() == "Checksum" && fd.Number() == 15:
			pb.Clear(fd)
		case !pb.Has(fd):
			pb.Set(fd, fd.Default())
		}
	}
	return pb.Interface()
}

// randomMessage fills every exported field of a new message; many values are
// the smallest and the largest.
func randomMessage(rng *rand.Rand, typ messageType) codec {
	number := func() uint64 {
		return []uint64{0, 1, 127, 128, 1<<63 - 1, 1 << 63, 1<<64 - 1, rng.Uint64()}[rng.IntN(8)]
	}
	text := func() string { return strings.Repeat("x", rng.IntN(200)) }
	m := typ.make()
	if r, ok := m.(*AppendEntriesResponse); ok {
		*r = *newAppendEntriesResponse(number(), number(), number(), rng.IntN(2) == 1)
	}
	fields := reflect.ValueOf(m).Elem()
	for i := range fields.NumField() {
		switch f := fields.Field(i); {
		case !f.CanSet():
		case f.Kind() == reflect.Uint64:
			f.SetUint(number())
		case f.Kind() == reflect.Uint32:
			f.SetUint(number() >> 32)
		case f.Kind() == reflect.Bool:
			f.SetBool(rng.IntN(2) == 1)
		case f.Kind() == reflect.String:
			f.SetString(text())
		case f.Type() == reflect.TypeFor[[]byte]():
			f.SetBytes([]byte(text()))
		case f.Type() == reflect.TypeFor[[]*Peer]():
			for range rng.IntN(4) {
				f.Set(reflect.Append(f, reflect.ValueOf(&Peer{Name: text(), ConnectionString: text()})))
			}
		case f.Type() == reflect.TypeFor[[]*protobuf.LogEntry]():
			for range rng.IntN(4) {
				f.Set(reflect.Append(f, reflect.ValueOf(&protobuf.LogEntry{
					Index: proto.Uint64(number()), Term: proto.Uint64(number()), CommandName: proto.String(text()), Command: []byte(text()),
					Kind: proto.Uint32(uint32(number())), Checksum: proto.Uint32(uint32(number()))})))
			}
		default:
			panic("no random value for " + f.Type().String())
		}
	}
	return m
}

func TestGoldenMessages(t *testing.T) {
	for _, typ := range messageTypes {
		for golden, want := range typ.golden {
			b, err := hex.DecodeString(golden)
			require.NoError(t, err)
			got := typ.make()
			n, err := got.Decode(bytes.NewReader(b))
			require.NoError(t, err, typ.name)
			require.Equal(t, len(b), n)
			require.Equal(t, want, got)
			// This package writes the same bytes, between its own fields.
			require.Equal(t, b, want.appendTo(nil)[9:9+len(b)], typ.name)
		}
	}
}

func TestMessagesAgreeWithGeneratedCode(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, typ := range messageTypes {
		for range 150 {
			m := randomMessage(rng, typ)
			var buffer bytes.Buffer
			n, err := m.Encode(&buffer)
			require.NoError(t, err)
			require.Equal(t, buffer.Len(), n)

			pb := proto.Clone(typ.spec)
			require.NoError(t, proto.Unmarshal(buffer.Bytes(), pb))
			require.True(t, proto.Equal(specify(m, typ.spec), complete(pb)), "%s: %v, %v", typ.name, m, pb)

			again := typ.make()
			n, err = again.Decode(iotest.OneByteReader(&buffer))
			require.NoError(t, err)
			require.Equal(t, len(m.appendTo(nil)), n)
			require.True(t, proto.Equal(specify(m, typ.spec), specify(again, typ.spec)), typ.name)
		}
	}
}

// goraft's decoder wants every field of its own.
func TestStrictGoraftDecodes(t *testing.T) {
	file := protodesc.ToFileDescriptorProto(protobuf.File_github_com_goraft_raft_protobuf_raft_proto)
	file.Name, file.Package = proto.String("goraft.proto"), proto.String("goraft")
	required := descriptorpb.FieldDescriptorProto_LABEL_REQUIRED.Enum()
	for _, m := range file.MessageType {
		var kept []*descriptorpb.FieldDescriptorProto
		for _, f := range m.Field {
			own := f.GetNumber() >= 7 || m.GetName() == "LogEntry" && f.GetNumber() >= 5
			if f.TypeName != nil {
				f.TypeName = proto.String(strings.Replace(f.GetTypeName(), ".protobuf.", ".goraft.", 1))
			}
			if own {
				continue
			}
			if f.GetLabel() == descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL && f.GetName() != "Command" {
				f.Label = required
			}
			kept = append(kept, f)
		}
		m.Field = kept
	}
	goraft, err := protodesc.NewFile(file, nil)
	require.NoError(t, err)
	rng := rand.New(rand.NewPCG(3, 4))
	for _, typ := range messageTypes {
		strict := dynamicpb.NewMessage(goraft.Messages().ByName(protoreflect.Name(typ.name)))
		require.Error(t, proto.Unmarshal(nil, strict), "the decoder is not strict")
		require.NoError(t, proto.Unmarshal(typ.make().appendTo(nil), strict), "all zero")
		for range 100 {
			require.NoError(t, proto.Unmarshal(randomMessage(rng, typ).appendTo(nil), strict))
		}
	}
}

func TestDecodeAcceptsAbsentAndUnknownFields(t *testing.T) {
	r := &RequestVoteResponse{VoteGranted: true, From: "before"}
	require.NoError(t, r.parse([]byte{0x08, 0x04}))
	require.Equal(t, &RequestVoteResponse{Term: 4}, r)

	m := RequestVoteRequest{Term: 1, ClusterID: 5, To: "n1"}
	b := m.appendTo(nil)
	b = protobuf.AppendVarint(b[:len(b)-5], 99<<3|protobuf.Varint, 1)
	var got RequestVoteRequest
	require.NoError(t, got.parse(protobuf.AppendChecksum(b, 0)))
	require.Equal(t, m, got)
}

func TestEveryFlippedBitAndEveryCutIsDetected(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for _, typ := range messageTypes {
		for range scale(5) {
			b := randomMessage(rng, typ).appendTo(nil)
			m := typ.make()
			require.NoError(t, m.parse(b))
			for bit := range 8 * len(b) {
				b[bit/8] ^= 1 << (bit % 8)
				if m.parse(b) == nil {
					t.Fatalf("%s: bit %d of %x", typ.name, bit, b)
				}
				b[bit/8] ^= 1 << (bit % 8)
			}
			for n := range b {
				if m.parse(b[:n]) == nil {
					t.Fatalf("%s: %d bytes of %x", typ.name, n, b)
				}
			}
		}
	}
}

// endless never ends, and counts what was taken from it. It leaves the bytes as
// they are: zeros.
type endless struct{ read, room int }

func (e *endless) Read(p []byte) (int, error) {
	e.read += len(p)
	e.room += cap(p)
	return len(p), nil
}

func TestFault114_DecodeIsBounded(t *testing.T) {
	for _, typ := range messageTypes {
		limit := MaxMessageBytes
		if typ.name == "SnapshotRecoveryRequest" {
			limit = maxSnapshotMessageBytes
		}
		source := &endless{}
		n, err := typ.make().Decode(source)
		require.ErrorIs(t, err, ErrMessageTooLarge, typ.name)
		require.Equal(t, limit+1, source.read)
		require.Equal(t, source.read, n)
		// What is read into is what was allocated: twice as much each time.
		require.LessOrEqual(t, source.room, 3*limit+1<<20)
	}

	// What a sender says of lengths is not believed: a field of 2^63 bytes, and as
	// many entries as fit.
	var r AppendEntriesRequest
	_, err := r.Decode(bytes.NewReader(binary.AppendUvarint([]byte{0x08, 0x01, 0x32}, 1<<63)))
	require.ErrorIs(t, err, ErrMessage)
	_, err = r.Decode(bytes.NewReader(append([]byte{0x08, 0x01}, bytes.Repeat([]byte{0x32, 0x00}, maxMessageEntries+1)...)))
	require.ErrorIs(t, err, ErrMessageTooLarge)
	_, err = new(SnapshotRecoveryRequest).Decode(bytes.NewReader(append([]byte{0x0a, 0x00}, bytes.Repeat([]byte{0x22, 0x00}, maxMessageEntries+1)...)))
	require.ErrorIs(t, err, ErrMessageTooLarge)
	var e LogEntry
	n, err := e.Decode(io.MultiReader(strings.NewReader("ffffffff\n"), &endless{}))
	require.ErrorIs(t, err, ErrMessageTooLarge)
	require.Equal(t, entryHeaderBytes, n)
}

func TestFault118_EmptyBodyIsNoAnswer(t *testing.T) {
	for _, body := range []string{
		"", "\n", "OK", "ok\n", "{}", "null", "404 page not found\n", "Failed creating response.\n",
		"Service Unavailable", "<html><head><title>503 Service Temporarily Unavailable</title></head></html>",
		"<!DOCTYPE html>\n<html lang=\"en\">", `{"error":"no backend"}`, "upstream connect error or disconnect/reset before headers",
	} {
		for _, typ := range messageTypes {
			m := typ.make()
			n, err := m.Decode(strings.NewReader(body))
			require.ErrorIs(t, err, ErrMessage, "%s: %q", typ.name, body)
			require.Equal(t, len(body), n)
			require.Equal(t, typ.make(), m, "what does not decode changes nothing")
		}
	}
	var r AppendEntriesResponse
	for _, body := range []string{"{}", `{"Success":true}`} {
		require.ErrorIs(t, r.UnmarshalJSON([]byte(body)), ErrMessage)
	}
}

func TestDecodePassesOnTheErrorsOfItsReader(t *testing.T) {
	for _, typ := range messageTypes {
		n, err := typ.make().Decode(iotest.TimeoutReader(iotest.OneByteReader(strings.NewReader("\x08\x01"))))
		require.ErrorIs(t, err, iotest.ErrTimeout)
		require.Equal(t, 1, n)
		_, err = typ.make().Encode(errorWriter{})
		require.ErrorIs(t, err, io.ErrClosedPipe)
	}
}

type errorWriter struct{}

func (errorWriter) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// accepts says what Decode must make of the bytes, by the generated code and the
// rules of raft.proto.
func accepts(spec proto.Message, b []byte) (proto.Message, bool) {
	m := proto.Clone(spec)
	if proto.Unmarshal(b, m) != nil {
		return nil, false
	}
	pb := m.ProtoReflect()
	fields := pb.Descriptor().Fields()
	own := false
	for n := protoreflect.FieldNumber(7); n < 15; n++ {
		own = own || fields.ByNumber(n) != nil && pb.Has(fields.ByNumber(n))
	}
	for unknown := []byte(pb.GetUnknown()); len(unknown) > 0; {
		n, _, size := protowire.ConsumeField(unknown)
		own = own || n >= 7 && n < 15
		unknown = unknown[size:]
	}
	switch has := pb.Has(fields.ByNumber(15)); {
	case !pb.Has(fields.ByNumber(1)):
		return nil, false
	case !has:
		return complete(m), !own
	default:
		cut := len(b) - 5
		sum := crc32.Checksum(b[:cut], crc32.MakeTable(crc32.Castagnoli))
		last := uint64(binary.LittleEndian.Uint32(b[cut+1:])) == pb.Get(fields.ByNumber(15)).Uint()
		return complete(m), last && b[cut] == 15<<3|5 && pb.Get(fields.ByNumber(15)).Uint() == uint64(sum)
	}
}

// Any bytes: no panic, the same verdict as the specification, an equal result,
// and encoding and decoding that again changes nothing.
func FuzzDecode(f *testing.F) {
	rng := rand.New(rand.NewPCG(7, 8))
	for i, typ := range messageTypes {
		for golden := range typ.golden {
			b, _ := hex.DecodeString(golden)
			f.Add(byte(i), b)
		}
		for range 5 {
			b := randomMessage(rng, typ).appendTo(nil)
			f.Add(byte(i), b)
			f.Add(byte(i), b[:len(b)-5])
		}
	}
	f.Fuzz(func(t *testing.T, kind byte, b []byte) {
		typ := messageTypes[int(kind)%len(messageTypes)]
		fuzzDecode(t, typ, b)
		fuzzDecode(t, typ, protobuf.AppendChecksum(bytes.Clone(b), 0))
	})
}

func fuzzDecode(t *testing.T, typ messageType, b []byte) {
	want, ok := accepts(typ.spec, b)
	m := typ.make()
	n, err := m.Decode(bytes.NewReader(b))
	require.Equal(t, len(b), n)
	require.Equal(t, ok, err == nil, "%s of %x: %v", typ.name, b, err)
	if !ok {
		return
	}
	require.True(t, proto.Equal(want, specify(m, typ.spec)), "%s of %x: %v, %v", typ.name, b, want, m)
	again := typ.make()
	require.NoError(t, again.parse(m.appendTo(nil)))
	require.True(t, proto.Equal(want, specify(again, typ.spec)))
	if r, ok := m.(*AppendEntriesRequest); ok {
		_, _ = r.recordsFromEntries(1)
		_ = r.decodeHeader(b)
	}
}
