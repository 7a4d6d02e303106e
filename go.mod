module github.com/goraft/raft

go 1.26
