package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/betracehq/betrace/deploy/stack/stacktest"
	"github.com/betracehq/betrace/trace/otlp"
)

func TestMain(m *testing.M) {
	testscript.Main(stacktest.M{Tests: covered{m}}, map[string]func(){"betrace": main, "betrace-crash": crash})
}

// covered has the programs that tests start count for the coverage too.
type covered struct{ *testing.M }

func (c covered) Run() int {
	flag.Parse()
	os.Setenv("BETRACE_SCAN_SEARCH_AGAIN_AFTER", "50ms") // scripts have an environment of their own
	if dir := flag.Lookup("test.gocoverdir"); dir != nil && dir.Value.String() != "" {
		os.Setenv("GOCOVERDIR", dir.Value.String())
	}
	return c.M.Run()
}

var update = flag.Bool("update", false, "update the golden files of the scripts")

// TestScripts runs testdata/script/*.txtar: each shows one part of the command
// line as a user sees it. Besides testscript's own commands there are
//
//	exits CODE betrace ARG…        runs it and compares the exit code
//	otlp proto|lengths|gzip IN OUT writes OTLP JSON in another form
//	same QUERY                     counts in $BLOCKS and in all.jsonl, and compares
//
// and the servers $FAULTY/CODE, which answer every request with that status,
// $FAULTY/html, a login page, and $DOWN, which refuses connections. $CLOSED is the address of a free port.
func TestScripts(t *testing.T) {
	faulty := httptest.NewServer(http.HandlerFunc(answerFaulty))
	t.Cleanup(faulty.Close)
	testscript.Run(t, testscript.Params{
		Dir:           "testdata/script",
		UpdateScripts: *update,
		Setup: func(env *testscript.Env) error {
			env.Setenv("FAULTY", faulty.URL)
			env.Setenv("DOWN", "http://"+closedPort(t))
			env.Setenv("BLOCKS", filepath.Join(must(os.Getwd()), "../../tempoclient/blocks/testdata/vparquet5"))
			env.Setenv("EXAMPLES", filepath.Join(must(os.Getwd()), "../../docs/examples"))
			env.Setenv("CLOSED", closedPort(t))
			env.Setenv("OTLPFILES", filepath.Join(must(os.Getwd()), "../../trace/otlp/testdata/tools"))
			env.Setenv("PACK", filepath.Join(must(os.Getwd()), "../../trace/tracetest/pack.yaml"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "otlp": rewriteOTLP, "same": same},
	})
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// closedPort returns a loopback address that refuses connections.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	return l.Addr().String()
}

func answerFaulty(w http.ResponseWriter, r *http.Request) {
	what, _, _ := strings.Cut(strings.Trim(r.URL.Path, "/"), "/")
	switch code, err := strconv.Atoi(what); {
	case err == nil:
		http.Error(w, "said so", code)
	case what == "html":
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprint(w, "<html>log in</html>")
	case what == "half":
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", "1000")
		fmt.Fprint(w, `{"traces":[{"traceID":"1"`)
	}
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARG…")
	}
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	if err != nil {
		text, ok := strings.CutPrefix(err.Error(), "exit status ")
		ts.Logf("%v", err)
		if !ok {
			ts.Fatalf("%s: %v", args[1], err)
		}
		code = must(strconv.Atoi(text))
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("exit code %d, want %s", code, args[0])
	}
}

func rewriteOTLP(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: otlp proto|lengths|gzip IN OUT")
	}
	in := []byte(ts.ReadFile(args[1]))
	var out bytes.Buffer
	switch args[0] {
	case "gzip":
		w := gzip.NewWriter(&out)
		_, err := w.Write(in)
		ts.Check(err)
		ts.Check(w.Close())
	default:
		ts.Check(otlp.Read(bytes.NewReader(in), func(td ptrace.Traces) error {
			b, err := (&ptrace.ProtoMarshaler{}).MarshalTraces(td)
			if args[0] == "lengths" {
				out.Write([]byte{byte(len(b) >> 24), byte(len(b) >> 16), byte(len(b) >> 8), byte(len(b))})
			}
			out.Write(b)
			return err
		}))
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[2]), out.Bytes(), 0o644))
}

// same counts the traces that match a query, in blocks and in a file with all their traces.
func same(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: same QUERY")
	}
	count := func(source ...string) string {
		ts.Check(ts.Exec("betrace", append([]string{"count", "--query", args[0]}, source...)...))
		table, _, _ := strings.Cut(ts.ReadFile("stdout"), "\ncomplete, by ")
		return table
	}
	inBlocks := count("--from", "2026-11-23", "--to", "2026-11-24", "--tempo-blocks", ts.Getenv("BLOCKS"), "--source", "blocks")
	if inFile := count("--traces", "all.jsonl"); inBlocks != inFile {
		ts.Fatalf("%s: in blocks\n%s\nin the file\n%s", args[0], inBlocks, inFile)
	}
	ts.Logf("%s: %s", args[0], inBlocks)
}

// betrace runs the program in this process.
func betrace(ctx context.Context, args ...string) (code int, stdout, stderr string) {
	var out, errOut bytes.Buffer
	p := &program{stdin: strings.NewReader(""), stdout: &out, stderr: &errOut, limitMemory: func(int64) {}}
	code = p.run(ctx, args)
	return code, out.String(), errOut.String()
}
