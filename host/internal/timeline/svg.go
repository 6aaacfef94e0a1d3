package timeline

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"
	"time"
)

// colours of phases; what is not listed is grey.
var colours = map[string]string{
	queued: "#d8d8d8", "verifying": "#9ecae1", "starting": "#4292c6", "handshake": "#6baed6", "describing": "#74c476",
	"configuring": "#41ab5d", "waiting for health": "#fdae6b", "waiting for readiness": "#fd8d3c", "adopted": "#756bb1",
}

const (
	svgWidth, svgLabel, svgRow = 1000, 220, 22
)

// SVG draws starts as bars along the time.
func SVG(w io.Writer, all []Activation) error {
	var last time.Duration
	for _, a := range all {
		last = max(last, a.End)
	}
	if last == 0 {
		last = time.Millisecond
	}
	x := func(d time.Duration) float64 { return svgLabel + float64(d)/float64(last)*(svgWidth-svgLabel-10) }
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">`+"\n", svgWidth, svgRow*(len(all)+2))
	for n := range 11 {
		at := last * time.Duration(n) / 10
		fmt.Fprintf(&b, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="#eee"/><text x="%.1f" y="14" fill="#666" text-anchor="middle">%s</text>`+"\n",
			x(at), svgRow, x(at), svgRow*(len(all)+2), x(at), at.Round(time.Millisecond))
	}
	for row, a := range all {
		y := svgRow * (row + 1)
		fmt.Fprintf(&b, `<text x="4" y="%d">%s</text>`+"\n", y+15, escape(a.Component))
		for _, p := range a.Phases {
			colour := colours[p.Phase]
			if colour == "" {
				colour = "#bbb"
			}
			fmt.Fprintf(&b, `<rect x="%.1f" y="%d" width="%.1f" height="%d" fill="%s"><title>%s: %s, %s</title></rect>`+"\n",
				x(p.Begin), y+3, max(0.5, x(p.Begin+p.Took)-x(p.Begin)), svgRow-6, colour, escape(a.Component), escape(p.Phase), p.Took.Round(10*time.Microsecond))
		}
		if a.Outcome == Failed {
			fmt.Fprintf(&b, `<text x="%.1f" y="%d" fill="#c00">✗</text>`+"\n", min(x(a.End), svgWidth-12), y+15)
		}
	}
	b.WriteString("</svg>\n")
	_, err := io.WriteString(w, b.String())
	return err
}

func escape(text string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(text)) // a Builder does not fail
	return b.String()
}
