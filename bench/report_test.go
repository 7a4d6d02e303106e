package main

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/goraft/raft/bench/load"
)

func TestTable(t *testing.T) {
	r := resultsOf(
		ran(1, ours, common, 12345), ran(1, theFloor, common, 24690), ran(1, "etcd", common, 4115),
		ran(2, ours, common, 12345), ran(2, theFloor, common, 30862.5), ran(2, "etcd", common, 4115),
		run{Round: 3, System: "etcd", Cell: common, Err: "no leader"},
	)
	r.notes = []string{"dragonboat is left out"}
	var text strings.Builder
	r.tables(&text)
	for _, want := range []string{
		"## write, 128 B, 3 servers",
		"| system | clients | ops/s | p50 | p99 | CPU/op | allocs/op | bytes/op | of the floor | min..max | of the best peer | p99 of the floor's |",
		"| ours | 1024 | 12,345 | 1ms | 2ms | 4µs | 5.00 | 600 | 0.45 | 0.40..0.50 | 3.00 | 1.00 |",
		"| etcd | 1024 | 4,115 | 1ms | 2ms | 4µs | 5.00 | 600 | 0.15 | 0.13..0.17 | 1.00 | 1.00 |",
		"- dragonboat is left out",
		"- write, 128 B, 3 servers, 1024 clients, etcd: 1 of 3 runs failed: no leader",
	} {
		if !strings.Contains(strings.Join(strings.FieldsFunc(text.String(), func(r rune) bool { return r == ' ' }), " "), want) {
			t.Errorf("no %q in\n%s", want, text.String())
		}
	}
}

func TestTableOfWhatIsHeld(t *testing.T) {
	start := cell{load.Start, 1, 128, 0, 10_000_000}
	tells := func(seconds float64) func(*load.Result) {
		return func(r *load.Result) {
			r.Own = map[string]float64{"start s": seconds, "log MiB": 64}
			r.Heap, r.Resident = 3<<20, 20<<20
		}
	}
	r := resultsOf(ran(1, ours, start, 0, tells(0.25)), ran(2, ours, start, 0, tells(0.35)), ran(1, ours, common, 100))
	var text strings.Builder
	r.tables(&text)
	said := strings.Join(strings.FieldsFunc(text.String(), func(r rune) bool { return r == ' ' }), " ")
	for _, want := range []string{
		"| system | where | CPU/op, or CPU/s | heap per server, MiB | RSS of all, MiB |",
		"| ours | start, 128 B, 1 server, after 10,000,000 commands, 0 clients | 4µs | 3.00 | 20.0 |",
		"- start, 128 B, 1 server, after 10,000,000 commands, 0 clients, ours: log MiB 64.0, start s 0.30\n",
	} {
		if !strings.Contains(said, want) {
			t.Errorf("no %q in\n%s", want, text.String())
		}
	}
	if n := strings.Count(said, "| ours |"); n != 2 {
		t.Errorf("%d rows, want one in each table:\n%s", n, text.String())
	}
}

func TestNumbers(t *testing.T) {
	for got, want := range map[string]string{
		thousands(999):      "999",
		thousands(1234567):  "1,234,567",
		thousands(-1000):    "-1,000",
		decimal(0.456):      "0.46",
		decimal(12.34):      "12.3",
		decimal(1234):       "1,234",
		short(123456):       "123µs",
		short(1234567):      "1.23ms",
		short(999):          "999ns",
		short(61e9):         "1m1s",
		bytesName(128):      "128 B",
		bytesName(64 << 10): "64 KiB",
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestCSVKeepsRuns(t *testing.T) {
	want := []run{
		ran(1, ours, common, 100, func(r *load.Result) { r.Own = map[string]float64{"batch": 1.5}; r.P99 = 1.0 / 3 }),
		ran(1, theFloor, common.with(load.Stalled), 200),
	}
	failed := run{Round: 2, System: "etcd", Cell: common, Err: "exit status 2: panic: \"a, b\"\nand more"}
	failed.Result.Config = load.Config{Workload: load.Write, Servers: 3, Size: 128, Clients: 1024}
	want = append(want, failed)
	about := []string{"2 cores", "Linux, ext4"}
	name := filepath.Join(t.TempDir(), "runs.csv")
	c, err := createCSV(name, about)
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range want {
		if err := c.write(one); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.close(); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got, told, err := readCSV(f)
	if err != nil || !reflect.DeepEqual(got, want) || !reflect.DeepEqual(told, about) {
		t.Errorf("%v\n%+v, want\n%+v\n%v", err, got, want, told)
	}
	if _, _, err := readCSV(strings.NewReader("round,system\n1,ours\n")); err == nil {
		t.Error("another file is taken for one of runs")
	}
}

// texts returns what is written in an SVG picture, which has to be well-formed.
func texts(t *testing.T, name string) (all []string) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d := xml.NewDecoder(f)
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(name, err)
		}
		if text, ok := token.(xml.CharData); ok {
			all = append(all, strings.TrimSpace(string(text)))
		}
	}
}

func TestPictures(t *testing.T) {
	dir := t.TempDir()
	r := newResults()
	for round := range 2 {
		for _, clients := range []int{1, 1024} {
			at := cell{load.Write, 3, 128, clients, 0}
			for i, system := range []string{ours, theFloor, "etcd"} {
				r.add(ran(round+1, system, at, float64(clients*100/(i+1))))
			}
			at.size = 16
			r.add(ran(round+1, ours, at, 100))
			r.add(ran(round+1, theFloor, at, 100))
		}
	}
	if err := r.pictures(dir); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]string{
		"throughput.svg": {"write, 128 B, 3 servers: operations per second", "ours", "floor", "etcd", "1,024", "100,000"},
		"share.svg":      {"ours, 3 servers: share of the floor", "16 B", "128 B"},
	} {
		said := "|" + strings.Join(texts(t, filepath.Join(dir, name)), "|") + "|"
		for _, text := range want {
			if !strings.Contains(said, "|"+text+"|") {
				t.Errorf("no %q in %s: %s", text, name, said)
			}
		}
	}
}

// A few runs of anything are no reason to fail.
func TestPicturesOfLittle(t *testing.T) {
	for what, runs := range map[string][]run{
		"nothing":       nil,
		"one system":    {ran(1, ours, common, 100)},
		"other":         {ran(1, ours, common.with(load.Stalled), 100)},
		"long logs":     {ran(1, ours, common.after(1000), 100)},
		"no clients":    {ran(1, ours, cell{load.Write, 3, 128, 0, 0}, 100)},
		"peer only":     {ran(1, "etcd", common, 100), ran(1, theFloor, common, 100)},
		"failures only": {{Round: 1, System: ours, Cell: common, Err: "no"}},
	} {
		if err := resultsOf(runs...).pictures(t.TempDir()); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}
