package webhookclient_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/internal/webhookclient"
)

func TestPublic(t *testing.T) {
	t.Parallel()
	for address, public := range map[string]bool{
		"8.8.8.8":              true,
		"1.1.1.1":              true,
		"93.184.215.14":        true,
		"172.15.255.255":       true,
		"172.32.0.0":           true,
		"100.63.255.255":       true,
		"100.128.0.0":          true,
		"2606:4700::1111":      true,
		"2a00:1450:4001::200e": true,

		"0.0.0.0":         false,
		"0.1.2.3":         false,
		"10.0.0.1":        false,
		"10.255.255.255":  false,
		"100.64.0.1":      false,
		"100.100.100.200": false, // Alibaba's metadata
		"127.0.0.1":       false,
		"127.255.255.254": false,
		"168.63.129.16":   false,
		"169.254.169.254": false, // metadata
		"169.254.170.2":   false, // ECS's metadata
		"172.16.0.1":      false,
		"172.31.255.255":  false,
		"192.0.0.192":     false,
		"192.0.2.1":       false,
		"192.88.99.1":     false,
		"192.168.1.1":     false,
		"198.18.0.1":      false,
		"198.51.100.1":    false,
		"203.0.113.1":     false,
		"224.0.0.1":       false,
		"239.255.255.255": false,
		"240.0.0.1":       false,
		"255.255.255.255": false,

		"::":                   false,
		"::1":                  false,
		"::7f00:1":             false, // IPv4-compatible
		"::ffff:127.0.0.1":     false,
		"::ffff:8.8.8.8":       false, // mapped, whatever it maps
		"::ffff:0:7f00:1":      false,
		"64:ff9b::7f00:1":      false, // NAT64 of loopback
		"64:ff9b::808:808":     false,
		"64:ff9b:1::1":         false,
		"100::1":               false,
		"2001::1":              false, // Teredo
		"2001:db8::1":          false,
		"2002:7f00:1::":        false, // 6to4 of loopback
		"3fff::1":              false,
		"4000::1":              false, // not given out
		"5f00::1":              false,
		"fc00::1":              false,
		"fd00:ec2::254":        false, // AWS's metadata
		"fe80::1":              false,
		"fe80::1%eth0":         false,
		"2606:4700::1111%eth0": false,
		"fec0::1":              false,
		"ff02::1":              false,
	} {
		require.Equal(t, public, webhookclient.Public(netip.MustParseAddr(address)), address)
	}
	require.False(t, webhookclient.Public(netip.Addr{}))
}
