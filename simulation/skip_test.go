//go:build simulation

package simulation

import (
	"regexp"
	"testing"
)

var drawn = regexp.MustCompile(`nemesis (?:begins|leaves out) (\d+), (.*)`)

// TestLeavingOutChangesNoOther shows that an action which is left out leaves all
// others what they are; so a schedule of faults can be shrunk.
func TestLeavingOutChangesNoOther(t *testing.T) {
	actionsOf := func(seed uint64, without int) map[string]string {
		all := map[string]string{}
		w := func(line []byte) {
			if m := drawn.FindSubmatch(line); m != nil {
				all[string(m[1])] = string(m[2])
			}
		}
		skip := func(action int) bool { return action == without }
		simulateInto(t, draw(seed, false), skip, 0, w, func(w *world) workload { return newRegisters(w) })
		return all
	}
	for _, seed := range []uint64{3, 4} {
		whole := actionsOf(seed, -1)
		for _, without := range []int{0, 5, 10, 15} {
			rest := actionsOf(seed, without)
			compared := 0
			for number, name := range whole {
				if other, ok := rest[number]; ok {
					compared++
					if other != name {
						t.Errorf("seed %d: without action %d, action %s is %q and was %q", seed, without, number, other, name)
					}
				}
			}
			if compared < 10 {
				t.Errorf("seed %d: only %d actions to compare, of %d", seed, compared, len(whole))
			}
		}
	}
}
