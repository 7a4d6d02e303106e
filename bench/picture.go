package main

import (
	"errors"
	"fmt"
	"image/color"
	"math"
	"os"
	"path/filepath"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	"github.com/goraft/raft/bench/load"
)

const (
	panelWidth  = 12 * vg.Centimeter
	panelHeight = 9 * vg.Centimeter
)

var colors = []color.Color{
	color.RGBA{R: 0xd0, G: 0x21, B: 0x2f, A: 255}, // ours, and the smallest size
	color.RGBA{R: 0x55, G: 0x55, B: 0x55, A: 255},
	color.RGBA{R: 0x99, G: 0x99, B: 0x99, A: 255},
	color.RGBA{R: 0x1f, G: 0x77, B: 0xb4, A: 255},
	color.RGBA{R: 0x2c, G: 0x9a, B: 0x3f, A: 255},
	color.RGBA{R: 0xe0, G: 0x8a, B: 0x1e, A: 255},
}

// curve is a figure by clients; it has its spread where it is a ratio.
type curve struct {
	name     string
	color    color.Color
	clients  []int
	values   []series
	extended bool // with bars from the lowest to the highest round
}

func (c *curve) add(clients int, values series) {
	if len(values) > 0 && clients > 0 {
		c.clients, c.values = append(c.clients, clients), append(c.values, values)
	}
}

// Len, XY and YError are plotter.XYer's and plotter.YErrorer's.
func (c *curve) Len() int { return len(c.clients) }

// XY is the median at a number of clients.
func (c *curve) XY(i int) (x, y float64) { return float64(c.clients[i]), c.values[i].median() }

// YError is how far the rounds are below and above the median.
func (c *curve) YError(i int) (below, above float64) {
	low, high := c.values[i].spread()
	median := c.values[i].median()
	return low - median, high - median
}

// pictures draws what the commands are written at: throughput.svg for all systems
// under the load that most of them ran, share.svg for this library under all loads.
func (r *results) pictures(out string) error {
	var group []cell // the table with the most systems
	for _, g := range r.groups() {
		if g[0].workload == load.Write && g[0].entries == 0 && (group == nil || r.systemsIn(g) > r.systemsIn(group)) {
			group = g
		}
	}
	if group == nil {
		return nil
	}
	name := group[0].table()
	rates := newPanel(name+": operations per second", r.curves(group, func(system string, at cell) series { return r.of(system, at, rate) }))
	if rates == nil {
		return nil
	}
	rates.Y.Scale, rates.Y.Tick.Marker = plot.LogScale{}, plot.TickerFunc(decades)
	widen(&rates.Y)
	shares := newPanel(name+": share of the floor", r.curves(group, func(system string, at cell) series { return r.ofFloor(system, at, rate) }))
	if shares != nil {
		shares.Y.Min = 0
		shares.Legend = plot.NewLegend() // the same as its neighbour's
	}
	if err := drawSVG(filepath.Join(out, "throughput.svg"), rates, shares); err != nil {
		return err
	}
	return drawSVG(filepath.Join(out, "share.svg"), r.sharePanels()...)
}

func (r *results) systemsIn(group []cell) (count int) {
	for _, system := range names() {
		if slices.ContainsFunc(group, func(at cell) bool { return len(r.good[place{at, system}]) > 0 }) {
			count++
		}
	}
	return count
}

// curves are one for each system.
func (r *results) curves(group []cell, figure func(system string, at cell) series) (all []*curve) {
	for i, system := range names() {
		one := &curve{name: system, color: colors[i%len(colors)]}
		for _, at := range group {
			one.add(at.clients, figure(system, at))
		}
		all = append(all, one)
	}
	return all
}

// sharePanels are one for each number of servers, with a curve for each size.
func (r *results) sharePanels() (panels []*plot.Plot) {
	curves := make(map[int][]*curve)
	var servers []int
	for _, group := range r.groups() {
		first := group[0]
		if first.workload != load.Write || first.entries > 0 {
			continue
		}
		n := first.servers
		one := &curve{name: bytesName(first.size), color: colors[len(curves[n])%len(colors)], extended: true}
		for _, at := range group {
			one.add(at.clients, r.ofFloor(ours, at, rate))
		}
		if !slices.Contains(servers, n) {
			servers = append(servers, n)
		}
		curves[n] = append(curves[n], one)
	}
	for _, n := range servers {
		p := newPanel(fmt.Sprintf("ours, %d servers: share of the floor", n), curves[n])
		if p != nil {
			p.Y.Min, p.Y.Max = 0, max(1, p.Y.Max)
			panels = append(panels, p)
		}
	}
	return panels
}

// newPanel has its figure in the title: a label of a logarithmic axis takes the
// room of the curves. It is nil if there is nothing to be seen.
func newPanel(title string, curves []*curve) *plot.Plot {
	curves = slices.DeleteFunc(curves, func(c *curve) bool { return c.Len() == 0 })
	if len(curves) == 0 {
		return nil
	}
	plot.DefaultFont = font.Font{Typeface: "Liberation", Variant: "Sans"}
	p := plot.New()
	p.Title.Text, p.X.Label.Text = title, "clients"
	p.Add(plotter.NewGrid())
	var clients []int
	for _, c := range curves {
		clients = append(clients, c.clients...)
		p.Add(c.plotters(p)...)
	}
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, ticksAt(clients)
	widen(&p.X)
	return p
}

// widen makes room at both ends of a logarithmic axis, which must not be empty.
func widen(axis *plot.Axis) {
	axis.Min, axis.Max = axis.Min/1.25, axis.Max*1.25
}

// plotters draw the curve, and enter it into the legend.
func (c *curve) plotters(p *plot.Plot) (parts []plot.Plotter) {
	line, points, err := plotter.NewLinePoints(c)
	if err != nil {
		return nil // a value is not finite: there is nothing to be drawn
	}
	line.Color, line.Width = c.color, vg.Points(1.5)
	points.Color, points.Shape = c.color, draw.CircleGlyph{}
	p.Legend.Add(c.name, line, points)
	parts = []plot.Plotter{line, points}
	if bars, err := plotter.NewYErrorBars(c); c.extended && err == nil {
		bars.Color = c.color
		parts = append(parts, bars)
	}
	return parts
}

// ticksAt are at the numbers of clients that were run.
func ticksAt(clients []int) plot.Ticker {
	slices.Sort(clients)
	var ticks []plot.Tick
	for _, n := range slices.Compact(clients) {
		ticks = append(ticks, plot.Tick{Value: float64(n), Label: thousands(float64(n))})
	}
	return plot.ConstantTicks(ticks)
}

// decades are ticks at the powers of ten, with small ones between.
func decades(low, high float64) (ticks []plot.Tick) {
	for power := math.Pow(10, math.Floor(math.Log10(low))); power <= high; power *= 10 {
		for digit := 1.0; digit < 10; digit++ {
			tick := plot.Tick{Value: power * digit}
			if digit == 1 || digit == 3 {
				tick.Label = thousands(tick.Value)
			}
			if tick.Value >= low && tick.Value <= high {
				ticks = append(ticks, tick)
			}
		}
	}
	return ticks
}

// drawSVG puts the panels side by side, if there are any.
func drawSVG(name string, panels ...*plot.Plot) error {
	panels = slices.DeleteFunc(panels, func(p *plot.Plot) bool { return p == nil })
	if len(panels) == 0 {
		return nil
	}
	canvas := vgsvg.New(panelWidth*vg.Length(len(panels)), panelHeight)
	tiles := draw.Tiles{Rows: 1, Cols: len(panels), PadTop: 8, PadBottom: 4, PadLeft: 4, PadRight: 12, PadX: 12}
	for i, p := range panels {
		p.Draw(tiles.At(draw.New(canvas), i, 0))
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	_, err = canvas.WriteTo(f)
	return errors.Join(err, f.Close())
}
