//go:build simulation

package simulation

import (
	"math"

	"github.com/anishathalye/porcupine"
)

// request is an operation as the model of a register sees it.
type request struct {
	kind, key uint64
	value     value
}

// history is what clients have asked and been told. An operation whose outcome is
// unknown may have happened at any time since, or never.
func (w *world) history() (h []porcupine.Operation) {
	for _, c := range w.clients {
		for i, s := range c.history {
			op := porcupine.Operation{
				ClientId: int(c.id), Call: int64(s.began), Return: int64(s.ended),
				Input: request{s.kind, s.key, value{c.id, uint64(i + 1)}}, Output: s.before,
			}
			switch {
			case s.outcome == notApplied, s.outcome == unknown && s.kind == get:
				continue
			case s.outcome == unknown:
				op.Return, op.Output = math.MaxInt64, nil
			}
			h = append(h, op)
		}
	}
	return h
}

// registers is the model: keys that have a value each, which a write returns as it
// was before.
var registers = porcupine.Model{
	Partition: func(history []porcupine.Operation) (parts [][]porcupine.Operation) {
		at := map[uint64]int{}
		for _, op := range history {
			key := op.Input.(request).key
			i, ok := at[key]
			if !ok {
				i = len(parts)
				at[key], parts = i, append(parts, nil)
			}
			parts[i] = append(parts[i], op)
		}
		return parts
	},
	Init: func() interface{} { return value{} },
	Step: func(state, input, output interface{}) (bool, interface{}) {
		in := input.(request)
		if out, known := output.(value); known && out != state.(value) {
			return false, state
		}
		if in.kind == get {
			return true, state
		}
		return true, in.value
	},
}

// linearizable reports whether the history has an order. Values are written once
// and every operation tells what it found, so that the search has few choices.
func linearizable(history []porcupine.Operation) bool {
	return porcupine.CheckOperations(registers, history)
}
