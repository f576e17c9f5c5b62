// Package packs holds the rule packs that are shipped with BeTrace: one for each
// standard that teams are audited by, and some for running services well. They
// are described in docs/packs.md, which is generated from them.
//
// A pack is meant to be copied and changed: limits, names of services and the
// attributes that applications set are written out in it.
package packs

import "embed"

// FS has the shipped rule packs, each a file <name of the pack>.yaml.
//
//go:embed *.yaml
var FS embed.FS
