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
	message := &protobuf.Configuration{
		ClusterID: &clusterID,
		Cause:     &cause,
		CauseNode: &node,
	}
	if c.initial != 0 {
		message.InitialDigest = &c.initial
	}
	for _, m := range c.members {
		message.Members = append(message.Members, &protobuf.Member{
			Name: &m.name, ConnectionString: &m.connectionString,
			Incarnation: &m.incarnation, StoreID: &m.storeID, Voter: &m.voter,
		})
	}
	return proto.MarshalOptions{Deterministic: true}.Marshal(message)
}

// decodeConfiguration reads what encodeConfiguration wrote for the entry at
// index.
func decodeConfiguration(b []byte, index uint64) (*configuration, error) {
	var message protobuf.Configuration
	if err := proto.Unmarshal(b, &message); err != nil {
		return nil, fmt.Errorf("raft: configuration at index %d: %w", index, err)
	}
	members := make([]member, 0, len(message.Members))
	seen := make(map[string]bool, len(message.Members))
	for _, m := range message.Members {
		if name := m.GetName(); name == "" || len(name) > maxNameBytes || seen[name] {
			return nil, fmt.Errorf("raft: configuration at index %d: %w: member %q", index, ErrMessage, name)
		}
		seen[m.GetName()] = true
		members = append(members, member{
			name: m.GetName(), connectionString: m.GetConnectionString(),
			incarnation: m.GetIncarnation(), storeID: m.GetStoreID(), voter: m.GetVoter(),
		})
	}
	c := newConfiguration(index, members)
	c.initial = message.GetInitialDigest()
	return c, nil
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
