package raft

import (
	"cmp"
	"errors"
	"slices"
)

// member is one server of a configuration.
type member struct {
	name             string
	connectionString string
	// incarnation is the index of the entry that added the member, 0 for one of
	// the initial configuration. A name that is removed and added again is
	// another member.
	incarnation uint64
	// storeID is the store that the name is bound to, 0 before first contact. A
	// server that answers for the name from another store has lost its log.
	storeID uint64
	voter   bool // learners get entries but neither vote nor count
	// rejoins says that the name was joined while it was a member, maybe by a server
	// that has lost its store before anybody has noticed: if another store answers
	// for it, it begins anew.
	rejoins bool
}

// configuration is who belongs to the cluster as of one index of the log. It is
// in force as soon as its entry is appended (§6) and never changes: a change
// makes a new value. Members are sorted by name.
type configuration struct {
	index   uint64 // of its entry, 0 for the initial configuration
	members []member
	// initial is the digest of the cluster's initial configuration, which servers
	// that joined later know from here only; 0 in the initial one.
	initial uint64
	// taken is the last intent that is taken up: those after it wait.
	taken intentID
}

var (
	// errMember says that a change cannot be made of the configuration it was
	// asked of.
	errMember = errors.New("raft: not a member")
	// errEarly says that a leader is too new in office to know who is alive.
	errEarly = errors.New("raft: too early to tell who answers")
)

func newConfiguration(index uint64, members []member) *configuration {
	sorted := slices.Clone(members)
	slices.SortFunc(sorted, func(a, b member) int { return cmp.Compare(a.name, b.name) })
	return &configuration{index: index, members: sorted}
}

// find returns the member of that name, or nil.
func (c *configuration) find(name string) *member {
	i, found := slices.BinarySearchFunc(c.members, name, func(m member, name string) int {
		return cmp.Compare(m.name, name)
	})
	if !found {
		return nil
	}
	return &c.members[i]
}

// votes reports whether name is a voter.
func (c *configuration) votes(name string) bool {
	m := c.find(name)
	return m != nil && m.voter
}

// voters counts the members that vote.
func (c *configuration) voters() int {
	n := 0
	for i := range c.members {
		if c.members[i].voter {
			n++
		}
	}
	return n
}

// quorum is the number of voters that a decision needs: a majority, so that any
// two quorums share a server.
func (c *configuration) quorum() int { return c.voters()/2 + 1 }

// accepts reports whether what a server says from this store may count for the
// name: a name counts from the store that it is bound to, or from any before
// first contact. Store 0 is a transport that does not tell.
func (c *configuration) accepts(name string, storeID uint64) bool {
	m := c.find(name)
	return m != nil && (m.storeID == 0 || storeID == 0 || m.storeID == storeID)
}

// digest is a number that equal sets of names share; FNV-1a over the names, each
// ended by a zero byte. An empty configuration has digest 0.
func (c *configuration) digest() uint64 {
	if c == nil || len(c.members) == 0 {
		return 0
	}
	sum := uint64(14695981039346656037)
	for i := range c.members {
		for _, b := range []byte(c.members[i].name) {
			sum = (sum ^ uint64(b)) * 1099511628211
		}
		sum *= 1099511628211
	}
	return sum
}

// having returns the configuration with other members; the caller sets the index.
func (c *configuration) having(members []member) *configuration {
	changed := newConfiguration(0, members)
	changed.initial, changed.taken = c.initial, c.taken
	return changed
}

// but returns the members other than name.
func (c *configuration) but(name string) []member {
	return slices.DeleteFunc(slices.Clone(c.members), func(m member) bool { return m.name == name })
}

// with returns the configuration with m added, or put in place of the member of
// its name.
func (c *configuration) with(m member) *configuration {
	return c.having(append(c.but(m.name), m))
}

// without returns the configuration with name removed, or c itself if that is no
// member.
func (c *configuration) without(name string) *configuration {
	if c.find(name) == nil {
		return c
	}
	return c.having(c.but(name))
}

// upTo returns the configuration with the same members that has taken up the
// intents as far as that one.
func (c *configuration) upTo(taken intentID) *configuration {
	same := c.having(c.members)
	same.taken = taken
	return same
}

// join returns the configuration in which name is a member at connectionString:
// a new learner if it was none, with a new address if it has another one. A name
// whose store is lost (another one answers for it) begins again as a learner; of
// one that is bound, and may be joining because it has lost its store, that is
// noted. It returns c itself if nothing changes.
func (c *configuration) join(name, connectionString string, rejoins, storeLost bool) *configuration {
	m := c.find(name)
	rejoins = m != nil && (m.rejoins || rejoins && m.storeID != 0)
	switch {
	case m == nil || storeLost:
		// The incarnation is the entry's index, which the leader knows only when
		// it appends: see at.
		return c.with(member{name: name, connectionString: connectionString, incarnation: unborn})
	case m.connectionString == connectionString && m.rejoins == rejoins:
		return c
	}
	changed := *m
	changed.connectionString, changed.rejoins = connectionString, rejoins
	return c.with(changed)
}

// anew returns the configuration in which the member begins again as a learner,
// with the store that it has: what it promised before counts no more.
func (c *configuration) anew(name, connectionString string, storeID uint64) *configuration {
	storeID = cmp.Or(c.find(name).storeID, storeID)
	return c.with(member{name: name, connectionString: connectionString, incarnation: unborn, storeID: storeID})
}

// returned returns the configuration in which the member has shown that it has
// kept its store.
func (c *configuration) returned(name string) *configuration {
	m := *c.find(name)
	m.rejoins = false
	return c.with(m)
}

// unborn is the incarnation of a member whose entry has no index yet.
const unborn = ^uint64(0)

// at returns the configuration as the entry at index carries it.
func (c *configuration) at(index uint64) *configuration {
	placed := newConfiguration(index, c.members)
	placed.initial, placed.taken = cmp.Or(c.initial, c.digest()), c.taken
	for i := range placed.members {
		if placed.members[i].incarnation == unborn {
			placed.members[i].incarnation = index
		}
	}
	return placed
}

// promote returns the configuration in which the learner votes, bound to the
// store from which it caught up.
func (c *configuration) promote(name string, storeID uint64) (*configuration, error) {
	m := c.find(name)
	if m == nil || m.voter {
		return nil, errMember
	}
	changed := *m
	changed.voter = true
	if storeID != 0 {
		changed.storeID = storeID
	}
	return c.with(changed), nil
}

// bind returns the configuration with names bound to the stores that were heard
// from them; names that are bound already stay as they are. It returns c itself
// if nothing changes.
func (c *configuration) bind(stores map[string]uint64) *configuration {
	bound := c
	for i := range c.members {
		m := c.members[i]
		if id := stores[m.name]; m.storeID == 0 && id != 0 {
			m.storeID = id
			bound = bound.with(m)
		}
	}
	return bound
}

// named returns the configuration of members of these names and addresses. Of a
// name that is known here the rest is taken over; others vote.
func (c *configuration) named(index uint64, addresses map[string]string) *configuration {
	members := make([]member, 0, len(addresses))
	for name, address := range addresses {
		m := member{name: name, voter: true}
		if known := c.find(name); known != nil {
			m = *known
		}
		m.connectionString = address
		members = append(members, m)
	}
	made := newConfiguration(index, members)
	made.initial, made.taken = c.initial, c.taken
	return made
}
