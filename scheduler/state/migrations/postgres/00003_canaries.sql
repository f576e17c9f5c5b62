-- +goose Up

CREATE TABLE canaries (
    id     TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    ledger BIGINT           NOT NULL REFERENCES ledgers (id) ON DELETE CASCADE,
    kind   TEXT COLLATE "C" NOT NULL CHECK (kind IN ('canary', 'seeded_violation')),
    sent   BIGINT           NOT NULL,
    found  BIGINT           NOT NULL,
    missed BIGINT           NOT NULL
);
CREATE INDEX canaries_by_ledger ON canaries (ledger, sent);
