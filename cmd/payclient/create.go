package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/paylatch/paylatch/client"
)

// bodyBytesMax is the bound of the API for a request.
const bodyBytesMax = 64 << 10

// createWaitMax is the bound of the API for a wait.
const createWaitMax = 30 * time.Second

type createCommand struct {
	JSON           string        `name:"json" placeholder:"FILE" help:"${help_create_json}"`
	IdempotencyKey string        `placeholder:"KEY" help:"${help_create_key}"`
	Wait           time.Duration `help:"Wait until it is sent, at most this long, such as 10s; at most 30s."`

	Amount          int64  `placeholder:"N" help:"Amount in minor units: 25687 is 256.87 USD."`
	Currency        string `placeholder:"CODE" help:"ISO 4217 code, such as USD."`
	OriginatorID    string `placeholder:"ID" help:"Who pays."`
	OriginatorName  string `placeholder:"NAME"`
	BeneficiaryID   string `placeholder:"ID" help:"Who is paid."`
	BeneficiaryName string `placeholder:"NAME"`
	SenderType      string `placeholder:"TYPE" help:"The account paid from: iban, checking, …"`
	SenderNumber    string `placeholder:"NUMBER"`
	ReceiverType    string `placeholder:"TYPE" help:"The account paid to."`
	ReceiverNumber  string `placeholder:"NUMBER"`
	Reference       string `placeholder:"TEXT" help:"Optional: what the payment is for."`
}

// Validate checks that the payment is given once, and is complete. The service checks the values.
func (cmd *createCommand) Validate() error {
	given, missing := []string{}, []string{}
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"--amount", cmd.Amount != 0},
		{"--currency", cmd.Currency != ""},
		{"--originator-id", cmd.OriginatorID != ""},
		{"--originator-name", cmd.OriginatorName != ""},
		{"--beneficiary-id", cmd.BeneficiaryID != ""},
		{"--beneficiary-name", cmd.BeneficiaryName != ""},
		{"--sender-type", cmd.SenderType != ""},
		{"--sender-number", cmd.SenderNumber != ""},
		{"--receiver-type", cmd.ReceiverType != ""},
		{"--receiver-number", cmd.ReceiverNumber != ""},
	} {
		if f.set {
			given = append(given, f.name)
		} else {
			missing = append(missing, f.name)
		}
	}
	if cmd.Reference != "" {
		given = append(given, "--reference")
	}
	switch {
	case cmd.Wait < 0 || cmd.Wait > createWaitMax:
		return fmt.Errorf("--wait must be from 0s to %v", createWaitMax)
	case cmd.JSON != "" && len(given) > 0:
		return fmt.Errorf("--json holds the whole payment, so %s is not allowed", strings.Join(given, ", "))
	case cmd.JSON == "" && len(missing) > 0:
		return fmt.Errorf("missing %s (or --json FILE)", strings.Join(missing, ", "))
	}
	return nil
}

// Run makes the payment. With --wait it fails if the payment is not sent by then.
func (cmd *createCommand) Run(s *session) error {
	request, err := cmd.request(s.stdin)
	if err != nil {
		return &usageError{err}
	}
	key := cmd.IdempotencyKey
	c, err := s.client(1)
	if err != nil {
		return err
	}
	defer c.Close()
	if key == "" {
		key, err = client.NewKey()
		if err != nil {
			return err
		}
		// Before anything is sent: if this process dies, the key can still be looked up.
		s.note("idempotency key %s", key)
	}
	var result client.Result
	err = s.wait(cmd.Wait, func() error {
		result, err = c.CreateAndWait(s.ctx, key, request, cmd.Wait)
		return err
	})
	if err != nil {
		return err
	}
	if result.Replayed {
		s.note("this key had already made the payment; nothing new was made")
	}
	if err := s.print(result.Payment); err != nil {
		return err
	}
	if cmd.Wait > 0 && !result.Sent() {
		return fmt.Errorf("created, but not sent within %v", cmd.Wait)
	}
	return nil
}

func (cmd *createCommand) request(stdin io.Reader) (client.Request, error) {
	switch cmd.JSON {
	case "":
		return client.Request{
			Amount:      cmd.Amount,
			Currency:    cmd.Currency,
			Originator:  client.Party{ID: cmd.OriginatorID, Name: cmd.OriginatorName},
			Beneficiary: client.Party{ID: cmd.BeneficiaryID, Name: cmd.BeneficiaryName},
			Sender:      client.Account{Type: cmd.SenderType, Number: cmd.SenderNumber},
			Receiver:    client.Account{Type: cmd.ReceiverType, Number: cmd.ReceiverNumber},
			Reference:   cmd.Reference,
		}, nil
	case "-":
		return decodeRequest(stdin)
	}
	f, err := os.Open(cmd.JSON)
	if err != nil {
		return client.Request{}, err
	}
	defer f.Close()
	return decodeRequest(f)
}

// decodeRequest decodes one object with the members of the API. An unknown one is an error: a
// misspelt member must not be lost.
func decodeRequest(r io.Reader) (client.Request, error) {
	limited := &io.LimitedReader{R: r, N: bodyBytesMax + 1}
	d := json.NewDecoder(limited)
	d.DisallowUnknownFields()
	var request client.Request
	err := d.Decode(&request)
	if err == nil {
		if _, more := d.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("there is more after the payment")
		}
	}
	if limited.N == 0 {
		err = fmt.Errorf("it is longer than %d bytes", bodyBytesMax)
	}
	if err != nil {
		return client.Request{}, fmt.Errorf("read the payment: %w", err)
	}
	return request, nil
}
