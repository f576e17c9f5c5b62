package state

// SetBlobPass sets the number of blobs of a pass over the entries, and returns a function that resets it.
func SetBlobPass(n int) (reset func()) {
	before := blobPass
	blobPass = n
	return func() { blobPass = before }
}

// NewestVersion returns the schema version that this program writes.
func NewestVersion() int { return int(newestVersion()) }
