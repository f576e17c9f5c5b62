// Package evidence holds violations, and the two forms in which BeTrace writes them: a
// violation span for Tempo and a record for Loki. Package sink delivers them.
//
// The ID of a violation follows from its tenant, pack, rule, rule digest and trace
// ([ViolationID]), so that the same finding is the same violation, whoever finds it.
//
// A [Correction] withdraws or reinstates a violation. An entry is a signed [Statement] about a piece of work of the
// service: its [Results], violations and corrections.
package evidence
