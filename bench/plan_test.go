package main

import (
	"slices"
	"testing"
	"time"

	"github.com/goraft/raft/bench/load"
)

func chosen(t *testing.T, o options) *plan {
	t.Helper()
	p, err := choosePlan(&o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestPlansEndInTime(t *testing.T) {
	for _, c := range []struct {
		name   string
		within time.Duration
		builds time.Duration // what of it is left to them
	}{
		{"full", time.Hour, 8 * time.Minute},
		{"quick", 2 * time.Minute, 0},
		{"scale", time.Hour, 8 * time.Minute},
	} {
		p := chosen(t, options{plan: c.name})
		if p.estimate() > p.limit || p.limit+c.builds > c.within {
			t.Errorf("plan %s takes about %v, its limit is %v and the builds may take %v: not within %v", c.name, p.estimate(), p.limit, c.builds, c.within)
		}
	}
	if systems := chosen(t, options{plan: "quick"}).systems(); !slices.Equal(systems, []string{theFloor, ours}) {
		t.Errorf("the quick plan runs %v", systems)
	}
}

func TestEverySystemIsFirstInTurn(t *testing.T) {
	var first []string
	for round := range 4 {
		o := order([]string{"a", "b", "c"}, round)
		first = append(first, o[0])
		if sorted := slices.Sorted(slices.Values(o)); !slices.Equal(sorted, []string{"a", "b", "c"}) {
			t.Errorf("round %d runs %v", round, o)
		}
	}
	if want := []string{"a", "b", "c", "a"}; !slices.Equal(first, want) {
		t.Errorf("first are %v, want %v", first, want)
	}
}

func TestTasksJoinWhatIsCompared(t *testing.T) {
	p := chosen(t, options{plan: "full"})
	tasks := p.tasks()
	at := func(c cell) int { return slices.IndexFunc(tasks, func(t task) bool { return t.cell == c }) }
	if i := at(common); i < 0 || !slices.Equal(tasks[i].systems, slices.Concat(own, peers(), []string{growing})) {
		t.Errorf("the peers do not run beside the others: %v", tasks)
	}
	if d := at(common) - at(common.with(load.Stalled)); d != 1 && d != -1 {
		t.Errorf("the stalled run is %d places from the one it is compared with", d)
	}
	other := common
	other.size = 16
	if i := at(other); i < 0 || !slices.Equal(tasks[i].systems, slices.Concat(own, []string{growing})) {
		t.Errorf("not ours and the floors alone in %v: %v", other, tasks)
	}
}

func TestCommandLineNarrowsAPlan(t *testing.T) {
	o := options{plan: "full", rounds: 2, window: time.Minute, choice: block{
		systems: []string{ours, "etcd"}, clients: []int{64}, servers: []int{3}, workloads: []string{load.Write},
	}}
	p := chosen(t, o)
	if p.runs() != (4+1)*2 || p.window != time.Minute || p.warmup != time.Second {
		t.Errorf("%v: %v", p, p.tasks())
	}
	o.choice.clients = []int{63}
	if p, err := choosePlan(&o); err == nil {
		t.Errorf("%v has a number of clients that the plan does not have", p)
	}
	o.plan = "grid"
	p = chosen(t, o)
	want := cell{load.Write, 3, 128, 63, 0}
	if tasks := p.tasks(); len(tasks) != 1 || tasks[0].cell != want || !slices.Equal(tasks[0].systems, o.choice.systems) {
		t.Errorf("the grid is %v, want %v", tasks, want)
	}
	p.leaveOut("etcd")
	if systems := p.systems(); !slices.Equal(systems, []string{ours}) {
		t.Errorf("left are %v", systems)
	}
	if full := chosen(t, options{plan: "full"}); len(full.systems()) != len(systems) {
		t.Errorf("a choice has changed the plan itself: %v", full.systems())
	}
}
