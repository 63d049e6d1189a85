// Package typescript has the TypeScript client as one JavaScript module, for the pages that frontends serve. README.md is
// for its users.
package typescript

import "embed"

// Files has dist/drainmark.js, which scripts/typescript-client makes of src.
//
//go:embed dist/drainmark.js
var Files embed.FS
