// Command bench measures Tollgate beside what one would use instead, and writes one table of ratios
// with the goals that they are held to. README.md says how.
package main
