-- +goose Up

-- A trace that was written to be found again. found and missed are the times of the entries that say so, or 0.
CREATE TABLE canaries (
    id     TEXT    NOT NULL PRIMARY KEY,
    ledger INTEGER NOT NULL REFERENCES ledgers (id) ON DELETE CASCADE,
    kind   TEXT    NOT NULL CHECK (kind IN ('canary', 'seeded_violation')),
    sent   INTEGER NOT NULL,
    found  INTEGER NOT NULL,
    missed INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX canaries_by_ledger ON canaries (ledger, sent);
