package cli

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"

	"github.com/alecthomas/kong"
)

// Required is a setting that must be given. Hint ends the sentence "is required, like …".
type Required interface{ Hint() string }

// Secret is a setting whose value may be a secret. Secret reports whether it is one: then it should
// not be on the command line, which the process list shows.
type Secret interface{ Secret() bool }

// Warner is a setting that can be right and still be unwise. Warning returns the sentence, or
// nothing.
type Warner interface{ Warning() string }

// fileSuffix ends the name of the flag that names a file with the value of another flag.
const fileSuffix = "-file"

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

// check returns the faults of the given flags, those of the chosen command. A value may also be in
// the file that the flag --name-file names; it must not be given in both ways.
func (s settings) check(flags []*kong.Flag) (faults []string) {
	for _, flag := range flags {
		required, ok := flag.Target.Addr().Interface().(Required)
		found, file := s[flag.Value], fileOf(flag, flags)
		inFile := file != nil && s[file.Value].given
		switch {
		case ok && !found.given && !inFile:
			faults = append(faults, name(flag)+": is required, like "+required.Hint())
		case found.fault != "":
			faults = append(faults, name(flag)+": "+found.fault)
		case found.given && inFile:
			faults = append(faults, fmt.Sprintf("%s and %s: give one of them", name(flag), name(file)))
		}
	}
	return faults
}

// fileOf returns the flag that names a file with the value of the given flag, or nil.
func fileOf(flag *kong.Flag, flags []*kong.Flag) *kong.Flag {
	i := slices.IndexFunc(flags, func(f *kong.Flag) bool { return f.Name == flag.Name+fileSuffix })
	if i < 0 {
		return nil
	}
	return flags[i]
}

// warnings returns what is unwise in the given flags.
func (s settings) warnings(flags []*kong.Flag) (warnings []string) {
	for _, flag := range flags {
		value := flag.Target.Addr().Interface()
		if secret, ok := value.(Secret); ok && s[flag.Value].onCommand && secret.Secret() {
			warnings = append(warnings, name(flag)+": holds a secret on the command line, which the process list shows")
		}
		if warner, ok := value.(Warner); ok && warner.Warning() != "" {
			warnings = append(warnings, name(flag)+": "+warner.Warning())
		}
	}
	return warnings
}

// faultsOf returns the faults of a command and of the groups of settings embedded in it, each once.
func faultsOf(command any) (faults []string) {
	for _, checker := range checkers(command) {
		for _, fault := range checker.Faults() {
			if !slices.Contains(faults, fault) { // The command may have the method of a group.
				faults = append(faults, fault)
			}
		}
	}
	return faults
}

// checkers returns the command and its embedded groups that check themselves. A method that two
// groups have is no method of the command, so each group is looked at.
func checkers(v any) (found []Checker) {
	if c, ok := v.(Checker); ok {
		found = append(found, c)
	}
	value := reflect.ValueOf(v)
	if value.Kind() != reflect.Pointer || value.Elem().Kind() != reflect.Struct {
		return found
	}
	for i := range value.Elem().NumField() {
		if field := value.Elem().Type().Field(i); field.Anonymous && field.IsExported() {
			found = append(found, checkers(value.Elem().Field(i).Addr().Interface())...)
		}
	}
	return found
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
