package loadtest

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/paylatch/paylatch/client"
)

const (
	// AccountsMax is more account holders than one customer has in a year.
	AccountsMax = 10_000_000
	// populationDefault is the default number of account holders.
	populationDefault = 10_000
)

// holder is a person or company with an account. A number always stands for the same holder with
// the same account, as with real payers: parties and accounts repeat, and an account sends more
// than once.
type holder struct {
	party    client.Party
	account  client.Account
	currency string
}

// country has the names, accounts and currency of a country.
type country struct {
	currency string
	first    []string // Of persons and companies.
	second   []string
	account  func(*rand.Rand) client.Account
}

// countries has a country twice if more payments come from there. The bank codes are those of the
// examples in the IBAN registry.
var countries = []country{germany, germany, austria, netherlands, britain, unitedStates, unitedStates, japan}

var (
	germany = country{
		"EUR",
		[]string{"Anna", "Müller", "Schmidt", "Lukas", "Weber", "Sophie"},
		[]string{"Hoffmann", "& Söhne GmbH", "Logistik AG", "Krüger", "Maschinenbau GmbH", "Richter"},
		func(r *rand.Rand) client.Account { return ibanAccount("DE", "37040044"+digits(r, 10)) },
	}
	austria = country{
		"EUR",
		[]string{"Katharina", "Huber", "Gruber", "Felix", "Steiner"},
		[]string{"Wagner", "Bau GmbH", "Handels KG", "Pichler", "Holz GmbH"},
		func(r *rand.Rand) client.Account { return ibanAccount("AT", "19043"+digits(r, 11)) },
	}
	netherlands = country{
		"EUR",
		[]string{"Sanne", "de Vries", "Jansen", "Daan", "Bakker"},
		[]string{"Visser", "Transport B.V.", "Bloemen B.V.", "Smit", "Techniek B.V."},
		func(r *rand.Rand) client.Account { return ibanAccount("NL", "ABNA"+digits(r, 10)) },
	}
	britain = country{
		"GBP",
		[]string{"Oliver", "Harrison", "Emily", "Walker", "Bennett"},
		[]string{"Clarke", "Textiles Ltd", "& Co", "Hughes", "Foods plc"},
		func(r *rand.Rand) client.Account { return ibanAccount("GB", "NWBK601613"+digits(r, 8)) },
	}
	unitedStates = country{
		"USD",
		[]string{"Emma", "Parker", "Jackson", "Ramirez", "Summit"},
		[]string{"Reed", "Hardware Inc", "Dental LLC", "Coleman", "Supply Co"},
		func(r *rand.Rand) client.Account { return client.Account{Type: "checking", Number: digits(r, 9)} },
	}
	japan = country{
		"JPY",
		[]string{"Sato", "Haruto", "Tanaka", "Yui", "Nakamura"},
		[]string{"Suzuki", "Trading K.K.", "Seiki K.K.", "Kobayashi", "Shoji K.K."},
		func(r *rand.Rand) client.Account { return client.Account{Type: "ordinary", Number: digits(r, 7)} },
	}
)

// Sample returns a plausible payment that the service accepts.
func Sample(r *rand.Rand) client.Request { return SampleOf(r, 0) }

// SampleOf is Sample between this number of account holders: at least two, and 0 means 10,000.
func SampleOf(r *rand.Rand, accounts int) client.Request {
	n := cmp.Or(accounts, populationDefault)
	a, b := r.IntN(n), r.IntN(n-1)
	if b >= a {
		b++ // Any but a.
	}
	from, to := holderOf(a), holderOf(b)
	q := client.Request{
		Amount:      sampleAmount(r, from.currency),
		Currency:    from.currency,
		Originator:  from.party,
		Beneficiary: to.party,
		Sender:      from.account,
		Receiver:    to.account,
	}
	if r.IntN(5) > 0 {
		q.Reference = fmt.Sprintf("INV-%06d", r.IntN(1_000_000))
	}
	return q
}

// holderOf returns the same holder for a number each time.
func holderOf(n int) holder {
	r := rand.New(rand.NewPCG(uint64(n), 0x7061796c61746368))
	c := countries[r.IntN(len(countries))]
	name := c.first[r.IntN(len(c.first))] + " " + c.second[r.IntN(len(c.second))]
	return holder{
		party:    client.Party{ID: fmt.Sprintf("C-%05d", n), Name: name},
		account:  c.account(r),
		currency: c.currency,
	}
}

// sampleAmount returns small payments more often: each decade from 5 to 50,000 major units is
// equally likely.
func sampleAmount(r *rand.Rand, currency string) int64 {
	major := 5 + r.Int64N(45)
	for range r.IntN(4) {
		major *= 10
	}
	if minorDigits[currency] == 0 {
		return major * 100 // Yen: about the same value.
	}
	return major*100 + r.Int64N(100)
}

func digits(r *rand.Rand, n int) string {
	var b strings.Builder
	for range n {
		b.WriteByte(byte('0' + r.IntN(10)))
	}
	return b.String()
}

func ibanAccount(country, bban string) client.Account {
	return client.Account{Type: "iban", Number: iban(country, bban)}
}

// iban returns an IBAN with the check digits of ISO 13616: 98 minus the remainder modulo 97.
func iban(country, bban string) string {
	rest := 0
	for _, c := range []byte(bban + country + "00") {
		switch {
		case c >= '0' && c <= '9':
			rest = (rest*10 + int(c-'0')) % 97
		case c >= 'A' && c <= 'Z':
			rest = (rest*100 + int(c-'A') + 10) % 97
		default:
			panic("an IBAN has capital letters and digits only: " + country + bban)
		}
	}
	check := 98 - rest
	return country + string([]byte{byte('0' + check/10), byte('0' + check%10)}) + bban
}
