// Package stack runs a real Tempo and a real Loki for tests, the demo and
// developers: on free loopback ports, in a folder of their own, ended by their
// own PIDs, also when the process that started them dies. A SeaweedFS can be
// started beside them: an S3 server, in which Tempo then stores its blocks.
//
// The servers are built once from the modules in tempo/, loki/ and seaweedfs/ beside
// this file and kept in the user's cache folder. Environment variables name others:
//
//	TEMPO_BIN, LOKI_BIN, WEED_BIN          programs to run instead
//	TEMPO_URL, TEMPO_GRPC, TEMPO_OTLP_GRPC, TEMPO_OTLP_HTTP
//	                                       a Tempo that runs already (all four)
//	LOKI_URL                               a Loki that runs already
//	BETRACE_STACK_CACHE                    where built programs are kept
package stack
