package blocks

import (
	"bytes"

	"github.com/betracehq/betrace/trace"
)

// rowHeap iterates over the sorted rows of segments in the order of their trace IDs. It is a binary heap
// with the next row of each segment, least first. Of rows with one ID, that of the first segment is
// returned first.
type rowHeap []nextRow

type nextRow struct {
	id           trace.ID
	segment, row int32
}

func (h rowHeap) less(i, j int) bool {
	c := bytes.Compare(h[i].id[:], h[j].id[:])
	return c < 0 || c == 0 && h[i].segment < h[j].segment
}

// begin sets the heap to the segments' first rows.
func (h *rowHeap) begin(segments []*segment) {
	*h = (*h)[:0]
	for i, s := range segments {
		if len(s.ids) > 0 {
			*h = append(*h, nextRow{s.ids[0], int32(i), 0})
		}
	}
	for i := len(*h)/2 - 1; i >= 0; i-- {
		h.down(i)
	}
}

// next removes the least row and adds the next row of its segment.
func (h *rowHeap) next(segments []*segment) {
	least := &(*h)[0]
	least.row++
	if s := segments[least.segment]; int(least.row) < len(s.ids) {
		least.id = s.ids[least.row]
	} else {
		*least = (*h)[len(*h)-1]
		*h = (*h)[:len(*h)-1]
	}
	h.down(0)
}

func (h rowHeap) down(i int) {
	for {
		child := 2*i + 1
		if child >= len(h) {
			return
		}
		if child+1 < len(h) && h.less(child+1, child) {
			child++
		}
		if !h.less(child, i) {
			return
		}
		h[i], h[child] = h[child], h[i]
		i = child
	}
}
