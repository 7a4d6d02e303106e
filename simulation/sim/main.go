// Sim runs simulations: see the Makefile's target of that name.
package main

import _ "github.com/tetratelabs/wazero"

func main() {}
