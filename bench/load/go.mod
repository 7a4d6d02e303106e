module github.com/goraft/raft/bench/load

go 1.26
