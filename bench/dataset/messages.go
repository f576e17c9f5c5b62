package dataset

// Messages returns the first n traces of a set as Tempo returns them by ID: one OTLP protobuf message for
// each.
func Messages(s Set, n int) [][]byte {
	g := newGenerator(s)
	messages := make([][]byte, n)
	for i := range messages {
		g.make(i)
		messages[i] = g.appendRequest(nil, g.spans)
	}
	return messages
}
