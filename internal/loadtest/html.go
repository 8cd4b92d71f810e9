package loadtest

import (
	_ "embed" // for the page
	"html/template"
	"io"
	"strconv"
)

//go:embed report.html
var pageText string

// page is one file: styles and plots are in it, and it asks for nothing over the network.
var page = template.Must(template.New("report").Parse(pageText))

// pageData is what the page shows.
type pageData struct {
	Report
	Title   string
	Setting string
	Head    []string
	Whole   [][]string // of all steps
	Steps   [][]string // of each, where there are several
	Tiles   []tile
	Plots   []figure
	Words   []string
}

// tile is one figure that a reader looks for first.
type tile struct{ Class, Name, Value, Unit string }

// figure is a plot with what must be said of it.
type figure struct {
	Title, Note string
	Legend      []mark
	SVG         template.HTML
}

// mark is an entry of a legend.
type mark struct{ Class, Text string }

// WriteHTML writes the report as one page with plots, for people. It holds no key but those of unknown outcomes.
func (r Report) WriteHTML(out io.Writer) error {
	t := r.table()
	steps := len(t.rows) - 2 // Where the rows of writes and reads, and of end to end, begin.
	if r.EndToEnd != nil {
		steps--
	}
	data := pageData{
		Report: r, Title: "Load of " + r.Began.Format("2 January 2006, 15:04:05 UTC"), Setting: r.setting(),
		Head: t.rows[0], Whole: t.rows[steps:], Steps: t.rows[1:steps], Tiles: r.tiles(), Plots: r.figures(), Words: r.words(),
	}
	return page.Execute(out, data)
}

func (r Report) tiles() []tile {
	perSecond := func(w Work) string { return strconv.FormatFloat(w.PerSecond, 'f', 1, 64) }
	tiles := []tile{
		{"create", "writes", perSecond(r.Writes), "/s"},
		{"status", "reads", perSecond(r.Reads), "/s"},
	}
	for k, name := range []string{"write p99", "read p99", "end to end p99"} {
		if l := &r.whole[k]; l.count > 0 {
			tiles = append(tiles, tile{classes[k], name, fineMilliseconds(l.at(99)), "ms"})
		}
	}
	bad := r.Writes.Failed + r.Writes.Unknown + r.Reads.Failed
	tiles = append(tiles, tile{map[bool]string{true: "failed"}[bad > 0], "failed", strconv.FormatInt(bad, 10), ""})
	if r.Mode == "open" {
		none := r.Writes.NoPlace + r.Reads.NoPlace
		tiles = append(tiles, tile{map[bool]string{true: "noplace"}[none > 0], "without a place", strconv.FormatInt(none, 10), ""})
	}
	return tiles
}

// figures are the plots of what was measured.
func (r Report) figures() []figure {
	from := "from when a request was sent"
	if r.Mode == "open" {
		from = "from when a request was due"
	}
	var legend []mark
	for k := range kinds {
		if r.whole[k].count > 0 {
			legend = append(legend, mark{classes[k], k.title()})
		}
	}
	figures := []figure{{"Latency by percentile, ms", "Counted " + from + ". Rare ones to the right, slow ones upwards, both by their logarithms.", legend, template.HTML(r.curvePlot())}} //nolint:gosec // G203: it is escaped where it is made.
	for k, of := range []func(Point) LatencyPoint{
		func(p Point) LatencyPoint { return p.Create }, func(p Point) LatencyPoint { return p.Status }, func(p Point) LatencyPoint { return p.EndToEnd },
	} {
		legend := []mark{{classes[k], "p99"}, {classes[k] + " p50", "p50"}, {classes[k] + " max", "maximum"}}
		figures = append(figures, figure{
			"Latency over time, ms: " + kind(k).title(), "By when requests ended, in intervals of " + r.Interval.String() + ".", legend,
			template.HTML(r.latencyPlot(kind(k), of)), //nolint:gosec // G203: as above.
		})
	}
	throughput, losses := []mark{{"done", "done"}}, []mark{{"failed", "failed"}}
	if r.Mode == "open" {
		throughput, losses = append([]mark{{"due", "due"}}, throughput...), append(losses, mark{"noplace", "due and not sent, as too many were under way"})
	}
	figures = append(figures,
		figure{"Throughput over time, requests per second", "Writes and reads together.", throughput, template.HTML(r.throughputPlot())}, //nolint:gosec // G203: as above.
		figure{"Failures over time, requests", "In intervals of " + r.Interval.String() + ".", losses, template.HTML(r.lossPlot())})      //nolint:gosec // G203: as above.
	shown := figures[:0]
	for _, f := range figures {
		if f.SVG != "" {
			shown = append(shown, f)
		}
	}
	return shown
}
