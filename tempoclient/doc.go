// Package tempoclient reads whole traces out of Tempo and writes violation spans
// into it.
//
// [Client.Traces] enumerates every trace of a range that Tempo's search can find,
// and reads each whole: by its ID, or, where that gives all that is needed, many at
// once by another search. Which, it decides and learns; what is read does not depend
// on it. Tempo's search has no paging, cuts its answers
// at a limit without saying so, and answers block by block. So a window of time
// whose answer reached the limit is searched again in halves, down to one second,
// and a second in parts of the ID space; the query is one span filter, which
// finds too much rather than too little; the counters of search jobs are checked;
// and what was not read is said in the [Report]. Data that Tempo may still be
// moving to its storage is searched twice ([SecondSearch]). A result proves no more than Tempo's
// search does: spans that reach Tempo late (over 2 minutes by default) it may
// not find by their own time.
//
// Searches are streamed over gRPC where Tempo offers that, otherwise over HTTP.
package tempoclient
