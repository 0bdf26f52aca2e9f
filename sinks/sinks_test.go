package sinks_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/sinks"
)

func TestError(t *testing.T) {
	t.Parallel()
	cause := errors.New("no such customer")
	err := &sinks.Error{Sink: sinks.Stripe, Statement: "TG-1", Refused: true, Err: cause}
	require.EqualError(t, err, "deliver statement TG-1 to stripe: no such customer")
	require.ErrorIs(t, err, cause)
	require.ErrorIs(t, err, sinks.ErrRefused)
	require.False(t, err.Retryable())
	err.Refused = false
	require.NotErrorIs(t, err, sinks.ErrRefused)
	require.True(t, err.Retryable())
}

func TestValidExternalID(t *testing.T) {
	t.Parallel()
	for id, want := range map[string]bool{
		"cus_123": true, "x": true, strings.Repeat("x", 255): true,
		"": false, strings.Repeat("x", 256): false, "cus 1": false, "cus_é": false, "cus\n": false,
	} {
		require.Equal(t, want, sinks.ValidExternalID(id), id)
	}
	require.Equal(t, []string{sinks.Stripe}, sinks.Names())
}
