package main

import (
	"bytes"
	"context"
	"runtime/pprof"
	"strings"

	pprofile "github.com/google/pprof/profile"
)

// profile sums what the processor did in the window by the labels of goroutines:
// those of the library's, which name the server, and those of the clients, who
// carry out a part of the leader's work inside Do. What has none is the runtime's,
// and of net/http.
type profile struct{ raw bytes.Buffer }

func (p *profile) begin() error { return pprof.StartCPUProfile(&p.raw) }

// clientLabel is the label of the goroutines that call Do.
const clientLabel = "client"

// markClient labels the goroutine of a client.
func markClient(ctx context.Context) {
	pprof.SetGoroutineLabels(pprof.WithLabels(ctx, pprof.Labels(clientLabel, "yes")))
}

// end tells the processor time in milliseconds, of the leader by goroutine, too.
func (p *profile) end(leader string, told map[string]float64) error {
	pprof.StopCPUProfile()
	parsed, err := pprofile.Parse(&p.raw)
	if err != nil {
		return err
	}
	for _, sample := range parsed.Sample {
		took := float64(sample.Value[1]) / 1e6 // the first one counts samples
		switch server := sample.Label["server"]; {
		case len(server) > 0 && server[0] == leader:
			told["leader ms"] += took
			kind, _, _ := strings.Cut(sample.Label["raft"][0], ":")
			told["leader "+kind+" ms"] += took
		case len(server) > 0:
			told["followers ms"] += took
		case len(sample.Label[clientLabel]) > 0:
			told["clients ms"] += took
		default:
			told["rest ms"] += took
		}
	}
	return nil
}
