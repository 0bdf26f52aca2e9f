package api

import (
	"context"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/api/gen"
)

// CreateOrganizationKey makes a tenant key.
func (s *Server) CreateOrganizationKey(ctx context.Context, request gen.CreateOrganizationKeyRequestObject) (gen.CreateOrganizationKeyResponseObject, error) {
	ctx = requestContext(ctx)
	wanted := accounts.Key{Organization: request.Id, Role: roleTenant, Name: request.Body.Name}
	if request.Body.Owner != nil {
		var err error
		if wanted.Owner, err = accounts.ParseOwner(*request.Body.Owner); err != nil {
			return nil, err
		}
	}
	made, err := s.createKey(ctx, wanted)
	return gen.CreateOrganizationKey201JSONResponse{Body: made}, err
}

// CreateKey makes a finance or admin key.
func (s *Server) CreateKey(ctx context.Context, request gen.CreateKeyRequestObject) (gen.CreateKeyResponseObject, error) {
	ctx = requestContext(ctx)
	if r := request.Body.Role; r != roleFinance && r != roleAdmin {
		return nil, invalid("role", "must be finance or admin; tenant keys are made at their organization")
	}
	made, err := s.createKey(ctx, accounts.Key{Role: request.Body.Role, Name: request.Body.Name, Owner: request.Body.Owner})
	return gen.CreateKey201JSONResponse{Body: made}, err
}

func (s *Server) createKey(ctx context.Context, k accounts.Key) (gen.CreatedKey, error) {
	secret := accounts.NewSecret(k.Role)
	k.Prefix, k.MadeBy = accounts.SecretPrefix(secret), principalOf(ctx).key
	made, err := s.config.Store.CreateKey(ctx, k, accounts.HashSecret(secret))
	return gen.CreatedKey{
		Id: made.ID, OrganizationId: orAbsent(made.Organization), Role: made.Role, Name: made.Name, Owner: made.Owner,
		MadeBy: orAbsent(made.MadeBy), Prefix: made.Prefix, CreatedAt: made.CreatedAt, RevokedAt: made.RevokedAt, Secret: &secret,
	}, err
}

// ListOrganizationKeys answers with an organization's keys.
func (s *Server) ListOrganizationKeys(ctx context.Context, request gen.ListOrganizationKeysRequestObject) (gen.ListOrganizationKeysResponseObject, error) {
	ctx = requestContext(ctx)
	if principalOf(ctx).mayActFor(request.Id) != nil {
		return nil, errWrongTenant
	}
	if _, err := s.config.Store.Organization(ctx, request.Id); err != nil {
		return nil, err
	}
	keys, err := s.config.Store.ListKeys(ctx, &request.Id)
	return gen.ListOrganizationKeys200JSONResponse{Keys: keyList(keys)}, err
}

// ListKeys answers with the finance and admin keys.
func (s *Server) ListKeys(ctx context.Context, _ gen.ListKeysRequestObject) (gen.ListKeysResponseObject, error) {
	ctx = requestContext(ctx)
	keys, err := s.config.Store.StaffKeys(ctx)
	return gen.ListKeys200JSONResponse{Keys: keyList(keys)}, err
}

func keyList(keys []accounts.Key) []gen.Key {
	return answersOf(keys, func(k accounts.Key) gen.Key {
		return gen.Key{
			Id: k.ID, OrganizationId: orAbsent(k.Organization), Role: k.Role, Name: k.Name, Owner: k.Owner,
			MadeBy: orAbsent(k.MadeBy), Prefix: k.Prefix, CreatedAt: k.CreatedAt, RevokedAt: k.RevokedAt,
		}
	})
}

// RevokeKey ends a key, and forgets it here at once.
func (s *Server) RevokeKey(ctx context.Context, request gen.RevokeKeyRequestObject) (gen.RevokeKeyResponseObject, error) {
	ctx = requestContext(ctx)
	if err := s.config.Store.RevokeKey(ctx, request.Id); err != nil {
		return nil, err
	}
	s.ForgetKey(request.Id)
	return gen.RevokeKey204Response{}, nil
}
