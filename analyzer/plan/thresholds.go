package plan

import "github.com/betracehq/betrace/analyzer/trace"

// thresholds decide between ways that come to the same: by which a judge goes is measured, and must
// not matter but for time.
type thresholds struct {
	// strip is how many spans are judged at a time, unless a trace has more: so few that the bitmaps
	// of hundreds of rules stay in the processor's cache, and so many that what is done once a
	// strip does not count.
	strip int32
	// fewRows is of how many rows one has to be asked about for all to be looked at together.
	fewRows int
	// ofChildren is of how many spans one has to be of the traces that are asked about for all to be
	// looked at for which spans have such a child.
	ofChildren int
	// listed is up to how many spans are listed for each word of the frame: with more, whole
	// words are faster.
	listed float64
	// Up to texts are looked for one after another in a column, without branches that depend on
	// the data, and up to metTexts if one in often rows has one of them.
	texts, metTexts, often int
	// mostLimits is up to how many limits on one number it is faster to compare all spans with each
	// than to find the extremes of each trace.
	mostLimits int
}

// measured returns what is fastest on machines like this one.
func measured() thresholds {
	t := thresholds{strip: 24576, fewRows: 16, ofChildren: 2, listed: 1.5, texts: 2, metTexts: 8, often: 12, mostLimits: 1}
	if trace.HasVectors() {
		t.texts, t.metTexts, t.mostLimits = 8, 32, 4
	}
	return t
}
