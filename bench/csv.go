package main

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// csvHeader names the columns. Times are in nanoseconds.
var csvHeader = []string{
	"round", "system", "workload", "servers", "size", "clients", "entries", "warmup", "window",
	"seconds", "operations", "p50", "p99", "max", "cpu_per_op", "allocs_per_op", "bytes_per_op", "heap", "resident", "own", "error",
}

// csvFile has one line per run, written as the runs end.
type csvFile struct {
	file *os.File
	w    *csv.Writer
}

// createCSV starts the file with what is known about the machine, as comments.
func createCSV(name string, about []string) (*csvFile, error) {
	f, err := os.Create(name)
	if err != nil {
		return nil, err
	}
	for _, line := range about {
		if _, err := fmt.Fprintln(f, "#", line); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	c := &csvFile{f, csv.NewWriter(f)}
	return c, c.line(csvHeader)
}

func (c *csvFile) line(record []string) error {
	if err := c.w.Write(record); err != nil {
		return err
	}
	c.w.Flush()
	return c.w.Error()
}

func (c *csvFile) write(one run) error {
	record, err := record(one)
	if err != nil {
		return err
	}
	return c.line(record)
}

func (c *csvFile) close() error { return c.file.Close() }

func record(one run) ([]string, error) {
	r, at := &one.Result, one.Cell
	told := ""
	if len(r.Own) > 0 {
		text, err := json.Marshal(r.Own)
		if err != nil {
			return nil, err
		}
		told = string(text)
	}
	number := func(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }
	return []string{
		strconv.Itoa(one.Round), one.System, at.workload, strconv.Itoa(at.servers), strconv.Itoa(at.size), strconv.Itoa(at.clients), strconv.Itoa(at.entries),
		strconv.FormatInt(int64(r.Config.Warmup), 10), strconv.FormatInt(int64(r.Config.Window), 10),
		number(r.Seconds), strconv.Itoa(r.Operations), number(r.P50), number(r.P99), number(r.Max),
		number(r.CPU), number(r.Allocs), number(r.Bytes), strconv.FormatUint(r.Heap, 10), strconv.FormatUint(r.Resident, 10), told, one.Err,
	}, nil
}

// readCSV is the other way round.
func readCSV(in io.Reader) (runs []run, about []string, err error) {
	text, err := io.ReadAll(in)
	if err != nil {
		return nil, nil, err
	}
	for line := range strings.Lines(string(text)) {
		comment, ok := strings.CutPrefix(line, "# ")
		if !ok {
			break
		}
		about = append(about, strings.TrimSpace(comment))
	}
	reader := csv.NewReader(strings.NewReader(string(text)))
	reader.Comment = '#'
	records, err := reader.ReadAll()
	if err != nil {
		return nil, nil, err
	}
	if len(records) == 0 || !slices.Equal(records[0], csvHeader) {
		return nil, nil, errors.New("the first line is not the header of a file of runs")
	}
	for i, record := range records[1:] {
		one, err := parseRecord(record)
		if err != nil {
			return nil, nil, fmt.Errorf("run %d: %w", i+1, err)
		}
		runs = append(runs, one)
	}
	return runs, about, nil
}

func parseRecord(record []string) (one run, err error) {
	next := func() string {
		field := record[0]
		record = record[1:]
		return field
	}
	integer := func() int {
		v, e := strconv.Atoi(next())
		err = errors.Join(err, e)
		return v
	}
	number := func() float64 {
		v, e := strconv.ParseFloat(next(), 64)
		err = errors.Join(err, e)
		return v
	}
	r, at := &one.Result, &one.Cell
	one.Round, one.System, at.workload = integer(), next(), next()
	at.servers, at.size, at.clients, at.entries = integer(), integer(), integer(), integer()
	r.Config.Warmup, r.Config.Window = time.Duration(integer()), time.Duration(integer())
	r.Config.Workload, r.Config.Servers, r.Config.Size = at.workload, at.servers, at.size
	r.Config.Clients, r.Config.Entries = at.clients, at.entries
	r.Seconds, r.Operations = number(), integer()
	r.P50, r.P99, r.Max = number(), number(), number()
	r.CPU, r.Allocs, r.Bytes, r.Heap, r.Resident = number(), number(), number(), uint64(integer()), uint64(integer())
	if told := next(); told != "" {
		err = errors.Join(err, json.Unmarshal([]byte(told), &r.Own))
	}
	one.Err = next()
	return one, err
}
