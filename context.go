package raft

// Context is what a command's Apply learns about its place. All servers see the
// same term and indexes for one entry, whenever they apply it. It is good until
// Apply returns: the next entry uses it again.
type Context interface {
	// Server is the server that applies the command.
	Server() Server
	// CurrentTerm is the term of the entry that is being applied.
	CurrentTerm() uint64
	// CurrentIndex is the index of the entry that is being applied.
	CurrentIndex() uint64
	// CommitIndex is the index of the entry that is being applied, too: what is
	// known to be committed differs from server to server.
	CommitIndex() uint64
}

// applyContext is the Context of one entry.
type applyContext struct {
	server      Server
	term, index uint64
}

func (c *applyContext) Server() Server       { return c.server }
func (c *applyContext) CurrentTerm() uint64  { return c.term }
func (c *applyContext) CurrentIndex() uint64 { return c.index }
func (c *applyContext) CommitIndex() uint64  { return c.index }
