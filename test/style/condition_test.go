package style_test

import (
	"fmt"
	"go/ast"
	"go/token"
	"slices"
	"testing"
)

// hidden returns the headers of if and switch whose first statement does more than declare: it
// changes a variable that outlives the block, which a reader of the condition does not expect.
// `if err := f(); err != nil` and `if v, ok := m[k]; ok` declare.
func hidden(f file) (faults []string) {
	ast.Inspect(f.parsed, func(n ast.Node) bool {
		var init ast.Stmt
		switch s := n.(type) {
		case *ast.IfStmt:
			init = s.Init
		case *ast.SwitchStmt:
			init = s.Init
		case *ast.TypeSwitchStmt:
			init = s.Init
		}
		if init != nil && !declares(init) {
			faults = append(faults, fmt.Sprintf("%s:%d: got a statement in a header that is no declaration, "+
				"want it in a line of its own", f.name, f.line(init.Pos())))
		}
		return true
	})
	return faults
}

func declares(s ast.Stmt) bool {
	assign, ok := s.(*ast.AssignStmt)
	return ok && assign.Tok == token.DEFINE
}

// mapped returns the literals of maps from bool: each is an if in disguise.
func mapped(f file) (faults []string) {
	ast.Inspect(f.parsed, func(n ast.Node) bool {
		literal, ok := n.(*ast.CompositeLit)
		if !ok {
			return true
		}
		m, ok := literal.Type.(*ast.MapType)
		if !ok {
			return true
		}
		if key, ok := m.Key.(*ast.Ident); ok && key.Name == "bool" {
			faults = append(faults, fmt.Sprintf("%s:%d: got a map from bool, want an if", f.name, f.line(n.Pos())))
		}
		return true
	})
	return faults
}

func TestConditions(t *testing.T) {
	t.Parallel()
	for _, f := range written(t, ".go") {
		for _, fault := range slices.Concat(hidden(f), mapped(f)) {
			t.Error(fault)
		}
	}
}

func TestConditions_Control(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{
		"if err := f(); err != nil {}":                          0,
		"if v, ok := m[k]; ok {} else if w, ok := m[l]; ok {}":  0,
		"if n := len(s); n > 1 {}":                              0,
		"switch n := len(s); { case n > 1: }":                   0,
		"if v, err = f(); err != nil {}":                        1,
		"if x.v, err = f(); err != nil {}":                      1,
		"if n++; n > 1 {}":                                      1,
		"if n += 2; n > 1 {}":                                   1,
		"if f(); n > 1 {}":                                      1,
		"if a {} else if v, err = f(); err != nil {}":           1,
		"switch n = len(s); { case n > 1: }":                    1,
		"switch v = f(); w := v.(type) { case int: _ = w }":     1,
		`s := map[bool]string{true: "on", false: "off"}[b]`:     1,
		`s := map[string]bool{"on": true}; if s[x] {}`:          0,
		"g(func() { if n--; n > 1 {} }); if n = f(); n > 1 {} ": 2,
	} {
		f := parse(t, "a.go", "package a\n\nfunc f() {\n"+text+"\n}\n")
		got := slices.Concat(hidden(f), mapped(f))
		if len(got) != want {
			t.Errorf("%s: got %q, want %d faults", text, got, want)
		}
	}
}
