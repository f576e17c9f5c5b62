package tracetest

import _ "embed" // the pack is a file, so that people can read and run it

// Pack is the rule pack (YAML) whose rules [Generated.Violations] names. Each rule
// uses other parts of the rule language, and has tests of its own.
//
//go:embed pack.yaml
var Pack string
