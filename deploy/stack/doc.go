// Package stack runs a real Tempo and a real Loki for tests, the demo and developers. The servers use
// free loopback ports and a folder of their own. They are ended by their own PIDs, and also end when the
// process that started them dies. A SeaweedFS, an S3 server, can be started with them; Tempo then stores
// its blocks in it. A PostgreSQL can be started, too.
//
// The servers are built once from the modules in tempo/, loki/ and seaweedfs/ beside this file, and kept
// in the user's cache folder. PostgreSQL is the installed one, or consists of packages of Debian or
// Ubuntu that are unpacked in the cache folder. Environment variables select others:
//
//	TEMPO_BIN, LOKI_BIN, WEED_BIN          programs to run instead
//	TEMPO_URL, TEMPO_GRPC, TEMPO_OTLP_GRPC, TEMPO_OTLP_HTTP
//	                                       a Tempo that is already running (all four)
//	LOKI_URL                               a Loki that is already running
//	BETRACE_TEST_POSTGRES                  URL of a PostgreSQL that is already running
//	BETRACE_STACK_CACHE                    folder for built programs
package stack
