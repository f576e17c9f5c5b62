-- +goose Up

CREATE TABLE rule_sets (
    sweep  TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    number BIGINT           NOT NULL,
    packs  TEXT             NOT NULL
);
