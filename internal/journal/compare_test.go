package journal

import (
	"fmt"
	"testing"

	"github.com/google/uuid"

	"github.com/paylatch/paylatch/client"
)

// TestCompare: each violation is found as itself, and nothing else.
func TestCompare(t *testing.T) {
	id := func(n int) uuid.UUID { return uuid.UUID{15: byte(n)} }
	at := func(n int) client.Position { return client.Position{Topic: "payments", Offset: int64(n)} }
	type counts struct{ Confirmed, Repeated, Unsent, Missing, Duplicates, Misplaced, Unexpected int64 }
	for name, tc := range map[string]struct {
		change func(payments *[]Payment, records *[]Record)
		want   counts
	}{
		"Good":            {func(*[]Payment, *[]Record) {}, counts{Confirmed: 3}},
		"PositionUnknown": {func(p *[]Payment, _ *[]Record) { (*p)[1].Position = nil }, counts{Confirmed: 3}},
		"Missing":         {func(_ *[]Payment, r *[]Record) { *r = (*r)[:2] }, counts{Confirmed: 2, Missing: 1}},
		"MissingUnknown": {func(p *[]Payment, r *[]Record) {
			(*p)[2].Position, *r = nil, (*r)[:2]
		}, counts{Confirmed: 2, Missing: 1}},
		"Twice": {func(_ *[]Payment, r *[]Record) {
			*r = append(*r, Record{id(1), at(8)})
		}, counts{Confirmed: 3, Repeated: 1, Duplicates: 1}},
		"ThreeTimes": {func(_ *[]Payment, r *[]Record) {
			*r = append(*r, Record{id(1), at(8)}, Record{id(1), at(9)})
		}, counts{Confirmed: 3, Repeated: 2, Duplicates: 1}},
		"Misplaced": {func(_ *[]Payment, r *[]Record) {
			(*r)[0].Position.Partition = 7
		}, counts{Confirmed: 2, Misplaced: 1}},
		"Unsent": {func(p *[]Payment, r *[]Record) {
			(*p)[2], *r = Payment{ID: id(2)}, (*r)[:2]
		}, counts{Confirmed: 2, Unsent: 1}},
		"UnsentInTopic": {func(p *[]Payment, _ *[]Record) {
			(*p)[2] = Payment{ID: id(2)}
		}, counts{Confirmed: 2, Unsent: 1}},
		"Unexpected": {func(_ *[]Payment, r *[]Record) {
			*r = append(*r, Record{id(7), at(8)}, Record{id(7), at(9)})
		}, counts{Confirmed: 3, Repeated: 1, Unexpected: 2}},
	} {
		t.Run(name, func(t *testing.T) {
			var payments []Payment
			var records []Record
			for n := range 3 {
				position := at(n)
				payments = append(payments, Payment{id(n), true, &position})
				records = append(records, Record{id(n), at(n)})
			}
			tc.change(&payments, &records)
			c := Compare(payments, records)
			got := counts{
				c.Confirmed, c.Repeated, c.Unsent.Count, c.Missing.Count, c.Duplicates.Count, c.Misplaced.Count,
				c.Unexpected.Count,
			}
			if got != tc.want {
				t.Errorf("got %+v, want %+v\n%s", got, tc.want, fmt.Sprintf("%+v", c))
			}
		})
	}
}
