// Package temporalcodec encrypts what Temporal keeps: inputs and results of workflows and activities,
// memos, summaries, details and the texts of failures. Search attributes, workflow IDs and names are
// not encrypted: Temporal lists by them.
package temporalcodec

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"strings"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/protobuf/proto"
)

// The metadata of what is encrypted.
const (
	encrypted   = "binary/encrypted"
	keyMetadata = "encryption-key-id"
	keyBytes    = 32
)

// ErrUnreadable says that something was encrypted with a key that this process doesn't have, or with
// another one of the same ID.
var ErrUnreadable = errors.New("what Temporal keeps can't be decrypted")

// Codec encrypts payloads by AES-256-GCM. It is a [converter.PayloadCodec], and safe for use by any
// number of goroutines. The zero value has no keys: it encrypts nothing, and what is encrypted is
// [ErrUnreadable] to it.
type Codec struct {
	// first is the ID of the key that encrypts; all of them decrypt.
	first string
	keys  map[string]cipher.AEAD
}

var keyForm = regexp.MustCompile(`^([A-Za-z0-9._-]{1,64}):(\S+)$`)

// New makes a codec of keys of the form id:base64, of 32 bytes each, one a line or separated by commas.
// The first one encrypts, all of them decrypt: a new key comes before those that it follows. No error
// shows a key.
func New(keys string) (*Codec, error) {
	c := &Codec{keys: map[string]cipher.AEAD{}}
	for i, text := range strings.FieldsFunc(keys, func(r rune) bool { return r == ',' || r == '\n' }) {
		form := keyForm.FindStringSubmatch(strings.TrimSpace(text))
		if form == nil {
			return nil, fmt.Errorf("key %d is not of the form id:base64", i+1)
		}
		id := form[1]
		secret, err := base64.StdEncoding.DecodeString(form[2])
		if err != nil || len(secret) != keyBytes {
			return nil, fmt.Errorf("key %q must be %d bytes in base64", id, keyBytes)
		}
		if c.keys[id] != nil {
			return nil, fmt.Errorf("key %q is there twice", id)
		}
		block, err := aes.NewCipher(secret)
		if err != nil {
			return nil, fmt.Errorf("key %q: %w", id, err)
		}
		if c.keys[id], err = cipher.NewGCMWithRandomNonce(block); err != nil {
			return nil, fmt.Errorf("key %q: %w", id, err)
		}
		if c.first == "" {
			c.first = id
		}
	}
	if c.first == "" {
		return nil, errors.New("there is no key")
	}
	return c, nil
}

// Encode encrypts payloads, each with its metadata.
func (c *Codec) Encode(payloads []*commonpb.Payload) ([]*commonpb.Payload, error) {
	if c.first == "" {
		return payloads, nil
	}
	out := make([]*commonpb.Payload, len(payloads))
	for i, payload := range payloads {
		plain, err := proto.Marshal(payload)
		if err != nil {
			return nil, fmt.Errorf("encode a payload: %w", err)
		}
		out[i] = &commonpb.Payload{
			Metadata: map[string][]byte{converter.MetadataEncoding: []byte(encrypted), keyMetadata: []byte(c.first)},
			Data:     c.keys[c.first].Seal(nil, nil, plain, []byte(c.first)), //nolint:gosec // The cipher makes the nonce, at random.
		}
	}
	return out, nil
}

// Decode decrypts payloads. What isn't encrypted stays as it is: it was written before there was a key. A
// key that is missing or another one is [ErrUnreadable].
func (c *Codec) Decode(payloads []*commonpb.Payload) ([]*commonpb.Payload, error) {
	out := make([]*commonpb.Payload, len(payloads))
	for i, payload := range payloads {
		out[i] = payload
		if string(payload.GetMetadata()[converter.MetadataEncoding]) != encrypted {
			continue
		}
		id := string(payload.GetMetadata()[keyMetadata])
		key, ok := c.keys[id]
		if !ok {
			return nil, fmt.Errorf("%w: there is no key %q", ErrUnreadable, id)
		}
		plain, err := key.Open(nil, nil, payload.GetData(), []byte(id))
		if err != nil {
			return nil, fmt.Errorf("%w: with key %q: %w", ErrUnreadable, id, err)
		}
		out[i] = &commonpb.Payload{}
		if err := proto.Unmarshal(plain, out[i]); err != nil {
			return nil, fmt.Errorf("decode what was encrypted: %w", err)
		}
	}
	return out, nil
}

// Use makes a client encrypt what it sends, and decrypt what it gets. A worker of the client fails no
// run for what it can't read: see [blocking].
func (c *Codec) Use(options *client.Options) {
	options.DataConverter = dataConverter{converter.NewCodecDataConverter(converter.GetDefaultDataConverter(), c)}
	options.FailureConverter = temporal.NewDefaultFailureConverter(temporal.DefaultFailureConverterOptions{
		DataConverter: options.DataConverter, EncodeCommonAttributes: c.first != "",
	})
}

// dataConverter is another one within workflows. It is a [workflow.ContextAware].
type dataConverter struct{ converter.DataConverter }

// WithWorkflowContext returns the converter of a workflow.
func (d dataConverter) WithWorkflowContext(workflow.Context) converter.DataConverter {
	return blocking(d)
}

// WithContext returns the converter of an activity, and of what starts workflows.
func (d dataConverter) WithContext(context.Context) converter.DataConverter { return d }

// blocking panics where something can't be read, by which the task of a workflow fails and is tried
// again, as a rule by a worker that has the key. An error would fail the run for good: the SDK takes it
// for the workflow's own.
type blocking struct{ converter.DataConverter }

// FromPayload decodes a value.
func (b blocking) FromPayload(payload *commonpb.Payload, to any) error {
	return readable(b.DataConverter.FromPayload(payload, to))
}

// FromPayloads decodes values.
func (b blocking) FromPayloads(payloads *commonpb.Payloads, to ...any) error {
	return readable(b.DataConverter.FromPayloads(payloads, to...))
}

func readable(err error) error {
	if errors.Is(err, ErrUnreadable) {
		panic(err)
	}
	return err
}
