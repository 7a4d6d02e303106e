package main

import (
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
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
				if len(r.good[place{at, system}]) > 0 && at.clients > 0 {
					rows = append(rows, r.row(system, at))
				}
				if failed := r.failures(at, system); failed != "" {
					notes = append(notes, failed)
				}
			}
		}
		flush()
	}
	r.held(w)
	if len(notes) > 0 {
		fmt.Fprintf(w, "\n## Notes\n\n")
	}
	for _, note := range notes {
		fmt.Fprintf(w, "- %s\n", note)
	}
}

// held writes what the servers had in memory, where that is what the runs are for,
// and what the systems themselves told.
func (r *results) held(w io.Writer) {
	var rows [][]string
	var tales []string
	for _, at := range r.cells() {
		for _, system := range names() {
			in := place{at, system}
			if len(r.good[in]) == 0 {
				continue
			}
			if at.entries > 0 || at.clients == 0 {
				rows = append(rows, []string{
					system, at.String(), short(r.of(system, at, cpu).median()),
					decimal(r.of(system, at, heap).median()), decimal(r.of(system, at, resident).median()),
				})
			}
			if tale := r.tale(in); tale != "" {
				tales = append(tales, fmt.Sprintf("%s, %s: %s", at, system, tale))
			}
		}
	}
	if len(rows) > 0 {
		fmt.Fprintf(w, "\n## What the servers held\n\n")
		writeTable(w, 2, []string{"system", "where", "CPU/op, or CPU/s", "heap per server, MiB", "RSS of all, MiB"}, rows)
	}
	if len(tales) > 0 {
		fmt.Fprintf(w, "\n## What the systems told\n\n")
	}
	for _, tale := range tales {
		fmt.Fprintf(w, "- %s\n", tale)
	}
}

// tale has the medians of a system's own figures, by their names.
func (r *results) tale(in place) string {
	known := make(map[string]bool)
	for _, result := range r.good[in] {
		for name := range result.Own {
			known[name] = true
		}
	}
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(known)) {
		parts = append(parts, name+" "+decimal(r.of(in.system, in.cell, told(name)).median()))
	}
	return strings.Join(parts, ", ")
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
