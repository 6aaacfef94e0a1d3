// Package sdk is what a SOP plugin is written with.
//
// A plugin is a program whose main function calls [Serve] with a [Kind] from
// one of the packages beneath this one (detector, sandbox, backup, protocol)
// and a [Plugin] value that holds its name, its configuration and its
// implementation:
//
//	func main() {
//		sdk.Serve(detector.Kind, sdk.Plugin[detector.Detector]{
//			Name:    "hello",
//			Version: "1.0.0",
//			Impl:    hello{},
//		})
//	}
//
// The package imports nothing of the host. The host imports it for the
// handshake, the kinds and the error vocabulary; plugins import it and the
// generated packages under proto.
package sdk
