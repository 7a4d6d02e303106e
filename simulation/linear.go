//go:build simulation

package simulation

import (
	"github.com/anishathalye/porcupine"
)

// request is an operation as the model of a register sees it.
type request struct {
	kind, key uint64
	value     value
}

// history is what clients have asked and been told. A write whose outcome is
// unknown may have happened at any time since, or never. If nobody ever saw its
// value, it may as well be left out: it could stand behind everything. If somebody
// did, it happened before that one was answered. Both say no less than to leave it
// open for ever, and spare the search all orders of such writes.
func history(clients []*client) (h []porcupine.Operation) {
	seen := map[value]int64{}
	for _, c := range clients {
		for _, s := range c.sent {
			if first, ok := seen[s.before]; s.outcome == done && (!ok || int64(s.ended) < first) {
				seen[s.before] = int64(s.ended)
			}
		}
		for _, l := range c.looks {
			if first, ok := seen[l.seen]; !ok || int64(l.ended) < first {
				seen[l.seen] = int64(l.ended)
			}
		}
	}
	for _, c := range clients {
		for _, l := range c.looks {
			h = append(h, porcupine.Operation{
				ClientId: int(c.id), Call: int64(l.began), Return: int64(l.ended), Input: request{kind: get, key: l.key}, Output: l.seen,
			})
		}
		for i, s := range c.sent {
			v := value{c.id, uint64(i + 1)}
			op := porcupine.Operation{
				ClientId: int(c.id), Call: int64(s.began), Return: int64(s.ended), Input: request{s.kind, s.key, v}, Output: s.before,
			}
			if s.outcome == unknown {
				op.Return, op.Output = seen[v], nil
			}
			if s.outcome != notApplied && op.Return > 0 {
				h = append(h, op)
			}
		}
	}
	return h
}

// register is the model: keys that have a value each, which a write returns as it
// was before.
var register = porcupine.Model{
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
	return porcupine.CheckOperations(register, history)
}
