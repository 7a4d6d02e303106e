package raft

// intentID names an intent: the entry whose Apply asked for it, and its number
// among those of that entry, from 1 on.
type intentID struct {
	index  uint64
	number uint32
}

// after reports whether the intent was asked for after the other one.
func (id intentID) after(other intentID) bool {
	return id.index > other.index || id.index == other.index && id.number > other.number
}

// intent is a change of the configuration that an Apply asked for, by AddPeer or
// RemovePeer. Every server queues the same ones; the leader of the day proposes
// them in order, and each configuration entry says up to which one they are taken
// up.
type intent struct {
	intentID
	remove           bool
	name             string
	connectionString string
}

// clusterState is what a prefix of the log says about the cluster itself: the same
// on every server that has applied it, and part of every snapshot. It never
// changes; a change makes a new value.
type clusterState struct {
	configuration *configuration
	intents       []intent // not taken up by configuration, in order
}

// with returns the state after a configuration entry.
func (s clusterState) with(c *configuration) clusterState {
	next := clusterState{configuration: c}
	for _, i := range s.intents {
		if i.after(c.taken) {
			next.intents = append(next.intents, i)
		}
	}
	return next
}
