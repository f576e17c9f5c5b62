package scheduler

// HoleReason explains a reason of holes.
type HoleReason struct {
	// Reason is one of the reasons of holes, as [HoleExpired].
	Reason string
	// Meaning is the cause, and Remedy the action that closes the hole or prevents the next one. Both are sentences.
	Meaning, Remedy string
}

// HoleReasons explains all reasons of holes.
var HoleReasons = []HoleReason{
	{
		HoleAside, "These blocks could not be read in several ticks, so the rest was judged without them.",
		"Read the error of the block and repair the storage or its permissions. The block is judged once it can be read.",
	},
	{
		HoleBefore, "This data was judged before the rule was loaded or changed.",
		"Judge it with betrace scan, --from, --to and the rule's pack.",
	},
	{
		HoleCanary, "A trace that was written to Tempo was not found, or its violation was not, although all blocks of that time were judged.",
		"Look for lost or sampled spans between the OTLP address and Tempo's storage, and for late blocks: if the trace is found later, the hole is closed.",
	},
	{
		HoleError, "The rule gave an error instead of a verdict on at least one trace.",
		"Correct the rule, and add the trace to its tests. The corrected rule begins with the next tick.",
	},
	{
		HoleExpired, "Blocks were deleted before they were judged.",
		"Their spans are lost. Let Tempo keep blocks longer, and remove the cause of late ticks, which betrace sweeps shows.",
	},
	{
		HoleOutage, "Nothing was listed for longer than Tempo keeps blocks, so unseen blocks may have been deleted.",
		"Their spans are lost. Keep the service running, and let Tempo keep blocks longer than an outage may last.",
	},
	{
		HoleSkipped, "Ticks were missed, and by its setting catch_up the sweep does not judge all that they would have judged.",
		"Judge the range with betrace scan, --from, --to and the rule's pack, or set catch_up to all.",
	},
	{
		HoleUnread, "Tempo's API did not return this window completely in several ticks.",
		"Read the error and remove its cause, for example a limit of Tempo's search. Then judge the window with betrace scan, --from and --to.",
	},
	{
		HoleUnjudged, "Blocks with late data wait to be judged.",
		"Wait for the next ticks. If the blocks stay, look for errors in betrace sweeps, and raise the limits of the sweep.",
	},
}

// ExplainHole returns the explanation of a reason of holes. For an unknown reason, it has no sentences.
func ExplainHole(reason string) HoleReason {
	for _, r := range HoleReasons {
		if r.Reason == reason {
			return r
		}
	}
	return HoleReason{Reason: reason}
}
