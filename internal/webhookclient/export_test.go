package webhookclient

// CheckAddress is what the dialer asks before it connects.
func CheckAddress(address string) error { return refusePrivate("tcp", address, nil) }
