package raft

import "testing"

func TestPaperElectionRestriction(t *testing.T) {
	checkClaims(t, []claim{
		{"§5.4.1", "the voter denies its vote if its own log is more up-to-date than that of the candidate", func(t *testing.T) {
			mine := entryID{3, 2} // of three()
			for _, c := range []struct {
				last entryID
				want bool
			}{
				{mine, true}, {entryID{4, 2}, true}, {entryID{1, 3}, true}, {entryID{2, 2}, false}, {entryID{9, 1}, false}, {entryID{}, false},
			} {
				if granted, _ := three().vote(asking(3, c.last), false); granted != c.want {
					t.Errorf("a log that ends with %v: granted %t", c.last, granted)
				}
			}
		}},
		{"§5.4.1", "if the logs have last entries with different terms, then the log with the later term is more up-to-date; if they end with the same term, the longer", func(t *testing.T) {
			order := []entryID{{}, {1, 1}, {7, 1}, {1, 2}, {2, 2}, {1, 9}}
			for i, a := range order {
				for j, b := range order {
					if a.newerThan(b) != (i > j) {
						t.Errorf("%v newer than %v: %t", a, b, a.newerThan(b))
					}
				}
			}
		}},
		{"§5.4.1", "a refusal for the log takes notice of the term", func(t *testing.T) {
			r := three()
			if mustRefuse(t, r, asking(9, entryID{1, 1})); r.term != 9 || r.votedFor != "" {
				t.Errorf("%+v", r.ballot)
			}
		}},
	})
}

func TestPaperCommitment(t *testing.T) {
	checkClaims(t, []claim{
		{"Figure 2, Leaders", "if there exists an N such that N > commitIndex, a majority of matchIndex[i] ≥ N, and log[N].term == currentTerm: set commitIndex = N", func(t *testing.T) {
			names := []string{"a", "b", "c", "d", "e"}
			r := standing("a", 1, []uint64{1, 1, 2, 2, 2, 2}, bound(1, names...))
			for _, c := range []struct {
				match []uint64
				want  uint64
			}{
				{[]uint64{6, 0, 0, 0, 0}, 0}, {[]uint64{6, 6, 0, 0, 0}, 0}, {[]uint64{6, 2, 2, 2, 2}, 0}, {[]uint64{6, 3, 3, 0, 0}, 3},
				{[]uint64{6, 6, 4, 3, 0}, 4}, {[]uint64{6, 6, 6, 6, 6}, 6}, {[]uint64{0, 6, 6, 6, 0}, 6}, {[]uint64{2, 6, 5, 4, 3}, 4},
			} {
				l := newLeadership(r, 3, map[string]uint64{})
				for i, match := range c.match {
					l.stored(names[i], match)
				}
				if got := l.committed(r.configuration()); got != c.want {
					t.Errorf("%v commits %d, not %d", c.match, got, c.want)
				}
			}
		}},
		{"§5.4.2", "Raft never commits log entries from previous terms by counting replicas", func(t *testing.T) {
			r := standing("a", 1, []uint64{1, 2, 4}, bound(1, "a", "b", "c"))
			l := newLeadership(r, 3, map[string]uint64{})
			l.stored("a", 2)
			l.stored("b", 2)
			l.stored("c", 2)
			if got := l.committed(r.configuration()); got != 0 {
				t.Errorf("all of three store 2.2 and the leader of term 4 commits %d", got)
			}
			l.stored("a", 3)
			l.stored("b", 3)
			if got := l.committed(r.configuration()); got != 3 {
				t.Errorf("an entry of its own commits %d", got)
			}
		}},
		{"Figure 2, All Servers", "commitIndex increases monotonically", func(t *testing.T) {
			r := three()
			for _, c := range []struct{ to, want uint64 }{{2, 2}, {1, 2}, {0, 2}, {3, 3}, {9, 3}} {
				if moved := r.commit(c.to); r.commitIndex != c.want || moved != (c.to == 2 || c.to == 3) {
					t.Errorf("commit(%d): %d, moved %t", c.to, r.commitIndex, moved)
				}
			}
		}},
		{"§5.4.3", "an entry of the leader that contradicts a committed one is a broken promise", func(t *testing.T) {
			for name, c := range map[string]struct {
				prev  entryID
				terms []uint64
			}{"before the entries": {entryID{2, 9}, nil}, "among them": {entryID{1, 1}, []uint64{9}}} {
				r := three()
				r.commit(2)
				req, b := appending(9, c.prev, 0, c.terms...)
				if _, err := r.appendEntries(req, b); err != errConflict || r.log.last() != (entryID{3, 2}) || r.commitIndex != 2 {
					t.Errorf("%s: %v, last %v", name, err, r.log.last())
				}
			}
		}},
		{"§8", "each leader commits a blank no-op entry into the log at the start of its term", func(t *testing.T) {
			s := played(t, "cluster a b c\ntimeout a\nquiet\nsilent b\nsilent c\ntimeout b\nquiet")
			b := s.server("b")
			if s.leads() != "b" || b.log.last().term != 2 || b.commitIndex != b.log.end || b.office.start != b.log.end || b.entries[b.log.end-1].value != "" {
				t.Errorf("%q leads; %v", s.leads(), b)
			}
		}},
	})
}

// TestPaperFigure8 has the crash that makes the difference between (d) and (e):
// a majority stores entry 2 in both, and in (e) an entry of term 4 behind it.
func TestPaperFigure8(t *testing.T) {
	for name, own := range map[string]uint64{"(d) no entry of term 4 on a majority": 2, "(e) one on a, b and c": 3} {
		t.Run(name, func(t *testing.T) {
			c := bound(1, "a", "b", "c", "d", "e")
			logs := map[string][]uint64{"a": {1, 2, 4}, "b": []uint64{1, 2, 4}[:own], "c": []uint64{1, 2, 4}[:own], "d": {1}, "e": {1, 3}}
			a := standing("a", 1, logs["a"], c)
			office := newLeadership(a, 3, map[string]uint64{})
			for _, name := range []string{"a", "b", "c"} {
				office.stored(name, uint64(len(logs[name])))
			}
			e := standing("e", 5, logs["e"], c)
			e.term = 4
			e.campaign()
			count := newElection(e, false)
			for store, name := range []string{"b", "c", "d"} {
				voter := standing(name, uint64(store)+2, logs[name], c)
				granted, refused := voter.vote(ask(e, name, voter.storeID), false)
				if refused != refusedNot {
					t.Fatalf("%s refuses: %d", name, refused)
				}
				count.record(name, voter.storeID, granted)
			}
			if committed := office.committed(c); committed != 0 && count.won() {
				t.Errorf("%d is committed, and e wins without it", committed)
			} else if (committed == 0) != count.won() {
				t.Errorf("committed %d, e wins: %t", committed, count.won())
			}
		})
	}
}
