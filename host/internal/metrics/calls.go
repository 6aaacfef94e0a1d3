package metrics

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// calls counts the calls of the API. Each method's counters are found once: to
// look them up by their labels would cost most of what counting costs.
type calls struct {
	total    *prometheus.CounterVec
	took     *prometheus.HistogramVec
	inFlight *prometheus.GaugeVec
	methods  sync.Map // string to *method
}

// method is the counters of one method.
type method struct {
	name     string
	took     prometheus.Observer
	inFlight prometheus.Gauge
	codes    sync.Map // string to prometheus.Counter
}

func newCalls() *calls {
	return &calls{total: defCalls.counter(), took: defCallTime.histogram(), inFlight: defInFlight.gauge()}
}

func (c *calls) method(name string) *method {
	if m, ok := c.methods.Load(name); ok {
		return m.(*method) //nolint:forcetypeassert // nothing else is stored
	}
	m, _ := c.methods.LoadOrStore(name, &method{name: name, took: c.took.WithLabelValues(name), inFlight: c.inFlight.WithLabelValues(name)})
	return m.(*method) //nolint:forcetypeassert // nothing else is stored
}

func (c *calls) counter(m *method, code string) prometheus.Counter {
	if counter, ok := m.codes.Load(code); ok {
		return counter.(prometheus.Counter) //nolint:forcetypeassert // nothing else is stored
	}
	counter := c.total.WithLabelValues(m.name, code)
	m.codes.Store(code, counter)
	return counter
}

// CallStarted counts a call of the API. The method is one that is served.
func (m *Metrics) CallStarted(method string) { m.calls.method(method).inFlight.Inc() }

// CallEnded counts the end of a call, with the name of its code.
func (m *Metrics) CallEnded(method, code string, took time.Duration) {
	of := m.calls.method(method)
	of.inFlight.Dec()
	of.took.Observe(took.Seconds())
	m.calls.counter(of, code).Inc()
}
