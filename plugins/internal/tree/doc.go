// Package tree is what backup plugins do on the disk that they save and restore:
// names as bytes, opening beneath a directory and nowhere else, listing, reading
// a file whole or not at all, and putting it back so that a crash leaves it as it
// was or as it shall be. How content is stored is left to them. Only plugins
// import it.
package tree
