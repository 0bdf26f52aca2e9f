// Package repository has the documents of the repository, as they are built into the programs.
package repository

import "embed"

// Documents are the Markdown files, by their path in the repository.
//
//go:embed *.md docs/*.md docs/*/*.md
var Documents embed.FS

// Drawings are the pictures that Mermaid drew of what the documents describe, by their path.
//
//go:embed docs/pictures/*.svg
var Drawings embed.FS
