// Package evidence says what BeTrace writes about violations, and sees to it that
// it arrives: a violation span in Tempo and a record in Loki, each once.
//
// A violation has an ID that follows from what it is: tenant, pack, rule, rule
// digest and trace ([ViolationID]). [Deliver] asks each [Sink] what it holds
// already, writes the rest, reads it back, sends again what did not arrive, and
// says what is missing. So a scan may be repeated, cut off or run twice at once.
package evidence
