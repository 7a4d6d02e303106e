package raft

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/goraft/raft/protobuf"
)

// later gives a field that no version has yet.
func later(rng *rand.Rand) []byte {
	number := protowire.Number(100 + rng.IntN(1000))
	switch rng.IntN(4) {
	case 0:
		return protowire.AppendVarint(protowire.AppendTag(nil, number, protowire.VarintType), rng.Uint64())
	case 1:
		return protowire.AppendFixed32(protowire.AppendTag(nil, number, protowire.Fixed32Type), rng.Uint32())
	case 2:
		return protowire.AppendFixed64(protowire.AppendTag(nil, number, protowire.Fixed64Type), rng.Uint64())
	default:
		return protowire.AppendBytes(protowire.AppendTag(nil, number, protowire.BytesType), make([]byte, rng.IntN(300)))
	}
}

// skew gives the message as a later version would have written it, or one that does
// not have all of its fields: some are gone, and between the others, in the messages
// within it too, are some that are new.
func skew(t *testing.T, rng *rand.Rand, of protoreflect.MessageDescriptor, message []byte) (skewed []byte, added, gone int) {
	t.Helper()
	for len(message) > 0 {
		number, form, n := protowire.ConsumeField(message)
		require.Positive(t, n)
		field := message[:n]
		message = message[n:]
		for rng.IntN(3) == 0 {
			skewed, added = append(skewed, later(rng)...), added+1
		}
		if number > 1 && rng.IntN(20) == 0 { // without the first it is no message: row 118
			gone++
			continue
		}
		fd := of.Fields().ByNumber(number)
		if fd.Kind() == protoreflect.MessageKind && form == protowire.BytesType {
			_, _, head := protowire.ConsumeTag(field)
			inner, _ := protowire.ConsumeBytes(field[head:])
			new, more, less := skew(t, rng, fd.Message(), inner)
			field, added, gone = protowire.AppendBytes(field[:head:head], new), added+more, gone+less
		}
		skewed = append(skewed, field...)
	}
	return skewed, added, gone
}

// Row 120: of a message of another version is read what both know: what is new is
// skipped, what is not there is zero. The reference is the generated code.
func TestFault120_FieldsOfOtherVersions(t *testing.T) {
	rng := rand.New(rand.NewPCG(120, 0))
	for _, typ := range messageTypes {
		added, gone := 0, 0
		for range 200 {
			b := randomMessage(rng, typ).appendTo(nil)
			_, _, sum := protowire.ConsumeField(b[len(b)-5:])
			require.Equal(t, 5, sum, "the checksum is the last field")
			skewed, more, less := skew(t, rng, typ.spec.ProtoReflect().Descriptor(), b[:len(b)-5])
			added, gone = added+more, gone+less
			want := proto.Clone(typ.spec)
			require.NoError(t, proto.Unmarshal(skewed, want))
			got := typ.make()
			require.NoError(t, got.parse(protobuf.AppendChecksum(skewed, 0)))
			require.True(t, proto.Equal(complete(want), specify(got, typ.spec)), "%s: %v, want %v", typ.name, got, want)
		}
		require.Greater(t, added, 100, typ.name)
		require.Greater(t, gone, 10, typ.name)
	}
}

// Row 120: servers are replaced one by one by such as have a newer transporter, and by
// older ones again, while clients write. There is no earlier release to take the old
// ones from; what versions differ in is whether there are streams, and calls with
// contexts.
func TestFault120_RollingUpgrade(t *testing.T) {
	forms := []string{"bare", "calls", "streams"}
	form := map[string]int{}
	options := ClusterOptions{Transporter: func(name string, memory *MemoryTransporter) Transporter {
		if wrap := transports[forms[form[name]]].Transporter; wrap != nil {
			return wrap(name, memory)
		}
		return memory
	}}
	inRunningCluster(t, 3, options, func(c *clusterTest) {
		acknowledged, stop := c.writes(1, DefaultHeartbeatInterval/10)
		for step, to := range []int{1, 2, 0, 2, 1, 0} {
			for _, name := range c.Names() {
				before := acknowledged.Load()
				form[name] = to
				require.NoError(t, c.Restart(name))
				c.within(20*testElection, fmt.Sprint("writes to go on in step ", step), func() bool {
					return c.Leader() != nil && acknowledged.Load() > before+5
				})
			}
		}
		stop()
	})
}
