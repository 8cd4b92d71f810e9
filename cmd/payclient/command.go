package main

import (
	"slices"
	"strings"
)

// secretFlags are the flags whose values no report may show.
var secretFlags = []string{"--key", "--kafka-sasl-password", "--kafka-oauth-client-secret"}

// commandText returns the command line for a report, without the secrets in it. Words are quoted
// for a shell.
func commandText(args []string) string {
	words := []string{"payclient"}
	secret := false
	for _, arg := range args {
		switch {
		case secret:
			arg, secret = "…", false
		case slices.Contains(secretFlags, arg):
			secret = true
		default:
			if flag, _, found := strings.Cut(arg, "="); found && slices.Contains(secretFlags, flag) {
				arg = flag + "=…"
			}
		}
		words = append(words, shellWord(arg))
	}
	return strings.Join(words, " ")
}

// shellWord quotes a word for a shell.
func shellWord(s string) string {
	plain := func(r rune) bool {
		return r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' ||
			strings.ContainsRune("-_.:/@=,…", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
