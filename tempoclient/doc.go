// Package tempoclient reads whole traces from Tempo, and writes violation spans to it.
//
// [Client.Traces] enumerates all traces of a range that Tempo's search can find, and reads each of them
// whole: by its ID, or, if search returns all needed data, many traces by one further search. The client
// chooses the method and adapts the choice; it does not affect the result.
//
// Tempo's search has no paging, truncates answers at a limit without an indication, and returns results
// block by block. Therefore a time window whose answer reached the limit is searched again in halves,
// down to one second, and a second in parts of the ID space. The query is one span filter, which may
// match too many traces but never too few. The counters of search jobs are checked, and unread parts are
// listed in the [Report]. Data that Tempo may still be moving to its storage is searched twice
// ([trace.SecondSearch]).
//
// A result proves no more than Tempo's search does, which may not find spans by their own time if they
// reached Tempo late (by over 2 minutes by default).
//
// Searches are streamed over gRPC if Tempo supports it, and use HTTP otherwise.
package tempoclient
