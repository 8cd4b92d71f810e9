package payment

import (
	"fmt"
	"io"
)

// Bounds of a party, in characters: ISO 20022 Max35Text for identifiers and Max140Text for names.
const (
	partyIDMax   = 35
	partyNameMax = 140
)

// Party is a person or an organisation that a payment is from or for.
type Party struct {
	ID   string // The tenant's own identifier of the party.
	Name Private
}

// Format implements fmt.Formatter: fmt does not ask the Name for its own when a verb does not fit the struct around it.
func (p Party) Format(w fmt.State, _ rune) { _, _ = io.WriteString(w, "party "+mask) }

func (f *faults) party(atID, atName string, c PartyContent) Party {
	return Party{
		ID:   f.text(atID, c.ID, partyIDMax),
		Name: Private(f.text(atName, c.Name, partyNameMax)),
	}
}
