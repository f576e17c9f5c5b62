package engine

// thresholds are the numbers that decide how a batch is judged. They change the time, and never a verdict.
type thresholds struct {
	// strip is the maximum number of spans that are judged at a time, unless one trace has more. With
	// 24,576 spans the bitmaps of hundreds of rules stay in the processor's cache, and the work that is done
	// once for each strip costs little.
	strip int32
	// fewRows decides between some rows and all: a result that is kept is computed for all rows of a strip
	// if at least one row in fewRows is asked for.
	fewRows int
}

func defaultThresholds() thresholds { return thresholds{strip: 24576, fewRows: 16} }
