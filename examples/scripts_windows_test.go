package examples

// scripts are the examples that need a shell, of which Windows has another kind.
var scripts []example
