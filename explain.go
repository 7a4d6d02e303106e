package raft

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Finding is one thing that Explain has found to say about a server or a member.
type Finding struct {
	// ID is one of the situations of docs/explain.md, for programs. It never changes.
	ID string `json:"id"`
	// About is the server or the member that it is about.
	About string `json:"about"`
	// Why says what is so and why, Advice what to do about it, "" if nothing needs to be.
	Why    string `json:"why"`
	Advice string `json:"advice,omitempty"`
}

// String is the finding in one line.
func (f Finding) String() string {
	if f.Advice == "" {
		return fmt.Sprintf("%s: %s", f.About, f.Why)
	}
	return fmt.Sprintf("%s: %s; %s", f.About, f.Why, f.Advice)
}

// findings are what has been found so far.
type findings []Finding

func (f *findings) add(id, about, why, advice string) {
	*f = append(*f, Finding{ID: id, About: about, Why: why, Advice: advice})
}

// Explain says in words what keeps this server, or the cluster as far as this server
// knows, from working as it should: why there is no leader, why a write waits, why a
// member is behind, why this server does not stand for election, and what to do. It is
// empty where there is nothing to say. It is a function of the Status alone, so a
// Status that was read as JSON explains itself as well.
func (s Status) Explain() []Finding {
	var found findings
	switch s.State {
	case Stopped, Initialized:
		s.explainStopped(&found)
		return found
	}
	s.explainServer(&found)
	switch {
	case len(s.Members) == 0:
		found.add("no-cluster", s.Name, "it belongs to no cluster", "have the leader join it (AddPeer or a join command), or begin a cluster with it")
	case s.State == Leader:
		s.explainOffice(&found)
		for i := range s.Members {
			s.explainMember(&found, &s.Members[i])
		}
	case s.Leader == "":
		s.explainNoLeader(&found)
	}
	return found
}

// explainStopped says why a server takes no part.
func (s *Status) explainStopped(found *findings) {
	if s.Error != "" {
		found.add("failed", s.Name, "it has stopped by itself: "+s.Error, "mend the cause; it starts with what its directory holds")
		return
	}
	found.add("not-started", s.Name, "it is "+s.State, "start it")
}

// explainServer says what is wrong with the server itself.
func (s *Status) explainServer(found *findings) {
	if s.Error == ErrRemoved.Error() {
		found.add("removed", s.Name, "the cluster has removed it", "stop it, or join it again")
	} else if s.Error != "" {
		found.add("halted", s.Name, "it applies no more commands: "+s.Error, "mend the command's code, or register it, and start the server again; it votes and stores meanwhile")
	}
	if s.StorageError != "" {
		found.add("disk", s.Name, "its disk takes no writes: "+s.StorageError, "make space or mend the disk; it goes on by itself")
	}
	if s.SnapshotError != "" {
		found.add("snapshot-failed", s.Name, "its last snapshot failed, so its log grows: "+s.SnapshotError, "mend Save, or the disk; it tries again by itself")
	}
	if waits := s.CommitIndex - min(s.CommitIndex, s.LastApplied); waits > 0 && s.Error == "" {
		why := fmt.Sprintf("%d committed entries wait for Apply, which takes %v each", waits, s.ApplyLatency)
		found.add("apply-behind", s.Name, why, "if that lasts, Apply blocks or is too slow: nothing else of this server's waits behind it but reads and answers")
	}
	if s.EventsDropped > 0 {
		found.add("events-dropped", s.Name, fmt.Sprintf("%d events were dropped, because a listener is too slow", s.EventsDropped), "have listeners hand over their work")
	}
}

// explainNoLeader says why nobody leads, as far as a server can know that does not.
func (s *Status) explainNoLeader(found *findings) {
	if s.NotStanding != "" {
		found.add("not-standing", s.Name, "it knows of no leader, and does not stand for election itself: "+s.NotStanding, "")
	}
	e := s.Election
	if e == nil {
		if s.NotStanding == "" {
			found.add("no-leader", s.Name, "it has heard of no leader, and stands for election soon", "")
		}
		return
	}
	asked := "votes"
	if e.PreVote {
		asked = "whether it would be elected"
	}
	why := fmt.Sprintf("there is no leader: it asked for %s in term %d, and needs %d of %d voters; granted by %s, refused by %s, no answer from %s",
		asked, e.Term, e.Quorum, len(e.Granted)+len(e.Refused)+len(e.Silent), names(e.Granted), names(e.Refused), names(e.Silent))
	advice := "they hear of a leader that it does not hear of, or have more of the log: look at their Status"
	switch {
	case len(e.Granted)+len(e.Refused) < e.Quorum:
		advice = fmt.Sprintf("start %s, or mend the network between them and this server", names(e.Silent))
	case len(e.Granted) >= e.Quorum:
		advice = "it is about to lead"
	}
	found.add("no-leader", s.Name, why, advice)
}

// explainOffice says what a leader waits for.
func (s *Status) explainOffice(found *findings) {
	if s.Transferring != "" {
		found.add("transfer", s.Name, "it hands its office over to "+s.Transferring+", and takes no commands meanwhile", "")
	}
	if s.CommitIndex < s.LastIndex {
		s.explainUncommitted(found)
	} else if !s.Ready && s.Error == "" && s.LastApplied < s.CommitIndex {
		found.add("not-ready", s.Name, "it leads, and has not yet applied what was committed before its term", "")
	}
}

// explainUncommitted says whom a write waits for.
func (s *Status) explainUncommitted(found *findings) {
	var lack []string
	voters := 0
	for _, m := range s.Members {
		if !m.Voter {
			continue
		}
		voters++
		match := m.Match
		if m.Name == s.Name {
			match = s.DurableIndex
		}
		if match <= s.CommitIndex {
			lack = append(lack, m.Name)
		}
	}
	why := fmt.Sprintf("%d entries wait for a majority (%d of %d voters): %s have not stored the next one", s.LastIndex-s.CommitIndex, voters/2+1, voters, names(lack))
	advice := ""
	if slices.Contains(lack, s.Name) && s.StorageError == "" {
		advice = fmt.Sprintf("its own disk takes %v for a write", s.DiskLatency)
	}
	if voters-len(lack) <= voters/2 && len(lack) > 0 {
		advice = strings.TrimPrefix(advice+"; see below what keeps them", "; ")
	}
	found.add("uncommitted", s.Name, why, advice)
}

// explainMember says why a member is behind, or does not count.
func (s *Status) explainMember(found *findings, m *MemberStatus) {
	switch {
	case m.Name == s.Name:
	case m.Trouble != "":
		found.add("member-lost", m.Name, m.Trouble, "join it again: it begins anew as a learner")
	case m.SilentFor > s.ElectionTimeout:
		why := "it has never answered in this term"
		if !m.LastActivity.IsZero() {
			why = fmt.Sprintf("it has not answered for %v", m.SilentFor.Round(time.Millisecond))
		}
		found.add("member-silent", m.Name, why, fmt.Sprintf("see whether it runs, and whether %s reaches it", m.ConnectionString))
	case m.Progress == ProgressSnapshot:
		found.add("member-snapshot", m.Name, fmt.Sprintf("it is sent a snapshot: the log no longer has what it lacks, the entries from %d on", m.Match+1), "")
	case m.Lag > lagging && m.Progress == ProgressProbe:
		found.add("member-behind", m.Name, fmt.Sprintf("it is %d entries behind, and has not yet shown where its log agrees", m.Lag), "")
	case m.Lag > lagging:
		why := fmt.Sprintf("it is %d entries behind, with %d requests of %d bytes on their way, %v away", m.Lag, m.InFlight, m.InFlightBytes, m.RTT)
		found.add("member-behind", m.Name, why, "if that lasts, its disk or the link to it is too slow")
	case !m.Voter:
		found.add("learner", m.Name, "it has no vote until it has caught up within an election timeout", "")
	}
}

// lagging is how many entries a member may be behind before that is worth a word.
const lagging = 1000

// names joins names for people.
func names(all []string) string {
	if len(all) == 0 {
		return "nobody"
	}
	return strings.Join(all, ", ")
}
