// Package packs contains the rule packs that are shipped with BeTrace: one for each of several audit
// standards, and some for running services well. docs/packs.md, which is generated from them, describes
// the packs.
//
// Packs are meant to be copied and changed. Limits, names of services and the attributes that
// applications set are therefore written out.
package packs

import "embed"

// FS contains the shipped rule packs, each as a file <name of the pack>.yaml.
//
//go:embed *.yaml
var FS embed.FS
