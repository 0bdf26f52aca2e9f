package gate

import (
	"net/http"
	"strings"
)

// ownedHeaders are the names by which proxies tell an upstream who asks, from where, and for what
// other than the request's line says. An upstream that believes them must not hear them from a
// caller. All are in the form of net/http.
var ownedHeaders = func() map[string]bool {
	out := map[string]bool{}
	for _, name := range []string{
		// Whose request it is.
		"Authorization", "Remote-User", "Remote-Email", "Remote-Groups", "Remote-Name", "X-Webauth-User", "X-Authenticated-User",
		"X-Authenticated-Userid", "X-Credential-Identifier", "X-Consumer-Id", "X-Consumer-Username", "X-Consumer-Custom-Id",
		"X-Anonymous-Consumer", "X-Verified-User", "Client-Cert", "Client-Cert-Chain",
		"X-Client-Cert", "X-Client-Verify", "X-Client-Dn",
		// Where it comes from.
		"Forwarded", "Forwarded-For", "X-Forwarded", "X-Real-Ip", "X-Client-Ip", "Client-Ip", "True-Client-Ip", "X-Cluster-Client-Ip",
		"X-Originating-Ip", "X-Remote-Ip", "X-Remote-Addr", "X-Remote-User", "Cf-Connecting-Ip", "Cf-Connecting-Ipv6",
		"Fastly-Client-Ip", "Fly-Client-Ip", "X-Azure-Clientip", "X-Azure-Socketip", "X-Appengine-User-Ip", "X-Proxyuser-Ip", "Via",
		// What it is for.
		"X-Original-Url", "X-Original-Uri", "X-Original-Host", "X-Original-Method", "X-Original-Path", "X-Original-Remote-Addr",
		"X-Rewrite-Url", "X-Override-Url", "X-Http-Method", "X-Http-Method-Override", "X-Method-Override", "X-Http-Destinationurl",
		"X-Host", "X-Http-Host-Override", "X-Url-Scheme", "X-Scheme", "Front-End-Https",
		// CGI turns it into the setting of a proxy (CVE-2016-5385).
		"Proxy",
		HeaderRequestID, HeaderCallerRequestID,
	} {
		out[name] = true
	}
	return out
}()

// ownedPrefixes begin the names of whole families of such headers.
var ownedPrefixes = []string{
	"X-Tollgate-", "Tollgate-", "X-Forwarded-", "X-Auth-Request-", "X-Envoy-", "X-Ssl-", "Ssl-", "X-Amzn-Oidc-", "X-Amzn-Mtls-",
	"X-Goog-Authenticated-User-", "X-Goog-Iap-", "X-Ms-Client-Principal", "X-Ms-Token-", "Cf-Access-", "Tailscale-User-", "X-Pomerium-",
	"X-Authentik-", "X-Vouch-", "X-Jwt-Claim-",
}

// ownsHeader reports whether only Tollgate may say to an upstream what a header of a name in the
// form of net/http says. A name with anything but letters, digits and dashes is none that a
// caller may use either: many a server turns each other character, as it does a dash, into "_".
func ownsHeader(name string) bool {
	if ownedHeaders[name] {
		return true
	}
	for i := range len(name) {
		if c := name[i]; c != '-' && (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') {
			return true
		}
	}
	for _, prefix := range ownedPrefixes {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// cleanHeaders takes from a request what only Tollgate may say, and every upgrade but that to a
// WebSocket.
func cleanHeaders(header http.Header) {
	if upgrade, ok := header["Upgrade"]; ok && (len(upgrade) != 1 || !strings.EqualFold(upgrade[0], "websocket")) {
		delete(header, "Upgrade")
		delete(header, "Connection")
	}
	for name := range header {
		if ownsHeader(name) {
			delete(header, name)
		}
	}
}
