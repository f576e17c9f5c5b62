// Package blocks reads whole traces from the blocks that Tempo stores in object storage, without requests
// to Tempo.
//
// A block is a folder <tenant>/<block ID>/ with meta.json and data.parquet, a Parquet file with one row
// for each trace, sorted by trace ID. A trace may have rows in several blocks, and a row several copies
// of a span, because of late spans, replication and compaction. [Store.Traces] merges them: it delivers
// each trace once, with its spans from all live blocks, in the normal form of package trace.
//
// Only columns with needed data are read (columnar.Needs). Their layout is determined from each file's
// own schema: vParquet4 and vParquet5 (tempodb/encoding/vparquet4/schema.go and vparquet5/schema.go of
// Tempo), with dedicated columns as assigned in meta.json. No code of Tempo is linked.
package blocks
