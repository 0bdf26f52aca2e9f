package webhookclient

import (
	"errors"
	"fmt"
	"net/netip"
	"syscall"
)

// ErrRefusedAddress says that a name leads to an address that is not public.
var ErrRefusedAddress = errors.New("the address is not public: it is refused")

// notPublic are the ranges that are not globally reachable, or lead to other addresses
// (IANA, IPv4 and IPv6 Special-Purpose Address Registries; RFC 6890).
var notPublic = prefixes(
	"0.0.0.0/8",         // this network
	"10.0.0.0/8",        // private
	"100.64.0.0/10",     // shared, of carrier-grade NAT; Alibaba's metadata
	"127.0.0.0/8",       // loopback
	"169.254.0.0/16",    // link-local: metadata of AWS, Azure, Google, Oracle
	"172.16.0.0/12",     // private
	"192.0.0.0/24",      // protocol assignments; Oracle's metadata
	"192.0.2.0/24",      // documentation
	"192.31.196.0/24",   // AS112
	"192.52.193.0/24",   // AMT
	"192.88.99.0/24",    // 6to4 relays
	"192.168.0.0/16",    // private
	"192.175.48.0/24",   // AS112
	"198.18.0.0/15",     // benchmarks
	"198.51.100.0/24",   // documentation
	"203.0.113.0/24",    // documentation
	"224.0.0.0/4",       // multicast
	"240.0.0.0/4",       // reserved, and broadcast
	"168.63.129.16/32",  // Azure's host, from within its machines
	"::/128",            // unspecified
	"::1/128",           // loopback
	"::/96",             // IPv4-compatible
	"::ffff:0:0/96",     // IPv4-mapped
	"::ffff:0:0:0/96",   // IPv4-translated
	"64:ff9b::/96",      // NAT64
	"64:ff9b:1::/48",    // NAT64, local
	"100::/64",          // discard
	"2001::/23",         // protocol assignments; Teredo, ORCHID, benchmarks
	"2001:db8::/32",     // documentation
	"2002::/16",         // 6to4
	"2620:4f:8000::/48", // AS112
	"3fff::/20",         // documentation
	"5f00::/16",         // segment routing
	"fc00::/7",          // unique local; AWS's metadata
	"fe80::/10",         // link-local
	"fec0::/10",         // site-local
	"ff00::/8",          // multicast
)

// globalUnicast is the only part of IPv6 that is given out.
var globalUnicast = netip.MustParsePrefix("2000::/3")

func prefixes(texts ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(texts))
	for i, text := range texts {
		out[i] = netip.MustParsePrefix(text)
	}
	return out
}

// Public reports whether an address may be anybody's on the Internet.
func Public(address netip.Addr) bool {
	if !address.IsValid() || address.Zone() != "" || address.Is4In6() {
		return false
	}
	if address.Is6() && !globalUnicast.Contains(address) {
		return false
	}
	for _, p := range notPublic {
		if p.Contains(address) {
			return false
		}
	}
	return true
}

// refusePrivate is a net.Dialer's Control: it sees the address that is connected to, after
// the name was resolved, so no answer of a name server gets past it.
func refusePrivate(_, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: %s", ErrRefusedAddress, address)
	}
	if !Public(to.Addr()) {
		return fmt.Errorf("%w: %s", ErrRefusedAddress, to.Addr())
	}
	return nil
}
