package accounts

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/google/uuid"
)

// Person is somebody who has signed in at an identity provider, with what he may do here. He acts for a key that nobody
// has the secret of.
type Person struct {
	// Issuer is the provider, Subject whom it means: together they are one person, for good.
	Issuer, Subject string
	// Owner is that of his keys, as [ParseOwner] returns it: four eyes compare it. Name is what people call him.
	Owner, Name string
	Role        Role
	// Organization is that of a tenant; [uuid.Nil] for others.
	Organization uuid.UUID
}

// PersonPrefix is that of the keys of persons: no secret begins so.
const PersonPrefix = "openid"

// KeyHash is what stands for the secret of his key: no secret has this hash, since a secret begins with "tg_". Keys of
// one person differ by what he may do, and by a number: another one where those before were revoked.
func (p Person) KeyHash(number uint32) SecretHash {
	sum := sha256.New()
	for _, part := range []string{PersonPrefix, p.Issuer, p.Subject, p.Owner, string(p.Role), p.Organization.String()} {
		// The length first, so that no two people are told alike.
		_, _ = sum.Write(binary.BigEndian.AppendUint32(nil, uint32(len(part))))
		_, _ = sum.Write([]byte(part))
	}
	_, _ = sum.Write(binary.BigEndian.AppendUint32(nil, number))
	return SecretHash(sum.Sum(nil))
}
