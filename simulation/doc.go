// Package simulation runs whole clusters of this library under a seed: the real
// code with its goroutines, on memory disks and a network that lose, tear and
// change what they are given, in the fake time of a testing/synctest bubble.
//
// It needs the build tag simulation, which compiles what it looks into and where
// it interrupts into the library; a build without the tag contains none of it:
//
//	go test -tags simulation ./simulation
package simulation
