module github.com/goraft/raft

go 1.26

require (
	github.com/golang/protobuf v1.5.4
	google.golang.org/protobuf v1.36.12
)

require github.com/gorilla/mux v1.8.1
