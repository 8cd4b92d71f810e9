package loadtest

import (
	"fmt"
	"html"
	"math"
	"strconv"
	"strings"
)

// The plots are SVG in units of their own, which the page scales. Colours and fonts are those of
// the page (report.html).
const (
	plotWidth  = 560.0
	plotHeight = 220.0
	plotLeft   = 46.0 // The numbers of the vertical axis are here.
	plotRight  = 14.0
	plotTop    = 12.0
	plotBottom = 30.0
	plotEdge   = 15.0 // Half the width of a number.
	// hoverMax bounds the intervals that have a text under the pointer. More would be narrower than
	// it.
	hoverMax = 400
)

// axis maps values to positions, linearly or by their logarithm.
type axis struct {
	from, to float64
	log      bool
}

// part returns 0 at the begin of the axis and 1 at its end.
func (a axis) part(v float64) float64 {
	if a.log {
		return math.Log(v/a.from) / math.Log(a.to/a.from)
	}
	return (v - a.from) / (a.to - a.from)
}

// ticks returns about n round numbers.
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

// roundUp returns the next of 1, 2 and 5, times a power of ten.
func roundUp(v float64) float64 {
	decade := math.Pow(10, math.Floor(math.Log10(v)))
	for _, s := range []float64{1, 2, 5} {
		if v <= decade*s*1.0001 {
			return decade * s
		}
	}
	return decade * 10
}

// point is a position in the units of the axes.
type point struct{ x, y float64 }

// plot is a drawing with two axes.
type plot struct {
	x, y axis
	b    strings.Builder
}

// newPlot returns a plot with its grid and numbers.
func newPlot(label string, x, y axis, xTicks []float64, xText, yText func(float64) string) *plot {
	p := &plot{x: x, y: y}
	fmt.Fprintf(&p.b, `<svg viewBox="0 0 %g %g" role="img" aria-label="%s">`,
		plotWidth, plotHeight, html.EscapeString(label))
	for _, v := range y.ticks(5) {
		at := p.top(v)
		fmt.Fprintf(&p.b, `<line class="grid" x1="%g" x2="%g" y1="%s" y2="%s"/>`,
			plotLeft, plotWidth-plotRight, unit(at), unit(at))
		p.text(plotLeft-8, at+4, "end", yText(v))
	}
	for _, v := range xTicks {
		at, anchor := p.left(v), "middle"
		if at > plotWidth-plotRight-plotEdge {
			at, anchor = at+plotRight, "end" // Otherwise its end would be outside.
		}
		p.text(at, plotHeight-plotBottom+19, anchor, xText(v))
	}
	fmt.Fprintf(&p.b, `<line class="axis" x1="%g" x2="%g" y1="%g" y2="%g"/>`,
		plotLeft, plotWidth-plotRight, plotHeight-plotBottom, plotHeight-plotBottom)
	return p
}

func (p *plot) left(x float64) float64 {
	return plotLeft + min(max(p.x.part(x), 0), 1)*(plotWidth-plotLeft-plotRight)
}

func (p *plot) top(y float64) float64 {
	return plotHeight - plotBottom - min(max(p.y.part(y), 0), 1)*(plotHeight-plotTop-plotBottom)
}

func (p *plot) text(x, y float64, anchor, text string) {
	fmt.Fprintf(&p.b, `<text x="%s" y="%s" text-anchor="%s">%s</text>`,
		unit(x), unit(y), anchor, html.EscapeString(text))
}

// line connects points; a NaN is a gap.
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
		pen = "L"
		if alone {
			d.WriteString("h.01") // A single point between gaps is a dot: lines have round ends.
		}
	}
	fmt.Fprintf(&p.b, `<path class="line %s" d="%s"/>`, class, d.String())
}

// dots draws points.
func (p *plot) dots(class string, points []point) {
	for _, at := range points {
		if !math.IsNaN(at.y) {
			fmt.Fprintf(&p.b, `<circle class="%s" r="2" cx="%s" cy="%s"/>`,
				class, unit(p.left(at.x)), unit(p.top(at.y)))
		}
	}
}

// bar draws a bar between two values of the vertical axis.
func (p *plot) bar(class string, from, to, low, high float64) {
	if high <= low {
		return
	}
	left, top := p.left(from), p.top(high)
	fmt.Fprintf(&p.b, `<rect class="%s" x="%s" y="%s" width="%s" height="%s"/>`, class, unit(left+.5), unit(top),
		unit(max(p.left(to)-left-1, 1)), unit(max(p.top(low)-top, 1)))
}

// hover shows a text when the pointer is over a part of the horizontal axis.
func (p *plot) hover(from, to float64, text string) {
	left := p.left(from)
	fmt.Fprintf(&p.b, `<rect class="hover" x="%s" y="%g" width="%s" height="%g"><title>%s</title></rect>`,
		unit(left), plotTop, unit(max(p.left(to)-left, 1)), plotHeight-plotTop-plotBottom, html.EscapeString(text))
}

// note writes a text into the middle of an empty plot.
func (p *plot) note(text string) {
	p.text((plotLeft+plotWidth-plotRight)/2, plotHeight/2, "middle", text)
}

func (p *plot) String() string { return p.b.String() + "</svg>" }

// unit returns a number with one decimal: a screen shows no more.
func unit(v float64) string { return strconv.FormatFloat(v, 'f', 1, 64) }
