// Package bench measures the host against floors taken in the same run, and
// prints ratios: machines are noisy, and a number of seconds means nothing on
// another one. `make bench` runs it; a slow result never fails it. It is
// imported by nobody.
package bench
