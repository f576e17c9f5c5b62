-- +goose Up

-- The packs of a sweep that replicas use: the digests of packs, as a JSON list. A higher number is a later set.
CREATE TABLE rule_sets (
    sweep  TEXT    NOT NULL PRIMARY KEY,
    number INTEGER NOT NULL,
    packs  TEXT    NOT NULL
) STRICT, WITHOUT ROWID;
