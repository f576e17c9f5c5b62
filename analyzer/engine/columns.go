package engine

import (
	"fmt"
	"strings"

	"github.com/betracehq/betrace/trace/columnar"
)

// source identifies a column: a field of a table, or an attribute by its key.
type source struct {
	domain domain
	field  string
	key    string
	// older are older names of the attribute, joined by nameSeparator, the newest first. A row has the value of the
	// first name that it has a value for.
	older string
}

// nameSeparator is in no name of an attribute that has older names.
const nameSeparator = "\x00"

// column is a column that predicates read.
type column struct {
	source
	id int // in Plan.columns
}

// column returns the column of a source.
func (c *compiler) column(of source) *column {
	col, ok := c.cols[of]
	if !ok {
		col = &column{of, len(c.plan.columns)}
		c.cols[of] = col
		c.plan.columns = append(c.plan.columns, col)
	}
	return col
}

func (s source) String() string {
	table := domainNames[s.domain]
	if s.field != "" {
		return table + "." + s.field
	}
	if s.older != "" {
		return fmt.Sprintf("%s.%q%q", table, s.key, s.older)
	}
	return fmt.Sprintf("%s.%q", table, s.key)
}

// columnData is a column in the batch.
type columnData struct {
	// text are the strings of the column, nil if there are none.
	text *columnar.TextColumn
	// attribute is nil for a field, and if no row of the batch has the attribute.
	attribute *columnar.Column
	isField   bool
	// first is the attribute if the batch has more than one of its names.
	first *columnar.Column
}

func (d *columnData) find(b *columnar.Batch, c *column) {
	*d = columnData{isField: c.field != "", first: d.first}
	switch c.domain {
	case spans:
		switch c.field {
		case "":
			d.attribute = d.byName(c, b.Attribute)
		case "name":
			d.text = &b.Names
		case "statusMessage":
			d.text = &b.StatusMessages
		case "scope":
			d.text = &b.Scopes
		case "scopeVersion":
			d.text = &b.ScopeVersions
		}
	case resources:
		if d.isField { // the name of the service
			d.text = &b.Service().Text
		} else {
			d.attribute = d.byName(c, b.ResourceAttribute)
		}
	case events:
		if d.isField {
			d.text = &b.Events.Names
		} else {
			d.attribute = d.byName(c, b.Events.Attribute)
		}
	case links:
		d.attribute = d.byName(c, b.Links.Attribute)
	}
	if a := d.attribute; a != nil {
		if isEmpty(a) {
			d.attribute = nil
			return
		}
		d.text = &a.Text
	}
}

// byName returns the column of an attribute under the name that the batch has. If the batch has several names, each
// row has the value of its first.
func (d *columnData) byName(c *column, find func(key string) *columnar.Column) *columnar.Column {
	if c.older == "" {
		return find(c.key)
	}
	var named []*columnar.Column
	for _, name := range append([]string{c.key}, strings.Split(c.older, nameSeparator)...) {
		if a := find(name); a != nil && !isEmpty(a) {
			named = append(named, a)
		}
	}
	switch len(named) {
	case 0:
		return nil
	case 1:
		return named[0]
	}
	if d.first == nil {
		d.first = &columnar.Column{Key: c.key}
	}
	d.first.SetFirst(named)
	return d.first
}

// isEmpty reports whether no row has a value.
func isEmpty(a *columnar.Column) bool {
	return a.IsInt == nil && a.IsDouble == nil && a.IsBool == nil && a.Text.Codes == nil && len(a.Others) == 0
}

func codeOf(c *columnar.TextColumn, row int32) uint32 {
	if c.Codes == nil {
		return 0
	}
	return c.Codes[row]
}
