package loadtest

import (
	_ "embed" // For the page.
	"html/template"
	"io"
	"strconv"
)

//go:embed report.html
var pageText string

// page is one file: it has its styles and plots, and loads nothing over the network.
var page = template.Must(template.New("report").Parse(pageText))

// pageData is what the page shows.
type pageData struct {
	Report
	Title string
	Facts []fact
	Head  []string
	// Whole are the rows of the whole load.
	Whole [][]string
	// Steps are the rows of its steps, if there are several.
	Steps [][]string
	Tiles []tile
	Plots []figure
	Notes []string
}

// tile is one figure that a reader looks for first.
type tile struct{ Class, Name, Value, Unit string }

// figure is a plot with its title and legend.
type figure struct {
	Title, Note string
	Legend      []legendEntry
	SVG         template.HTML
}

type legendEntry struct{ Class, Text string }

// WriteHTML writes the report as one page with plots. Of the idempotency keys it has only those of
// unknown outcome.
func (r Report) WriteHTML(out io.Writer) error {
	t := r.table()
	steps := len(t.rows) - 2 // The rows of the steps end before those of create, status and end to end.
	if r.EndToEnd != nil {
		steps--
	}
	return page.Execute(out, pageData{
		Report: r, Title: "Load of " + r.Began.Format("2 January 2006, 15:04:05 UTC"), Facts: r.facts(),
		Head: t.rows[0], Whole: t.rows[steps:], Steps: t.rows[1:steps], Tiles: r.tiles(), Plots: r.figures(),
		Notes: r.notes(),
	})
}

func (r Report) tiles() []tile {
	perSecond := func(w Work) string { return strconv.FormatFloat(w.PerSecond, 'f', 1, 64) }
	tiles := []tile{
		{"create", kindCreate.title(), perSecond(r.Create), "/s"},
		{"status", kindStatus.title(), perSecond(r.Status), "/s"},
	}
	for k := range kindCount {
		if l := &r.whole[k]; l.count > 0 {
			tiles = append(tiles, tile{classes[k], k.title() + " p99", fineMilliseconds(l.at(99)), "ms"})
		}
	}
	tiles = append(tiles, countTile("failed", r.Create.Failed+r.Create.Unknown+r.Status.Failed))
	if r.Mode == "open" {
		tiles = append(tiles, countTile("dropped", r.dropped()))
	}
	return tiles
}

// countTile has a colour if the count is not 0.
func countTile(name string, n int64) tile {
	t := tile{Name: name, Value: strconv.FormatInt(n, 10)}
	if n > 0 {
		t.Class = name
	}
	return t
}

// figures returns the plots of what was measured.
func (r Report) figures() []figure {
	figures := []figure{r.curveFigure()}
	for k := range kindCount {
		figures = append(figures, figure{
			Title: "Latency over time, ms: " + k.title(),
			Note:  "By when requests ended, in intervals of " + r.Interval.String() + ".",
			Legend: []legendEntry{
				{classes[k], "p99"}, {classes[k] + " p50", "p50"}, {classes[k] + " max", "maximum"},
			},
			SVG: markup(r.latencyPlot(k)),
		})
	}
	throughput, losses := []legendEntry{{"done", "done"}}, []legendEntry{{"failed", "failed"}}
	if r.Mode == "open" {
		throughput = append([]legendEntry{{"planned", "planned"}}, throughput...)
		losses = append(losses, legendEntry{"dropped", "dropped: as many requests as allowed were in flight"})
	}
	figures = append(
		figures,
		figure{
			"Throughput over time, requests per second", "Create and status together.", throughput,
			markup(r.throughputPlot()),
		},
		figure{
			"Failures over time, requests", "In intervals of " + r.Interval.String() + ".", losses,
			markup(r.lossPlot()),
		},
	)
	shown := figures[:0]
	for _, f := range figures {
		if f.SVG != "" {
			shown = append(shown, f)
		}
	}
	return shown
}

func (r Report) curveFigure() figure {
	f := figure{
		Title: "Latency by percentile, ms",
		Note:  "From when a request was sent. Both axes are logarithmic: rare requests are to the right.",
		SVG:   markup(r.curvePlot()),
	}
	if r.Mode == "open" {
		f.Note = "From the planned time of a request. Both axes are logarithmic: rare requests are to the right."
	}
	for k := range kindCount {
		if r.whole[k].count > 0 {
			f.Legend = append(f.Legend, legendEntry{classes[k], k.title()})
		}
	}
	return f
}

// markup marks a plot as safe: plot.go escapes all texts in it.
func markup(svg string) template.HTML {
	return template.HTML(svg) //nolint:gosec // G203: see above.
}
