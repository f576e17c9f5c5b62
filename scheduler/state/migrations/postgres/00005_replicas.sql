-- +goose Up

CREATE TABLE replicas (
    id   TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    name TEXT             NOT NULL,
    seen BIGINT           NOT NULL
);

CREATE TABLE claims (
    work    TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    replica TEXT COLLATE "C" NOT NULL,
    token   BIGINT           NOT NULL,
    busy    BOOLEAN          NOT NULL
);

CREATE TABLE rule_sets (
    sweep  TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    number BIGINT           NOT NULL,
    packs  TEXT             NOT NULL
);
