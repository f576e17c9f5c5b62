package state_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/scheduler/state"
	"github.com/betracehq/betrace/scheduler/state/statetest"
)

var writeSchema = flag.Bool("state.schema", false, "write migrations/postgres/schema.json, after a migration was added")

// TestPostgresSchemaIsThatOfTheMigrations compares the file by which a state is verified with a new state.
func TestPostgresSchemaIsThatOfTheMigrations(t *testing.T) {
	path := createPostgres(t, "template0")
	require.NoError(t, openClose(t, path))
	if *writeSchema {
		schema, err := json.MarshalIndent(state.PostgresSchema(t, path), "", "  ")
		require.NoError(t, err)
		require.NoError(t, os.WriteFile("migrations/postgres/schema.json", append(schema, '\n'), 0o644)) //nolint:gosec // a file of the repository
		return
	}
	require.Empty(t, faults(verify(t, path)), "write the file with -state.schema")
}

// TestBothDatabasesHaveTheSameTables compares the names of versions, tables and columns.
func TestBothDatabasesHaveTheSameTables(t *testing.T) {
	columns := func(path, query string) (all []string) {
		require.NoError(t, openClose(t, path))
		db := connectSQL(t, path)
		defer db.Close()
		rows, err := db.QueryContext(t.Context(), query)
		require.NoError(t, err)
		defer rows.Close()
		for rows.Next() {
			var table, name string
			require.NoError(t, rows.Scan(&table, &name))
			all = append(all, table+"."+name)
		}
		require.NoError(t, rows.Err())
		return all
	}
	sqlite := columns(location(t), `SELECT m.name, c.name FROM sqlite_schema m, pragma_table_info(m.name) c
		WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%' AND m.name <> 'goose_db_version' ORDER BY m.name, c.cid`)
	postgres := columns(createPostgres(t, "template0"), `SELECT table_name, column_name FROM information_schema.columns
		WHERE table_schema = current_schema() AND table_name <> 'goose_db_version' ORDER BY table_name COLLATE "C", ordinal_position`)
	require.Greater(t, len(sqlite), 100)
	require.Equal(t, sqlite, postgres)
	names := func(folder string) (all []string) {
		files, err := os.ReadDir("migrations/" + folder)
		require.NoError(t, err)
		for _, f := range files {
			if strings.HasSuffix(f.Name(), ".sql") {
				all = append(all, f.Name())
			}
		}
		return all
	}
	require.Equal(t, names("sqlite"), names("postgres"), "each migration has a file for both databases")
}

func TestPostgresURLWithAPasswordIsRefused(t *testing.T) {
	for address, want := range map[string]string{
		"postgres://me:s3cr3t@db.example/x":               "the URL of the state postgres://me:…@db.example contains a password: remove it, and set PGPASSWORD or PGPASSFILE in the environment",
		"postgresql://me:s3cr3t@db.example/x":             "the URL of the state postgresql://me:…@db.example contains a password: remove it, and set PGPASSWORD or PGPASSFILE in the environment",
		"postgres://db.example/x?user=me&password=s3cr3t": "the URL of the state postgres://db.example contains a password in password: remove it, and set PGPASSWORD or PGPASSFILE in the environment",
		"postgres://db.example/x?sslpassword=s3cr3t":      "the URL of the state postgres://db.example contains a password in sslpassword: remove it, and set PGPASSWORD or PGPASSFILE in the environment",
		"postgres://me:s3cr3t%zz@db.example/x":            "the URL of the state cannot be read: write it as postgres://user@host:port/database",
		"postgres://me:s3c/r3t@db.example/x":              "the URL of the state cannot be read: write it as postgres://user@host:port/database",
	} {
		require.EqualError(t, state.CheckURL(address), want)
		_, err := state.Open(t.Context(), state.Options{Path: address})
		require.EqualError(t, err, want)
		_, err = state.OpenReadOnly(t.Context(), address)
		require.EqualError(t, err, want)
	}
	require.NoError(t, state.CheckURL("postgres://me@db.example:5433/x?sslmode=require"))
	require.True(t, state.IsURL("postgres://db.example/x"))
	require.False(t, state.IsURL("/var/lib/postgres.db"))
}

func TestOpenRefusesOtherPostgresDatabases(t *testing.T) {
	at := func(statements ...string) string {
		path := createPostgres(t, "template0")
		execSQL(t, path, statements...)
		return path
	}
	newer := at()
	require.NoError(t, openClose(t, newer))
	execSQL(t, newer, `INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, true)`)
	server, err := url.Parse(postgresServer(t).URL)
	require.NoError(t, err)
	with := func(change func(*url.URL)) string {
		u := *server
		change(&u)
		return u.String()
	}
	latin := createPostgres(t, "template0 LOCALE 'C'")
	for _, c := range []struct{ name, path, want string }{
		{"another program", at(`CREATE TABLE users (id INTEGER)`), `the schema "public" has tables of another program: give an empty database`},
		{"another program with migrations", at(`CREATE TABLE instance (id INTEGER)`, `CREATE TABLE goose_db_version (version_id BIGINT, is_applied BOOLEAN)`), `has tables of another program`},
		{"migrations of another program", at(`CREATE TABLE goose_db_version (version_id BIGINT, is_applied BOOLEAN)`, `INSERT INTO goose_db_version VALUES (7, true)`), `has tables of another program`},
		{"a newer version", newer, "its schema version is 99, and this version of betrace supports versions up to"},
		{"no schema", newer + "?search_path=nowhere", "the search path names no schema that exists"},
		{"an unknown database", with(func(u *url.URL) { u.Path = "/nowhere" }), `database "nowhere" does not exist`},
		{"an unknown user", with(func(u *url.URL) { u.User = url.User("nobody") }), "set PGPASSWORD or PGPASSFILE in the environment to the password of the user"},
		{"no server", with(func(u *url.URL) { u.Host = closedPort(t) }), "connection refused"},
	} {
		for _, open := range []func() (*state.DB, error){
			func() (*state.DB, error) { return state.Open(t.Context(), state.Options{Path: c.path}) },
			func() (*state.DB, error) { return state.OpenReadOnly(t.Context(), c.path) },
		} {
			db, err := open()
			if err == nil {
				db.Close()
			}
			require.ErrorContains(t, err, c.want, c.name)
			if password := os.Getenv("PGPASSWORD"); password != "" {
				require.NotContains(t, err.Error(), password)
			}
		}
	}
	_, err = state.OpenReadOnly(t.Context(), latin)
	require.ErrorContains(t, err, "the database is empty")
}

// closedPort returns an address of this host that refuses connections.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	return l.Addr().String()
}

func TestStatesInTwoSchemasAreIndependent(t *testing.T) {
	path := createPostgres(t, "template0")
	execSQL(t, path, `CREATE SCHEMA "Two"`)
	one, two := openAt(t, path), openAt(t, path+"?search_path=%22Two%22")
	require.NotEqual(t, one.Instance(), two.Instance())
	for _, db := range []*state.DB{one, two} {
		write(t, db, func(ctx context.Context, tx *state.Tx) error {
			_, err := appendEntry(ctx, tx, "acme")
			return err
		})
		v, err := db.Verify(t.Context())
		require.NoError(t, err)
		require.Equal(t, int64(1), v.Entries)
		for _, f := range faults(v) {
			require.Contains(t, f, "entry 1", "only the envelope, which is none")
		}
	}
}

// TestSeveralProcessesAppendToOneChain opens the database several times, as several processes do, and appends at once.
func TestSeveralProcessesAppendToOneChain(t *testing.T) {
	path := createPostgres(t, "template0")
	first := openAt(t, path)
	key, err := statetest.Key(t.Context(), first)
	require.NoError(t, err)
	const writers, entries = 4, 25
	dbs := []*state.DB{first}
	for range writers - 1 {
		dbs = append(dbs, openAt(t, path))
	}
	var wg sync.WaitGroup
	errs := make([]error, writers)
	for i, db := range dbs {
		wg.Go(func() {
			for n := range entries {
				errs[i] = db.Write(context.Background(), func(ctx context.Context, tx *state.Tx) error {
					_, err := statetest.Append(ctx, tx, key, &statetest.Work{Tenant: "acme", Time: epoch, Violations: []state.Violation{statetest.Violation(i*1000 + n)}})
					return err
				})
				if errs[i] != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
	v := verify(t, path)
	require.Empty(t, faults(v))
	require.Equal(t, int64(writers*entries), v.Entries)
}

// TestSeveralProcessesCreateTheState opens a new database several times at once.
func TestSeveralProcessesCreateTheState(t *testing.T) {
	path := createPostgres(t, "template0")
	instances := make([]string, 4)
	errs := make([]error, len(instances))
	var wg sync.WaitGroup
	for i := range instances {
		wg.Go(func() {
			db, err := state.Open(context.Background(), state.Options{Path: path})
			if errs[i] = err; err == nil {
				instances[i] = db.Instance()
				errs[i] = db.Close()
			}
		})
	}
	wg.Wait()
	for i := range instances {
		require.NoError(t, errs[i])
		require.Equal(t, instances[0], instances[i])
	}
}

func TestExclusiveProcessIsAlone(t *testing.T) {
	path := createPostgres(t, "template0")
	open := func(exclusive bool) (*state.DB, error) {
		return state.Open(t.Context(), state.Options{Path: path, Exclusive: exclusive})
	}
	first, err := open(true)
	require.NoError(t, err)
	_, err = open(true)
	require.ErrorContains(t, err, fmt.Sprintf("state %s: ", path))
	require.ErrorContains(t, err, fmt.Sprintf("it is used by another process (betrace, pid %d on ", os.Getpid()))
	require.ErrorContains(t, err, "): stop it, or give another database")
	other, err := open(false)
	require.NoError(t, err)
	require.NoError(t, other.Close())
	reader, err := state.OpenReadOnly(t.Context(), path)
	require.NoError(t, err)
	require.NoError(t, reader.Close())

	// A process whose connection is lost has its lock again before it writes.
	endConnections(t, path)
	write(t, first, func(ctx context.Context, tx *state.Tx) error { return tx.PutConfig(ctx, "x") })
	_, err = open(true)
	require.ErrorContains(t, err, "it is used by another process")
	require.NoError(t, first.Close())
	second, err := open(true)
	require.NoError(t, err)
	require.NoError(t, second.Close())
}

// endConnections ends all connections to a database, as a restart of the server does.
func endConnections(t *testing.T, path string) {
	t.Helper()
	u, err := url.Parse(path)
	require.NoError(t, err)
	db := connectSQL(t, postgresServer(t).URL)
	defer db.Close()
	_, err = db.ExecContext(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1`, strings.TrimPrefix(u.Path, "/"))
	require.NoError(t, err)
}

func TestLostConnections(t *testing.T) {
	path := createPostgres(t, "template0")
	db := openAt(t, path)
	put := func(config string, during func()) error {
		return db.Write(t.Context(), func(ctx context.Context, tx *state.Tx) error {
			if err := tx.PutConfig(ctx, config); err != nil {
				return err
			}
			if during != nil {
				during()
			}
			return nil
		})
	}
	config := func() (digest string) {
		t.Helper()
		write(t, db, func(ctx context.Context, tx *state.Tx) (err error) {
			digest, err = tx.Config(ctx)
			return err
		})
		return digest
	}
	require.NoError(t, put("first", nil))
	for range 3 {
		endConnections(t, path)
		require.NoError(t, put("second", nil), "a connection that was lost before is replaced")
	}
	err := put("third", func() { endConnections(t, path) })
	require.ErrorContains(t, err, "state: commit: ")
	require.ErrorContains(t, err, "; nothing was changed")
	require.True(t, state.IsDatabaseError(err))
	require.Equal(t, "second", config())
	err = db.Write(t.Context(), func(ctx context.Context, tx *state.Tx) error {
		require.NoError(t, tx.PutConfig(ctx, "fourth"))
		endConnections(t, path)
		return tx.PutConfig(ctx, "fifth")
	})
	require.ErrorContains(t, err, "state: put configuration: ")
	require.True(t, state.IsDatabaseError(err))
	require.Equal(t, "second", config())
}

// TestLostAnswerToACommit cuts the connection when the server has committed, before the client has the answer.
func TestLostAnswerToACommit(t *testing.T) {
	path := createPostgres(t, "template0")
	require.NoError(t, openClose(t, path))
	proxy := newProxy(t, path)
	db := openAt(t, proxy.url)
	require.NoError(t, db.Write(t.Context(), func(ctx context.Context, tx *state.Tx) error {
		require.NoError(t, tx.PutConfig(ctx, "kept"))
		proxy.dropAnswers()
		return nil
	}))
	require.Positive(t, proxy.dropped.Load())
	write(t, db, func(ctx context.Context, tx *state.Tx) error {
		digest, err := tx.Config(ctx)
		require.Equal(t, "kept", digest)
		return err
	})
}

func TestViewEndsWithItsConnection(t *testing.T) {
	path := createPostgres(t, "template0")
	db := openAt(t, path)
	err := db.View(t.Context(), func(ctx context.Context, r *state.Reader) error {
		endConnections(t, path)
		_, err := r.Sweeps(ctx)
		return err
	})
	require.ErrorContains(t, err, "state: sweeps: ")
	_, err = db.Sweeps(t.Context())
	if err != nil { // the pool may have had a second connection that was lost
		_, err = db.Sweeps(t.Context())
	}
	require.NoError(t, err)
}

func TestPostgresBackupNamesItsTool(t *testing.T) {
	path := createPostgres(t, "template0")
	db := openAt(t, path)
	require.EqualError(t, db.Backup(t.Context(), "x"), "back up state "+path+": the state is in a PostgreSQL database: use pg_dump, for example pg_dump --format=custom --file=FILE URL")
	require.NoFileExists(t, "x")
	before, err := db.Size()
	require.NoError(t, err)
	key, err := statetest.Key(t.Context(), db)
	require.NoError(t, err)
	require.NoError(t, statetest.Fill(t.Context(), db, key, "acme", 0, 100))
	after, err := db.Size()
	require.NoError(t, err)
	require.Greater(t, after, before+50_000)
}

// TestReaderOfPostgresNeedsNoRightToWrite reads and verifies as a user who may only select.
func TestReaderOfPostgresNeedsNoRightToWrite(t *testing.T) {
	path := createPostgres(t, "template0")
	busy(t, path)
	name := "reader_" + strings.ToLower(path[strings.LastIndexByte(path, '_')+1:])
	execSQL(t, path, `CREATE ROLE `+name+` LOGIN PASSWORD '`+os.Getenv("PGPASSWORD")+`'`, `GRANT SELECT ON ALL TABLES IN SCHEMA public TO `+name)
	t.Cleanup(func() { execSQL(t, path, `DROP OWNED BY `+name, `DROP ROLE `+name) }) // before that of the database
	u, err := url.Parse(path)
	require.NoError(t, err)
	u.User = url.User(name)
	require.Empty(t, faults(verify(t, u.String())))
	db := openAt(t, u.String())
	err = db.Write(t.Context(), func(ctx context.Context, tx *state.Tx) error { return tx.PutConfig(ctx, "x") })
	require.ErrorContains(t, err, "permission denied")
}
