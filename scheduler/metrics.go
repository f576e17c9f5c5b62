package scheduler

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics are the service's metrics. Counters with the label sweep have the names of the sweeps that share a pass, joined
// by commas.
type metrics struct {
	ticks, ticksMissed, tickFailures, recentFailures     *prometheus.CounterVec
	tickSeconds                                          *prometheus.HistogramVec
	watermark, oldestUnjudged, paused                    *prometheus.GaugeVec
	tracesRead, spansRead, tracesJudged                  *prometheus.CounterVec
	verdicts                                             *prometheus.CounterVec
	sourceRequests, sourceBytes                          *prometheus.CounterVec
	blocksJudged, limitHits, corrections, muted, capped  *prometheus.CounterVec
	blocksWaiting, blocksAside                           *prometheus.GaugeVec
	outboxDeliveries, outboxItems, outboxAge, refused    *prometheus.GaugeVec
	sinkErrors, delivered                                *prometheus.CounterVec
	reloads                                              *prometheus.CounterVec
	canaries                                             *prometheus.CounterVec
	canaryDelay                                          *prometheus.GaugeVec
	rulesLoaded, ruleProblems, reloadTime, reloadSuccess *prometheus.GaugeVec
	configSuccess, stateBytes                            prometheus.Gauge
	stateErrors                                          prometheus.Counter
}

func newMetrics(r prometheus.Registerer) *metrics {
	f := promauto.With(r)
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return f.NewCounterVec(prometheus.CounterOpts{Name: "betrace_" + name, Help: help}, labels)
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return f.NewGaugeVec(prometheus.GaugeOpts{Name: "betrace_" + name, Help: help}, labels)
	}
	return &metrics{
		ticks:          counter("sweep_ticks_total", "Ticks that were committed.", "sweep", "tenant"),
		ticksMissed:    counter("sweep_ticks_missed_total", "Scheduled times at which no tick began.", "sweep", "tenant"),
		recentFailures: counter("sweep_recent_failures_total", "Readings of recent traces by Tempo's API that failed. Their blocks are judged all the same.", "sweep", "tenant"),
		tickFailures:   counter("sweep_tick_failures_total", "Ticks that ended with an error and changed nothing.", "sweep", "tenant"),
		tickSeconds: f.NewHistogramVec(prometheus.HistogramOpts{
			Name: "betrace_sweep_tick_seconds", Help: "Duration of ticks.", Buckets: prometheus.ExponentialBuckets(0.01, 4, 10),
		}, []string{"sweep", "tenant"}),
		watermark:      gauge("sweep_watermark_timestamp_seconds", "Time up to which every trace was judged, apart from holes, as seconds since 1970.", "sweep", "tenant"),
		oldestUnjudged: gauge("sweep_oldest_unjudged_timestamp_seconds", "Time of the oldest data in blocks that wait, as seconds since 1970; 0 if none waits.", "sweep", "tenant"),
		paused:         gauge("sweep_paused", "1 if the sweep is paused.", "sweep", "tenant"),
		tracesRead:     counter("sweep_traces_read_total", "Traces read.", "sweep", "tenant"),
		spansRead:      counter("sweep_spans_read_total", "Spans of the traces read.", "sweep", "tenant"),
		tracesJudged:   counter("sweep_traces_judged_total", "Traces judged; a trace may be judged more than once.", "sweep", "tenant"),
		verdicts:       counter("sweep_verdicts_total", "Verdicts of rules on traces.", "sweep", "tenant", "outcome"),
		sourceRequests: counter("source_requests_total", "Requests to the storage.", "sweep", "tenant"),
		sourceBytes:    counter("source_read_bytes_total", "Bytes read from the storage.", "sweep", "tenant"),
		blocksJudged:   counter("sweep_blocks_judged_total", "Blocks judged.", "sweep", "tenant"),
		limitHits:      counter("sweep_limit_hits_total", "Ticks that left blocks for the next tick because of a limit.", "sweep", "tenant"),
		corrections:    counter("sweep_corrections_total", "Corrections of violations.", "sweep", "tenant", "kind"),
		muted:          counter("sweep_muted_violations_total", "New violations of muted rules.", "sweep", "tenant"),
		capped:         counter("sweep_capped_violations_total", "New violations that were not kept in full, because a tick found more of the rule than its limit.", "sweep", "tenant", "rule"),
		canaries:       counter("sweep_canaries_total", "Canaries and seeded violations that were sent, could not be sent (failed), were found, were missed, or were found late.", "sweep", "tenant", "kind", "outcome"),
		canaryDelay:    gauge("sweep_canary_delay_seconds", "Time from the writing of the last canary that was found until it was found.", "sweep", "tenant", "kind"),
		blocksWaiting:  gauge("sweep_blocks_waiting", "Blocks that wait to be judged.", "sweep", "tenant"),
		blocksAside:    gauge("sweep_blocks_set_aside", "Blocks that are set aside because they cannot be read.", "sweep", "tenant"),

		outboxDeliveries: gauge("outbox_deliveries", "Deliveries that are not confirmed.", "sink"),
		outboxItems:      gauge("outbox_items", "Violations, corrections and statements in these deliveries.", "sink"),
		outboxAge:        gauge("outbox_oldest_timestamp_seconds", "Time of the oldest delivery that is not confirmed, as seconds since 1970; 0 if there is none.", "sink"),
		refused:          gauge("outbox_set_aside_items", "Items that a sink refuses for good.", "sink"),
		sinkErrors:       counter("sink_errors_total", "Attempts of deliveries that failed.", "sink"),
		delivered:        counter("sink_confirmed_items_total", "Items that were sent and read back.", "sink", "kind"),

		reloads:       counter("rules_reloads_total", "Changes of rule packs that were loaded.", "sweep"),
		rulesLoaded:   gauge("rules_loaded", "Rules that judge.", "sweep"),
		ruleProblems:  gauge("rules_problems", "Mistakes in rule packs. Refused rules go on in their last good version.", "sweep"),
		reloadTime:    gauge("rules_last_reload_timestamp_seconds", "Time of the last change of rule packs that was loaded, as seconds since 1970.", "sweep"),
		reloadSuccess: gauge("rules_last_reload_successful", "1 if the packs had no mistake when they were last read.", "sweep"),

		configSuccess: f.NewGauge(prometheus.GaugeOpts{Name: "betrace_config_last_reload_successful", Help: "1 if the configuration file was valid when it was last read."}),
		stateBytes:    f.NewGauge(prometheus.GaugeOpts{Name: "betrace_state_size_bytes", Help: "Size of the state in bytes."}),
		stateErrors:   f.NewCounter(prometheus.CounterOpts{Name: "betrace_state_errors_total", Help: "Attempts that failed because the state could not be read or written. They are repeated."}),
	}
}
