module github.com/goraft/raft/examples

go 1.26

replace github.com/goraft/raft => ../

require (
	github.com/goraft/raft v0.0.0
	github.com/gorilla/mux v1.8.1
)

require (
	github.com/golang/protobuf v1.5.4 // indirect
	google.golang.org/protobuf v1.36.12 // indirect
)
