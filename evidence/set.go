package evidence

import (
	"encoding/hex"
	"math/bits"

	"golang.org/x/mod/sumdb/tlog"
)

// SetRef refers to the violations or corrections of an entry, in order.
type SetRef struct {
	Count int `json:"count"`
	// Root is the root of the Merkle tree over the lines of the records (RFC 6962), in hexadecimal.
	Root string `json:"root"`
}

// NewSetRef returns the reference to the lines, or nil if there are none.
func NewSetRef(lines [][]byte) *SetRef {
	if len(lines) == 0 {
		return nil
	}
	root := merkleRoot(lines)
	return &SetRef{Count: len(lines), Root: hex.EncodeToString(root[:])}
}

// merkleRoot returns the Merkle tree hash of RFC 6962, section 2.1, of one or more lines.
func merkleRoot(lines [][]byte) tlog.Hash {
	if len(lines) == 1 {
		return tlog.RecordHash(lines[0])
	}
	// The left subtree has the largest power of two below the number of lines.
	left := 1 << (bits.Len(uint(len(lines)-1)) - 1)
	return tlog.NodeHash(merkleRoot(lines[:left]), merkleRoot(lines[left:]))
}
