package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
)

// readVerdicts reads the verdicts of an earlier run, the last one of each mutant.
func readVerdicts(name string) (map[string]verdict, error) {
	known := map[string]verdict{}
	f, err := os.Open(name)
	if os.IsNotExist(err) {
		return known, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		var v verdict
		if err := json.Unmarshal(s.Bytes(), &v); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		known[v.Mutant] = v
	}
	return known, nil
}

// writeVerdict adds a verdict to the file.
func writeVerdict(name string, v *verdict) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	err = json.NewEncoder(f).Encode(v)
	if closed := f.Close(); err == nil {
		err = closed
	}
	return err
}

func (v *verdict) caught() bool { return v.Verdict == caught || v.Verdict == hung }

// line is a verdict as the run prints it.
func (v *verdict) line() string {
	text := fmt.Sprintf("%-7s %6.1f s  %-44s %s", v.Verdict, v.Seconds, v.Mutant, v.Test)
	if v.Seeds != 0 {
		text += fmt.Sprintf(" with seed %d", v.Seeds)
	}
	if v.Note != "" {
		text += "\n        " + strings.ReplaceAll(strings.TrimSpace(v.Note), "\n", "\n        ")
	}
	return text
}

// table is the verdicts as docs have them.
func table(all []verdict) string {
	var b strings.Builder
	b.WriteString("| mutant | the bug | caught by | stage | seconds |\n| --- | --- | --- | --- | --- |\n")
	for _, v := range all {
		by := "`" + v.Test + "`"
		switch {
		case v.Verdict == hung && v.Test != "":
			by += " (does not end)"
		case v.Verdict == hung:
			by = "does not end"
		case v.Verdict != caught:
			by = "**" + v.Verdict + "**"
		case v.Seeds != 0:
			by = v.Note
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %.0f |\n", v.Mutant, v.What, by, v.Stage, v.Seconds)
	}
	return b.String() + "\n" + score(all) + "\n"
}

// score sums the verdicts up. Times are those of the mutants that were caught.
func score(all []verdict) string {
	counts, by := map[string]int{}, map[string]int{}
	var order []string // of the stages
	var times []float64
	var seeds []int
	for _, v := range all {
		counts[v.Verdict]++
		if !v.caught() {
			continue
		}
		times, seeds = append(times, v.Seconds), append(seeds, v.Seeds)
		if by[v.Stage]++; by[v.Stage] == 1 {
			order = append(order, v.Stage)
		}
	}
	median, worst := spread(times)
	text := fmt.Sprintf("%d mutants: %d caught, %d missed", len(all), counts[caught]+counts[hung], counts[missed])
	if n := counts[hung]; n > 0 {
		text += fmt.Sprintf(" (%d caught by a test that does not end)", n)
	}
	if n := counts[broken]; n > 0 {
		text += fmt.Sprintf(", %d broken", n)
	}
	slices.SortFunc(order, func(a, b string) int { return by[b] - by[a] })
	for i, stage := range order {
		order[i] = fmt.Sprintf("%s %d", stage, by[stage])
	}
	text += fmt.Sprintf("; by stage: %s; seconds to catch one: median %.1f, worst %.0f", strings.Join(order, ", "), median, worst)
	if median, worst := spread(seeds); worst > 0 {
		text += fmt.Sprintf("; seeds: median %d, worst %d", median, worst)
	}
	return text + "."
}

// spread is the median and the largest of some numbers.
func spread[T int | float64](all []T) (median, worst T) {
	if len(all) == 0 {
		return 0, 0
	}
	slices.Sort(all)
	return all[len(all)/2], all[len(all)-1]
}
