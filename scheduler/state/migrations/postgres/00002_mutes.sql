-- +goose Up

CREATE TABLE mutes (
    id       TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    tenant   TEXT COLLATE "C" NOT NULL,
    pack     TEXT COLLATE "C" NOT NULL,
    rule     TEXT COLLATE "C" NOT NULL,
    service  TEXT COLLATE "C" NOT NULL,
    reason   TEXT COLLATE "C" NOT NULL,
    actor    TEXT COLLATE "C" NOT NULL,
    salt     TEXT COLLATE "C" NOT NULL,
    created  BIGINT           NOT NULL,
    until    BIGINT           NOT NULL,
    ended    BIGINT           NOT NULL,
    ended_by TEXT COLLATE "C" NOT NULL
);

ALTER TABLE violations ADD COLUMN muted BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE corrections ADD COLUMN muted BOOLEAN NOT NULL DEFAULT FALSE;

DROP TRIGGER violations_no_update ON violations;
CREATE TRIGGER violations_no_update BEFORE UPDATE OF id, tenant, entry, ordinal, ledger, pack, rule, rule_digest, severity,
    trace_id, trace_start, services, origin, sweep, job, window_start, window_end, provisional, engine, filed_at, muted,
    root_id, root_name, root_service, line ON violations
    FOR EACH ROW EXECUTE FUNCTION refuse_change('only spans, status and sequence of a violation may change');
