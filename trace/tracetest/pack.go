package tracetest

import _ "embed" // the pack is a file, so that people can read and run it

// Pack is the rule pack, in YAML, whose rules [Generated.Violations] names. Each rule uses a different part
// of the rule language and has its own tests.
//
//go:embed pack.yaml
var Pack string
