module github.com/goraft/raft/bench

go 1.26

require (
	github.com/goraft/raft v0.0.0
	github.com/goraft/raft/bench/load v0.0.0
)

require (
	github.com/golang/protobuf v1.5.4 // indirect
	github.com/gorilla/mux v1.8.1 // indirect
	google.golang.org/protobuf v1.36.12 // indirect
)

replace (
	github.com/goraft/raft => ../
	github.com/goraft/raft/bench/load => ./load
)
