// Command which says what parts the tests will have: of a package that passes, go test shows no
// output.
package main

import (
	"fmt"
	"os"

	"github.com/paylatch/paylatch/test/parts"
)

func main() {
	kind, err := parts.Kind()
	if err != nil {
		fmt.Fprintln(os.Stderr, "parts:", err)
		os.Exit(1)
	}
	fmt.Println("parts:", kind)
}
