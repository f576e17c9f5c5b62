// Package columnar stores whole traces in columns: a [Batch] has one array for each field of a span, over all
// traces that a source delivers at once, and holds only the attributes that are needed ([Needs]). A [Filler]
// builds batches from spans in any order.
package columnar
