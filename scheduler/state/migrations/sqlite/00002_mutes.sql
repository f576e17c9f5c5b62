-- +goose Up

-- A mute keeps the violations of a rule out of alerts from created to until, or to ended if that is not 0. service is
-- empty for all services, tenant is * for all tenants. Reason and the names of people are not in the events about it:
-- these have the digest of salt, actor and reason.
CREATE TABLE mutes (
    id       TEXT    NOT NULL PRIMARY KEY,
    tenant   TEXT    NOT NULL,
    pack     TEXT    NOT NULL,
    rule     TEXT    NOT NULL,
    service  TEXT    NOT NULL,
    reason   TEXT    NOT NULL,
    actor    TEXT    NOT NULL,
    salt     TEXT    NOT NULL,
    created  INTEGER NOT NULL,
    until    INTEGER NOT NULL,
    ended    INTEGER NOT NULL,
    ended_by TEXT    NOT NULL
) STRICT, WITHOUT ROWID;

ALTER TABLE violations ADD COLUMN muted INTEGER NOT NULL DEFAULT 0;
ALTER TABLE corrections ADD COLUMN muted INTEGER NOT NULL DEFAULT 0;

DROP TRIGGER violations_no_update;
-- +goose StatementBegin
CREATE TRIGGER violations_no_update BEFORE UPDATE OF id, tenant, entry, ordinal, ledger, pack, rule, rule_digest, severity,
    trace_id, trace_start, services, origin, sweep, job, window_start, window_end, provisional, engine, filed_at, muted,
    root_id, root_name, root_service, line ON violations
BEGIN SELECT RAISE(ABORT, 'only spans, status and sequence of a violation may change'); END;
-- +goose StatementEnd
