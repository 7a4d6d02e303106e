package main

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

var header = []string{
	"system", "clients", "ops/s", "p50", "p99", "CPU/op", "allocs/op", "bytes/op",
	"of the floor", "min..max", "of the best peer", "p99 of the floor's",
}

// tables writes one table for all that differs in systems and clients only, and
// below them what a reader has to know about the runs.
func (r *results) tables(w io.Writer) {
	var title string
	var rows [][]string
	flush := func() {
		if len(rows) > 0 {
			fmt.Fprintf(w, "\n## %s\n\n", title)
			writeTable(w, 1, header, rows)
		}
		rows = nil
	}
	notes := r.notes
	for _, group := range r.groups() {
		for _, at := range group {
			title = at.table()
			for _, system := range names() {
				if len(r.good[place{at, system}]) > 0 {
					rows = append(rows, r.row(system, at))
				}
				if failed := r.failures(at, system); failed != "" {
					notes = append(notes, failed)
				}
			}
		}
		flush()
	}
	if len(notes) > 0 {
		fmt.Fprintf(w, "\n## Notes\n\n")
	}
	for _, note := range notes {
		fmt.Fprintf(w, "- %s\n", note)
	}
}

// groups are the cells of each table, by clients.
func (r *results) groups() (all [][]cell) {
	in := make(map[string]int)
	for _, at := range r.cells() {
		i, ok := in[at.table()]
		if !ok {
			i = len(all)
			in[at.table()], all = i, append(all, nil)
		}
		all[i] = append(all[i], at)
	}
	return all
}

func (r *results) row(system string, at cell) []string {
	row := []string{
		system, fmt.Sprint(at.clients),
		thousands(r.of(system, at, rate).median()),
		short(r.of(system, at, p50).median()), short(r.of(system, at, p99).median()), short(r.of(system, at, cpu).median()),
		decimal(r.of(system, at, allocs).median()), thousands(r.of(system, at, memory).median()),
	}
	if system == theFloor {
		return append(row, "", "", decimal(r.ofBestPeer(system, at).median()), "")
	}
	share := r.ofFloor(system, at, rate)
	return append(row, decimal(share.median()), fromTo(share),
		decimal(r.ofBestPeer(system, at).median()), decimal(r.ofFloor(system, at, p99).median()))
}

// writeTable writes Markdown that is also to be read as it is. The first columns
// are words, the others figures.
func writeTable(w io.Writer, words int, header []string, rows [][]string) {
	rule := make([]string, len(header))
	width := make([]int, len(header))
	for i := range header {
		for _, row := range append(rows, header) {
			width[i] = max(width[i], utf8.RuneCountInString(row[i]))
		}
		rule[i] = strings.Repeat("-", width[i])
		if i >= words {
			rule[i] = rule[i][1:] + ":"
		}
	}
	for _, row := range append([][]string{header, rule}, rows...) {
		for i, text := range row {
			gap := strings.Repeat(" ", width[i]-utf8.RuneCountInString(text))
			if i < words {
				text, gap = text+gap, ""
			}
			fmt.Fprintf(w, "| %s%s ", gap, text)
		}
		fmt.Fprintln(w, "|")
	}
}

func fromTo(s series) string {
	low, high := s.spread()
	if math.IsNaN(low) {
		return ""
	}
	return decimal(low) + ".." + decimal(high)
}

// decimal has two digits behind the point, or three significant ones; what is not
// known is left empty.
func decimal(v float64) string {
	switch {
	case math.IsNaN(v):
		return ""
	case math.Abs(v) >= 100:
		return thousands(v)
	case math.Abs(v) >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	default:
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
}

// thousands groups the digits.
func thousands(v float64) string {
	if math.IsNaN(v) {
		return ""
	}
	digits := strconv.FormatFloat(math.Abs(v), 'f', 0, 64)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	if v < 0 {
		return "-" + digits
	}
	return digits
}

// short is a time in nanoseconds with three significant digits.
func short(v float64) string {
	if math.IsNaN(v) {
		return ""
	}
	d, unit := time.Duration(v), time.Duration(1)
	for d/unit >= 1000 {
		unit *= 10
	}
	return d.Round(unit).String()
}
