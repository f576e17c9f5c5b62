// Package columnar holds whole traces in columns: a [Batch] has one array a field of a
// span, for as many traces as a source delivers at once, and only those attributes that
// are needed ([Needs]). A [Filler] makes batches of spans that come in any order.
package columnar
