package state_test

import (
	"context"
	"crypto/rand"
	"database/sql"
	"go/ast"
	"go/parser"
	"go/token"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/deploy/stack"
	"github.com/betracehq/betrace/deploy/stack/stacktest"
	"github.com/betracehq/betrace/scheduler/state"
)

// onPostgres makes the helpers below use PostgreSQL instead of SQLite.
var onPostgres bool

// testsOfBoth are the tests that both databases pass. Go runs them on SQLite, and TestOnPostgres on PostgreSQL.
var testsOfBoth = []func(*testing.T){
	TestEntriesFormAChain, TestEntriesOutOfOrderAreRefused, TestBlobsAreStoredOnceByDigest, TestKeysKeepTheirOrder,
	TestStateIsNewUntilItHasAKey, TestExistingStateIsNotCreated, TestFailedTransactionChangesNothing, TestReadersSeeCommittedData,
	TestLedgerIsStoredWhole, TestCopiedLedgerHasBlocksRulesAndHoles, TestCoverageIsStoredWhole, TestSweepsAreStoredByNameAndTenant, TestDeliveriesAreDueInOrder,
	TestRefusedItemsAreListed, TestPacksOfANameBeginWithTheLast, TestTimesOutOfRangeAreBounded, TestConfigurationIsReplaced,
	TestStateThatTheServiceWroteVerifies, TestEditedStateDoesNotVerify, TestStateWithAnotherSchemaDoesNotVerify,
	TestLedgerOfATempoWithoutTenantsBelongsToTheEmptyTenant, TestFaultsAreBoundedAndNameTheFirstEntry, TestLogSignedAnewByAnotherKeyDoesNotVerify,
	TestBlobsAreCheckedInSeveralPasses, TestEvidenceIsAppendOnly, TestValuesAreStoredByteByByte,
	TestViolationsAreRestoredWhole, TestViolationsOfManyTraces, TestViolationIsStoredOnce, TestViolationWithoutItsEntryIsNotCommitted,
	TestCorrectionsChangeTheStatusOnly, TestViolationsAreFiltered, TestPagesOfEqualTraceStartsMissNothing,
	TestCappedViolationsAreFound, TestEditedCappedViolationsDoNotVerify,
	TestKilledWriterLosesNothing, TestKilledCreationIsRepeated, TestStateOfEarlierVersionsIsRead, TestWorkBelongsToOneReplica,
}

// testsOfSQLite are about its file. PostgreSQL has tests of its own in postgres_test.go.
var testsOfSQLite = []func(*testing.T){
	TestBackupWhileWriting, TestBackupRefuses, TestSizeHasTheFileAndItsLog, TestSecondProcessIsRefused, TestGrowth,
	TestStateIsReadableByItsUserOnly, TestOpenRefuses, TestSecondWriterIsRefused,
}

func nameOf(test func(*testing.T)) string {
	name := runtime.FuncForPC(reflect.ValueOf(test).Pointer()).Name()
	return name[strings.LastIndexByte(name, '.')+1:]
}

func TestOnPostgres(t *testing.T) {
	postgresServer(t)
	onPostgres = true
	defer func() { onPostgres = false }()
	for _, test := range testsOfBoth {
		t.Run(strings.TrimPrefix(nameOf(test), "Test"), test)
	}
}

// TestEveryTestHasItsDatabases finds tests that are in none of the lists above.
func TestEveryTestHasItsDatabases(t *testing.T) {
	listed := map[string]bool{}
	for _, test := range append(append([]func(*testing.T){}, testsOfBoth...), testsOfSQLite...) {
		listed[nameOf(test)] = true
	}
	files, err := filepath.Glob("*_test.go")
	require.NoError(t, err)
	for _, file := range files {
		if strings.HasPrefix(file, "postgres") || strings.HasSuffix(file, "_linux_test.go") || file == "databases_test.go" {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		require.NoError(t, err)
		for _, d := range parsed.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && parsed.Name.Name == "state_test" && strings.HasPrefix(f.Name.Name, "Test") && f.Name.Name != "TestMain" {
				require.True(t, listed[f.Name.Name], "add %s of %s to testsOfBoth, or to testsOfSQLite", f.Name.Name, file)
			}
		}
	}
}

// postgresServer returns the server of the tests, whose password is in the environment afterwards.
func postgresServer(t testing.TB) *stack.Postgres {
	t.Helper()
	p := stacktest.Get(t, stack.Options{Postgres: true}).Postgres
	if p.Password != "" {
		require.NoError(t, os.Setenv("PGPASSWORD", p.Password))
	}
	return p
}

// location returns the path or the URL of a new database.
func location(t testing.TB) string {
	t.Helper()
	if onPostgres {
		return createPostgres(t, "template0")
	}
	return filepath.Join(t.TempDir(), "state.db")
}

// createPostgres creates a database as a copy of another, and returns its URL.
func createPostgres(t testing.TB, template string) string {
	t.Helper()
	server := postgresServer(t).URL
	name := "betrace_test_" + strings.ToLower(rand.Text())
	execSQL(t, server, `CREATE DATABASE `+name+` ENCODING 'UTF8' TEMPLATE `+template)
	if os.Getenv("BETRACE_TEST_POSTGRES") != "" { // otherwise the server is removed as a whole, which is faster
		t.Cleanup(func() { execSQL(t, server, `DROP DATABASE `+name+` WITH (FORCE)`) })
	}
	u, err := url.Parse(server)
	require.NoError(t, err)
	u.Path = "/" + name
	return u.String()
}

// copyOf returns the location of a copy of a database that no process has open.
func copyOf(t testing.TB, from string) string {
	t.Helper()
	if state.IsURL(from) {
		waitForServer(t, from)
		u, err := url.Parse(from)
		require.NoError(t, err)
		return createPostgres(t, strings.TrimPrefix(u.Path, "/"))
	}
	content, err := os.ReadFile(from)
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "state.db")
	require.NoError(t, os.WriteFile(path, content, 0o600))
	return path
}

// waitForServer waits until a server of PostgreSQL has noticed that all processes have closed a database.
func waitForServer(t testing.TB, path string) {
	t.Helper()
	if !state.IsURL(path) {
		return
	}
	u, err := url.Parse(path)
	require.NoError(t, err)
	db := connectSQL(t, postgresServer(t).URL)
	defer db.Close()
	require.Eventually(t, func() bool {
		var n int
		require.NoError(t, db.QueryRowContext(t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE datname = $1`, strings.TrimPrefix(u.Path, "/")).Scan(&n))
		return n == 0
	}, 30*time.Second, time.Millisecond)
}

func connectSQL(t testing.TB, path string) *sql.DB {
	t.Helper()
	driver := "sqlite"
	if state.IsURL(path) {
		driver = "pgx"
	}
	db, err := sql.Open(driver, path)
	require.NoError(t, err)
	return db
}

var castBytes = regexp.MustCompile(`CAST\(replace\(CAST\((\w+) AS TEXT\), (.*?)\) AS BLOB\)`)

// execSQL changes a database that no service has open, as a user might with sqlite3 or psql. Statements have SQLite's
// expressions for bytes.
func execSQL(t testing.TB, path string, statements ...string) {
	t.Helper()
	db := connectSQL(t, path)
	defer db.Close()
	db.SetMaxOpenConns(1)
	for _, statement := range statements {
		if state.IsURL(path) {
			statement = castBytes.ReplaceAllString(statement, `convert_to(replace(convert_from($1, 'UTF8'), $2), 'UTF8')`)
			statement = strings.ReplaceAll(statement, `x'00'`, `'\x00'`)
		}
		_, err := db.ExecContext(context.Background(), statement) // cleanup runs after the end of the test's context
		require.NoError(t, err, statement)
	}
}

// editSQL changes a database without its triggers. Afterwards it has them again, so that only the edit is found.
func editSQL(t testing.TB, path, statements string) {
	t.Helper()
	if state.IsURL(path) {
		execSQL(t, path, `SET session_replication_role = replica; `+statements)
		return
	}
	db := connectSQL(t, path)
	defer db.Close()
	rows, err := db.QueryContext(t.Context(), `SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'`)
	require.NoError(t, err)
	defer rows.Close()
	var drop, create []string
	for rows.Next() {
		var name, statement string
		require.NoError(t, rows.Scan(&name, &statement))
		drop, create = append(drop, `DROP TRIGGER `+name), append(create, statement)
	}
	require.NoError(t, rows.Err())
	require.Len(t, drop, 11)
	execSQL(t, path, append(append(drop, statements), create...)...)
}
