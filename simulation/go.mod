module github.com/goraft/raft/simulation

go 1.26

require (
	github.com/anishathalye/porcupine v1.3.1
	github.com/goraft/raft v0.0.0
	github.com/tetratelabs/wazero v1.12.0
)

require (
	github.com/golang/protobuf v1.5.4 // indirect
	github.com/gorilla/mux v1.8.1 // indirect
	golang.org/x/sys v0.44.0 // indirect
	google.golang.org/protobuf v1.36.12 // indirect
)

replace github.com/goraft/raft => ../
