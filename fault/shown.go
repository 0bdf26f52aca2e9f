package fault

import "strings"

// maxShown is how much of what a caller wrote an error repeats, in bytes.
const maxShown = 80

// Shown cuts what a caller wrote to what an error may repeat of it: 80 bytes, to the last whole
// character.
func Shown(text string) string {
	if len(text) <= maxShown {
		return text
	}
	return strings.ToValidUTF8(text[:maxShown], "") + "…"
}
