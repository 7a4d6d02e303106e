package raft

// election is one candidacy: who has answered, in one term, to one question
// (§5.2; with preVote the question of dissertation §9.6, which binds nobody).
// Answers are counted by voter, so a repeated one counts once.
type election struct {
	term          uint64 // that the candidate asks for
	preVote       bool
	configuration *configuration
	answers       map[string]bool
	stores        map[string]uint64 // from which the grants came
	transfer      bool              // the leader asked for it: nobody need hold back
	dismissals    map[string]bool   // who says that the candidate was removed
}

// newElection begins to count, with the candidate's own vote in.
func newElection(r *replica, preVote bool) *election {
	e := &election{
		term:          r.term,
		preVote:       preVote,
		configuration: r.configuration(),
		answers:       map[string]bool{r.name: true},
		stores:        map[string]uint64{r.name: r.storeID},
		dismissals:    map[string]bool{},
	}
	if preVote {
		e.term++
	}
	return e
}

// record counts the voter's answer. It ignores whoever is no voter, and who
// answers from another store than the one that the name is bound to: that
// server has lost its log, and may have lost with it an entry that it once
// helped to commit.
func (e *election) record(voter string, storeID uint64, granted bool) {
	if !e.configuration.votes(voter) || !e.configuration.accepts(voter, storeID) {
		return
	}
	if granted || !e.answers[voter] {
		e.answers[voter] = granted
	}
	if granted && storeID != 0 {
		e.stores[voter] = storeID
	}
}

// dismissed counts the voter's answer that the candidate was removed.
func (e *election) dismissed(voter string, storeID uint64) {
	e.record(voter, storeID, false)
	if answer, counts := e.answers[voter]; counts && !answer {
		e.dismissals[voter] = true
	}
}

// over reports whether so many voters say that the candidate was removed that no
// majority is left to elect it: one alone may be wrong, not having heard yet that
// it was joined again.
func (e *election) over() bool {
	return e.configuration.voters()-len(e.dismissals) < e.configuration.quorum()
}

// won reports whether a majority of the voters has granted.
func (e *election) won() bool { return e.count(true) >= e.configuration.quorum() }

// lost reports whether so many voters have refused that no majority is left.
func (e *election) lost() bool {
	return e.configuration.voters()-e.count(false) < e.configuration.quorum()
}

// status is who has said what.
func (e *election) status() *ElectionStatus {
	s := &ElectionStatus{Term: e.term, PreVote: e.preVote, Quorum: e.configuration.quorum()}
	for i := range e.configuration.members {
		m := &e.configuration.members[i]
		switch granted, answered := e.answers[m.name]; {
		case !m.voter:
		case granted:
			s.Granted = append(s.Granted, m.name)
		case answered:
			s.Refused = append(s.Refused, m.name)
		default:
			s.Silent = append(s.Silent, m.name)
		}
	}
	return s
}

func (e *election) count(granted bool) int {
	n := 0
	for voter, answer := range e.answers {
		if answer == granted && e.configuration.votes(voter) {
			n++
		}
	}
	return n
}
