//go:build simulation

package simulation_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/goraft/raft"
	"github.com/goraft/raft/simulation"
)

// bank is an application: accounts, between which money moves.
type bank struct{ Accounts map[string]int }

const (
	accounts = 5
	fortune  = 100 // of each account at the beginning
)

func newBank() raft.StateMachine {
	b := &bank{Accounts: map[string]int{}}
	for i := range accounts {
		b.Accounts[fmt.Sprint("account ", i)] = fortune
	}
	return b
}

// Save is StateMachine's. Package json writes maps in the order of their keys.
func (b *bank) Save() ([]byte, error) { return json.Marshal(b) }

// Recovery is StateMachine's.
func (b *bank) Recovery(state []byte) error { return json.Unmarshal(state, b) }

// move takes money from one account to another.
type move struct {
	From, To string
	Amount   int
}

var errPoor = errors.New("not enough money")

// CommandName is Command's.
func (c *move) CommandName() string { return "move" }

// Apply is CommandApply's.
func (c *move) Apply(ctx raft.Context) (interface{}, error) {
	return c.on(ctx.Server().Context().(*bank))
}

func (c *move) on(b *bank) (interface{}, error) {
	if b.Accounts[c.From] < c.Amount {
		return nil, errPoor
	}
	b.Accounts[c.From] -= c.Amount
	b.Accounts[c.To] += c.Amount
	return b.Accounts[c.To], nil
}

var bankers = simulation.Application{
	Commands: []raft.Command{&move{}},
	Machine:  newBank,
	Command: func(r *rand.Rand) raft.Command {
		return &move{fmt.Sprint("account ", r.IntN(accounts)), fmt.Sprint("account ", r.IntN(accounts)), r.IntN(50)}
	},
	Check: func(m raft.StateMachine) error {
		total := 0
		for _, money := range m.(*bank).Accounts {
			total += money
		}
		if total != accounts*fortune {
			return fmt.Errorf("there is money for %d, not for %d", total, accounts*fortune)
		}
		return nil
	},
}

// TestBank is how an application tests its own state machine: a few seeds here, as
// many as one likes elsewhere.
func TestBank(t *testing.T) {
	for seed := range uint64(3) {
		simulation.Test(t, seed+1, bankers)
	}
}

// refusals is an application whose Apply says no to everything, which is an answer.
type refusals struct{ Count int }

func newRefusals() raft.StateMachine { return &refusals{} }

// Save is StateMachine's.
func (m *refusals) Save() ([]byte, error) { return json.Marshal(m) }

// Recovery is StateMachine's.
func (m *refusals) Recovery(state []byte) error { return json.Unmarshal(state, m) }

// ask is refused.
type ask struct{ What int }

// CommandName is Command's.
func (c *ask) CommandName() string { return "ask" }

// Apply is CommandApply's.
func (c *ask) Apply(ctx raft.Context) (interface{}, error) {
	ctx.Server().Context().(*refusals).Count++
	return nil, errPoor
}

// TestRefusalsAreAnswers shows that an error of an application's own is a result.
func TestRefusalsAreAnswers(t *testing.T) {
	for seed := range uint64(3) {
		simulation.Test(t, seed, simulation.Application{
			Commands: []raft.Command{&ask{}},
			Machine:  newRefusals,
			Command:  func(r *rand.Rand) raft.Command { return &ask{r.IntN(9)} },
		})
	}
}

// streamed is the bank with a state that is written as a stream.
type streamed struct{ bank }

// FixState is StateStreamer's.
func (s *streamed) FixState() (raft.StateView, error) {
	state, err := s.Save()
	return &fixed{state}, err
}

// RecoverFrom is StateStreamer's.
func (s *streamed) RecoverFrom(state io.Reader) error { return json.NewDecoder(state).Decode(&s.bank) }

// fixed is a state that was fixed.
type fixed struct{ state []byte }

// WriteTo is StateView's.
func (f *fixed) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(f.state)
	return int64(n), err
}

// Release is StateView's.
func (f *fixed) Release() {}

// TestStreamedBank shows an application that streams its state.
func TestStreamedBank(t *testing.T) {
	app := bankers
	app.Machine = func() raft.StateMachine { return &streamed{*newBank().(*bank)} }
	app.Commands, app.Command = []raft.Command{&streamedMove{}}, func(r *rand.Rand) raft.Command {
		return &streamedMove{*bankers.Command(r).(*move)}
	}
	app.Check = func(m raft.StateMachine) error { return bankers.Check(&m.(*streamed).bank) }
	for seed := range uint64(3) {
		simulation.Test(t, seed+1, app)
	}
}

// streamedMove is move on a streamed bank.
type streamedMove struct{ move }

// CommandName is Command's.
func (c *streamedMove) CommandName() string { return "streamed move" }

// Apply is CommandApply's.
func (c *streamedMove) Apply(ctx raft.Context) (interface{}, error) {
	return c.on(&ctx.Server().Context().(*streamed).bank)
}

// list is an application with a mistake: what it saves depends on the order of a
// map.
type list struct {
	names map[string]bool
}

func newList() raft.StateMachine { return &list{names: map[string]bool{}} }

// Save is StateMachine's.
func (l *list) Save() ([]byte, error) {
	var names []string
	for name := range l.names {
		names = append(names, name)
	}
	return []byte(strings.Join(names, " ")), nil
}

// Recovery is StateMachine's.
func (l *list) Recovery(state []byte) error {
	clear(l.names)
	for _, name := range strings.Fields(string(state)) {
		l.names[name] = true
	}
	return nil
}

// enter adds a name to a list.
type enter struct{ Name string }

// CommandName is Command's.
func (c *enter) CommandName() string { return "enter" }

// Apply is CommandApply's.
func (c *enter) Apply(ctx raft.Context) (interface{}, error) {
	ctx.Server().Context().(*list).names[c.Name] = true
	return nil, nil
}

// TestListIsNoticed shows that a state machine whose state depends on something
// else than the log is found out.
func TestListIsNoticed(t *testing.T) {
	report := simulation.Run(t, 3, simulation.Application{
		Commands: []raft.Command{&enter{}},
		Machine:  newList,
		Command:  func(r *rand.Rand) raft.Command { return &enter{fmt.Sprint("n", r.IntN(1000))} },
	})
	if lines := strings.Split(report.Failure, "\n"); !slices.ContainsFunc(lines, func(line string) bool {
		return strings.Contains(line, "the same commands have led to another state")
	}) {
		t.Errorf("the failure is %q", report.Failure)
	}
}
