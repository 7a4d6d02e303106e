//go:build simulation

package simulation

import (
	"math/rand/v2"
	"time"

	"github.com/goraft/raft"
)

// weather has the network do to messages what the plan says.
func (w *world) weather() {
	n := w.cluster.Network()
	n.SetForm(w.plan.form)
	n.SetChecked(w.plan.checked)
	n.SetDelay(w.plan.delay[0], w.plan.delay[1])
	n.SetCallTimeout(2 * w.plan.election)
	n.Intercept(w.watch.sent)
	n.SetFates(w.fate)
}

// clears ends the weather.
func (w *world) clears() {
	n := w.cluster.Network()
	n.SetFates(nil)
	n.Heal()
	n.SetDelay(w.plan.delay[0], w.plan.delay[1])
}

// fate draws what becomes of a message.
func (w *world) fate(m raft.MemoryMessage, r *rand.Rand) (f raft.Fate) {
	v := &w.plan.weather
	far := func(most float64) time.Duration {
		return time.Duration(r.Float64() * most * float64(w.plan.election))
	}
	if r.Float64() < v.loss {
		w.count("message lost")
		f.Drop = true
	}
	if r.Float64() < v.duplicates && !m.Answer {
		w.count("message twice")
		f.Again = append(f.Again, far(0.1))
	}
	if r.Float64() < v.reorder {
		w.count("message overtaken")
		f.Delay = far(0.2)
	}
	if r.Float64() < v.late && !m.Answer {
		w.count("message late")
		f.Drop = true
		f.Again = append(f.Again, 100*w.plan.election+far(10))
	}
	if r.Float64() < v.replay && !m.Answer {
		w.count("message replayed")
		f.Again = append(f.Again, far(60))
	}
	if r.Float64() < v.flip {
		w.count("bits flipped")
		f.Flip = 1 + r.IntN(3)
	}
	if r.Float64() < v.misdeliver {
		names := w.cluster.Names()
		if to := names[r.IntN(len(names))]; to != m.To {
			w.count("message misdelivered")
			f.To = to
		}
	}
	return f
}
