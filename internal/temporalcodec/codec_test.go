package temporalcodec_test

import (
	"bytes"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/riverline/tollgate/internal/temporalcodec"
)

func key(id string, of byte) string {
	return id + ":" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{of}, 32))
}

func TestEncryptedAndDecrypted(t *testing.T) {
	t.Parallel()
	older, err := temporalcodec.New(key("2026", 1))
	require.NoError(t, err)
	plain, err := converter.GetDefaultDataConverter().ToPayloads("acme", 7)
	require.NoError(t, err)
	sealed, err := older.Encode(plain.GetPayloads())
	require.NoError(t, err)
	again, err := older.Encode(plain.GetPayloads())
	require.NoError(t, err)
	require.NotEqual(t, sealed[0].GetData(), again[0].GetData(), "the same is not seen to be the same")
	for _, payload := range sealed {
		require.NotContains(t, string(payload.GetData()), "acme")
	}

	rotated, err := temporalcodec.New(key("2027", 2) + "\n" + key("2026", 1) + "\n")
	require.NoError(t, err)
	for _, payloads := range [][]*commonpb.Payload{sealed, plain.GetPayloads()} {
		opened, err := rotated.Decode(payloads)
		require.NoError(t, err, "older keys decrypt, and what was never encrypted stays")
		for i := range opened {
			require.True(t, proto.Equal(plain.GetPayloads()[i], opened[i]))
		}
	}
	newer, err := rotated.Encode(plain.GetPayloads())
	require.NoError(t, err)
	_, err = older.Decode(newer)
	require.ErrorIs(t, err, temporalcodec.ErrUnreadable)
	sealed[0].Data[20] ^= 1
	_, err = older.Decode(sealed)
	require.ErrorIs(t, err, temporalcodec.ErrUnreadable)
	require.ErrorContains(t, err, `with key "2026"`)
}

func TestKeysOfTheWrongForm(t *testing.T) {
	t.Parallel()
	for keys, says := range map[string]string{
		"":                                 "there is no key",
		" \n":                              "key 1 is not of the form",
		"secret":                           "key 1 is not of the form id:base64",
		"a:c2hvcnQ=":                       `key "a" must be 32 bytes in base64`,
		"a:!!!":                            `key "a" must be 32 bytes`,
		key("a", 1) + "," + key("a", 2):    `key "a" is there twice`,
		key("a", 1) + ",b:c2hvcnRzZWNyZXQ": `key "b" must be 32 bytes`,
	} {
		_, err := temporalcodec.New(keys)
		require.ErrorContains(t, err, says)
		require.NotContains(t, err.Error(), "secret")
		require.NotContains(t, err.Error(), "c2hvcnRzZWNyZXQ")
	}
}

// Temporal's UI asks the codec server, and no page of another origin does.
func TestCodecServer(t *testing.T) {
	t.Parallel()
	codec, err := temporalcodec.New(key("a", 1))
	require.NoError(t, err)
	server := httptest.NewServer(codec.Handler("http://localhost:8233"))
	t.Cleanup(server.Close)
	remote := converter.NewRemotePayloadCodec(converter.RemotePayloadCodecOptions{Endpoint: server.URL})
	plain, err := converter.GetDefaultDataConverter().ToPayloads("acme")
	require.NoError(t, err)
	sealed, err := codec.Encode(plain.GetPayloads())
	require.NoError(t, err)
	opened, err := remote.Decode(sealed)
	require.NoError(t, err)
	require.True(t, proto.Equal(plain.GetPayloads()[0], opened[0]))

	body, err := protojson.Marshal(&commonpb.Payloads{Payloads: sealed})
	require.NoError(t, err)
	for origin, status := range map[string][2]int{"http://localhost:8233": {http.StatusNoContent, http.StatusOK}, "http://evil.example": {http.StatusForbidden, http.StatusForbidden}} {
		for i, method := range []string{http.MethodOptions, http.MethodPost} {
			request, err := http.NewRequestWithContext(t.Context(), method, server.URL+"/decode", strings.NewReader(string(body)))
			require.NoError(t, err)
			request.Header.Set("Origin", origin)
			request.Header.Set("Content-Type", "application/json")
			answer, err := http.DefaultClient.Do(request)
			require.NoError(t, err)
			require.NoError(t, answer.Body.Close())
			require.Equal(t, status[i], answer.StatusCode, "%s from %s", method, origin)
			require.Equal(t, status[i] != http.StatusForbidden, answer.Header.Get("Access-Control-Allow-Origin") == origin)
		}
	}
}

// Texts of failures are encrypted, too.
func TestClientsUseTheCodec(t *testing.T) {
	t.Parallel()
	codec, err := temporalcodec.New(key("a", 1))
	require.NoError(t, err)
	var options client.Options
	codec.Use(&options)
	failure := options.FailureConverter.ErrorToFailure(errAcme{})
	require.NotContains(t, failure.String(), "acme")
	require.ErrorContains(t, options.FailureConverter.FailureToError(failure), "acme")
	payload, err := options.DataConverter.ToPayload("acme")
	require.NoError(t, err)
	require.NotContains(t, payload.String(), "acme")
}

type errAcme struct{}

func (errAcme) Error() string { return "no contract of acme" }
