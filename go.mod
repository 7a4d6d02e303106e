module github.com/goraft/raft

go 1.26

require (
	github.com/golang/protobuf v1.5.4
	google.golang.org/protobuf v1.36.12
)

require (
	github.com/stretchr/testify v1.12.1
	go.yaml.in/yaml/v3 v3.0.5 // indirect
)

require github.com/gorilla/mux v1.8.1
