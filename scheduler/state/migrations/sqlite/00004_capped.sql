-- +goose Up

-- The violations of a rule that an entry found first, and that are not kept in full, because they are over the limit of a
-- tick. The results of the entry name a blob with their trace IDs.
CREATE TABLE capped_lists (
    id          INTEGER NOT NULL PRIMARY KEY,
    tenant      TEXT    NOT NULL,
    entry       INTEGER NOT NULL,
    ledger      INTEGER NOT NULL,
    pack        TEXT    NOT NULL,
    rule        TEXT    NOT NULL,
    rule_digest TEXT    NOT NULL,
    severity    TEXT    NOT NULL,
    FOREIGN KEY (tenant, entry) REFERENCES entries (tenant, number) DEFERRABLE INITIALLY DEFERRED
) STRICT;
CREATE UNIQUE INDEX capped_lists_by_entry ON capped_lists (tenant, entry, pack, rule, rule_digest);

-- about has the IDs of the spans to which the violation refers, 8 bytes each. changed is the number of the entry that last
-- corrected the violation, or 0.
CREATE TABLE capped_violations (
    list        INTEGER NOT NULL REFERENCES capped_lists (id),
    trace_id    TEXT    NOT NULL,
    trace_start INTEGER NOT NULL,
    about       BLOB    NOT NULL,
    spans       INTEGER NOT NULL,
    status      TEXT    NOT NULL CHECK (status IN ('open', 'withdrawn')),
    changed     INTEGER NOT NULL,
    PRIMARY KEY (list, trace_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX capped_violations_by_trace ON capped_violations (trace_id);
CREATE INDEX capped_violations_by_change ON capped_violations (changed) WHERE changed <> 0;

-- +goose StatementBegin
CREATE TRIGGER capped_lists_no_update BEFORE UPDATE ON capped_lists
BEGIN SELECT RAISE(ABORT, 'lists of capped violations are append-only'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER capped_lists_no_delete BEFORE DELETE ON capped_lists
BEGIN SELECT RAISE(ABORT, 'lists of capped violations are append-only'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER capped_violations_no_update BEFORE UPDATE OF list, trace_id, trace_start, about ON capped_violations
BEGIN SELECT RAISE(ABORT, 'only spans, status and changed of a capped violation may change'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER capped_violations_no_delete BEFORE DELETE ON capped_violations
BEGIN SELECT RAISE(ABORT, 'violations are never deleted'); END;
-- +goose StatementEnd
