// Package docstest holds that the documents are true where that can be checked: what they
// name exists, what they link to is there.
package docstest_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// root is the repository's, from here.
var root = filepath.Join("..", "..")

// repository is what the tests read: documents, and the names of the source.
type repository struct {
	// documents are the Markdown files: text by path. Of each, blocks are its blocks of code, prose is
	// what is between them, and code all that it sets as code: what readers type.
	documents, prose, code map[string]string
	blocks                 map[string][]string
	// paths are all files and folders, with "/" whatever the system.
	paths map[string]bool
	// comments are those of Go files, by path.
	comments map[string][]string
	// tests are the names of test, fuzz and example functions.
	tests map[string]bool
	// names are what a package declares: "meter.New", "meter.Organization.Admit". Packages
	// are known by the last part of their path, as in code.
	names map[string]bool
	// functions are names in the form of a walk: "meter.New", "meter.(*Organization).Admit".
	functions map[string]bool
	// packages are the names that a qualified name can begin with.
	packages map[string]bool
	// text is the source of all Go, SQL and YAML files, the Makefile and go.mod.
	text map[string]string
}

// read reads the repository once for all tests.
var read = sync.OnceValues(func() (*repository, error) {
	r := &repository{
		documents: map[string]string{}, prose: map[string]string{}, code: map[string]string{}, blocks: map[string][]string{}, paths: map[string]bool{}, comments: map[string][]string{}, tests: map[string]bool{},
		names: map[string]bool{}, functions: map[string]bool{}, packages: map[string]bool{}, text: map[string]string{},
	}
	return r, filepath.WalkDir(root, r.visit)
})

func load(t *testing.T) *repository {
	t.Helper()
	r, err := read()
	require.NoError(t, err)
	require.NotEmpty(t, r.documents)
	return r
}

// notOurs are folders at the root that `make run` and `make build` fill.
var notOurs = []string{".git", ".tollgate", "bin", "export"}

func (r *repository) visit(name string, entry fs.DirEntry, err error) error {
	if err != nil {
		return err
	}
	path, err := filepath.Rel(root, name)
	if err != nil {
		return err
	}
	path = filepath.ToSlash(path)
	if slices.Contains(notOurs, path) {
		if entry.IsDir() {
			return filepath.SkipDir
		}
		return nil
	}
	r.paths[path] = true
	if entry.IsDir() {
		return nil
	}
	switch extension := filepath.Ext(path); {
	case extension == ".md":
		text, err := os.ReadFile(name)
		r.addDocument(path, string(text))
		return err
	case extension == ".go":
		return r.readGo(name, path)
	case path == "Makefile", slices.Contains([]string{".sql", ".yaml", ".yml", ".mod"}, extension):
		text, err := os.ReadFile(name)
		r.text[path] = string(text)
		return err
	}
	return nil
}

func (r *repository) addDocument(path, text string) {
	blocks, prose := splitCode(text)
	spans := codeSpan.FindAllString(prose, -1)
	r.documents[path], r.blocks[path], r.prose[path] = text, blocks, prose
	r.code[path] = strings.Join(append(slices.Clone(blocks), spans...), "\n")
}

// codeSpan is code within a line.
var codeSpan = regexp.MustCompile("`[^`\n]+`")

// splitCode returns the blocks of code of a document, in a list too, and what is between them.
func splitCode(text string) (blocks []string, prose string) {
	var block, between strings.Builder
	for line := range strings.Lines(text) {
		isFence := strings.HasPrefix(strings.TrimLeft(line, " "), "```")
		switch {
		case isFence && block.Len() > 0 && strings.TrimSpace(line) == "```":
			blocks = append(blocks, block.String()+line)
			block.Reset()
		case isFence, block.Len() > 0:
			block.WriteString(line)
		default:
			between.WriteString(line)
		}
	}
	return blocks, between.String() + block.String()
}

func (r *repository) readGo(name, path string) error {
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	r.text[path] = string(text)
	file, err := parser.ParseFile(token.NewFileSet(), name, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	for _, group := range file.Comments {
		r.comments[path] = append(r.comments[path], group.Text())
	}
	isTest := strings.HasSuffix(path, "_test.go")
	if !isTest && file.Name.Name != "main" {
		r.packages[file.Name.Name] = true
	}
	for _, declaration := range file.Decls {
		switch d := declaration.(type) {
		case *ast.FuncDecl:
			if isTest && d.Recv == nil {
				r.tests[d.Name.Name] = true
			}
			if !isTest {
				r.addFunction(file.Name.Name, d)
			}
		case *ast.GenDecl:
			if !isTest {
				r.addDeclaration(file.Name.Name, d)
			}
		}
	}
	return nil
}

func (r *repository) addFunction(pkg string, f *ast.FuncDecl) {
	if f.Recv == nil {
		r.names[pkg+"."+f.Name.Name] = true
		r.functions[pkg+"."+f.Name.Name] = true
		return
	}
	receiver, star := f.Recv.List[0].Type, ""
	if pointer, ok := receiver.(*ast.StarExpr); ok {
		receiver, star = pointer.X, "*"
	}
	if generic, ok := receiver.(*ast.IndexExpr); ok {
		receiver = generic.X
	}
	of := receiver.(*ast.Ident).Name
	r.names[pkg+"."+of+"."+f.Name.Name] = true
	if star == "" {
		r.functions[pkg+"."+of+"."+f.Name.Name] = true
		return
	}
	r.functions[pkg+".(*"+of+")."+f.Name.Name] = true
}

func (r *repository) addDeclaration(pkg string, d *ast.GenDecl) {
	for _, spec := range d.Specs {
		switch s := spec.(type) {
		case *ast.ValueSpec:
			for _, name := range s.Names {
				r.names[pkg+"."+name.Name] = true
			}
		case *ast.TypeSpec:
			of := pkg + "." + s.Name.Name
			r.names[of] = true
			for _, field := range membersOf(s.Type) {
				r.names[of+"."+field] = true
			}
		}
	}
}

// membersOf returns the fields of a struct or the methods of an interface.
func membersOf(of ast.Expr) (names []string) {
	var list *ast.FieldList
	switch t := of.(type) {
	case *ast.StructType:
		list = t.Fields
	case *ast.InterfaceType:
		list = t.Methods
	default:
		return nil
	}
	for _, field := range list.List {
		for _, name := range field.Names {
			names = append(names, name.Name)
		}
	}
	return names
}
