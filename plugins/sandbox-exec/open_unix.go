package main

import "syscall"

// openNoFollow opens what is there itself, and does not wait for the other end
// of a fifo.
const openNoFollow = syscall.O_NOFOLLOW | syscall.O_NONBLOCK
