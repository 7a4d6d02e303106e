package raft

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/goraft/raft/internal/vfs"
	"github.com/stretchr/testify/require"
)

// testElection is the election timeout of the clusters in these tests.
const testElection = DefaultElectionTimeout

// testCommand is a command of the tests: it puts its value into the journal that
// the server was given as its context. It travels as its value: JSON looks at each
// byte of a large one several times, and the race detector at each of the looks.
type testCommand struct{ Value string }

// CommandName is Command's.
func (c *testCommand) CommandName() string { return "test:put" }

// Encode is CommandEncoder's.
func (c *testCommand) Encode(w io.Writer) error { return writeText(w, c.Value) }

// Decode is CommandEncoder's.
func (c *testCommand) Decode(r io.Reader) (err error) {
	c.Value, err = readText(r)
	return err
}

func writeText(w io.Writer, s string) error {
	_, err := io.WriteString(w, s)
	return err
}

// readText is the reverse, for what comes last.
func readText(r io.Reader) (string, error) {
	var b strings.Builder
	_, err := io.Copy(&b, r)
	return b.String(), err
}

// Apply puts the value into the server's journal.
func (c *testCommand) Apply(ctx Context) (interface{}, error) {
	j := ctx.Server().Context().(*journal)
	if during := j.test.during; during != nil {
		during(ctx, c.Value)
	}
	j.put(journalEntry{ctx.CurrentIndex(), ctx.CurrentTerm(), c.Value})
	return "did " + c.Value, nil
}

// journal is what one life of a server has applied. It is the server's state
// machine and context.
type journal struct {
	test *clusterTest
	name string
	mu   sync.Mutex
	all  []journalEntry

	recovered int // times that a snapshot was restored
}

type journalEntry struct {
	index, term uint64
	value       string
}

func (j *journal) put(e journalEntry) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if n := len(j.all); n > 0 && j.all[n-1].index >= e.index {
		j.test.t.Errorf("%s applied entry %d after entry %d", j.name, e.index, j.all[n-1].index)
	}
	j.all = append(j.all, e)
}

// Save is StateMachine's.
func (j *journal) Save() ([]byte, error) {
	if fail := j.test.saving; fail != nil {
		if err := fail(j.name); err != nil {
			return nil, err
		}
	}
	return writeJournal(j.entries()), nil
}

// writeJournal is what Save returns of the entries.
func writeJournal(all []journalEntry) (b []byte) {
	for _, e := range all {
		for _, n := range [...]uint64{e.index, e.term, uint64(len(e.value))} {
			b = binary.AppendUvarint(b, n)
		}
		b = append(b, e.value...)
	}
	return b
}

// readJournal is the reverse.
func readJournal(state []byte) (all []journalEntry, err error) {
	for len(state) > 0 {
		var fields [3]uint64
		for i := range fields {
			value, n := binary.Uvarint(state)
			if n <= 0 {
				return nil, errNoJournal
			}
			fields[i], state = value, state[n:]
		}
		length := fields[2]
		if length > uint64(len(state)) {
			return nil, errNoJournal
		}
		all = append(all, journalEntry{fields[0], fields[1], string(state[:length])})
		state = state[length:]
	}
	return all, nil
}

var errNoJournal = errors.New("test: not a journal")

// Recovery is StateMachine's.
func (j *journal) Recovery(state []byte) error {
	all, err := readJournal(state)
	if err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if n := len(j.all); n > 0 && (len(all) == 0 || all[len(all)-1].index < j.all[n-1].index) {
		j.test.t.Errorf("%s was taken back from entry %d", j.name, j.all[n-1].index)
	}
	j.all = all
	j.recovered++
	return nil
}

// forget is for a server that starts again with the same journal.
func (j *journal) forget() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.all = nil
}

func (j *journal) entries() []journalEntry {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.all)
}

func (j *journal) values() (values []string) {
	for _, e := range j.entries() {
		values = append(values, e.value)
	}
	return values
}

// clusterTest is a cluster under test, with the journals of its servers.
type clusterTest struct {
	*Cluster
	t   *testing.T
	ctx context.Context
	// during is called within Apply; it is set before the servers start.
	during func(ctx Context, value string)
	// saving is called within Save, which fails with its error; it is set before
	// the servers start.
	saving func(name string) error
	// machine, set before the servers start, puts a state machine around each
	// journal.
	machine func(j *journal) StateMachine
	mu      sync.Mutex
	lives   []*journal
	// registries are the servers' own, which all know testCommand.
	registries map[string]*Registry
}

// inCluster runs f with a cluster of n servers that are not started, in a bubble:
// when f returns everything must end, and all servers must have applied the same.
func inCluster(t *testing.T, n int, options ClusterOptions, f func(c *clusterTest)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		c := &clusterTest{t: t, ctx: ctx, registries: make(map[string]*Registry)}
		options.OptionsOf = func(name string) []Option { return []Option{WithRegistry(c.registry(name))} }
		options.StateMachine = func(name string) StateMachine {
			j := &journal{test: c, name: name}
			c.mu.Lock()
			defer c.mu.Unlock()
			c.lives = append(c.lives, j)
			if c.machine != nil {
				return c.machine(j)
			}
			return j
		}
		options.Context = func(name string) interface{} { return c.journal(name) }
		c.Cluster = NewCluster(n, options)
		defer c.checkJournals()
		defer c.Close()
		defer func() {
			if t.Failed() {
				t.Log(c.Cluster)
			}
		}()
		f(c)
	})
}

// inRunningCluster is inCluster with the cluster bootstrapped.
func inRunningCluster(t *testing.T, n int, options ClusterOptions, f func(c *clusterTest)) {
	t.Helper()
	inCluster(t, n, options, func(c *clusterTest) {
		require.NoError(c.t, c.Bootstrap(c.ctx))
		require.NoError(c.t, c.WaitForConverged(c.ctx))
		f(c)
	})
}

// registry is the server's own, which knows testCommand.
func (c *clusterTest) registry(name string) *Registry {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.registries[name] == nil {
		c.registries[name] = NewRegistry()
		require.NoError(c.t, c.registries[name].Register(&testCommand{}))
	}
	return c.registries[name]
}

// checkJournals checks that no two lives applied different entries at one index.
func (c *clusterTest) checkJournals() {
	c.mu.Lock()
	defer c.mu.Unlock()
	known := make(map[uint64]journalEntry)
	for _, j := range c.lives {
		for _, e := range j.entries() {
			if before, ok := known[e.index]; ok && before != e {
				c.t.Errorf("%s applied %+v, another server %+v", j.name, e, before)
			}
			known[e.index] = e
		}
	}
}

// journal is that of the server's present, or last, life.
func (c *clusterTest) journal(name string) *journal {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, j := range slices.Backward(c.lives) {
		if j.name == name {
			return j
		}
	}
	return nil
}

// put has the leader carry out a testCommand.
func (c *clusterTest) put(value string) {
	c.t.Helper()
	result, err := c.Do(c.ctx, &testCommand{value})
	require.NoError(c.t, err)
	require.Equal(c.t, "did "+value, result)
}

// puts carries out testCommands named prefix and a number from first to last.
func (c *clusterTest) puts(prefix string, first, last int) {
	c.t.Helper()
	for i := first; i <= last; i++ {
		c.put(fmt.Sprint(prefix, i))
	}
}

// converge waits for all started servers to agree, within ten election timeouts,
// and checks that they have applied the same.
func (c *clusterTest) converge() {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.ctx, 10*testElection)
	defer cancel()
	require.NoError(c.t, c.WaitForConverged(ctx))
	var want []journalEntry
	members := c.leader().Peers()
	for name := range c.Servers() {
		if members[name] == nil && name != c.leader().Name() {
			continue
		}
		got := c.journal(name).entries()
		if want == nil {
			want = got
		}
		require.Equal(c.t, want, got, name)
	}
}

// within waits until the condition holds, no longer than d.
func (c *clusterTest) within(d time.Duration, what string, condition func() bool) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.ctx, d)
	defer cancel()
	require.NoError(c.t, c.Wait(ctx, what, condition))
}

// leader is the leader, which must be there.
func (c *clusterTest) leader() Server {
	c.t.Helper()
	leader := c.Leader()
	require.NotNil(c.t, leader, "no leader")
	return leader
}

// followers are the names of the started servers that do not lead.
func (c *clusterTest) followers() (names []string) {
	leader := c.leader().Name()
	for _, name := range c.Names() {
		if name != leader && c.Server(name) != nil {
			names = append(names, name)
		}
	}
	return names
}

// pass lets time pass.
func (c *clusterTest) pass(d time.Duration) {
	select {
	case <-time.After(d):
	case <-c.ctx.Done():
		c.t.Fatal("the test has no time left")
	}
}

// stallDisk makes every sync of the server's disk wait until release is called.
func (c *clusterTest) stallDisk(name string) (release func()) {
	free := make(chan struct{})
	disk := c.node(name).disk.Load()
	disk.SetFault(func(op vfs.Op) error {
		if op.Kind == vfs.OpSync {
			<-free
		}
		return nil
	})
	release = sync.OnceFunc(func() {
		disk.SetFault(nil)
		close(free)
	})
	c.t.Cleanup(release)
	return release
}

// failDisk makes the server's disk fail every call of a kind from now on.
func (c *clusterTest) failDisk(name string, kind vfs.OpKind) {
	c.node(name).disk.Load().SetFault(func(op vfs.Op) error {
		if op.Kind == kind {
			return errDisk
		}
		return nil
	})
}

var errDisk = errors.New("test: the disk fails")
