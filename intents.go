package raft

import "slices"

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

// waiting returns those of the intents that c has not taken up.
func (c *configuration) waiting(intents []intent) []intent {
	for i := range intents {
		if intents[i].after(c.taken) {
			return intents[i:]
		}
	}
	return nil
}

// with returns the state after a configuration entry.
func (s clusterState) with(c *configuration) clusterState {
	return clusterState{configuration: c, intents: slices.Clone(c.waiting(s.intents))}
}

// last returns the last intent that waits for the name, or -1.
func (s clusterState) last(name string) int {
	for i := len(s.intents) - 1; i >= 0; i-- {
		if s.intents[i].name == name {
			return i
		}
	}
	return -1
}

// add returns the state after the entry at index has asked for a member. What
// is queued already for the name, and would come to the same, is not queued
// again; but a member is, because its store may be lost. A name that the same
// entry had removed just before moves to another address.
func (s clusterState) add(index uint64, name, connectionString string) clusterState {
	number := s.next(index)
	i := s.last(name)
	if i >= 0 && s.intents[i].index == index && s.intents[i].remove {
		s.intents = slices.Delete(slices.Clone(s.intents), i, i+1)
		i = s.last(name)
	}
	if i >= 0 && !s.intents[i].remove && s.intents[i].connectionString == connectionString {
		return s
	}
	return s.queue(intent{intentID: intentID{index, number}, name: name, connectionString: connectionString})
}

// remove returns the state after the entry at index has asked for a removal, and
// whether the name is known.
func (s clusterState) remove(index uint64, name string) (clusterState, bool) {
	i := s.last(name)
	switch {
	case i < 0 && s.configuration.find(name) == nil:
		return s, false
	case i >= 0 && s.intents[i].remove:
		return s, true
	}
	return s.queue(intent{intentID: intentID{index, s.next(index)}, remove: true, name: name}), true
}

// next is the number of the next intent of the entry at index.
func (s clusterState) next(index uint64) uint32 {
	if n := len(s.intents); n > 0 && s.intents[n-1].index == index {
		return s.intents[n-1].number + 1
	}
	return 1
}

func (s clusterState) queue(i intent) clusterState {
	return clusterState{configuration: s.configuration, intents: append(slices.Clone(s.intents), i)}
}
