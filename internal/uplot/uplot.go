// Package uplot has the library that draws charts, as it was published: for the pages that frontends serve, and for the
// report of verify. README.md says where it is from.
package uplot

import "embed"

// Files are the library's files.
//
//go:embed README.md LICENSE uPlot.esm.js uPlot.min.css
var Files embed.FS

var (
	//go:embed uPlot.esm.js
	Module string // a JavaScript module, whose default export is uPlot
	//go:embed uPlot.min.css
	Style string
)
