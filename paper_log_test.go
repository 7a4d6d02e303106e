package raft

import "testing"

func TestPaperAppendEntries(t *testing.T) {
	checkClaims(t, []claim{
		{"Figure 2, AppendEntries 1", "reply false if term < currentTerm", func(t *testing.T) {
			if answer := appendTo(t, three(), 1, entryID{3, 2}, 0); answer.success {
				t.Errorf("%+v", answer)
			}
		}},
		{"Figure 2, AppendEntries 2", "reply false if log doesn't contain an entry at prevLogIndex whose term matches prevLogTerm", func(t *testing.T) {
			for _, prev := range []entryID{{4, 2}, {3, 1}, {2, 2}, {9, 9}} {
				r := three()
				if answer := appendTo(t, r, 2, prev, 3, 2); answer.success || answer.appendFrom != 0 || r.log.last() != (entryID{3, 2}) || r.commitIndex != 0 {
					t.Errorf("prev %v: %+v", prev, answer)
				}
			}
			for _, prev := range []entryID{{3, 2}, {2, 1}, {1, 1}, {0, 0}} {
				if answer := appendTo(t, three(), 2, prev, 0); !answer.success || answer.match != prev.index {
					t.Errorf("prev %v: %+v", prev, answer)
				}
			}
		}},
		{"Figure 2, AppendEntries 3", "if an existing entry conflicts with a new one, delete the existing entry and all that follow it", func(t *testing.T) {
			r := three()
			answer := appendTo(t, r, 3, entryID{1, 1}, 0, 3)
			if answer.appendFrom != 2 || !answer.truncated || r.log.last() != (entryID{2, 3}) || r.log.holds(entryID{3, 2}) {
				t.Errorf("%+v, last %v", answer, r.log.last())
			}
		}},
		{"Figure 2, AppendEntries 4", "append any new entries not already in the log", func(t *testing.T) {
			r := three()
			if answer := appendTo(t, r, 2, entryID{1, 1}, 0, 1, 2, 2, 2); answer.appendFrom != 4 || answer.truncated || answer.match != 5 || r.log.last() != (entryID{5, 2}) {
				t.Errorf("%+v, last %v", answer, r.log.last())
			}
			if answer := appendTo(t, r, 2, entryID{1, 1}, 0, 1); answer.appendFrom != 0 || answer.match != 2 || r.log.end != 5 {
				t.Errorf("%+v, last %v", answer, r.log.last())
			}
		}},
		{"Figure 2, AppendEntries 5", "if leaderCommit > commitIndex, set commitIndex = min(leaderCommit, index of last new entry)", func(t *testing.T) {
			for _, c := range []struct {
				prev  entryID
				new   int
				given uint64
				want  uint64
			}{
				{entryID{3, 2}, 0, 9, 3}, {entryID{3, 2}, 2, 9, 5}, {entryID{3, 2}, 2, 4, 4}, {entryID{1, 1}, 0, 9, 1}, {entryID{3, 2}, 1, 0, 0},
			} {
				r := three()
				terms := []uint64{2, 2}[:c.new]
				if appendTo(t, r, 2, c.prev, c.given, terms...); r.commitIndex != c.want {
					t.Errorf("%+v: commit %d", c, r.commitIndex)
				}
				if appendTo(t, r, 2, entryID{0, 0}, 0); r.commitIndex != c.want {
					t.Errorf("%+v: commit %d after an older message", c, r.commitIndex)
				}
			}
		}},
	})
}

func TestPaperLogReplication(t *testing.T) {
	checkClaims(t, []claim{
		{"§5.3", "if two entries in different logs have the same index and term, then the logs are identical in all preceding entries", func(t *testing.T) {
			// What appendEntries takes is behind an entry that both hold: with any
			// two followers of the rules, TestRulesSimulation checks it of all.
			r := three()
			before := r.log
			if answer := appendTo(t, r, 3, entryID{3, 3}, 0, 3, 3); answer.success {
				t.Errorf("%+v: entries behind one that is not held", answer)
			}
			if r.log.last() != before.last() {
				t.Errorf("last %v", r.log.last())
			}
		}},
		{"§5.3", "the leader handles inconsistencies by forcing the followers' logs to duplicate its own", func(t *testing.T) {
			leader := grown(1, 3, 4, 2, 5, 2, 6, 3, 8, 1)
			for name, log := range figure7() {
				r := newReplica("s", identity{clusterID: 9}, ballot{term: 7})
				r.log = log
				search(t, leader, r)
				prev := entryID{shared(&leader, &log), leader.termAt(shared(&leader, &log))}
				var terms []uint64
				for i := prev.index + 1; i <= leader.end; i++ {
					terms = append(terms, leader.termAt(i))
				}
				if answer := appendTo(t, r, 1000, prev, 0, terms...); !answer.success || shared(&leader, &r.log) != leader.end || r.log.end != leader.end {
					t.Errorf("(%s): %+v, %v", name, answer, r.log)
				}
			}
		}},
		{"§5.3", "a leader never overwrites or deletes entries in its own log", func(t *testing.T) {
			r := roles()[Leader]
			b := &batch{history: history{}}
			b.append(2, 1)
			req, _ := appending(2, entryID{}, 0)
			if answer, err := r.appendEntries(req, b); err != nil || answer.refused != refusedLeader || r.log.last() != (entryID{3, 2}) {
				t.Errorf("%+v, %v, last %v", answer, err, r.log.last())
			}
		}},
		{"§5.3", "the leader keeps track of the highest index it knows to be committed, and includes it in future AppendEntries", func(t *testing.T) {
			s := played(t, "cluster a b c\ntimeout a\nquiet\nheartbeat a\nquiet")
			for _, x := range s.servers {
				if x.commitIndex != x.log.end || x.log.end == 0 {
					t.Errorf("%v", x)
				}
			}
		}},
		{"§5.3", "if followers crash or run slowly, the leader retries indefinitely until all followers store all log entries", func(t *testing.T) {
			s := played(t, "cluster a b c\ntimeout a\nquiet\ncrash c\npropose a x\npropose a y\nquiet")
			for range 20 {
				s.play(t, "lost a\nheartbeat a\nquiet")
			}
			s.play(t, "restart c\nlost a\nheartbeat a\nquiet")
			if c, a := s.server("c"), s.server("a"); c.log.last() != a.log.last() {
				t.Errorf("%v; %v", c, a)
			}
		}},
	})
}

func TestPaperConflictSearch(t *testing.T) {
	checkClaims(t, []claim{
		{"§5.3", "with this optimization, one AppendEntries RPC will be required for each term with conflicting entries", func(t *testing.T) {
			leader := grown(1, 3, 4, 2, 5, 2, 6, 3)
			for name, c := range map[string]struct{ log, rounds int }{
				"a": {9, 2}, "b": {4, 2}, "c": {11, 1}, "d": {12, 1}, "e": {7, 2}, "f": {11, 2},
			} {
				r := newReplica("s", identity{clusterID: 9}, ballot{term: 7})
				r.log = figure7()[name]
				if int(r.log.end) != c.log {
					t.Fatalf("(%s) has %d entries", name, r.log.end)
				}
				if rounds := search(t, leader, r); rounds != c.rounds {
					t.Errorf("(%s): %d rounds, not %d", name, rounds, c.rounds)
				}
			}
		}},
	})
}

// figure7 is the six followers' logs of Figure 7.
func figure7() map[string]history {
	return map[string]history{
		"a": grown(1, 3, 4, 2, 5, 2, 6, 2),
		"b": grown(1, 3, 4, 1),
		"c": grown(1, 3, 4, 2, 5, 2, 6, 4),
		"d": grown(1, 3, 4, 2, 5, 2, 6, 3, 7, 2),
		"e": grown(1, 3, 4, 4),
		"f": grown(1, 3, 2, 3, 3, 5),
	}
}
