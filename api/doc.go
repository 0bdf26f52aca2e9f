// Package api is Tollgate's HTTP API: the handlers of api/openapi.yaml, the
// gateway, and the pages that describe them.
//
// The document comes first: types and routing are generated from it (package gen),
// and a test holds that every route it describes is served, with the roles and
// parameters it names. [New] makes a [Server] over small interfaces; what
// implements them is wired in cmd.
//
// Numbers such as C5 are those of docs/contract.md.
package api

import _ "embed" // for the document

//go:generate go tool -modfile=../tools/go.mod oapi-codegen -config oapi-codegen.yaml openapi.yaml

//go:embed openapi.yaml
var document []byte
