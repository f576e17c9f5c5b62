// Package otlp reads OTLP from files and messages into traces, and writes traces as OTLP.
//
// Files may be JSON, JSON lines or protobuf, compressed or not, in the spellings and
// envelopes of the tools that write them: see [ReadFile]. A [Collector] makes traces of
// messages.
package otlp
