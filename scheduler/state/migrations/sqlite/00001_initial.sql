-- Times are nanoseconds since 1970 in UTC; 0 is the zero time. Booleans are 0 or 1. IDs and digests are hexadecimal.
-- Tables without rowid have small rows that are read by their key. PostgreSQL needs its own types, no other tables.

-- +goose Up

-- "BeTr": tells the file apart from databases of other programs.
PRAGMA application_id = 1113937010;

-- One row. The ID is the first part of the names of entries. config is the digest of the last recorded configuration.
CREATE TABLE instance (
    id      TEXT    NOT NULL PRIMARY KEY,
    created INTEGER NOT NULL,
    config  TEXT    NOT NULL DEFAULT ''
) STRICT;

CREATE TABLE entries (
    tenant   TEXT    NOT NULL,
    number   INTEGER NOT NULL CHECK (number > 0),
    kind     TEXT    NOT NULL,
    time     INTEGER NOT NULL,
    digest   TEXT    NOT NULL,
    previous TEXT    NOT NULL,
    envelope BLOB    NOT NULL,
    PRIMARY KEY (tenant, number)
) STRICT;

-- The content is compressed with zstd. The digest and the size are those of the uncompressed content.
CREATE TABLE blobs (
    digest  TEXT    NOT NULL PRIMARY KEY,
    size    INTEGER NOT NULL,
    content BLOB    NOT NULL
) STRICT;

CREATE TABLE signing_keys (
    id      TEXT    NOT NULL PRIMARY KEY,
    pem     TEXT    NOT NULL,
    added   INTEGER NOT NULL,
    retired INTEGER NOT NULL
) STRICT;

CREATE TABLE ledgers (
    id        INTEGER NOT NULL PRIMARY KEY,
    tenant    TEXT    NOT NULL,
    source    TEXT    NOT NULL,
    schedule  TEXT    NOT NULL,
    begins    INTEGER NOT NULL,
    watermark INTEGER NOT NULL,
    frontier  INTEGER NOT NULL,
    listings  INTEGER NOT NULL,
    listed_at INTEGER NOT NULL,
    created   INTEGER NOT NULL
) STRICT;

CREATE TABLE blocks (
    ledger       INTEGER NOT NULL REFERENCES ledgers (id) ON DELETE CASCADE,
    id           TEXT    NOT NULL,
    state        TEXT    NOT NULL,
    level        INTEGER NOT NULL,
    start_time   INTEGER NOT NULL,
    end_time     INTEGER NOT NULL,
    earliest     INTEGER NOT NULL,
    latest       INTEGER NOT NULL,
    traces       INTEGER NOT NULL,
    bytes        INTEGER NOT NULL,
    first_listed INTEGER NOT NULL,
    written      INTEGER NOT NULL,
    compacted    INTEGER NOT NULL,
    compacted_at INTEGER NOT NULL,
    failures     INTEGER NOT NULL,
    reason       TEXT    NOT NULL,
    entry        INTEGER NOT NULL,
    PRIMARY KEY (ledger, id)
) STRICT, WITHOUT ROWID;

-- ledger is 0 for a sweep that has none yet.
CREATE TABLE sweeps (
    sweep         TEXT    NOT NULL,
    tenant        TEXT    NOT NULL,
    ledger        INTEGER NOT NULL,
    last_tick     INTEGER NOT NULL,
    last_run      INTEGER NOT NULL,
    last_error    TEXT    NOT NULL,
    last_error_at INTEGER NOT NULL,
    ticks         INTEGER NOT NULL,
    missed        INTEGER NOT NULL,
    paused        INTEGER NOT NULL,
    has_data      INTEGER NOT NULL,
    PRIMARY KEY (sweep, tenant)
) STRICT, WITHOUT ROWID;

-- A rule that is removed and loaded again has another row, because it covers nothing in between.
CREATE TABLE loaded_rules (
    ledger      INTEGER NOT NULL REFERENCES ledgers (id) ON DELETE CASCADE,
    pack        TEXT    NOT NULL,
    rule        TEXT    NOT NULL,
    digest      TEXT    NOT NULL,
    begins      INTEGER NOT NULL,
    title       TEXT    NOT NULL,
    severity    TEXT    NOT NULL,
    since_entry INTEGER NOT NULL,
    ended       INTEGER NOT NULL,
    PRIMARY KEY (ledger, pack, rule, digest, begins)
) STRICT, WITHOUT ROWID;

CREATE TABLE holes (
    id           INTEGER NOT NULL PRIMARY KEY,
    ledger       INTEGER NOT NULL REFERENCES ledgers (id) ON DELETE CASCADE,
    pack         TEXT    NOT NULL,
    rule         TEXT    NOT NULL,
    digest       TEXT    NOT NULL,
    from_time    INTEGER NOT NULL,
    to_time      INTEGER NOT NULL,
    reason       TEXT    NOT NULL,
    subject      TEXT    NOT NULL,
    entry        INTEGER NOT NULL,
    closed_entry INTEGER NOT NULL
) STRICT;
CREATE INDEX holes_by_ledger ON holes (ledger, from_time);

-- The record is in line. The columns before it are those by which violations are found. The root, the circumstances
-- and the status are not in the record.
CREATE TABLE violations (
    id           TEXT    NOT NULL PRIMARY KEY,
    tenant       TEXT    NOT NULL,
    entry        INTEGER NOT NULL,
    ordinal      INTEGER NOT NULL,
    ledger       INTEGER NOT NULL,
    pack         TEXT    NOT NULL,
    rule         TEXT    NOT NULL,
    rule_digest  TEXT    NOT NULL,
    severity     TEXT    NOT NULL,
    trace_id     TEXT    NOT NULL,
    trace_start  INTEGER NOT NULL,
    services     TEXT    NOT NULL, -- a JSON list
    origin       TEXT    NOT NULL,
    sweep        TEXT    NOT NULL,
    job          TEXT    NOT NULL,
    window_start INTEGER NOT NULL,
    window_end   INTEGER NOT NULL,
    provisional  INTEGER NOT NULL,
    engine       TEXT    NOT NULL,
    filed_at     INTEGER NOT NULL,
    root_id      TEXT    NOT NULL,
    root_name    TEXT    NOT NULL,
    root_service TEXT    NOT NULL,
    line         BLOB    NOT NULL,
    spans        INTEGER NOT NULL,
    status       TEXT    NOT NULL CHECK (status IN ('open', 'withdrawn')),
    sequence     INTEGER NOT NULL,
    FOREIGN KEY (tenant, entry) REFERENCES entries (tenant, number) DEFERRABLE INITIALLY DEFERRED
) STRICT;
CREATE UNIQUE INDEX violations_by_entry ON violations (tenant, entry, ordinal);
CREATE INDEX violations_by_trace ON violations (trace_id, tenant);
CREATE INDEX violations_by_tenant ON violations (tenant, trace_start, id);
CREATE INDEX violations_by_rule ON violations (rule, trace_start, id);
CREATE INDEX violations_by_start ON violations (trace_start, id);

CREATE TABLE corrections (
    id           TEXT    NOT NULL PRIMARY KEY,
    tenant       TEXT    NOT NULL,
    entry        INTEGER NOT NULL,
    ordinal      INTEGER NOT NULL,
    violation    TEXT    NOT NULL REFERENCES violations (id),
    sequence     INTEGER NOT NULL,
    kind         TEXT    NOT NULL,
    reason       TEXT    NOT NULL,
    outcome      TEXT    NOT NULL,
    spans_before INTEGER NOT NULL,
    spans_after  INTEGER NOT NULL,
    pack         TEXT    NOT NULL,
    rule         TEXT    NOT NULL,
    rule_digest  TEXT    NOT NULL,
    severity     TEXT    NOT NULL,
    trace_id     TEXT    NOT NULL,
    origin       TEXT    NOT NULL,
    sweep        TEXT    NOT NULL,
    job          TEXT    NOT NULL,
    window_start INTEGER NOT NULL,
    window_end   INTEGER NOT NULL,
    provisional  INTEGER NOT NULL,
    engine       TEXT    NOT NULL,
    filed_at     INTEGER NOT NULL,
    line         BLOB    NOT NULL,
    FOREIGN KEY (tenant, entry) REFERENCES entries (tenant, number) DEFERRABLE INITIALLY DEFERRED
) STRICT;
CREATE UNIQUE INDEX corrections_by_entry ON corrections (tenant, entry, ordinal);
CREATE UNIQUE INDEX corrections_by_violation ON corrections (violation, sequence);

CREATE TABLE deliveries (
    tenant    TEXT    NOT NULL,
    entry     INTEGER NOT NULL,
    sink      TEXT    NOT NULL,
    items     INTEGER NOT NULL,
    state     TEXT    NOT NULL CHECK (state IN ('new', 'sending', 'sent')),
    tries     INTEGER NOT NULL,
    next_at   INTEGER NOT NULL,
    sent_at   INTEGER NOT NULL,
    refile_at INTEGER NOT NULL,
    created   INTEGER NOT NULL,
    error     TEXT    NOT NULL,
    PRIMARY KEY (tenant, entry, sink),
    FOREIGN KEY (tenant, entry) REFERENCES entries (tenant, number) DEFERRABLE INITIALLY DEFERRED
) STRICT, WITHOUT ROWID;
CREATE INDEX deliveries_by_time ON deliveries (next_at, tenant, entry);

CREATE TABLE refused (
    tenant TEXT    NOT NULL,
    sink   TEXT    NOT NULL,
    kind   TEXT    NOT NULL,
    id     TEXT    NOT NULL,
    entry  INTEGER NOT NULL,
    reason TEXT    NOT NULL,
    at     INTEGER NOT NULL,
    PRIMARY KEY (tenant, sink, kind, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE packs (
    digest    TEXT    NOT NULL PRIMARY KEY,
    name      TEXT    NOT NULL,
    version   TEXT    NOT NULL,
    path      TEXT    NOT NULL,
    content   BLOB    NOT NULL,
    loaded_at INTEGER NOT NULL
) STRICT;

-- Entries and their evidence are append-only.

-- +goose StatementBegin
CREATE TRIGGER entries_no_update BEFORE UPDATE ON entries
BEGIN SELECT RAISE(ABORT, 'entries are append-only'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER entries_no_delete BEFORE DELETE ON entries
BEGIN SELECT RAISE(ABORT, 'entries are append-only'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER blobs_no_update BEFORE UPDATE ON blobs
BEGIN SELECT RAISE(ABORT, 'blobs are never changed'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER violations_no_update BEFORE UPDATE OF id, tenant, entry, ordinal, ledger, pack, rule, rule_digest, severity,
    trace_id, trace_start, services, origin, sweep, job, window_start, window_end, provisional, engine, filed_at,
    root_id, root_name, root_service, line ON violations
BEGIN SELECT RAISE(ABORT, 'only spans, status and sequence of a violation may change'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER violations_no_delete BEFORE DELETE ON violations
BEGIN SELECT RAISE(ABORT, 'violations are never deleted'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER corrections_no_update BEFORE UPDATE ON corrections
BEGIN SELECT RAISE(ABORT, 'corrections are append-only'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER corrections_no_delete BEFORE DELETE ON corrections
BEGIN SELECT RAISE(ABORT, 'corrections are append-only'); END;
-- +goose StatementEnd
