// Command drainmark is all roles of Drainmark: see "drainmark --help".
package main

import "github.com/drainmark/drainmark/app"

func main() { app.Main() }
