package raft

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/goraft/raft/internal/wal"
	"github.com/goraft/raft/protobuf"
)

// encodeConfiguration is what a configuration entry carries, and the bootstrap
// record for the initial one. cause and node tell what asked for it.
func encodeConfiguration(c *configuration, clusterID uint64, cause, node string) ([]byte, error) {
	return proto.MarshalOptions{Deterministic: true}.Marshal(configurationMessage(c, clusterID, cause, node))
}

func configurationMessage(c *configuration, clusterID uint64, cause, node string) *protobuf.Configuration {
	message := &protobuf.Configuration{
		ClusterID: &clusterID,
		Cause:     &cause,
		CauseNode: &node,
	}
	if c.initial != 0 {
		message.InitialDigest = &c.initial
	}
	if c.taken != (intentID{}) {
		message.TakenIndex, message.TakenNumber = &c.taken.index, &c.taken.number
	}
	for _, m := range c.members {
		member := &protobuf.Member{
			Name: &m.name, ConnectionString: &m.connectionString,
			Incarnation: &m.incarnation, StoreID: &m.storeID, Voter: &m.voter,
		}
		if m.rejoins {
			member.Rejoins = &m.rejoins
		}
		message.Members = append(message.Members, member)
	}
	return message
}

// maxMembers bounds the members of a cluster, and maxIntents the changes that wait
// for its leader: so bytes from a disk or the network, which say how many there
// are, cannot make a server allocate much more than they are long.
const (
	maxMembers = 128
	maxIntents = 64
)

// The length-delimited fields that repeat, or hold what repeats.
const (
	membersKey       = 1<<3 | protobuf.Bytes // of Configuration
	configurationKey = 1<<3 | protobuf.Bytes // of ClusterState
	intentsKey       = 3<<3 | protobuf.Bytes
)

// decode unmarshals a message that has no more of what repeats than it may have.
func decode(b []byte, message proto.Message, members, intents int) error {
	if members > maxMembers || intents > maxIntents {
		return fmt.Errorf("%w: %d members and %d intents", ErrMessage, members, intents)
	}
	if err := (proto.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(b, message); err != nil {
		return fmt.Errorf("%w: %w", ErrMessage, err)
	}
	return nil
}

// occurrences counts the fields of a key in a message, as far as it is one.
func occurrences(b []byte, key uint64) (n int) {
	for s := protobuf.NewScanner(b); s.Next(); {
		if s.Key == key {
			n++
		}
	}
	return n
}

// decodeConfiguration reads what encodeConfiguration wrote for the entry at
// index.
func decodeConfiguration(b []byte, index uint64) (*configuration, error) {
	var message protobuf.Configuration
	if err := decode(b, &message, occurrences(b, membersKey), 0); err != nil {
		return nil, fmt.Errorf("raft: configuration at index %d: %w", index, err)
	}
	return configurationOf(&message, index)
}

// configurationOf is the configuration that the message tells.
func configurationOf(message *protobuf.Configuration, index uint64) (*configuration, error) {
	members := make([]member, 0, len(message.Members))
	for _, m := range message.Members {
		if name := m.GetName(); name == "" || len(name) > maxNameBytes {
			return nil, fmt.Errorf("raft: configuration at index %d: %w: a name of %d bytes", index, ErrMessage, len(name))
		}
		members = append(members, member{
			name: m.GetName(), connectionString: m.GetConnectionString(),
			incarnation: m.GetIncarnation(), storeID: m.GetStoreID(), voter: m.GetVoter(), rejoins: m.GetRejoins(),
		})
	}
	c := newConfiguration(index, members)
	for i := 1; i < len(c.members); i++ {
		if name := c.members[i].name; name == c.members[i-1].name {
			return nil, fmt.Errorf("raft: configuration at index %d: %w: two members %q", index, ErrMessage, name)
		}
	}
	c.initial = message.GetInitialDigest()
	c.taken = intentID{message.GetTakenIndex(), message.GetTakenNumber()}
	return c, nil
}

// encodeClusterState is what a snapshot carries beside the application's state.
func encodeClusterState(s *clusterState, clusterID uint64) ([]byte, error) {
	message := &protobuf.ClusterState{
		Configuration:      configurationMessage(s.configuration, clusterID, "", ""),
		ConfigurationIndex: &s.configuration.index,
	}
	for _, i := range s.intents {
		message.Intents = append(message.Intents, &protobuf.Intent{
			Index: &i.index, Number: &i.number, Remove: &i.remove, Name: &i.name, ConnectionString: &i.connectionString,
		})
	}
	return proto.MarshalOptions{Deterministic: true}.Marshal(message)
}

// decodeClusterState reads what encodeClusterState wrote.
func decodeClusterState(b []byte) (clusterState, error) {
	var message protobuf.ClusterState
	members := 0
	for s := protobuf.NewScanner(b); s.Next(); {
		if s.Key == configurationKey {
			members += occurrences(s.Data, membersKey) // several of them would be joined to one
		}
	}
	if err := decode(b, &message, members, occurrences(b, intentsKey)); err != nil {
		return clusterState{}, fmt.Errorf("raft: a snapshot's configuration: %w", err)
	}
	if message.Configuration == nil {
		return clusterState{}, fmt.Errorf("raft: a snapshot's configuration: %w: there is none", ErrMessage)
	}
	c, err := configurationOf(message.Configuration, message.GetConfigurationIndex())
	if err != nil {
		return clusterState{}, err
	}
	s := clusterState{configuration: c, intents: make([]intent, 0, len(message.Intents))}
	for _, i := range message.Intents {
		s.intents = append(s.intents, intent{
			intentID: intentID{i.GetIndex(), i.GetNumber()}, remove: i.GetRemove(),
			name: i.GetName(), connectionString: i.GetConnectionString(),
		})
	}
	return s, nil
}

// configurationRecord makes the entry that puts c in force. Its name is that of
// the command that asked for it.
func configurationRecord(c *configuration, clusterID uint64, cause, node string) ([]byte, error) {
	data, err := encodeConfiguration(c, clusterID, cause, node)
	if err != nil {
		return nil, err
	}
	record := wal.BeginRecord(nil, kindConfiguration, cause)
	return wal.FinishRecord(append(record, data...), 0), nil
}

// nopRecord makes a leader's first entry.
func nopRecord() []byte {
	return wal.FinishRecord(wal.BeginRecord(nil, kindNOP, NOPCommand{}.CommandName()), 0)
}
