// Package blocks reads whole traces from the blocks that Tempo keeps in object
// storage, without asking Tempo.
//
// A block is a folder <tenant>/<block ID>/ with meta.json and data.parquet, a
// Parquet file of one row a trace, sorted by trace ID. A trace may have rows in
// several blocks, and a row several copies of a span: late spans, replication and
// compaction make them so. [Store.Traces] unites them: it gives each trace once,
// with its spans from all live blocks, in the normal form of package trace.
//
// Only the columns are read that hold what is asked for ([Needs]). Their layout is
// taken from each file's own schema: vParquet4 and vParquet5
// (tempodb/encoding/vparquet4/schema.go and vparquet5/schema.go of Tempo), with
// dedicated columns as meta.json assigns them. No code of Tempo's is linked.
package blocks
