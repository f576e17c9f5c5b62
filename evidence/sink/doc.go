// Package sink delivers violations to Tempo and Loki: see [Deliver]. A [Sink] is checked
// for the violations that it holds, receives the others, and is read back.
package sink
