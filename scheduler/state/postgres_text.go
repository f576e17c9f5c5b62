package state

import (
	"context"
	"database/sql/driver"
	"encoding/hex"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/stdlib"
)

// PostgreSQL refuses zero bytes and invalid UTF-8 in texts, and names of spans and services can contain them. The driver
// below escapes them, so that the queries store and return strings as they are: a byte becomes the last character of
// Unicode that is for private use, followed by two hexadecimal digits. So do the bytes of that character itself.
const escape = "\U0010FFFD"

func escapeText(s string) string {
	if utf8.ValidString(s) && !strings.Contains(s, "\x00") && !strings.Contains(s, escape) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		part := s[i : i+n]
		if r == 0 || r == utf8.RuneError && n == 1 || part == escape {
			for _, c := range []byte(part) {
				fmt.Fprintf(&b, "%s%02x", escape, c)
			}
		} else {
			b.WriteString(part)
		}
		i += n
	}
	return b.String()
}

func unescapeText(s string) (string, error) {
	first, rest, found := strings.Cut(s, escape)
	if !found {
		return s, nil
	}
	var b strings.Builder
	b.WriteString(first)
	for found {
		var part string
		part, rest, found = strings.Cut(rest, escape)
		if len(part) < 2 {
			return "", fmt.Errorf("the text %q has an incomplete escape", s)
		}
		c, err := hex.DecodeString(part[:2])
		if err != nil {
			return "", fmt.Errorf("the text %q has a wrong escape: %w", s, err)
		}
		b.Write(c)
		b.WriteString(part[2:])
	}
	return b.String(), nil
}

// textConnector connects with the driver of pgx, and escapes texts.
type textConnector struct{ driver.Connector }

func (c textConnector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return textConn{conn.(*stdlib.Conn)}, nil
}

type textConn struct{ *stdlib.Conn }

// CheckNamedValue accepts the values that every driver of database/sql accepts. It is also called for statements.
func (c textConn) CheckNamedValue(v *driver.NamedValue) error {
	value, err := driver.DefaultParameterConverter.ConvertValue(v.Value)
	if text, ok := value.(string); ok {
		value = escapeText(text)
	}
	v.Value = value
	return err
}

func (c textConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	return textRowsOf(c.Conn.QueryContext(ctx, query, args))
}

func (c textConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	stmt, err := c.Conn.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	return textStmt{stmt.(*stdlib.Stmt)}, nil
}

type textStmt struct{ *stdlib.Stmt }

func (s textStmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	return textRowsOf(s.Stmt.QueryContext(ctx, args))
}

// textRows has only the methods of driver.Rows, because others of pgx would pass texts by.
type textRows struct{ driver.Rows }

// ColumnTypeDatabaseTypeName returns the name of a type, as BOOL.
func (r textRows) ColumnTypeDatabaseTypeName(index int) string {
	return r.Rows.(driver.RowsColumnTypeDatabaseTypeName).ColumnTypeDatabaseTypeName(index)
}

func textRowsOf(rows driver.Rows, err error) (driver.Rows, error) {
	if err != nil {
		return nil, err
	}
	return textRows{rows}, nil
}

func (r textRows) Next(dest []driver.Value) error {
	if err := r.Rows.Next(dest); err != nil {
		return err
	}
	for i, value := range dest {
		if text, ok := value.(string); ok {
			var err error
			if dest[i], err = unescapeText(text); err != nil {
				return err
			}
		}
	}
	return nil
}
