package loadtest

import (
	"io"
	"strings"
	"unicode/utf8"
)

// table aligns its columns: texts to the left, numbers to the right.
type table struct {
	right []bool
	rows  [][]string
}

// newTable returns a table with headings. A heading with ">" at its begin has a column of numbers.
func newTable(headings ...string) *table {
	t := &table{right: make([]bool, len(headings))}
	row := make([]string, len(headings))
	for i, h := range headings {
		row[i], t.right[i] = strings.CutPrefix(h, ">")
	}
	t.rows = append(t.rows, row)
	return t
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) write(w io.Writer) error {
	widths := make([]int, len(t.right))
	for _, row := range t.rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	for _, row := range t.rows {
		var line strings.Builder
		for i, cell := range row {
			if i > 0 {
				line.WriteString("  ")
			}
			blanks := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if t.right[i] {
				line.WriteString(blanks + cell)
				continue
			}
			line.WriteString(cell + blanks)
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}
