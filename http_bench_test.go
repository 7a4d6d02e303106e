package raft

import (
	"fmt"
	"testing"
)

// BenchmarkStreamRoundTrip is one request and its answer after the other.
func BenchmarkStreamRoundTrip(b *testing.B) {
	for _, size := range []int{-1, 128, 64 << 10} {
		b.Run(fmt.Sprintf("bytes=%d", max(size, 0)), func(b *testing.B) {
			peer, _ := mounted(b, newPipelined("n2"))
			s := open(b, newFake("n1"), peer)
			req := wireRequest("n1", "n2", 1, size)
			b.SetBytes(int64(len(req.records)))
			b.ReportAllocs()
			for b.Loop() {
				if err := s.Send(req); err != nil {
					b.Fatal(err)
				}
				if _, err := s.Receive(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkStreamThroughput is requests with up to as many under way as a leader
// has.
func BenchmarkStreamThroughput(b *testing.B) {
	for _, size := range []int{128, 16 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("bytes=%d", size), func(b *testing.B) {
			peer, _ := mounted(b, newPipelined("n2"))
			s := open(b, newFake("n1"), peer)
			req := wireRequest("n1", "n2", 1, size)
			b.SetBytes(int64(len(req.records)))
			b.ReportAllocs()
			window := make(chan struct{}, max(1, min(maxInFlight, maxInFlightBytes/size)))
			var receiving tasks
			receiving.Go("receive", func() {
				for range window {
					if _, err := s.Receive(); err != nil {
						b.Error(err)
						return
					}
				}
			})
			for b.Loop() {
				if err := s.Send(req); err != nil {
					b.Fatal(err)
				}
				window <- struct{}{}
			}
			close(window)
			receiving.Wait()
		})
	}
}

// BenchmarkCall is a request and its answer as a single call.
func BenchmarkCall(b *testing.B) {
	peer, transporter := mounted(b, newFake("n2"))
	server, req := newFake("n1"), wireRequest("n1", "n2", 1, 128)
	b.ReportAllocs()
	for b.Loop() {
		if transporter.SendAppendEntriesRequest(server, peer, req) == nil {
			b.Fatal("no answer")
		}
	}
}
