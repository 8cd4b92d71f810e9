//go:build !unix

package app

import "math"

// openFilesMax returns how many files this process may open. There is no limit to read here.
func openFilesMax() int { return math.MaxInt }
