// Package dataset makes the data that the benchmarks read: seeded traces that a real Tempo 2.8 stored in
// blocks. The data is made once and kept in the user's cache.
//
// A [Set] defines the data. Its traces are the same wherever they are made, and so are the blocks, except
// for their IDs. Traces have 15 to 35 spans each:
//
//   - 1 in 50 has its later half in the next block, so that a reader must merge;
//   - 3 in 200 have a span [NameAbove] with a descendant named [NameBelow]; 4 in 10 have either of the two names, as
//     is true of each other name, and 7 in 100 have both as siblings;
//   - 1 in 10,000 has a span [RareName], and 1 in 10,000 has a span whose [RareKey] is [RareValue].
//
// A span has 20 attributes, [Generic] and [Dedicated], including those of its resource.
package dataset
