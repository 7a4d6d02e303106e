package raft

import "fmt"

// letter is one message under way; one of its fields is set.
type letter struct {
	from, to string
	store    uint64 // of an answer: the store that asked, whose connection it comes on
	vote     *RequestVoteRequest
	voted    *RequestVoteResponse
	append   *AppendEntriesRequest
	entries  []toyEntry // of append
	appended *toyAppended
	offer    *toyOffer
	offered  *toyOffered
	snapshot *toyOffer // the snapshot itself; entries are what it stands for

	timeoutNow *TimeoutNowRequest

	incarnation uint64 // of append: the addressee's
	life        int    // of the server that asked
}

// answers reports whether the letter is an answer.
func (l *letter) answers() bool { return l.voted != nil || l.appended != nil || l.offered != nil }

// toyAppended is the answer to an append, as the rules have it.
type toyAppended struct {
	appendAnswer
	term, storeID  uint64
	incarnation    uint64 // the request's, as are the next two
	sequence, prev uint64
	end, commit    uint64
}

func (l *letter) String() string {
	way := fmt.Sprintf("%s->%s: ", l.from, l.to)
	switch {
	case l.vote != nil:
		return way + fmt.Sprintf("%s for term %d? last %d.%d", voteName(l.vote.PreVote), l.vote.Term, l.vote.LastLogIndex, l.vote.LastLogTerm)
	case l.voted != nil:
		answer := "no"
		if l.voted.VoteGranted {
			answer = "yes"
		}
		return way + fmt.Sprintf("%s %s, term %d%s", voteName(l.voted.PreVote), answer, l.voted.Term, refusal(l.voted.Refused))
	case l.append != nil:
		text := way + fmt.Sprintf("append term %d prev %d.%d commit %d", l.append.Term, l.append.PrevLogIndex, l.append.PrevLogTerm, l.append.CommitIndex)
		for i, e := range l.entries {
			text += fmt.Sprintf(" +%d.%d", l.append.PrevLogIndex+uint64(i)+1, e.term)
		}
		return text
	case l.timeoutNow != nil:
		return way + fmt.Sprintf("stand now, term %d", l.timeoutNow.Term)
	}
	if l.appended == nil {
		return way + l.snapshotText()
	}
	m := l.appended
	if m.success {
		return way + fmt.Sprintf("appended term %d match %d", m.term, m.match)
	}
	if m.refused == refusedNot && m.heard {
		return way + fmt.Sprintf("lacks %d, may share %d.%d, term %d", m.prev, m.hint.index, m.hint.term, m.term)
	}
	return way + fmt.Sprintf("refuses append, term %d%s", m.term, refusal(m.refused))
}

func voteName(preVote bool) string {
	if preVote {
		return "pre-vote"
	}
	return "vote"
}

func refusal(refused uint32) string {
	if refused == refusedNot {
		return ""
	}
	return " (" + [...]string{"", "another cluster", "not the addressee", "another store", "no adoption", "term out of range", "another leader", "removed"}[refused] + ")"
}

// String is the server's state on one line.
func (s *toyServer) String() string {
	if s.down {
		return s.name + ": down"
	}
	text := fmt.Sprintf("%s: %s term %d", s.name, s.role, s.term)
	if s.votedFor != "" {
		text += " vote " + s.votedFor
	}
	if s.role == Follower && s.leader != "" {
		text += " of " + s.leader
	}
	text += fmt.Sprintf(" commit %d log", s.commitIndex)
	if base := s.log.base; base.index > 0 {
		text += fmt.Sprintf(" (%d.%d)", base.index, base.term)
	}
	for i := s.log.base.index + 1; i <= s.log.end; {
		term, end := s.log.runEnd(i)
		if end > i {
			text += fmt.Sprintf(" %d-%d.%d", i, end, term)
		} else {
			text += fmt.Sprintf(" %d.%d", i, term)
		}
		i = end + 1
	}
	c := s.configuration()
	text += fmt.Sprintf(" members@%d", c.index)
	for _, m := range c.members {
		text += " " + m.name
		if !m.voter {
			text += "(learner)"
		}
		if m.storeID == 0 {
			text += "?"
		}
	}
	return text
}
