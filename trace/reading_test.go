package trace_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/trace"
)

func TestAProblemKeepsItsCause(t *testing.T) {
	p := trace.Problem{What: "block a", Err: io.ErrUnexpectedEOF}
	require.ErrorIs(t, p, io.ErrUnexpectedEOF)
	require.EqualError(t, p, "block a: unexpected EOF")
}

// The encoder decides whether HTML is escaped, as it does for other fields.
func TestTheJSONOfAProblem(t *testing.T) {
	problems := []trace.Problem{{What: "file <a>", Err: errors.New("b & c")}}
	escaped, err := json.Marshal(problems)
	require.NoError(t, err)
	require.Equal(t, `[{"what":"file \u003ca\u003e","why":"b \u0026 c"}]`, string(escaped))
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	require.NoError(t, e.Encode(problems))
	require.Equal(t, `[{"what":"file <a>","why":"b & c"}]`+"\n", out.String())

	var read []trace.Problem
	require.NoError(t, json.Unmarshal(escaped, &read))
	require.Equal(t, problems, read)
}
