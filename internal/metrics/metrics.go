// Package metrics owns the numbers a running Veritrail shows to Prometheus, in
// the text format of https://prometheus.io/docs/instrumenting/exposition_formats/:
// what the trail says of itself, what the HTTP interface does, and which build
// it is. Names follow https://prometheus.io/docs/practices/naming/.
//
// Each Set is a registry of its own; nothing is global. The labels take their
// values from short lists that the program knows, never from a request, so that
// no client can make the number of series grow.
//
// It knows neither trail nor recorder: whoever has the numbers hands them over
// as a Trail.
package metrics

import (
	"log/slog"
	"net/http"
	"runtime"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Trail is what is shown of a trail. Counts are since the program began, except
// Lost, which is the log's.
type Trail struct {
	Leaves   uint64 // the log's size
	Sealed   uint64 // leaves under the newest checkpoint
	ReadOnly bool   // the trail can only be read
	Halted   bool   // the disk failed, and nothing is recorded until it works

	Events      uint64 // recorded
	Rejected    uint64 // events that broke a rule
	Lost        uint64 // events refused or not made durable while the disk failed
	Batches     uint64
	Checkpoints uint64
	Repairs     uint64
	LeafBytes   uint64
	StoredBytes uint64
	SyncTime    time.Duration
	Waiting     int // events in the batch that is filling

	IndexLag        uint64 // leaves that searches must read because they are not indexed
	IndexRebuilding bool
}

// Set is everything one program shows. It is safe for concurrent use.
type Set struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	running  prometheus.Gauge
}

// New is a Set of a program of that version. trail is called whenever the
// numbers are asked for, perhaps by several goroutines at once.
func New(version string, trail func() Trail) *Set {
	s := &Set{
		registry: prometheus.NewPedanticRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "veritrail_http_requests_total", Help: "HTTP requests answered.",
		}, []string{"route", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "veritrail_http_request_duration_seconds", Help: "Time from an HTTP request's header to the end of its answer.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10, 60},
		}, []string{"route", "code"}),
		running: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "veritrail_http_requests_in_flight", Help: "HTTP requests being answered.",
		}),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "veritrail_build_info", Help: "1, with the build in the labels.",
		ConstLabels: prometheus.Labels{"version": version, "goversion": runtime.Version(), "os": runtime.GOOS, "arch": runtime.GOARCH},
	})
	build.Set(1)
	s.registry.MustRegister(
		trailCollector{trail}, s.requests, s.seconds, s.running, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return s
}

// Handler serves the Set. What goes wrong in gathering is logged.
func (s *Set) Handler(log *slog.Logger) http.Handler {
	return promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelError)})
}

// Begin counts an HTTP request that has begun. The function it returns counts
// its end, with a route and a status code of the program's own choosing.
func (s *Set) Begin() func(route string, code int) {
	s.running.Inc()
	start := time.Now()
	return func(route string, code int) {
		s.running.Dec()
		text := strconv.Itoa(code)
		s.requests.WithLabelValues(route, text).Inc()
		s.seconds.WithLabelValues(route, text).Observe(time.Since(start).Seconds())
	}
}

// trailCollector reads the trail's numbers once for all its metrics, so that
// they fit each other.
type trailCollector struct{ read func() Trail }

var trailMetrics = []trailMetric{
	counter("events_total", "Events recorded.", func(t *Trail) uint64 { return t.Events }),
	counter("rejected_total", "Events refused because they broke a rule.", func(t *Trail) uint64 { return t.Rejected }),
	counter("lost_total", "Events refused or not made durable because the disk failed, in the log's life.", func(t *Trail) uint64 { return t.Lost }),
	counter("batches_total", "Group commits: one write and one sync each.", func(t *Trail) uint64 { return t.Batches }),
	counter("checkpoints_total", "Checkpoints signed.", func(t *Trail) uint64 { return t.Checkpoints }),
	counter("repairs_total", "Times the trail went on after the disk had failed.", func(t *Trail) uint64 { return t.Repairs }),
	counter("leaf_bytes_total", "Bytes of the events recorded.", func(t *Trail) uint64 { return t.LeafBytes }),
	counter("stored_bytes_total", "Bytes written to segments.", func(t *Trail) uint64 { return t.StoredBytes }),
	metric("sync_seconds_total", "Time spent waiting for the disk to sync.", prometheus.CounterValue,
		func(t *Trail) float64 { return t.SyncTime.Seconds() }),
	gauge("leaves", "Events in the log.", func(t *Trail) float64 { return float64(t.Leaves) }),
	gauge("sealed_leaves", "Events under the newest checkpoint.", func(t *Trail) float64 { return float64(t.Sealed) }),
	gauge("waiting", "Events waiting for the next group commit.", func(t *Trail) float64 { return float64(t.Waiting) }),
	gauge("halted", "1 while nothing is recorded because the disk failed.", func(t *Trail) float64 { return oneIf(t.Halted) }),
	gauge("index_lag", "Events that are not indexed, and that searches must read.", func(t *Trail) float64 { return float64(t.IndexLag) }),
	gauge("index_rebuilding", "1 while parts of the index are missing and being made.", func(t *Trail) float64 { return oneIf(t.IndexRebuilding) }),
	gauge("read_only", "1 when the trail is damaged and can only be read.", func(t *Trail) float64 { return oneIf(t.ReadOnly) }),
}

type trailMetric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*Trail) float64
}

func metric(name, help string, kind prometheus.ValueType, value func(*Trail) float64) trailMetric {
	return trailMetric{prometheus.NewDesc("veritrail_"+name, help, nil, nil), kind, value}
}

func counter(name, help string, value func(*Trail) uint64) trailMetric {
	return metric(name, help, prometheus.CounterValue, func(t *Trail) float64 { return float64(value(t)) })
}

func gauge(name, help string, value func(*Trail) float64) trailMetric {
	return metric(name, help, prometheus.GaugeValue, value)
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func (trailCollector) Describe(out chan<- *prometheus.Desc) {
	for i := range trailMetrics {
		out <- trailMetrics[i].desc
	}
}

func (c trailCollector) Collect(out chan<- prometheus.Metric) {
	t := c.read()
	for i := range trailMetrics {
		m := &trailMetrics[i]
		out <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value(&t))
	}
}
