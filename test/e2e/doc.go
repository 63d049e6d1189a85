// Package e2e has the tests of whole deployments. They start real processes of drainmark on real servers, kill, pause
// and cut them off while clients write and read, and judge the promises P1 to P6 from outside, over HTTP alone.
//
// The parts, one a file: a program is a process of drainmark and a deployment a set of them. Clients write and read. A
// history has what they saw. judge says, afterwards and as a pure function, which promise that breaks. A schedule of
// faults is made from a seed. The scenarios are the tests of the other files.
package e2e
