package otlp

// SetMaxObjectBytes sets the limit of one JSON object and returns the previous limit.
func SetMaxObjectBytes(n int) (before int) {
	before, maxObjectBytes = maxObjectBytes, n
	return before
}
