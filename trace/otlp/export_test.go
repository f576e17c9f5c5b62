package otlp

// SetMaxObjectBytes sets the bound of one JSON object, and returns the one before.
func SetMaxObjectBytes(n int) (before int) {
	before, maxObjectBytes = maxObjectBytes, n
	return before
}
