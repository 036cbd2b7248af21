//go:build tools

// Package tools names the programs that are built from the module's requirements.
package tools

import _ "sigs.k8s.io/gateway-api/conformance/echo-basic"
