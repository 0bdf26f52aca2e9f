package reference

import (
	"regexp"
	"strings"
)

// Block is a block of commands in a document.
type Block struct {
	// Section is the heading that it is under.
	Section  string
	Commands string
	// NoRun says why no test runs it. Empty: one does.
	NoRun string
}

var (
	noRun = regexp.MustCompile(`^<!-- norun: (.+) -->$`)
	fence = regexp.MustCompile("^```(\\w*)$")
)

// Blocks returns the blocks of commands of a document: those that are fenced as sh. A comment before one, `<!-- norun: reason -->`,
// says that no test runs it.
func Blocks(document string) (out []Block) {
	section, reason := "", ""
	var open *Block
	other := false
	for line := range strings.Lines(document) {
		line = strings.TrimRight(line, "\r\n")
		found := fence.FindStringSubmatch(line)
		switch {
		case open != nil && line == "```":
			out = append(out, *open)
			open = nil
		case open != nil:
			open.Commands += line + "\n"
		case found != nil && !other && found[1] == "sh":
			open, reason = &Block{Section: section, NoRun: reason}, ""
		case found != nil:
			other = !other
		case other || line == "":
		case strings.HasPrefix(line, "#"):
			section, reason = strings.TrimLeft(line, "# "), ""
		default:
			reason = ""
			if because := noRun.FindStringSubmatch(line); because != nil {
				reason = because[1]
			}
		}
	}
	return out
}
