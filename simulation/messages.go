//go:build simulation

package simulation

import (
	"fmt"

	"github.com/goraft/raft"
)

// sent takes a message as it leaves, and says whether it goes on: whatever it
// says of its sender must be durable there by now.
func (w *watch) sent(m raft.MemoryMessage) bool {
	n := w.world.node(m.From)
	if n == nil {
		return true // a stranger's
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.world.trace.printf("%s > %s %s", m.From, m.To, describe(m))
	var term, id uint64
	switch message := m.Message.(type) {
	case *raft.RequestVoteRequest:
		id = message.StoreID
		// Who does not know of pre-votes votes for good, even if it is asked for one.
		w.stood[candidacy{m.From, message.Term}] = entryID{message.LastLogIndex, message.LastLogTerm}
		if !message.PreVote {
			term = message.Term
			w.voted(m.From, id, m.From, term)
		}
		if n.silenced.Load() {
			return false // it votes for itself, and would only disturb others
		}
	case *raft.RequestVoteResponse:
		term, id = message.Term, message.StoreID
		if message.VoteGranted && !message.PreVote {
			w.voted(m.From, id, m.To, term)
			w.grants(m.From, m.To, term)
		}
		if message.VoteGranted && n.silenced.Load() {
			return false
		}
	case *raft.AppendEntriesRequest:
		term = message.Term
		w.leads(term, m.From, "a message")
	case *raft.TimeoutNowRequest:
		w.leads(message.Term, m.From, "a summons")
		w.world.count("leadership transferred")
	case *raft.AppendEntriesResponse:
		term, id = message.Term(), message.StoreID
		w.acknowledged(m, message)
	case *raft.SnapshotRequest:
		term = message.Term
		w.leads(term, m.From, "an offer")
	case *raft.SnapshotRecoveryRequest:
		term = message.Term
		w.leads(term, m.From, "a piece")
	case *raft.ReadIndexRequest:
		w.asks(m.From, message)
	case *raft.ReadIndexResponse:
		term, id = message.Term, message.StoreID
		w.tells(m, message)
	}
	if id != 0 {
		of := store{m.From, id}
		w.heard[of] = max(w.heard[of], term)
	}
	return true
}

// acknowledged checks that a server acknowledges only what is durable there (I7).
func (w *watch) acknowledged(m raft.MemoryMessage, answer *raft.AppendEntriesResponse) {
	log := w.logs[m.From]
	if log == nil || !answer.Success() || answer.Term() != log.last.Term || answer.StoreID != log.last.StoreID {
		return
	}
	if answer.Index() > log.last.Durable {
		w.violated("I7", "%s acknowledges %d, durable is %d", m.From, answer.Index(), log.last.Durable)
	}
}

// asks remembers how much was committed when a server asked for a read index. Should
// a number come again, the first question of that number counts.
func (w *watch) asks(name string, req *raft.ReadIndexRequest) {
	of := question{name, req.Sequence}
	if _, again := w.asked[of]; !again {
		w.asked[of] = uint64(len(w.committed))
	}
}

// tells checks that who says what a read must have seen leads its term (I1), was
// asked, and leaves out nothing that was committed before the question left (I9).
func (w *watch) tells(m raft.MemoryMessage, answer *raft.ReadIndexResponse) {
	if !answer.Success {
		return
	}
	w.leads(answer.Term, m.From, "an answer")
	if least, known := w.asked[question{m.To, answer.Sequence}]; !known {
		w.violated("I9", "%s tells %s to read at %d, which nobody there asked as number %d", m.From, m.To, answer.Index, answer.Sequence)
	} else if answer.Index < least {
		w.violated("I9", "%s tells %s to read at %d, and %d was committed before number %d asked", m.From, m.To, answer.Index, least, answer.Sequence)
	}
}

// describe is a message in a line.
func describe(m raft.MemoryMessage) string {
	switch message := m.Message.(type) {
	case *raft.RequestVoteRequest:
		return fmt.Sprintf("asks for the vote of term %d, pre-vote %t, last %d/%d", message.Term, message.PreVote, message.LastLogIndex, message.LastLogTerm)
	case *raft.RequestVoteResponse:
		return fmt.Sprintf("votes %t in term %d, pre-vote %t, refused %d", message.VoteGranted, message.Term, message.PreVote, message.Refused)
	case *raft.AppendEntriesRequest:
		return fmt.Sprintf("appends in term %d after %d/%d, commit %d, number %d", message.Term, message.PrevLogIndex, message.PrevLogTerm, message.CommitIndex, message.Sequence)
	case *raft.AppendEntriesResponse:
		return fmt.Sprintf("has appended %t in term %d up to %d, refused %d, number %d", message.Success(), message.Term(), message.Index(), message.Refused, message.Sequence)
	case *raft.SnapshotRequest:
		return fmt.Sprintf("offers a snapshot in term %d of %d/%d", message.Term, message.LastIndex, message.LastTerm)
	case *raft.SnapshotRecoveryRequest:
		return fmt.Sprintf("sends a piece of a snapshot in term %d of %d/%d", message.Term, message.LastIndex, message.LastTerm)
	case *raft.TimeoutNowRequest:
		return fmt.Sprintf("hands over the leadership of term %d", message.Term)
	case *raft.TimeoutNowResponse:
		return fmt.Sprintf("stands %t in term %d, refused %d", message.Success, message.Term, message.Refused)
	case *raft.ReadIndexRequest:
		return fmt.Sprintf("asks in term %d where to read, number %d", message.Term, message.Sequence)
	case *raft.ReadIndexResponse:
		return fmt.Sprintf("tells %t in term %d to read at %d, refused %d, number %d", message.Success, message.Term, message.Index, message.Refused, message.Sequence)
	case nil:
		return "opens a stream"
	}
	return fmt.Sprintf("%T", m.Message)
}
