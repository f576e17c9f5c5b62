// Package otlp reads OTLP from files and messages into traces, and writes traces as OTLP.
//
// Files hold JSON, JSON lines or protobuf, optionally compressed, in the spellings and envelopes of the tools
// that write them: see [ReadFile]. A [Collector] assembles traces from messages.
package otlp
