// Package toy is a guest for the tests of the host: a few goroutines that pass
// numbers on in a bubble, and failures planted by the seed's last digit.
package toy

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// What the last digit of a seed plants.
const (
	plantedActions   = 3 // fails with actions 5 and 17
	plantedPanic     = 4 // after action 9
	plantedDeadlock  = 5
	plantedLivelock  = 6 // never comes to an end
	plantedSchedule  = 7 // fails natively, and with neighbour 2
	plantedHang      = 8 // natively, and with neighbour 1
	plantedRace      = 9
	plantedProcessor = 0 // fails natively only
)

type report struct {
	Seed      uint64         `json:"seed"`
	Neighbour uint64         `json:"neighbour"`
	Hash      string         `json:"hash"`
	Failure   string         `json:"failure"`
	VirtualNS int64          `json:"virtual_ns"`
	Servers   int            `json:"servers"`
	Actions   int            `json:"actions"`
	Faults    map[string]int `json:"faults"`
	Checks    map[string]int `json:"checks"`
	Skipped   int            `json:"skipped"`
}

func TestSeeds(t *testing.T) {
	text, ranged, _ := strings.Cut(os.Getenv("SIM_SEEDS"), "-")
	first, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Skip("no seeds")
	}
	count := 1
	if ranged != "" {
		if count, err = strconv.Atoi(ranged); err != nil {
			t.Fatal(err)
		}
	}
	neighbour, err := strconv.ParseUint(os.Getenv("SIM_NEIGHBOUR"), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	for i := range count {
		s := &toy{skip: os.Getenv("SIM_SKIP"), sum: sha256.New()}
		s.report = report{Seed: first + uint64(i), Neighbour: neighbour, Servers: 3, Faults: map[string]int{"loss": 0, "delay": 0}}
		if path := os.Getenv("SIM_TRACE"); path != "" {
			if s.file, err = os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Test(t, func(*testing.T) { s.run() })
		s.report.Hash = fmt.Sprintf("%x", s.sum.Sum(nil)[:8])
		s.report.Checks = map[string]int{"numbers": s.received}
		line, err := json.Marshal(s.report)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Printf("SIMULATION %s\n", line)
		if s.report.Failure != "" {
			t.Fail()
		}
	}
}

type toy struct {
	report   report
	skip     string
	file     *os.File
	did      []int
	received int
	sum      interface {
		Write([]byte) (int, error)
		Sum([]byte) []byte
	}
}

func (s *toy) skips(action int) bool {
	for part := range strings.SplitSeq(s.skip, ",") {
		from, to, ranged := strings.Cut(part, "-")
		if !ranged {
			to = from
		}
		low, err := strconv.Atoi(from)
		high, _ := strconv.Atoi(to)
		if err == nil && low <= action && action <= high {
			return true
		}
	}
	return false
}

func (s *toy) trace(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	s.sum.Write([]byte(line))
	traceLine(line)
	if s.file != nil {
		fmt.Fprintln(s.file, line)
	}
}

// run passes numbers on; the order in which they are taken is the runtime's.
func (s *toy) run() {
	began := time.Now()
	random := rand.New(rand.NewPCG(s.report.Seed, 0))
	numbers := []chan int{make(chan int), make(chan int), make(chan int)}
	stop := make(chan struct{})
	for i, c := range numbers {
		go func() {
			for n := 0; ; n++ {
				select {
				case c <- i*1000 + n:
				case <-stop:
					return
				}
			}
		}()
	}
	for action := range 40 {
		time.Sleep(time.Duration(random.IntN(1000)+1) * time.Millisecond)
		synctest.Wait()
		var n int
		select {
		case n = <-numbers[0]:
		case n = <-numbers[1]:
		case n = <-numbers[2]:
		}
		s.received++
		s.trace("%v got %d", time.Since(began), n)
		if s.skips(action) {
			s.report.Skipped++
			continue
		}
		s.did = append(s.did, action)
		s.report.Actions = action + 1
		s.report.Faults[[]string{"loss", "delay"}[random.IntN(2)]]++
		s.trace("%v action %d", time.Since(began), action)
		s.plant(action)
	}
	close(stop)
	s.report.VirtualNS = int64(time.Since(began))
}

func (s *toy) plant(action int) {
	wasm := runtime.GOARCH == "wasm"
	switch s.report.Seed % 10 {
	case plantedActions:
		if action == 17 && slices.Contains(s.did, 5) {
			s.report.Failure = "planted: two actions met: at 17\nand so on"
		}
	case plantedPanic:
		if action == 9 {
			panic("planted panic")
		}
	case plantedDeadlock:
		if action == 3 {
			<-make(chan int)
		}
	case plantedLivelock:
		for action == 3 {
			time.Sleep(0)
			runtime.Gosched()
		}
	case plantedSchedule:
		if !wasm || s.report.Neighbour == 2 {
			s.report.Failure = "planted: a schedule"
		}
	case plantedHang:
		for action == 2 && (!wasm || s.report.Neighbour == 1) {
		}
	case plantedRace:
		race()
	case plantedProcessor:
		if !wasm {
			s.report.Failure = "planted: not in wasm"
		}
	}
}

// race has two goroutines write one variable.
func race() {
	var group sync.WaitGroup
	shared := 0
	for range 2 {
		group.Go(func() { shared++ })
	}
	group.Wait()
	runtime.KeepAlive(shared)
}
