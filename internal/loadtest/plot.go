package loadtest

import (
	"fmt"
	"html"
	"math"
	"strconv"
	"strings"
)

// The plots are SVG in units of their own, which the page stretches; colours and fonts are the page's (report.html).
const (
	plotWidth  = 560.0
	plotHeight = 220.0
	plotLeft   = 46.0 // room for the numbers of the vertical axis
	plotRight  = 14.0
	plotTop    = 12.0
	plotBottom = 30.0
	plotEdge   = 15.0 // half a number's width
	// hoverMax is up to how many intervals have a text of their own under the pointer: more are narrower than it.
	hoverMax = 400
)

// axis maps values to places, evenly or by their logarithm.
type axis struct {
	from, to float64
	log      bool
}

// part is 0 at the axis's beginning and 1 at its end.
func (a axis) part(v float64) float64 {
	if a.log {
		return math.Log(v/a.from) / math.Log(a.to/a.from)
	}
	return (v - a.from) / (a.to - a.from)
}

// ticks are round numbers, some n of them.
func (a axis) ticks(n float64) (ticks []float64) {
	if a.log {
		steps := []float64{1, 2, 5}
		if math.Log10(a.to/a.from) > 2.5 {
			steps = steps[:1]
		}
		for decade := math.Pow(10, math.Floor(math.Log10(a.from))); decade <= a.to; decade *= 10 {
			for _, s := range steps {
				if v := decade * s; v >= a.from*0.999 && v <= a.to*1.001 {
					ticks = append(ticks, v)
				}
			}
		}
		return ticks
	}
	step := roundUp((a.to - a.from) / n)
	for i := math.Ceil(a.from / step); i*step <= a.to*1.0001; i++ {
		ticks = append(ticks, i*step)
	}
	return ticks
}

// roundUp goes to the next of 1, 2, 5 and their tens.
func roundUp(v float64) float64 {
	decade := math.Pow(10, math.Floor(math.Log10(v)))
	for _, s := range []float64{1, 2, 5} {
		if v <= decade*s*1.0001 {
			return decade * s
		}
	}
	return decade * 10
}

// point is a place in the units of the axes.
type point struct{ x, y float64 }

// plot is a pair of axes that is drawn upon.
type plot struct {
	x, y axis
	b    strings.Builder
}

// newPlot begins with the grid and its numbers.
func newPlot(label string, x, y axis, xTicks []float64, xText, yText func(float64) string) *plot {
	p := &plot{x: x, y: y}
	fmt.Fprintf(&p.b, `<svg viewBox="0 0 %g %g" role="img" aria-label="%s">`, plotWidth, plotHeight, html.EscapeString(label))
	for _, v := range y.ticks(5) {
		at := p.top(v)
		fmt.Fprintf(&p.b, `<line class="grid" x1="%g" x2="%g" y1="%s" y2="%s"/>`, plotLeft, plotWidth-plotRight, unit(at), unit(at))
		p.text(plotLeft-8, at+4, "end", yText(v))
	}
	for _, v := range xTicks {
		at, anchor := p.left(v), "middle"
		if at > plotWidth-plotRight-plotEdge {
			at, anchor = at+plotRight, "end" // or the end of it would be outside
		}
		p.text(at, plotHeight-plotBottom+19, anchor, xText(v))
	}
	fmt.Fprintf(&p.b, `<line class="axis" x1="%g" x2="%g" y1="%g" y2="%g"/>`, plotLeft, plotWidth-plotRight, plotHeight-plotBottom, plotHeight-plotBottom)
	return p
}

func (p *plot) left(x float64) float64 {
	return plotLeft + min(max(p.x.part(x), 0), 1)*(plotWidth-plotLeft-plotRight)
}

func (p *plot) top(y float64) float64 {
	return plotHeight - plotBottom - min(max(p.y.part(y), 0), 1)*(plotHeight-plotTop-plotBottom)
}

func (p *plot) text(x, y float64, anchor, text string) {
	fmt.Fprintf(&p.b, `<text x="%s" y="%s" text-anchor="%s">%s</text>`, unit(x), unit(y), anchor, html.EscapeString(text))
}

// line joins points; a NaN is a gap.
func (p *plot) line(class string, points []point) {
	if len(points) == 0 {
		return
	}
	var d strings.Builder
	pen := "M"
	for i, at := range points {
		if math.IsNaN(at.y) {
			pen = "M"
			continue
		}
		fmt.Fprintf(&d, "%s%s %s", pen, unit(p.left(at.x)), unit(p.top(at.y)))
		alone := pen == "M" && (i+1 == len(points) || math.IsNaN(points[i+1].y))
		if pen = "L"; alone {
			d.WriteString("h.01") // One point between gaps is a dot, by the round ends of lines.
		}
	}
	fmt.Fprintf(&p.b, `<path class="line %s" d="%s"/>`, class, d.String())
}

// dots marks points.
func (p *plot) dots(class string, points []point) {
	for _, at := range points {
		if !math.IsNaN(at.y) {
			fmt.Fprintf(&p.b, `<circle class="%s" r="2" cx="%s" cy="%s"/>`, class, unit(p.left(at.x)), unit(p.top(at.y)))
		}
	}
}

// bar stands between two values of the vertical axis.
func (p *plot) bar(class string, from, to, low, high float64) {
	if high <= low {
		return
	}
	left, top := p.left(from), p.top(high)
	fmt.Fprintf(&p.b, `<rect class="%s" x="%s" y="%s" width="%s" height="%s"/>`, class, unit(left+.5), unit(top),
		unit(max(p.left(to)-left-1, 1)), unit(max(p.top(low)-top, 1)))
}

// hover puts a text under the pointer for a stretch of the horizontal axis.
func (p *plot) hover(from, to float64, text string) {
	left := p.left(from)
	fmt.Fprintf(&p.b, `<rect class="hover" x="%s" y="%g" width="%s" height="%g"><title>%s</title></rect>`, unit(left), plotTop,
		unit(max(p.left(to)-left, 1)), plotHeight-plotTop-plotBottom, html.EscapeString(text))
}

// note stands in the middle of an empty plot.
func (p *plot) note(text string) {
	p.text((plotLeft+plotWidth-plotRight)/2, plotHeight/2, "middle", text)
}

func (p *plot) String() string { return p.b.String() + "</svg>" }

// unit has one decimal: finer than a screen shows.
func unit(v float64) string { return strconv.FormatFloat(v, 'f', 1, 64) }
