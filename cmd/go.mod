module github.com/goraft/raft/cmd

go 1.26

replace github.com/goraft/raft => ../
