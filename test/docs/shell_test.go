package docs_test

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// shellWords splits a command line as a shell does: quotes, and variables outside single quotes.
// Substitutions, pipes and lists of commands are errors.
func shellWords(line string, env func(string) string) (words []string, err error) {
	var word strings.Builder
	inWord, quote := false, rune(0)
	end := func() {
		if inWord {
			words = append(words, word.String())
		}
		word.Reset()
		inWord = false
	}
	for rest := line; rest != ""; {
		r := rune(rest[0])
		switch {
		case quote == 0 && (r == ' ' || r == '\n'):
			end()
		case quote == 0 && (r == '\'' || r == '"'):
			quote, inWord = r, true
		case r == quote:
			quote = 0
		case quote == 0 && strings.ContainsRune("|;&<>`(", r) || r == '`' && quote == '"':
			return nil, fmt.Errorf("%q is no simple command", line)
		case r == '$' && quote != '\'':
			name := rest[1 : 1+len(rest[1:])-len(strings.TrimLeft(rest[1:], nameCharacters))]
			word.WriteString(env(name))
			rest, inWord = rest[1+len(name):], true
			continue
		default:
			word.WriteByte(rest[0])
			inWord = true
		}
		rest = rest[1:]
	}
	if quote != 0 {
		return nil, fmt.Errorf("%q has an open quote", line)
	}
	end()
	return words, nil
}

const nameCharacters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ_"

// curl does what curl does with -i, -H, -d and a URL. It returns the status and the body.
func curl(words []string) (status int, body string, err error) {
	method, url, data := http.MethodGet, "", ""
	header := http.Header{}
	for i := 0; i < len(words); i++ {
		switch word := words[i]; {
		case word == "-i":
		case (word == "-H" || word == "-d") && i+1 < len(words):
			i++
			if word == "-d" {
				method, data = http.MethodPost, words[i]
				continue
			}
			name, value, ok := strings.Cut(words[i], ": ")
			if !ok {
				return 0, "", fmt.Errorf("%q is no header", words[i])
			}
			header.Set(name, value)
		case strings.HasPrefix(word, "http://") && url == "":
			url = word
		default:
			return 0, "", fmt.Errorf("curl: %q is not supported here", word)
		}
	}
	r, err := http.NewRequest(method, url, strings.NewReader(data))
	if err != nil {
		return 0, "", err
	}
	r.Header = header
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	return response.StatusCode, string(text), err
}

// TestShellWords checks the splitting of command lines.
func TestShellWords(t *testing.T) {
	t.Parallel()
	env := func(name string) string { return map[string]string{"KEY": "k y"}[name] }
	tests := []struct {
		line  string
		words []string
	}{
		{"a b  c", []string{"a", "b", "c"}},
		{`curl -H "Bearer $KEY" -d '{"a": "$KEY"}'`, []string{"curl", "-H", "Bearer k y", "-d", `{"a": "$KEY"}`}},
		{`a=$KEY''`, []string{"a=k y"}},
		{"'two\nlines'", []string{"two\nlines"}},
		{"a | b", nil},
		{"a $(b)", nil},
		{"a && b", nil},
		{`a "b`, nil},
	}
	for _, test := range tests {
		got, err := shellWords(test.line, env)
		if !slices.Equal(got, test.words) || (err == nil) != (test.words != nil) {
			t.Errorf("%s: got %q and %v, want %q", test.line, got, err, test.words)
		}
	}
}
