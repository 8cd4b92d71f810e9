package payment

import (
	"fmt"
	"io"
)

// Bounds of a party. ISO 20022 has Max35Text for identifiers and Max140Text for names.
const (
	partyIDCharactersMax   = 35
	partyNameCharactersMax = 140
)

// Party is a person or an organization that a payment is from or for.
type Party struct {
	// ID is the tenant's own identifier of the party.
	ID   string
	Name Private
}

// Format implements fmt.Formatter. The Format method of Name is not enough: fmt does not call it if
// a verb does not fit the struct.
func (p Party) Format(w fmt.State, _ rune) { _, _ = io.WriteString(w, "party "+mask) }

func (f *faults) party(atID, atName string, c PartyContent) Party {
	return Party{
		ID:   f.identifier(atID, c.ID, partyIDCharactersMax),
		Name: Private(f.text(atName, c.Name, partyNameCharactersMax)),
	}
}
