-- +goose Up

-- A process that shares this database with others. seen is the time at which it last said that it lives, by the clock of
-- the database.
CREATE TABLE replicas (
    id   TEXT    NOT NULL PRIMARY KEY,
    name TEXT    NOT NULL,
    seen INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Work that one replica at a time does. The token is another one each time that another replica takes it. busy means that
-- the work is under way, so that it is taken from a living replica only if it is not busy.
CREATE TABLE claims (
    work    TEXT    NOT NULL PRIMARY KEY,
    replica TEXT    NOT NULL,
    token   INTEGER NOT NULL,
    busy    INTEGER NOT NULL CHECK (busy IN (0, 1))
) STRICT, WITHOUT ROWID;

-- The packs of a sweep that replicas use: the digests of packs, as a JSON list. A higher number is a later set.
CREATE TABLE rule_sets (
    sweep  TEXT    NOT NULL PRIMARY KEY,
    number INTEGER NOT NULL,
    packs  TEXT    NOT NULL
) STRICT, WITHOUT ROWID;
