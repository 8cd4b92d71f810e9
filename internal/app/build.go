package app

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/paylatch/paylatch/internal/buildinfo"
)

// newBuildInfo returns a metric that is always 1, with the build in its labels.
func newBuildInfo(info buildinfo.Info) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name:        "paylatch_build_info",
		Help:        "Always 1; the labels say which build the process is.",
		ConstLabels: prometheus.Labels{"version": info.Version, "commit": info.Commit, "go": info.Go},
	}, func() float64 { return 1 })
}
