// Package dataset makes the data that the benchmarks read: seeded traces that a real
// Tempo 2.8 stored in blocks, once, and kept in the user's cache.
//
// A [Set] says what is made. Its traces are the same wherever they are made, and so
// are the blocks but for their IDs. Of its traces, of 15 to 35 spans each,
//
//   - 1 in 50 has its later half in the next block, so that reading must merge;
//   - 3 in 200 have a span [NameAbove] with one named [NameBelow] beneath it; 4 in 10
//     have either, as is so of each other name, and 7 in 100 both side by side;
//   - 1 in 10,000 has a span [RareName], and 1 in 10,000 a span whose [RareKey] is
//     [RareValue].
//
// A span has 20 attributes, [Generic] and [Dedicated], its own and its resource's.
package dataset
