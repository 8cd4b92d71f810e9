package cli

import (
	"encoding"
	"fmt"
	"reflect"

	"github.com/alecthomas/kong"
)

// Required is a setting that must be given. Hint ends the sentence "is required, like …".
type Required interface{ Hint() string }

// settings gathers what is wrong with the flags while kong parses them.
type settings map[*kong.Value]setting

// setting is what was found in a flag.
type setting struct {
	given     bool // It is not empty.
	fault     string
	onCommand bool // It was on the command line, which overrides the variable and the default.
}

// attach replaces kong's decoding of all settings, which would end at the first fault.
func (s settings) attach(parser *kong.Kong) error {
	s.attachTo(parser.Model.Node)
	return nil
}

func (s settings) attachTo(node *kong.Node) {
	for _, flag := range node.Flags {
		if reflect.PointerTo(flag.Target.Type()).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) {
			flag.Mapper = kong.MapperFunc(s.decode)
		}
	}
	for _, child := range node.Children {
		s.attachTo(child)
	}
}

// decode decodes one value of a setting and notes its fault.
//
// kong decodes the command line first, each value into a variable of its own, and then variables
// and defaults into the grammar.
func (s settings) decode(ctx *kong.DecodeContext, target reflect.Value) error {
	var text string
	if err := ctx.Scan.PopValueInto("value", &text); err != nil {
		return err
	}
	found := setting{given: text != "", onCommand: target.Addr().Pointer() != ctx.Value.Target.Addr().Pointer()}
	value := target.Addr().Interface().(encoding.TextUnmarshaler)
	if _, required := value.(Required); found.given || !required { // See check.
		if err := value.UnmarshalText([]byte(text)); err != nil {
			found.fault = err.Error()
		}
	}
	if found.onCommand || !s[ctx.Value].onCommand {
		s[ctx.Value] = found
	}
	return nil
}

// check returns the faults of the given flags, those of the chosen command.
func (s settings) check(flags []*kong.Flag) (faults []string) {
	for _, flag := range flags {
		required, ok := flag.Target.Addr().Interface().(Required)
		found := s[flag.Value]
		switch {
		case ok && !found.given:
			faults = append(faults, name(flag)+": is required, like "+required.Hint())
		case found.fault != "":
			faults = append(faults, name(flag)+": "+found.fault)
		}
	}
	return faults
}

// name returns the flag and its variable, as faults name them.
func name(flag *kong.Flag) string {
	if len(flag.Envs) == 0 {
		return "--" + flag.Name
	}
	return fmt.Sprintf("--%s (%s)", flag.Name, flag.Envs[0])
}

// variables returns the environment variables of all flags.
func variables(node *kong.Node) (names []string) {
	for _, flag := range node.Flags {
		names = append(names, flag.Envs...)
	}
	for _, child := range node.Children {
		names = append(names, variables(child)...)
	}
	return names
}
