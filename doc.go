// Package raft replicates the commands of a Go service to a cluster of servers,
// so that its state survives the loss of any minority of them. It implements the
// Raft protocol (Ongaro and Ousterhout, "In Search of an Understandable
// Consensus Algorithm", cited here by section; Ongaro's dissertation is cited as
// such) behind the API of goraft.
//
// A program registers its command types, makes a server with a Transporter, and
// calls Do. When Do returns without an error the command is durable on a
// majority of the servers and has been applied on this one:
//
//	raft.RegisterCommand(&SetCommand{})
//	transporter := raft.NewHTTPTransporter("/raft", time.Second)
//	server, err := raft.NewServer(name, dir, transporter, nil, db, "http://host:4001")
//	transporter.Install(server, mux)
//	err = server.Start()
//	value, err := server.Do(&SetCommand{"key", "value"})
//
// # What Do's error says
//
// Do returns the bare value, DoContext a *CommandError around it that
// errors.Is knows by cause and by outcome.
//
//	situation                                        value                 the command was
//	not the leader, so never staged                  NotLeaderError        not applied
//	not started, or stopped before it was staged     StopError             not applied
//	unregistered, too large, overload, inside Apply  its own sentinel      not applied
//	another entry was committed in its place         ErrLost               not applied
//	leadership lost after it was staged              ErrLeadershipLost     unknown
//	deadline or cancellation after it was staged     CommandTimeoutError   unknown
//	Stop after it was staged                         StopError             unknown
//
// What Apply itself returns as an error is a result like any other.
//
// # Rooms
//
// The list of files is the architecture.
//
//	the face       server.go lifecycle.go propose.go read.go leading.go receive.go options.go
//	               settings.go status.go explain.go state.go errors.go command.go commands.go state_machine.go
//	               context.go event.go log_level.go goraft_names.go
//	the messages   append_entries.go request_vote.go snapshot.go timeout_now.go read_index.go
//	               message_codec.go configuration_codec.go
//	the rules      replica.go election.go leadership.go progress.go configuration.go history.go intents.go
//	the loops      inbox.go run.go event_loop.go follower.go candidate.go leader.go membership.go
//	               leaving.go transfer.go reads.go promises.go published.go peer.go link.go gauge.go
//	               log_writer.go applier.go applier_reads.go tasks.go courtesy.go
//	the snapshots  snapshot_take.go snapshot_load.go snapshot_send.go snapshotting.go retention.go
//	the log        log.go log_entry.go proposal.go, over internal/wal and internal/snapshot over
//	               internal/vfs
//	the edges      transporter.go http_*.go event_dispatcher.go caller_id.go test_utils.go memory_*.go
//
// The rules are Figure 2 of the paper as plain values: an observation in, a
// changed value and an answer out; no goroutine, channel, lock, clock or I/O.
// The loops are the only files with goroutines and channels. Imports run one
// way: cmd → raft → protobuf, internal/wal, internal/snapshot → internal/vfs.
// tidy_test.go holds all of this.
//
// # Life of a command
//
//  1. Do encodes the command once, as a record of the log with its place left
//     open, and puts a pooled proposal into a queue of the event loop's.
//  2. The loop takes all that waits, and what callers add that are ready to run,
//     unless two batches are under way already (then more of them gather), gives
//     each record its index, term and checksum, and stages them in an append-only
//     chunk of memory.
//  3. The bytes go to the log writer, which makes one write and one sync of all
//     the turns that gathered meanwhile, and at the same time, as part of an
//     immutable view of the term, to the peers' goroutines.
//  4. Each peer sends those same bytes behind an AppendEntries header, with a
//     bounded window of requests under way. The follower verifies them, keeps
//     slices of what it received, and writes those to its own log.
//  5. "Durable up to order n" and acknowledgements come back as events. The
//     commit rule moves the commit index; the applier gets the range, and the
//     callers that wait for it, decodes each command from its bytes, as every
//     server does, applies it, and answers.
//
// # Life of a read
//
//  1. Read puts a pooled read into a queue of the event loop's, which it takes unless
//     two rounds of heartbeats are under way.
//  2. A leader notes its commit index and begins a round: the number of it is in the
//     view that the peers' goroutines send from. Another server asks the leader, once
//     for all reads that wait.
//  3. When a majority has answered the round, the reads go to the applier with their
//     index.
//  4. The applier lets in those whose index is applied, between two entries, and goes on
//     when they have left.
//
// docs/reads.md has the levels that ask for less.
//
// # Who owns what
//
// What a goroutine owns is a struct that only it can reach. Everything else is
// immutable, atomic, or in a queue.
//
//	goroutine       how many                      owns                              hears / tells
//	loop            1                             protocol state, the log's tail    inbox, proposals / orders, views, ranges
//	log             1                             the write end of the log          orders / word of what is durable
//	apply           1                             the state machine                 committed ranges, reads / callers
//	snapshot        1 while one is taken          the file that is written          / loop, TakeSnapshot
//	snapshot:name   1 while a peer is sent one    nothing                           the transporter / the peer's goroutine
//	install         1 while one arrives           the file that is written          pieces / loop
//	peer:name       1 per other member, leading   nextIndex, what is under way      views, answers / acknowledgements
//	receive:name    1 per open stream             nothing                           the stream / the peer's goroutine
//	connect:name    1 while a stream is opened    nothing                           / the peer's goroutine
//	call            at most 4 per peer            nothing                           the transporter / loop or peer
//	events          1 while events wait           the delivery of events            the dispatcher's queue / listeners
//	the transport's per connection                the connection                    / inbox; answers in an outbox
//
// Stop waits for all of them, except for those that the application itself
// blocks, which it reports. Profiles show them under the labels "raft", with these
// names, and "server", with the server's.
//
// # Snapshots
//
// The applier takes them between two entries, by itself after so many entries or
// bytes, so the label is exactly the last entry included; what the state machine
// fixed is written beside it. The file is published when the log is durable as far
// as it goes, and only then is older log dropped: it reaches back to the second
// newest snapshot. A follower that needs what was dropped is sent the file, in
// pieces, by calls of its own beside the heartbeats, and resumes after a break. It
// publishes the file first and restarts its log behind it second: a crash between
// the two is completed by the next Init.
//
// # Invariants
//
//   - Term and vote are durable before anybody hears of them; so are entries
//     before they are acknowledged, the leader's own copy too (promises.go).
//   - A follower truncates only at the first entry that conflicts, never one
//     that is committed, and commits no further than a message has verified
//     (replica.go).
//   - A leader commits by counting copies only entries of its own term
//     (leadership.go), and answers count only in the term and for the store they
//     came from.
//   - A configuration is in force when it is appended, one change at a time, and
//     only after the leader has committed an entry of its own term
//     (membership.go). What an Apply asks for is a function of the log, and is
//     taken up once (intents.go).
//   - A vote is never refused for membership; a server that was removed hears so
//     beside, and stands no more (replica.go).
//   - snapshot ≤ applied ≤ committed ≤ last; none of them goes back in one run.
//   - Nothing published is ever changed: views, Status, chunks of the log.
//
// # Reading order
//
// replica.go, election.go, leadership.go, configuration.go and progress.go hold
// the protocol; then event_loop.go and the three roles; promises.go and
// log_writer.go for durability; peer.go and link.go for replication; propose.go
// and applier.go for commands; read.go and reads.go for reads. docs/ says what is on disk and on the wire.
package raft
