package raft

import (
	"reflect"
	"testing"
)

// TestIntentsOfAnApply: what an Apply is told, and what waits afterwards, is a
// function of the log before it.
func TestIntentsOfAnApply(t *testing.T) {
	add := func(index uint64, number uint32, name, at string) intent {
		return intent{intentID: intentID{index, number}, name: name, connectionString: at}
	}
	remove := func(index uint64, number uint32, name string) intent {
		return intent{intentID: intentID{index, number}, remove: true, name: name}
	}
	type step struct {
		call, name, at string
		unknown        bool
	}
	for _, c := range []struct {
		name   string
		before []intent
		steps  []step
		want   []intent
	}{
		{"a new member", nil, []step{{call: "add", name: "x", at: "1"}}, []intent{add(9, 1, "x", "1")}},
		{"a member, whose store may be lost", nil, []step{{call: "add", name: "a", at: "at-a"}}, []intent{add(9, 1, "a", "at-a")}},
		{"no address", nil, []step{{call: "add", name: "x"}}, []intent{add(9, 1, "x", "")}},
		{"a removal", nil, []step{{call: "remove", name: "a"}}, []intent{remove(9, 1, "a")}},
		{"a stranger's removal", nil, []step{{call: "remove", name: "x", unknown: true}}, nil},
		{"the removal of one that waits", []intent{add(5, 1, "x", "1")}, []step{{call: "remove", name: "x"}},
			[]intent{add(5, 1, "x", "1"), remove(9, 1, "x")}},
		{"the removal of one whose removal waits", []intent{remove(5, 1, "x")}, []step{{call: "remove", name: "x"}}, []intent{remove(5, 1, "x")}},
		{"a repetition", []intent{add(5, 1, "x", "1"), add(5, 2, "y", "2")}, []step{{call: "add", name: "x", at: "1"}},
			[]intent{add(5, 1, "x", "1"), add(5, 2, "y", "2")}},
		{"no repetition of what comes before another", []intent{add(5, 1, "x", "1"), remove(6, 1, "x")}, []step{{call: "add", name: "x", at: "1"}},
			[]intent{add(5, 1, "x", "1"), remove(6, 1, "x"), add(9, 1, "x", "1")}},
		{"another address", []intent{add(5, 1, "x", "1")}, []step{{call: "add", name: "x", at: "2"}},
			[]intent{add(5, 1, "x", "1"), add(9, 1, "x", "2")}},
		{"several", nil, []step{{call: "add", name: "x", at: "1"}, {call: "remove", name: "a"}, {call: "add", name: "y", at: "2"}},
			[]intent{add(9, 1, "x", "1"), remove(9, 2, "a"), add(9, 3, "y", "2")}},
		{"a move", nil, []step{{call: "remove", name: "a"}, {call: "add", name: "a", at: "2"}}, []intent{add(9, 2, "a", "2")}},
		{"a move with something between", nil, []step{{call: "remove", name: "a"}, {call: "remove", name: "b"}, {call: "add", name: "a", at: "2"}},
			[]intent{remove(9, 2, "b"), add(9, 3, "a", "2")}},
		{"a move that comes to what waits", []intent{add(5, 1, "a", "2")}, []step{{call: "remove", name: "a"}, {call: "add", name: "a", at: "2"}},
			[]intent{add(5, 1, "a", "2")}},
		{"a removal by an entry before is one", []intent{remove(5, 1, "a")}, []step{{call: "add", name: "a", at: "2"}},
			[]intent{remove(5, 1, "a"), add(9, 1, "a", "2")}},
		{"there and back", nil, []step{{call: "add", name: "x", at: "1"}, {call: "remove", name: "x"}},
			[]intent{add(9, 1, "x", "1"), remove(9, 2, "x")}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := clusterState{configuration: bound(1, "a", "b"), intents: c.before}
			kept := append([]intent(nil), c.before...)
			for i, step := range c.steps {
				known := true
				if step.call == "add" {
					s = s.add(9, step.name, step.at)
				} else {
					s, known = s.remove(9, step.name)
				}
				if known == step.unknown {
					t.Errorf("step %d: known %t", i, known)
				}
			}
			if len(s.intents)+len(c.want) > 0 && !reflect.DeepEqual(s.intents, c.want) {
				t.Errorf("%+v", s.intents)
			}
			if !reflect.DeepEqual(kept, append([]intent(nil), c.before...)) {
				t.Errorf("what waited before was changed: %+v", c.before)
			}
		})
	}
}

// TestIntentsAreTakenUpInOrder: a configuration entry ends the wait of those that
// it says are taken up, and of no other.
func TestIntentsAreTakenUpInOrder(t *testing.T) {
	c := bound(1, "a", "b")
	s := clusterState{configuration: c}
	for _, id := range []intentID{{4, 1}, {4, 2}, {7, 1}, {7, 2}} {
		s.intents = append(s.intents, intent{intentID: id, name: "x"})
	}
	for _, step := range []struct {
		taken intentID
		left  int
	}{{intentID{}, 4}, {intentID{4, 1}, 3}, {intentID{4, 2}, 2}, {intentID{5, 1}, 2}, {intentID{7, 1}, 1}, {intentID{7, 2}, 0}, {intentID{9, 9}, 0}} {
		after := s.with(c.upTo(step.taken).at(20))
		if len(after.intents) != step.left || after.configuration.taken != step.taken || len(after.configuration.members) != 2 {
			t.Errorf("taken up to %v: %+v", step.taken, after)
		}
		// What changes the members keeps the mark.
		for name, next := range map[string]*configuration{
			"join": after.configuration.join("z", "", false, false), "leave": after.configuration.without("a"),
			"bind": after.configuration.bind(map[string]uint64{"a": 77}), "at": after.configuration.at(30),
		} {
			if next.taken != step.taken || next.initial != after.configuration.initial {
				t.Errorf("%s: taken %v, initial %d", name, next.taken, next.initial)
			}
		}
	}
}
