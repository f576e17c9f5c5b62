package evidence

import (
	"encoding/hex"

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
	var h SetHash
	for _, line := range lines {
		h.Add(line)
	}
	return h.Ref()
}

// SetHash computes a [SetRef] line by line. Its memory does not grow with the lines. The zero value has no lines.
type SetHash struct {
	count int
	// trees are the roots of the complete trees that the lines form, the largest first: one for each bit of count.
	trees []tlog.Hash
}

// Add adds the next line.
func (h *SetHash) Add(line []byte) {
	root := tlog.RecordHash(line)
	// Trees of the same size are united, as bits are carried in an addition.
	for n := h.count; n&1 == 1; n >>= 1 {
		root = tlog.NodeHash(h.trees[len(h.trees)-1], root)
		h.trees = h.trees[:len(h.trees)-1]
	}
	h.trees = append(h.trees, root)
	h.count++
}

// Ref returns the reference to the lines so far, or nil if there are none.
func (h *SetHash) Ref() *SetRef {
	if h.count == 0 {
		return nil
	}
	last := len(h.trees) - 1
	root := h.trees[last]
	for i := last - 1; i >= 0; i-- {
		root = tlog.NodeHash(h.trees[i], root)
	}
	return &SetRef{Count: h.count, Root: hex.EncodeToString(root[:])}
}
