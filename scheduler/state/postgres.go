package state

import (
	"context"
	"database/sql"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
)

// postgres is a schema of a PostgreSQL database: the first one of the search path. Several processes may open it.
type postgres struct {
	url    string
	config *pgx.ConnConfig
	// exclusive refuses a second process that opens the database for writing and is exclusive, too.
	exclusive bool
	// shared lets in others that are shared, and refuses those that are exclusive.
	shared bool
}

// Advisory locks have two numbers. The first one is one of these, the second one is derived from the schema.
const (
	writeLock     = 1113937010 // of each transaction that writes
	exclusiveLock = 1113937011 // of the process that is exclusive
	schemaLock    = 1113937012 // of a migration
)

// Times after which a problem with the server is reported.
const (
	connectTimeout = 10 * time.Second
	// beginTimeout bounds the attempts to begin a transaction. A server restarts within it.
	beginTimeout = 15 * time.Second
	// lockTimeout bounds the wait for the transactions of other processes.
	lockTimeout = time.Minute
	// idleTimeout ends a transaction whose process sends nothing, so that it does not delay those of others.
	idleTimeout = 8 * time.Second
	// settleTimeout bounds the search for the outcome of a commit.
	settleTimeout = 30 * time.Second
	retryPause    = 100 * time.Millisecond
)

// CheckURL returns an error if the URL of a PostgreSQL database cannot be used, or if it contains a password, because
// URLs are part of errors and of the output. The error does not repeat it.
func CheckURL(address string) error {
	const remedy = "remove it, and set PGPASSWORD or PGPASSFILE in the environment"
	u, err := url.Parse(address)
	if err != nil {
		return errors.New("the URL of the state cannot be read: write it as postgres://user@host:port/database")
	}
	if _, found := u.User.Password(); found {
		return fmt.Errorf("the URL of the state %s://%s:…@%s contains a password: %s", u.Scheme, u.User.Username(), u.Host, remedy)
	}
	for name := range u.Query() {
		if strings.Contains(strings.ToLower(name), "pass") {
			return fmt.Errorf("the URL of the state %s://%s contains a password in %s: %s", u.Scheme, u.Host, name, remedy)
		}
	}
	return nil
}

func newPostgres(address string, exclusive, shared bool) (*postgres, error) {
	if err := CheckURL(address); err != nil {
		return nil, err
	}
	config, err := pgx.ParseConfig(address)
	if err != nil {
		return nil, fmt.Errorf("state: %w", err) // pgx hides passwords
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = connectTimeout
	}
	if !strings.HasPrefix(config.Host, "/") {
		config.DialFunc = (&net.Dialer{
			Timeout: config.ConnectTimeout, Control: boundUnacknowledged,
			KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 2 * time.Second, Count: 3},
		}).DialContext
	}
	host, err := os.Hostname()
	if err != nil {
		host = "an unknown host"
	}
	for name, value := range map[string]string{
		"application_name": fmt.Sprintf("betrace, pid %d on %s", os.Getpid(), host),
		// The server notices within some ten seconds that a host is gone, and releases its locks.
		"tcp_keepalives_idle": "5", "tcp_keepalives_interval": "2", "tcp_keepalives_count": "3",
	} {
		if _, set := config.RuntimeParams[name]; !set {
			config.RuntimeParams[name] = value
		}
	}
	return &postgres{url: address, config: config, exclusive: exclusive, shared: shared}, nil
}

func (p *postgres) String() string { return p.url }

func (p *postgres) prepare() error { return nil }

func (p *postgres) clock() string {
	return `CAST(extract(epoch FROM clock_timestamp()) * 1000000000 AS bigint)`
}

func (p *postgres) isShared() bool { return p.shared }

func (p *postgres) release() {}

func (p *postgres) connect(n int, write bool) (*sql.DB, error) {
	config := p.config.Copy()
	var options []stdlib.OptionOpenDB
	if !write {
		config.RuntimeParams["default_transaction_read_only"] = "on"
	} else if p.exclusive || p.shared {
		options = append(options, stdlib.OptionAfterConnect(p.lock))
	}
	pool := sql.OpenDB(textConnector{stdlib.GetConnector(*config, options...)})
	pool.SetMaxOpenConns(n)
	pool.SetMaxIdleConns(n)
	return pool, nil
}

// inUseError is the error of an exclusive process that finds another one.
type inUseError struct{ owner string }

func (e inUseError) Error() string {
	return fmt.Sprintf("it is used by another process%s: stop it, or give another database", e.owner)
}

// lock takes the lock of an exclusive or of a shared process for a connection. The server releases it when the connection ends, so a process whose
// connection was lost cannot write until it has the lock again.
func (p *postgres) lock(ctx context.Context, conn *pgx.Conn) error {
	try := `SELECT pg_try_advisory_lock($1, hashtext(current_schema()))`
	if p.shared {
		try = `SELECT pg_try_advisory_lock_shared($1, hashtext(current_schema()))`
	}
	// The server may notice only after a moment that the process before has ended.
	for range 10 {
		var free bool
		if err := conn.QueryRow(ctx, try, exclusiveLock).Scan(&free); err != nil || free {
			return err
		}
		if err := pause(ctx); err != nil {
			return err
		}
	}
	owner := ""
	_ = conn.QueryRow(ctx, `SELECT ' (' || a.application_name || ')' FROM pg_locks l JOIN pg_stat_activity a USING (pid)
		WHERE l.locktype = 'advisory' AND l.classid::bigint = $1 AND l.granted AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
		LIMIT 1`, exclusiveLock).Scan(&owner) // it only helps people
	return inUseError{owner}
}

// pause waits before an attempt is repeated.
func pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(retryPause):
		return nil
	}
}

func (p *postgres) lockSchema(ctx context.Context, read *sql.DB) (func(), error) {
	conn, err := read.Conn(ctx)
	if err != nil {
		return nil, explained(err)
	}
	if _, err := conn.ExecContext(ctx, `SELECT pg_advisory_lock($1, hashtext(current_schema()))`, schemaLock); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return func() {
		// If the connection is lost, the server releases the lock.
		_, _ = conn.ExecContext(context.WithoutCancel(ctx), `SELECT pg_advisory_unlock($1, hashtext(current_schema()))`, schemaLock)
		_ = conn.Close()
	}, nil
}

// explained adds the remedy to an error of a connection.
func explained(err error) error {
	var refused *pgconn.PgError
	if errors.As(err, &refused) && strings.HasPrefix(refused.Code, "28") {
		return fmt.Errorf("%w: set PGPASSWORD or PGPASSFILE in the environment to the password of the user", err)
	}
	return err
}

func (p *postgres) schemaVersion(ctx context.Context, q querier) (int64, error) {
	var schema sql.NullString
	var encoding string
	var tables, server int64
	var isState, hasVersions bool
	err := q.QueryRowContext(ctx, `SELECT current_schema(), current_setting('server_encoding'), current_setting('server_version_num')::bigint, count(c.oid),
			coalesce(bool_or(c.relname = 'instance' AND obj_description(c.oid, 'pg_class') = 'state of BeTrace'), false),
			coalesce(bool_or(c.relname = 'goose_db_version'), false)
		FROM (SELECT oid, relname FROM pg_class WHERE relkind IN ('r', 'p', 'v') AND relnamespace = to_regnamespace(quote_ident(current_schema()))) c`).
		Scan(&schema, &encoding, &server, &tables, &isState, &hasVersions)
	switch {
	case err != nil:
		return 0, explained(err)
	case server < 130000:
		return 0, fmt.Errorf("the server has version %d of PostgreSQL: use 13 or later", server/10000)
	case !schema.Valid:
		return 0, errors.New("the search path names no schema that exists: create the schema, or give another database")
	case encoding != "UTF8":
		return 0, fmt.Errorf("the database has the encoding %s: create it with the encoding UTF8", encoding)
	case tables == 0:
		return 0, nil
	}
	// A start that was interrupted may have left the empty table of versions alone.
	foreign := fmt.Errorf("the schema %q has tables of another program: give an empty database", schema.String)
	if !hasVersions || !isState && tables > 1 {
		return 0, foreign
	}
	var version sql.NullInt64
	if err := q.QueryRowContext(ctx, appliedVersion).Scan(&version); err != nil {
		return 0, err
	}
	if !isState && version.Int64 != 0 {
		return 0, foreign
	}
	return version.Int64, nil
}

func (p *postgres) migrations() (goose.Dialect, string) {
	return goose.DialectPostgres, "migrations/postgres"
}

// begin waits until the transactions of other processes have ended, so that this one sees the last entry of each tenant
// and is never refused because of another. The connection may have been lost since it was last used, so the attempt is
// repeated; nothing has happened before.
func (p *postgres) begin(ctx context.Context, write *sql.DB) (tx *sql.Tx, id string, err error) {
	for deadline := time.Now().Add(beginTimeout); ; {
		tx, id, err = beginOnce(ctx, write)
		if err == nil || !isTemporary(err) || time.Now().After(deadline) || pause(ctx) != nil {
			return tx, id, err
		}
	}
}

func beginOnce(ctx context.Context, write *sql.DB) (*sql.Tx, string, error) {
	tx, err := write.BeginTx(ctx, nil)
	if err != nil {
		return nil, "", err
	}
	var id string
	err = tx.QueryRowContext(ctx, `SELECT pg_current_xact_id()::text FROM set_config('lock_timeout', $1, true) l, set_config('idle_in_transaction_session_timeout', $2, true) i`,
		milliseconds(lockTimeout), milliseconds(idleTimeout)).Scan(&id)
	if err == nil {
		_, err = tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock($1, hashtext(current_schema()))`, writeLock)
	}
	if err != nil {
		_ = tx.Rollback() // the connection may be lost
		return nil, "", lockExplained(err)
	}
	return tx, id, nil
}

func milliseconds(d time.Duration) string { return fmt.Sprint(d.Milliseconds()) }

// lockExplained names the cause of an expired lock_timeout.
func lockExplained(err error) error {
	var refused *pgconn.PgError
	if errors.As(err, &refused) && refused.Code == "55P03" {
		return fmt.Errorf("a transaction of another process took longer than %s: %w", lockTimeout, err)
	}
	return err
}

// isTemporary reports whether an attempt to begin a transaction may succeed later.
func isTemporary(err error) bool {
	var inUse inUseError
	var refused *pgconn.PgError
	switch {
	case errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded):
		return false
	case errors.As(err, &inUse):
		return true // it may be our own lost connection
	case errors.As(err, &refused):
		// Classes of errors: the connection, the resources of the server, its shutdown or start.
		return slices.Contains([]string{"08", "53", "57"}, refused.Code[:2])
	}
	return true // the network
}

// settle asks the server for the outcome of a transaction if its answer to the commit was lost.
func (p *postgres) settle(ctx context.Context, read *sql.DB, id string, cause error) error {
	var refused *pgconn.PgError
	if errors.As(cause, &refused) && refused.Severity != "FATAL" && refused.Severity != "PANIC" {
		return cause // the server answered, and rolled back
	}
	// Without an answer the caller would not know what is stored, also if it is to end.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	for {
		var status sql.NullString
		err := read.QueryRowContext(ctx, `SELECT pg_xact_status($1::text::xid8)`, id).Scan(&status)
		switch {
		case err == nil && status.String == "committed":
			return nil
		case err == nil && status.String == "aborted":
			return fmt.Errorf("%w; nothing was changed", cause)
		}
		if pause(ctx) != nil {
			return fmt.Errorf("%w; the server did not report within %s whether the transaction %s was committed", cause, settleTimeout, id)
		}
	}
}

func (p *postgres) viewOptions() *sql.TxOptions {
	return &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true}
}

// wantedPostgresSchema has the parts that the migrations create, as JSON. A test compares it with them. PostgreSQL could
// also create them in a schema of their own, but not for a user who may only read.
//
//go:embed migrations/postgres/schema.json
var wantedPostgresSchema []byte

// postgresSchema selects the definitions of tables, indexes, constraints and triggers with their functions. The table of
// goose is left out. The names in them have no schema.
const postgresSchema = `
WITH tables AS (
	SELECT oid, relname FROM pg_class WHERE relkind = 'r' AND relname <> 'goose_db_version' AND relnamespace = to_regnamespace(quote_ident(current_schema()))
)
SELECT 'table ' || t.relname, string_agg(concat_ws(' ', a.attname, format_type(a.atttypid, a.atttypmod), n.collname,
		CASE WHEN a.attnotnull THEN 'not null' END, a.attidentity, pg_get_expr(d.adbin, d.adrelid, true)), ', ' ORDER BY a.attnum)
	|| CASE WHEN bool_or(c.relrowsecurity) THEN ' row security' ELSE '' END
	FROM tables t JOIN pg_class c ON c.oid = t.oid JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
		LEFT JOIN pg_attrdef d ON d.adrelid = t.oid AND d.adnum = a.attnum
		LEFT JOIN pg_collation n ON n.oid = a.attcollation
	GROUP BY t.relname
UNION ALL
SELECT 'index ' || c.relname, pg_get_indexdef(i.indexrelid, 0, true) || CASE WHEN i.indisvalid THEN '' ELSE ' invalid' END
	FROM tables t JOIN pg_index i ON i.indrelid = t.oid JOIN pg_class c ON c.oid = i.indexrelid
UNION ALL
SELECT 'constraint ' || c.conname, t.relname || ' ' || pg_get_constraintdef(c.oid, true)
	FROM tables t JOIN pg_constraint c ON c.conrelid = t.oid WHERE c.contype IN ('c', 'f', 'p', 'u', 'x')
UNION ALL
SELECT 'trigger ' || g.tgname, pg_get_triggerdef(g.oid, true) || ' ' || g.tgenabled::text || ' ' || p.prosrc
	FROM tables t JOIN pg_trigger g ON g.tgrelid = t.oid AND NOT g.tgisinternal JOIN pg_proc p ON p.oid = g.tgfoid
UNION ALL
SELECT 'trigger ' || r.rulename, pg_get_ruledef(r.oid, true) FROM tables t JOIN pg_rewrite r ON r.ev_class = t.oid`

func (p *postgres) schema(ctx context.Context, q querier) (have, want map[string]string, err error) {
	if err := json.Unmarshal(wantedPostgresSchema, &want); err != nil {
		return nil, nil, fmt.Errorf("migrations/postgres/schema.json: %w", err)
	}
	have, err = queryMap(ctx, q, postgresSchema)
	return have, want, err
}

// damage does nothing: the server checks its pages by checksums and by pg_amcheck.
func (p *postgres) damage(context.Context, querier, func(string)) error { return nil }

func (p *postgres) numberOn(ctx context.Context, tx *sql.Tx) error {
	tables, err := queryAll(ctx, tx, func(row scanner, table *string) error { return row.Scan(table) },
		`SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
		WHERE a.attname = 'id' AND a.attidentity <> '' AND c.relnamespace = to_regnamespace(quote_ident(current_schema())) AND c.relname <> 'goose_db_version'`)
	for _, table := range tables {
		if err == nil {
			_, err = tx.ExecContext(ctx, `SELECT setval(pg_get_serial_sequence('`+table+`', 'id'), (SELECT max(id) FROM `+table+`))`)
		}
	}
	return err
}

func (p *postgres) size(ctx context.Context, read *sql.DB) (int64, error) {
	var size float64 // sum returns a number without bounds
	err := read.QueryRowContext(ctx, `SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::float8 FROM pg_class WHERE relkind = 'r' AND relnamespace = to_regnamespace(quote_ident(current_schema()))`).Scan(&size)
	return int64(math.Round(size)), err
}
